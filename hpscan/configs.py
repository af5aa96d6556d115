"""The best configurations and the landscape as plain data, for programs and other tools."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import yaml

from hpscan.grid import Panel, panels
from hpscan.landscape import STATES, SWITCHES, Best, Landscape
from hpscan.recommendation import recommend
from hpscan.snippets import torch_optimizer
from hpscan.spec import Spec
from hpscan.variants import VARIANTS

__all__ = ["best_configs", "cells", "configs_as"]


def best_configs(spec: Spec, shapes: Sequence[Landscape]) -> dict[str, Any]:
    """The best cell of every landscape, complete: what to train with, and what it gave. Plain values only.

    ``shapes`` are a landscape for each of the spec's panels (:func:`hpscan.landscape.landscapes`).
    """
    found = zip(panels(spec), shapes, strict=True)
    return {
        "sweep": spec.name,
        "workload": spec.workload.identity(),
        "chosen_by": f"{spec.metric}, the least mean over seeds",
        "not_known": list(spec.unknown),
        "best": [_config(spec, panel, shape, best) for panel, shape in found if (best := shape.best())],
    }


def _config(spec: Spec, panel: Panel, shape: Landscape, best: Best) -> dict[str, Any]:
    variant, recipe = VARIANTS[panel.variant], panel.recipe
    settings: dict[str, Any] = {} if "optimizer" in spec.unknown else _switched(panel.settings)
    if settings and variant.optimizer == "sgd":
        settings["momentum_form"] = recipe.momentum_form

    def known(field: str, value: Any) -> Any:
        return None if field in spec.unknown else value

    metrics = {
        name: {"mean": mean, "standard_error": None if math.isnan(error := best.standard_errors[name]) else error}
        for name, mean in sorted(best.means.items())
        if math.isfinite(mean)
    }
    return {
        "variant": panel.variant,
        **_switched(panel.at),
        "lr": best.lr,
        "wd": best.wd,
        "decay": str(variant.decay),
        "rule": variant.rule,
        "optimizer": {"name": variant.optimizer, **settings},
        "torch": torch_optimizer(panel, best.lr, best.wd) if settings else None,
        "decay_on": known("decay_on", recipe.decay_on),
        "steps": known("budget", recipe.steps),
        "batch_size": known("batch_size", recipe.batch_size),
        "schedule": known("schedule", recipe.schedule.model_dump(mode="json")),
        "training": known("training", spec.training.model_dump(mode="json", exclude_defaults=True)),
        "metrics": metrics,
        "n_seeds": best.n_seeds,
        "on_edge": best.on_edge,
        "recommended": _recommended(shape),
    }


def _switched(settings: Iterable[tuple[str, float]]) -> dict[str, float | bool]:
    """Settings with true and false for the switches among them, which specs and stores hold as 1 and 0."""
    return {name: bool(value) if name in SWITCHES else value for name, value in settings}


def _recommended(shape: Landscape) -> dict[str, Any]:
    """The middle of the basin; an octave's cost is ``diverges`` where it does, null where the grid does not say."""
    advice = recommend(shape)
    assert advice is not None  # there is a best cell
    ranges = {}
    for axis, reach in zip(("lr", "wd"), advice.ranges, strict=True):
        slip = reach.slip.value
        ranges[axis] = {
            "low": reach.low,
            "high": reach.high,
            "beyond_the_grid": list(reach.is_open),
            "octave_costs": "diverges" if math.isinf(slip) else None if math.isnan(slip) else slip,
        }
    return {
        "lr": advice.lr,
        "wd": advice.wd,
        "mean": advice.metric.value,
        "within": advice.within,
        "ranges": ranges,
    }


def configs_as(kind: str, spec: Spec, shapes: Sequence[Landscape]) -> str:
    """:func:`best_configs` as text, ``yaml`` or ``json``."""
    found = best_configs(spec, shapes)
    if kind == "yaml":
        return str(yaml.safe_dump(found, sort_keys=False, allow_unicode=True))
    return json.dumps(found, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def cells(shapes: Sequence[Landscape]) -> pd.DataFrame:
    """One row a cell: its axes, how many runs are in each state, and mean and standard error of every metric.

    Where a seed diverged or was stopped means are inf; where nothing is known they are empty.
    """
    return pd.concat([_cells(shape) for shape in shapes], ignore_index=True)


def _cells(shape: Landscape) -> pd.DataFrame:
    lr, wd = np.meshgrid(shape.lr, shape.wd, indexing="ij")
    columns: dict[str, Any] = {"variant": shape.variant, **dict(shape.at), "lr": lr.ravel(), "wd": wd.ravel()}
    columns |= {state: (shape.states == state).sum(axis=0).ravel() for state in STATES}
    for metric, values in dict(shape.values).items():
        known = ~np.isnan(values)
        n = known.sum(axis=0)
        mean = np.divide(np.where(known, values, 0.0).sum(axis=0), n, out=np.full(lr.shape, np.nan), where=n > 0)
        finite = np.isfinite(mean) & (n > 1)
        off = np.where(known & finite, values - np.where(finite, mean, 0.0), 0.0)
        error = np.sqrt((off**2).sum(axis=0) / np.maximum(n * (n - 1), 1))
        columns |= {metric: mean.ravel(), f"{metric}_se": np.where(finite, error, np.nan).ravel()}
    return pd.DataFrame(columns)
