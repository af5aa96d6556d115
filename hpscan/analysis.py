"""Everything a sweep says, gathered once: what ``analyze`` prints, and what figures and reports show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hpscan.landscape import Best, Landscape, landscapes
from hpscan.scaling import Scaling, scalings
from hpscan.separability import Interval, Separability, mean_over_seeds, separability
from hpscan.spec import Spec
from hpscan.store import RUNS, Store

__all__ = ["Analysis", "VariantAnalysis", "analyze", "status"]


_WHERE_IT_RAN = RUNS.names[RUNS.names.index("wall_s") : RUNS.names.index("finished_at")]
_UNREAD = ("config", "error", *_WHERE_IT_RAN)
"""Columns that no landscape shows: most of the memory of 100,000 runs."""


@dataclass(frozen=True, eq=False)
class VariantAnalysis:
    """One variant's landscape, its best cell and its separability."""

    landscape: Landscape
    best: Best | None
    separability: Separability

    @property
    def name(self) -> str:
        """The panel: the variant, and the values of the further axes if there are any."""
        return self.landscape.name

    @property
    def best_metric(self) -> Interval | None:
        """The metric of the best cell with its interval over seeds; chosen as the least of many, it flatters a little."""
        if self.best is None:
            return None
        seeds = self.landscape.z[:, *self.best.index]
        return mean_over_seeds(seeds[~np.isnan(seeds)])


@dataclass(frozen=True, eq=False)
class Analysis:
    """A sweep's landscapes with their numbers."""

    spec: Spec
    variants: list[VariantAnalysis]
    store: Store

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The store's rows of the runs that the spec asks for, without their configs; read when first wanted."""
        rows = self.store.runs(self.spec.name, without=["config"])
        run_ids = np.concatenate([variant.landscape.run_ids.ravel() for variant in self.variants])
        return rows[rows["run_id"].isin(run_ids)]

    @property
    def states(self) -> dict[str, int]:
        """Runs in each state, all variants together."""
        return _added([variant.landscape.counts for variant in self.variants])

    @cached_property
    def scalings(self) -> list[Scaling]:
        """How the best weight decay moves along the axes of the recipe, if the grid has any."""
        return scalings(self.spec, [variant.landscape for variant in self.variants])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what is unknown or infinite is null."""
        return {
            "sweep": self.spec.name,
            "metric": self.spec.metric,
            "variants": [_variant(v) for v in self.variants],
            "scaling": [_scaling(s) for s in self.scalings],
        }


def analyze(store: Store, sweep: str) -> Analysis:
    """Read a sweep and compute its numbers; raises StoreError if there is no such sweep."""
    spec = store.spec(sweep)
    shapes = landscapes(spec, store.runs(sweep, without=_UNREAD))
    return Analysis(spec, [VariantAnalysis(shape, shape.best(), separability(shape)) for shape in shapes], store)


def status(store: Store, sweep: str) -> dict[str, Any]:
    """How far a sweep is: its runs by state, all together and by variant; what failed runs raised, and how many."""
    rows = store.runs(sweep, without=["config"])
    shapes = landscapes(store.spec(sweep), rows)
    states = _added([shape.counts for shape in shapes])
    return {
        "sweep": sweep,
        "runs": sum(states.values()),
        "states": states,
        "variants": [{"variant": shape.name, "states": shape.counts} for shape in shapes],
        "errors": {str(text): int(count) for text, count in rows["error"].dropna().value_counts().items()},
    }


def _added(counts: list[dict[str, int]]) -> dict[str, int]:
    return {state: sum(count[state] for count in counts) for state in counts[0]}


def _variant(variant: VariantAnalysis) -> dict[str, Any]:
    shape, best, numbers = variant.landscape, variant.best, variant.separability
    return {
        "panel": shape.name,
        "variant": shape.variant,
        "cells": shape.lr.size * shape.wd.size,
        "seeds": len(shape.seeds),
        "states": shape.counts,
        "best": None if best is None else {
            "lr": best.lr,
            "wd": best.wd,
            **{metric: _finite(value) for metric, value in best.means.items()},
            "standard_error": _finite(best.standard_errors[shape.metric]),
            "n_seeds": best.n_seeds,
            "on_edge": best.on_edge,
        },
        "contour_slope": _interval(numbers.contour_slope),
        "interaction_share": _interval(numbers.interaction_share),
        "independent_tuning_regret": {
            **_interval(numbers.independent_tuning_regret),
            "worst": _finite(numbers.worst_regret),
        },
        "verdict": numbers.verdict,
    }  # fmt: skip


def _scaling(scaling: Scaling) -> dict[str, Any]:
    return {
        "panel": scaling.name,
        "variant": scaling.variant,
        "axis": scaling.axis,
        "quantity": scaling.quantity,
        "exponent": _interval(scaling.exponent),
        "predictions": [
            {"source": source, "exponent": exponent, "agrees": scaling.agrees(source)}
            for source, exponent in scaling.predictions.items()
        ],
        "best": [
            {scaling.axis: best.at, **_interval(best.wd), "lr": best.lr, "edge": best.edge or None}
            for best in scaling.optima
        ],
    }


def _interval(interval: Interval) -> dict[str, float | None]:
    return {"value": _finite(interval.value), "low": _finite(interval.low), "high": _finite(interval.high)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
