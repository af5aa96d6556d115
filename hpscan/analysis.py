"""Everything a sweep says, gathered once: what ``analyze`` prints, and what figures and reports show."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from hpscan.adaptive import Belief
from hpscan.collapse import Collapse, collapses
from hpscan.conventions import on_grid, redrawn
from hpscan.conventions import pairs as paired
from hpscan.intervals import NOTHING, Interval, mean_of_seeds
from hpscan.landscape import Best, Landscape, is_chosen_by, landscapes, shown_by
from hpscan.parts import WHERE_IT_RAN
from hpscan.recommendation import Recommendation, recommend
from hpscan.rounds import belief_of
from hpscan.scaling import Scaling, scalings
from hpscan.separation import Extent, Separability, separability
from hpscan.spec import Spec, SpecError
from hpscan.store import RUNS, Store
from hpscan.variants import Decay
from hpscan.verdicts import Pair, Verdict, compare, partners, verdict
from hpscan.views import view

__all__ = ["Analysis", "VariantAnalysis", "analyze", "status", "status_of"]


_UNREAD = ("config", "error", *WHERE_IT_RAN)
"""Columns that no landscape shows: most of the memory of 100,000 runs."""

AXES_IN_WORDS = {"lr": "learning rate", "wd": "weight decay", "batch_size": "batch size"}


@dataclass(frozen=True, eq=False)
class VariantAnalysis:
    """One variant's landscape, its best cell and its separability."""

    landscape: Landscape
    best: Best | None
    separability: Separability
    belief: Belief | None = None
    """Of an adaptive sweep: what its cells say of those that were not trained. No number is computed from it."""

    @property
    def predicted(self) -> np.ndarray:
        """The cells that are shown as predicted: none of their seeds was trained."""
        missing = (self.landscape.states == "missing").all(axis=0)
        return missing & (self.belief is not None)

    @classmethod
    def of(cls, landscape: Landscape, belief: Belief | None = None) -> VariantAnalysis:
        """All that a landscape says."""
        numbers = separability(landscape)
        numbers = numbers if is_chosen_by(landscape.metric) else _without_choices(numbers)
        return cls(landscape, landscape.best(), numbers, belief)

    @property
    def name(self) -> str:
        """The panel: the variant, and the values of the further axes if there are any."""
        return self.landscape.name

    @property
    def best_metric(self) -> Interval | None:
        """The metric of the best cell with Student's interval over its seeds; the least of many, it flatters a little."""
        if self.best is None:
            return None
        seeds = self.landscape.z[:, *self.best.index]
        return mean_of_seeds(seeds[~np.isnan(seeds)])

    @cached_property
    def recommendation(self) -> Recommendation | None:
        """What to train with: the middle of the basin."""
        return recommend(self.landscape)

    @property
    def verdict(self) -> Verdict:
        """What the numbers say, in a word and a sentence."""
        return verdict(self.separability, *(AXES_IN_WORDS.get(axis, axis) for axis in self.landscape.axes))


@dataclass(frozen=True, eq=False)
class Analysis:
    """A sweep's landscapes with their numbers."""

    spec: Spec
    variants: list[VariantAnalysis]
    store: Store
    planned: list[Landscape]
    """A landscape over lr and wd for each panel of the spec, whatever axes ``variants`` are over."""

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The store's rows of the runs that the spec asks for, without their configs; read when first wanted."""
        rows = self.store.runs(self.spec.name, without=["config"])
        run_ids = np.concatenate([landscape.run_ids.ravel() for landscape in self.planned])
        return rows[rows["run_id"].isin(run_ids)]

    @cached_property
    def curves(self) -> pd.DataFrame:
        """The store's rows of every evaluation; read when first wanted."""
        return self.store.curves(self.spec.name)

    @property
    def predictions(self) -> pd.DataFrame:
        """One row for each predicted cell: its mean and standard deviation, and how likely it is to be in the basin."""
        columns = ["panel", "lr", "wd", "mean", "sd", "in_basin"]
        rows = [
            (each.name, each.landscape.lr[i], each.landscape.wd[j], *(float(of[i, j]) for of in surfaces))
            for each in self.variants
            if each.belief is not None
            for surfaces in [(each.belief.mean, each.belief.sd, each.belief.in_basin)]
            for i, j in np.argwhere(each.predicted)
        ]
        return pd.DataFrame(rows, columns=columns)

    @property
    def tested(self) -> str:
        """What is told of the best cells' test set: ``test_error``, or ``test_loss`` where none has an error."""
        errors = [each.best.means["test_error"] for each in self.variants if each.best is not None]
        return "test_loss" if errors and np.isnan(errors).all() else "test_error"

    @property
    def states(self) -> dict[str, int]:
        """Runs in each state, all variants together."""
        return _added([variant.landscape.counts for variant in self.variants])

    @cached_property
    def scalings(self) -> list[Scaling]:
        """How the best weight decay moves along the axes of the recipe, if the grid has any and the metric chooses."""
        return scalings(self.spec, self.planned) if is_chosen_by(self.spec.metric) else []

    @cached_property
    def collapses(self) -> dict[str, list[Collapse]]:
        """Each landscape over lr and wd against single parameters that might explain it, by panel."""
        found = {variant.name: collapses(variant.landscape) for variant in self.variants}
        return {name: of_one for name, of_one in found.items() if of_one}

    @cached_property
    def pairs(self) -> list[Pair]:
        """Every coupled variant against its decoupled partners, at the same values of the further axes."""
        return [
            compare(one.name, one.separability, other.name, other.separability)
            for one, other in product(self.variants, self.variants)
            if partners(one.landscape.variant, other.landscape.variant) and one.landscape.at == other.landscape.at
        ]

    @cached_property
    def sheared(self) -> list[tuple[VariantAnalysis, VariantAnalysis, VariantAnalysis]]:
        """The paper's form, the same in torch's units, and torch's form as measured, wherever the two can be compared.

        The last two are on one grid.
        """
        by_name = {variant.name: variant for variant in self.variants}
        found = []
        for paper, torch in paired([variant.landscape for variant in self.variants]):
            try:
                again = redrawn(paper, Decay.TORCH)
            except SpecError:  # not on one lattice: there is nothing to compare
                continue
            lr, wd = (np.unique(np.concatenate(axes)) for axes in ((again.lr, torch.lr), (again.wd, torch.wd)))
            measured = on_grid(torch, lr, wd)
            found.append((
                by_name[paper.name],
                VariantAnalysis.of(on_grid(again, lr, wd)),
                # what was predicted, on a grid that is not this one, says nothing of how measured landscapes agree
                replace(by_name[torch.name], landscape=measured, best=measured.best(), belief=None),
            ))  # fmt: skip
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what is unknown or infinite is null."""
        return {
            "sweep": self.spec.name,
            "metric": self.spec.metric,
            "variants": [_variant(variant) for variant in self.variants],
            "pairs": [_pair(pair) for pair in self.pairs],
            "scaling": [_scaling(s) for s in self.scalings],
            "collapse": [
                {"panel": name, "unexplained": {each.parameter: _interval(each.unexplained) for each in of_one}}
                for name, of_one in self.collapses.items()
            ],
        }


def analyze(
    store: Store,
    sweep: str,
    axes: tuple[str, str] | None = None,
    at: Mapping[str, float] | None = None,
    over: Mapping[str, str] | None = None,
    *,
    metric: str | None = None,
) -> Analysis:
    """Read a sweep and compute its numbers: a landscape for each panel, or over two other axes (:func:`hpscan.views.view`).

    ``metric`` is shown in place of the spec's. Only a validation metric has a best cell, and what follows from one: of
    others slope and interaction say how the axes share in it.

    Raises
    ------
    StoreError
        If there is no such sweep.
    SpecError
        If an axis or a value is not the sweep's, or the metric was not recorded.
    """
    spec = store.spec(sweep)
    rows = store.runs(sweep, without=_UNREAD)
    spec = spec if metric is None else shown_by(spec, rows, metric)
    planned = landscapes(spec, rows)
    del rows
    store.give_back()
    shapes = view(planned, axes or ("lr", "wd"), at, over) if axes or at or over else planned
    beliefs = [
        belief_of(shape, spec.adaptive.tolerance) if spec.adaptive and shapes is planned else None for shape in shapes
    ]
    variants = [VariantAnalysis.of(shape, belief) for shape, belief in zip(shapes, beliefs, strict=True)]
    return Analysis(spec, variants, store, planned)


def status(store: Store, sweep: str) -> dict[str, Any]:
    """How far a sweep is: its runs by state, all together and by variant; what failed runs raised, and how many."""
    rows = store.runs(sweep, without=set(RUNS.names) - {"run_id", "state", "error", "steps_done", "finished_at"})
    return status_of(sweep, landscapes(store.spec(sweep), rows), rows.set_index("run_id")["error"].dropna())


def status_of(sweep: str, shapes: list[Landscape], errors: pd.Series[Any]) -> dict[str, Any]:
    """The same of landscapes, and the errors of runs that failed, by run_id: their first lines, of those that are asked for."""
    asked = errors[errors.index.isin(np.concatenate([shape.run_ids[shape.states == "failed"] for shape in shapes]))]
    counts = [shape.counts for shape in shapes]
    states = _added(counts)
    return {
        "sweep": sweep,
        "runs": sum(states.values()),
        "states": states,
        "variants": [{"variant": shape.name, "states": of} for shape, of in zip(shapes, counts, strict=True)],
        "errors": {
            str(text): int(count)
            for text, count in asked.map(lambda text: text.partition("\n")[0]).value_counts().items()
        },
    }


def _without_choices(numbers: Separability) -> Separability:
    """Slope, interaction and evidence alone: what can be said of a quantity of which less is not better."""
    blank: dict[str, Any] = dict.fromkeys(
        ("independent_tuning_regret", "one_pass_regret", "tilt", "best_wd_trend", "rank_agreement"), NOTHING
    )
    nowhere = Extent(NOTHING, is_open=False)
    return replace(numbers, **blank, worst_regret=math.nan, extents=(nowhere, nowhere))


def _added(counts: list[dict[str, int]]) -> dict[str, int]:
    return {state: sum(count[state] for count in counts) for state in counts[0]}


def _variant(variant: VariantAnalysis) -> dict[str, Any]:
    shape, best, numbers = variant.landscape, variant.best, variant.separability
    first, second = shape.axes
    best_metric = variant.best_metric
    return {
        "panel": shape.name,
        "variant": shape.variant,
        "axes": list(shape.axes),
        "at": dict(shape.at),
        "cells": shape.lr.size * shape.wd.size,
        "seeds": len(shape.seeds),
        "states": shape.counts,
        "best": None if best is None or best_metric is None else {
            first: best.lr,
            second: best.wd,
            **{metric: _finite(value) for metric, value in best.means.items()},
            "standard_error": _finite(best.standard_errors[shape.metric]),
            "low": _finite(best_metric.low),
            "high": _finite(best_metric.high),
            "n_seeds": best.n_seeds,
            "on_edge": best.on_edge,
        },
        "contour_slope": _interval(numbers.contour_slope),
        "interaction_share": _interval(numbers.interaction_share),
        "independent_tuning_regret": {
            **_interval(numbers.independent_tuning_regret),
            "worst": _finite(numbers.worst_regret),
        },
        "one_pass_regret": _interval(numbers.one_pass_regret),
        "tilt": _interval(numbers.tilt),
        "best_wd_trend": _interval(numbers.best_wd_trend),
        "rank_agreement": _interval(numbers.rank_agreement),
        "extents": {axis: _extent(extent) for axis, extent in zip(shape.axes, numbers.extents, strict=True)},
        "p_values": {
            "surface": _finite(numbers.evidence.surface),
            first: _finite(numbers.evidence.first),
            second: _finite(numbers.evidence.second),
            "interaction": _finite(numbers.evidence.interaction),
        },
        "verdict": variant.verdict.word,
        "sentence": variant.verdict.sentence,
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
            {scaling.axis: best.at, **_interval(best.wd), "lr": _finite(best.lr), "edge": best.edge or None}
            for best in scaling.optima
        ],
    }


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "coupled": pair.coupled,
        "decoupled": pair.decoupled,
        "contour_slope": _interval(pair.contour_slope),
        "interaction_share": _interval(pair.interaction_share),
        "independent_tuning_regret": _interval(pair.independent_tuning_regret),
        "verdict": pair.verdict.word,
        "sentence": pair.verdict.sentence,
    }


def _extent(extent: Extent) -> dict[str, Any]:
    return {**_interval(extent.width), "open": extent.is_open}


def _interval(interval: Interval) -> dict[str, float | None]:
    return {"value": _finite(interval.value), "low": _finite(interval.low), "high": _finite(interval.high)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
