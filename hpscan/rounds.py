"""The rounds of an adaptive sweep: from what the store holds to the runs to train next."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from hpscan.adaptive import Belief, believe, first_cells, next_cells
from hpscan.grid import Pack, Run, packs, panels, runs
from hpscan.landscape import Landscape, landscapes
from hpscan.separation import coordinates
from hpscan.spec import Spec
from hpscan.store import Store

__all__ = ["AdaptiveRounds", "affordable", "belief_of", "cells_left", "most_cells", "to_train"]

Index = tuple[int, int]


@dataclass
class AdaptiveRounds:
    """Chooses the packs of an adaptive sweep, round by round; every choice is a function of what is stored.

    All seeds of a cell are trained together, and a round holds a full pack or more for every landscape, and one for
    every worker.
    """

    spec: Spec
    location: str
    """The store."""
    stored: frozenset[str]
    """Runs that need no training; what else the store holds at first, failed runs, is trained again."""
    workers: int
    asked: set[str] = field(default_factory=set)
    """Runs that were chosen already; one whose pack is lost for good is not chosen again."""

    def __post_init__(self) -> None:
        self.every: list[Run] = runs(self.spec)
        whole = packs(self.every, self.spec.resources.most_runs, (), self.workers)
        self.capacity = whole[0].capacity
        assert self.spec.adaptive is not None
        self.adaptive = self.spec.adaptive

    def next(self, training: Collection[str] = ()) -> list[Pack]:
        """The packs of the next round; none if every landscape is settled or its budget is spent.

        What has come of the runs that are ``training`` is not looked at: the choice would depend on which of them ended
        first.
        """
        rows = Store(self.location, on_broken=lambda _: None).runs(self.spec.name, without=["config", "error"])
        again = (rows["state"] == "failed") & ~rows["run_id"].isin(self.stored | self.asked)
        shapes = landscapes(self.spec, rows[~again & ~rows["run_id"].isin(training)])
        packs_each = math.ceil(self.workers / len(shapes))
        cells_each = max(1, packs_each * self.capacity // len(self.spec.seeds))
        chosen = {
            str(run_id)
            for shape in shapes
            for cell in self._cells(shape, cells_each, training, again=rows.loc[again, "run_id"])
            for run_id in shape.run_ids[:, *cell][shape.states[:, *cell] == "missing"]
        } - self.asked
        self.asked |= chosen
        others = (run.run_id for run in self.every if run.run_id not in chosen)
        return packs(self.every, self.spec.resources.most_runs, others, self.workers) if chosen else []

    def _cells(self, shape: Landscape, n: int, training: Collection[str], again: Collection[str]) -> list[Index]:
        """At most ``n`` new cells of a landscape, and those of which seeds are missing or are to be trained ``again``."""
        missing = shape.states == "missing"
        run_ids = shape.run_ids.astype(str)
        asked, in_training, retried = (
            np.isin(run_ids, list(some)).any(axis=0) for some in (self.asked, training, again)
        )
        begun = ~missing.all(axis=0) | retried
        partial = _indices(begun & missing.any(axis=0) & ~asked)
        budget = cells_left(missing[0].size, int((begun | asked).sum()), self.adaptive.most_cells)
        n = max(0, min(n - len(partial), budget))
        if not (begun | asked).any():
            return first_cells(missing.shape[1:])[:budget]
        unknown = (begun | asked) & ~_whole(shape)
        lost = (shape.states == "failed").any(axis=0) | (asked & ~in_training)
        pending, lost = _indices(unknown & ~lost), _indices(unknown & lost)
        tolerance = self.adaptive.tolerance
        chosen = (
            next_cells(_known(shape), *_axes(shape), n, tolerance=tolerance, pending=pending, lost=lost) if n else []
        )
        return partial + chosen


def affordable(spec: Spec, waiting: Collection[str]) -> set[str]:
    """As many of the runs waiting as an adaptive sweep trains at most; which ones, only its results will say."""
    assert spec.adaptive is not None
    chosen: set[str] = set()
    for panel in panels(spec):
        ids = panel.run_ids(spec.seeds).reshape(len(spec.seeds), -1)
        to_train = np.isin(ids.astype(str), list(waiting))
        begun = ~to_train.all(axis=0)
        new = np.flatnonzero(~begun)[: cells_left(ids.shape[1], int(begun.sum()), spec.adaptive.most_cells)]
        cells = np.concatenate([np.flatnonzero(begun), new])
        chosen.update(ids[:, cells][to_train[:, cells]])
    return chosen


def to_train(spec: Spec, location: str, done: Collection[str], waiting: Collection[str]) -> set[str]:
    """The same of a sweep in the store at ``location``, with runs that are ``done``: none if it is settled."""
    rounds = AdaptiveRounds(spec, location, frozenset(done), spec.resources.workers_here)
    return affordable(spec, waiting) if rounds.next() else set()


def most_cells(cells: int, share: float) -> int:
    """Of the cells of a landscape, how many an adaptive sweep trains at most."""
    return max(1, math.floor(share * cells + 1e-9))


def cells_left(cells: int, begun: int, share: float) -> int:
    """How many more of a landscape's cells, beside those ``begun``, an adaptive sweep may train."""
    return max(0, most_cells(cells, share) - begun)


def belief_of(shape: Landscape, tolerance: float) -> Belief | None:
    """What a landscape's whole cells say of all of them; None where they are too few."""
    return believe(_known(shape), *_axes(shape), tolerance)


def _known(shape: Landscape) -> np.ndarray:
    """The mean of cells of which every seed is there; ``inf`` where one diverged or was stopped."""
    z = np.where(shape.censored.any(axis=0), np.inf, shape.mean())
    return np.where(_whole(shape), z, np.nan)


def _whole(shape: Landscape) -> np.ndarray:
    return (~np.isnan(shape.z)).all(axis=0)


def _axes(shape: Landscape) -> tuple[np.ndarray, np.ndarray]:
    return coordinates("lr", shape.lr), coordinates("wd", shape.wd)


def _indices(cells: np.ndarray) -> list[Index]:
    return [(int(i), int(j)) for i, j in np.argwhere(cells)]
