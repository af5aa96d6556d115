"""Rounds of a sweep: which runs are trained next and how far, by the rule that stops them and what is stored.

What a round is follows from the spec, the curves and the states of runs alone. A sweep that was interrupted, or whose
grid, seeds or rule have changed, therefore goes on as if it had always been so, with what is there.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from hpscan.grid import Leg, Panel, panels
from hpscan.spec import Spec
from hpscan.store import Store, ended
from hpscan.surfaces import mean_of_known

__all__ = ["Round", "next_round", "stage", "survivors"]

Cells = Bool[np.ndarray, "lrs wds"]


@dataclass(frozen=True)
class Round:
    """What is trained next, up to the rung at which runs are compared again, or to the end."""

    legs: dict[str, Leg] | None = None
    """Of the runs that are in it, by run_id; None where nothing but divergence stops a run."""
    done: set[str] = field(default_factory=set)
    """Runs that need no training in this round."""
    open: set[str] = field(default_factory=set)
    """Runs that are not at their end: to be trained, or waiting for the others to be compared with."""
    stopped: set[str] = field(default_factory=set)
    """Runs that the rule stops where they are, and that are not stored as such."""
    run_steps: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Run-steps to come in this round and the later ones, by the recipe's identity; of the later ones about."""


def survivors(z: Float[np.ndarray, "seeds lrs wds"], alive: Cells, n_kept: int) -> Cells:
    """The best ``n_kept`` of the cells alive by their mean over seeds, and ties with the last of them.

    A cell in which a seed diverged (inf) never goes on, nor one of which nothing is known (nan).
    """
    mean = np.where(alive, np.nan_to_num(mean_of_known(z, (0,)), nan=np.inf, posinf=np.inf), np.inf)
    finite = np.sort(mean[np.isfinite(mean)])
    if not len(finite):
        return np.zeros_like(alive)
    return mean <= finite[min(n_kept, len(finite)) - 1]


def stage(
    spec: Spec, z: Float[np.ndarray, "rungs seeds lrs wds"], known: Bool[np.ndarray, "rungs seeds lrs wds"]
) -> tuple[int, Cells]:
    """How many rungs a landscape has decided, and the cells that are still in it.

    ``known`` says which runs have come to a rung, or ended before; ``z`` is what they had there.
    """
    alive = np.ones(z.shape[2:], dtype=bool)
    for k in range(len(z)):
        if not known[k][:, alive].all():
            return k, alive
        alive = survivors(z[k], alive, spec.stop.kept(int(alive.sum())))
    return len(z), alive


def next_round(spec: Spec, store: Store, rows: pd.DataFrame | None = None, *, retry_failed: bool = False) -> Round:
    """The next round of a sweep, according to what is stored.

    Parameters
    ----------
    spec
        The sweep.
    store
        Where it is.
    rows
        What ``store.runs`` returned, if it was read already.
    retry_failed
        Whether failed runs are trained again.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    rows = store.runs(spec.name, without=["config"]) if rows is None else rows
    found = Round(None if spec.stop.name == "diverged" else {})
    know = _Known(spec, store, rows, retry_failed=retry_failed)
    for panel in panels(spec):
        know.enter(panel, found)
    return found


class _Known:
    """What is known of a sweep's runs."""

    def __init__(self, spec: Spec, store: Store, rows: pd.DataFrame, *, retry_failed: bool) -> None:
        self.spec = spec
        halving = spec.stop.name != "diverged"
        rungs = store.rungs(spec.name) if halving else rows.iloc[:0]
        self.rungs = rungs.set_index("run_id")
        counted = rows[rows["run_id"].isin(ended(rows, retry_failed=retry_failed))].set_index("run_id")
        # a failed run that was retried and has since come to a rung has not failed any more
        later = self.rungs["finished_at"].reindex(counted.index) > counted["finished_at"]
        counted = counted[~((counted["state"] == "failed") & later)]
        self.state = counted["state"]
        self.steps_done = pd.concat([self.rungs["steps_done"], counted["steps_done"]]).groupby(level=0).max()
        self.stopped_at = counted["steps_done"][counted["state"] == "stopped"]
        self.curves = store.curves(spec.name)[["run_id", "step", spec.metric]] if halving else None
        self.at: dict[int, pd.Series] = {}

    def enter(self, panel: Panel, found: Round) -> None:
        """Add a panel's part of the round."""
        run_ids = panel.run_ids(self.spec.seeds)
        shape, run_ids = run_ids.shape, run_ids.ravel()
        steps = panel.recipe.steps
        state = self.state.reindex(run_ids).to_numpy(dtype=object)
        at_end = np.isin(state.astype(str), ["completed", "diverged", "failed"])
        rungs = self.spec.stop.steps(steps, panel.recipe.evaluations)
        z, known = self._at_rungs(rungs, run_ids, state, at_end)
        k, alive = stage(self.spec, z.reshape(-1, *shape), known.reshape(-1, *shape))
        inside = np.broadcast_to(alive, shape).ravel()
        done = at_end if k == len(rungs) else known[k]
        since, until = ([0, *rungs, steps][at] for at in (k, k + 1))
        found.done.update(run_ids[done | ~inside])
        found.open.update(run_ids[inside & ~at_end])
        ahead = self._ahead(rungs, steps, k, int(alive.sum())) * len(self.spec.seeds)
        if found.legs is not None:
            legs = self._legs(run_ids[inside], since, until)
            found.legs.update(legs)
            outside = run_ids[~inside & ~at_end]
            reached = self.rungs["steps_done"].reindex(outside) > self.stopped_at.reindex(outside).fillna(-1)
            found.stopped.update(outside[reached.to_numpy()])
            ahead += sum(until - legs[i].since * (legs[i].source is not None) for i in run_ids[inside & ~done])
        else:
            ahead += int((inside & ~done).sum()) * until
        found.run_steps[panel.recipe.identity] += ahead

    def _at_rungs(
        self, rungs: tuple[int, ...], run_ids: np.ndarray, state: np.ndarray, at_end: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of every run at every rung: the metric, and whether it has come there or ended."""
        z, known = (np.full((len(rungs), len(run_ids)), fill) for fill in (np.nan, False))
        reached = self.steps_done.reindex(run_ids).fillna(-1).to_numpy()
        for k, rung in enumerate(rungs):
            if rung not in self.at:
                assert self.curves is not None
                self.at[rung] = self.curves[self.curves["step"] == rung].set_index("run_id")[self.spec.metric]
            value = self.at[rung].reindex(run_ids).to_numpy(dtype=float)
            there = ~np.isnan(value) & (at_end | (reached >= rung))
            z[k] = np.where(there, value, np.where(state == "diverged", np.inf, np.nan))
            known[k] = there | at_end
        return z, known

    def _legs(self, run_ids: np.ndarray, since: int, until: int) -> dict[str, Leg]:
        """From the rung before, where a run's state is kept from there, else from the beginning."""
        rows = self.rungs.reindex(run_ids)
        legs = {}
        for run_id, at, strategy, compiled, source in zip(
            run_ids, rows["steps_done"], rows["strategy"], rows["compiled"], rows["pack_id"], strict=True
        ):
            if since and at >= since:
                legs[run_id] = Leg(until, since, (str(strategy), bool(compiled)), source if at == since else None)
            else:
                legs[run_id] = Leg(until)
        return legs

    def _ahead(self, rungs: tuple[int, ...], steps: int, k: int, n_cells: int) -> int:
        """Steps of one seed that the rounds after the present one will take of a landscape, about."""
        total, ends = 0, [*rungs, steps]
        for at in range(k, len(rungs)):
            n_cells = self.spec.stop.kept(n_cells)
            total += n_cells * (ends[at + 1] - ends[at])
        return total
