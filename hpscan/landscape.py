"""The landscape: variant × lr × wd × seed → metric, with the state of every run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from hpscan.grid import Panel, panels
from hpscan.spec import Spec, SpecError
from hpscan.store import DIAGNOSTICS
from hpscan.surfaces import to_compare

__all__ = [
    "FURTHER", "STATES", "SWITCHES", "Best", "Landscape", "arranged", "is_chosen_by", "landscapes", "metrics_among", "recorded",
    "showing", "shown_by",
]  # fmt: skip

STATES = ("completed", "diverged", "stopped", "failed", "missing")

FURTHER = (*DIAGNOSTICS, "sharpness")
"""What may be shown beside the metrics, where it was recorded."""

SWITCHES = ("nesterov",)
"""Axes that are off or on: they have no octaves, and nothing lies beyond their ends."""

MOST = float(np.finfo(np.float32).max)
"""What no value exceeds: networks train in float32. Of a training function of one's own or of another tool, a value beyond it
has diverged, as a network would have; its square is no float64 either."""

PerCell = Float[np.ndarray, "lrs wds"]


@dataclass(frozen=True)
class Best:
    """The best cell of a landscape, chosen on validation; the test metrics are reported, never chosen by."""

    lr: float
    wd: float
    index: tuple[int, int]
    n_seeds: int
    means: dict[str, float]
    """Mean over the cell's seeds of every metric; nan for one that the workload does not report."""
    standard_errors: dict[str, float]
    """Of those means; nan for a single seed."""
    on_edge: bool
    """Whether the cell lies on a side of the grid beyond which a better one may hide."""


@dataclass(frozen=True, eq=False)
class Landscape:
    """One panel of a sweep: a variant, at one value of each further axis and of each axis of the recipe."""

    name: str
    """The variant, and the values of such axes if there are any."""
    variant: str
    metric: str
    """What is shown; cells are compared by it where it is one to choose by (:func:`is_chosen_by`)."""
    lr: Float[np.ndarray, " lrs"]
    wd: Float[np.ndarray, " wds"]
    seeds: tuple[int, ...]
    run_ids: np.ndarray
    """Shape (seeds, lrs, wds)."""
    states: np.ndarray
    """Shape (seeds, lrs, wds), each of :data:`STATES`."""
    values: dict[str, Float[np.ndarray, "seeds lrs wds"]]
    """Every metric: inf where the run diverged or was stopped, nan where nothing is known."""
    at: tuple[tuple[str, float], ...] = ()
    """Its value on each further axis and each axis of the recipe."""
    axes: tuple[str, str] = ("lr", "wd")
    """What ``lr`` and ``wd`` hold the values of; other axes where :func:`hpscan.views.view` laid them out."""

    def __post_init__(self) -> None:
        """A run whose value lies beyond :data:`MOST` has diverged, however the landscape came about."""
        beyond = np.isfinite(self.z) & (np.abs(self.z) > MOST)
        if beyond.any():
            object.__setattr__(self, "states", np.where(beyond, "diverged", self.states))
            values = {metric: np.where(beyond, np.inf, values) for metric, values in self.values.items()}
            object.__setattr__(self, "values", values)

    @property
    def z(self) -> Float[np.ndarray, "seeds lrs wds"]:
        """The metric of every run."""
        return self.values[self.metric]

    @property
    def known(self) -> Int[np.ndarray, "lrs wds"]:
        """How many seeds of each cell say something: completed, diverged or stopped."""
        return np.sum(~np.isnan(self.z), axis=0)

    @property
    def censored(self) -> Bool[np.ndarray, "seeds lrs wds"]:
        """Where a run has no value and is known to be worse than those that have: it diverged, or was stopped."""
        return (self.states == "diverged") | (self.states == "stopped")

    @property
    def counts(self) -> dict[str, int]:
        """Runs in each state."""
        found = Counter(self.states.ravel().tolist())
        return {state: found[state] for state in STATES}

    def mean(self) -> PerCell:
        """Mean over the known seeds: inf if any of them diverged or was stopped, nan if none is known."""
        total = np.where(np.isnan(self.z), 0.0, self.z).sum(axis=0)
        return np.divide(total, self.known, out=np.full(total.shape, np.nan), where=self.known > 0)

    def at_lr(self, index: int) -> Landscape:
        """The one row of it that has the learning rate of that index."""
        return self.part(np.arange(len(self.seeds)), np.array([index]), np.arange(len(self.wd)))

    def of_known_seeds(self) -> Landscape:
        """Without the seeds of which nothing is known, as long as anything is: they are not there to agree or differ."""
        known = ~np.isnan(self.z).all(axis=(1, 2))
        if known.all() or not known.any():
            return self
        return self.part(np.flatnonzero(known), np.arange(len(self.lr)), np.arange(len(self.wd)))

    def part(
        self, seeds: Int[np.ndarray, " seeds"], rows: Int[np.ndarray, " rows"], columns: Int[np.ndarray, " columns"]
    ) -> Landscape:
        """Those seeds, rows and columns of it."""
        some = np.ix_(seeds, rows, columns)
        return replace(
            self,
            lr=self.lr[rows],
            wd=self.wd[columns],
            seeds=tuple(self.seeds[seed] for seed in seeds),
            run_ids=self.run_ids[some],
            states=self.states[some],
            values={metric: values[some] for metric, values in self.values.items()},
        )

    def ranked(self, most: int | None = None) -> list[tuple[int, int]]:
        """Indices of the comparable cells, best first: no seed diverged or stopped, and as many seeds as any such cell has.

        The first ``most`` of them, or all; none where the metric is not one to choose by.
        """
        if not is_chosen_by(self.metric):
            return []
        z = self.mean()
        whole = np.isfinite(z)
        comparable = whole & (self.known == self.known[whole].max(initial=0))
        values = np.full(z.size, np.inf)
        values[comparable.ravel()] = to_compare(z[comparable])
        few = (
            np.arange(values.size)
            if most is None or most >= values.size
            else np.flatnonzero(values <= np.partition(values, most - 1)[most - 1])
        )
        order = few[np.argsort(values[few], kind="stable")][: int(comparable.sum())][:most]
        return [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, z.shape), strict=True)]

    def best(self) -> Best | None:
        """The best cell; None if no cell has a finite metric, or the metric is not one to choose by."""
        ranked = self.ranked(1)
        if not ranked:
            return None
        i, j = ranked[0]
        seeds = {metric: values[:, i, j][~np.isnan(values[:, i, j])] for metric, values in self.values.items()}
        n_seeds = int(self.known[i, j])
        return Best(
            lr=float(self.lr[i]),
            wd=float(self.wd[j]),
            index=(i, j),
            n_seeds=n_seeds,
            means={metric: float(values.mean()) if len(values) else float("nan") for metric, values in seeds.items()},
            standard_errors={
                metric: float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
                for metric, values in seeds.items()
            },
            on_edge=any(
                axis not in SWITCHES and _on_edge(values, at)
                for axis, values, at in zip(self.axes, (self.lr, self.wd), (i, j), strict=True)
            ),
        )


def is_chosen_by(metric: str) -> bool:
    """Whether the least of a metric makes a cell the best: of validation metrics alone, and of no diagnostic."""
    return metric.removeprefix("ensemble_").startswith("val_")


def landscapes(spec: Spec, frame: pd.DataFrame) -> list[Landscape]:
    """Arrange the rows of a store (:meth:`hpscan.store.Store.runs`) as the spec's landscapes, one a panel.

    Rows are found by run_id, so what the spec does not ask for is left out, and what it asks for and the store lacks
    is ``missing``.
    """
    metrics = recorded(frame)
    rows = frame.set_index("run_id")[["state", *metrics]]

    def of(panel: Panel) -> Landscape:
        run_ids = panel.run_ids(spec.seeds)
        found = rows.reindex(run_ids.ravel())
        return arranged(spec, panel, run_ids, {str(name): found[name].to_numpy() for name in found})

    return [of(panel) for panel in panels(spec)]


def recorded(frame: pd.DataFrame) -> list[str]:
    """The metrics of a store's rows, and the diagnostics that any of them has."""
    return metrics_among(list(frame.columns), lambda name: bool(frame[name].notna().any()))


def metrics_among(names: Sequence[str], has: Callable[[str], bool]) -> list[str]:
    """The metrics among columns, and the diagnostics that any row has."""
    metrics = [name for name in names if name.startswith(("train_", "val_", "test_", "ensemble_"))]
    return metrics + [name for name in FURTHER if name in names and has(name)]


def shown_by(spec: Spec, frame: pd.DataFrame, metric: str) -> Spec:
    """The spec with another metric to show; raises SpecError if no row has it."""
    return showing(spec, [name for name in recorded(frame) if frame[name].notna().any()], metric)


def showing(spec: Spec, known: Sequence[str], metric: str) -> Spec:
    """The spec with another metric to show; raises SpecError if it is none of those known."""
    if metric not in known:
        raise SpecError(f"--metric {metric}: not recorded in {spec.name}; there are {', '.join(known) or 'no results'}")
    return spec.model_copy(update={"metric": metric})


def arranged(spec: Spec, panel: Panel, run_ids: np.ndarray, found: Mapping[str, np.ndarray]) -> Landscape:
    """The landscape of a panel from its run_ids, and what is known of each of these runs in turn.

    ``found`` has the ``state``, none where there is no row, and the metrics, of which ``spec.metric`` is added if absent.
    """
    shape = run_ids.shape
    states = np.where(pd.isna(found["state"]), "missing", found["state"].astype(object))
    completed = states == "completed"
    # what a stopped run had at its rung is not what it would have ended with
    no_end = (states == "diverged") | (states == "stopped")
    values = {
        metric: np.where(no_end, np.inf, np.where(completed, column.astype(np.float64), np.nan)).reshape(shape)
        for metric, column in found.items()
        if metric != "state"
    }
    if spec.metric not in values:
        values[spec.metric] = np.where(no_end, np.inf, np.nan).reshape(shape)
    return Landscape(
        name=panel.name,
        variant=panel.variant,
        metric=spec.metric,
        lr=np.array(panel.lr),
        wd=np.array(panel.wd),
        seeds=spec.seeds,
        run_ids=run_ids,
        states=states.reshape(shape),
        values=values,
        at=panel.at,
    )


def _on_edge(axis: Float[np.ndarray, " points"], index: int) -> bool:
    """Whether an axis could be extended beyond ``index``; below wd = 0 there is nothing, and one point is no axis."""
    return len(axis) > 1 and (index == len(axis) - 1 or (index == 0 and float(axis[0]) > 0))
