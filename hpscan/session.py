"""Runs in training: a strategy that holds their state, what feeds them, and what became of each so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from hpscan.feed import Feed
from hpscan.grid import Run
from hpscan.optimizers import step_numbers
from hpscan.program import Program
from hpscan.sharpness import EXAMPLES, MOST_ITERATIONS
from hpscan.strategies import Fused, Loop, Strategy
from hpscan.tasks import Task
from hpscan.workloads import Data, WorkloadError

__all__ = ["Evaluation", "RunResult", "Session", "examples_at_once", "judged", "numbers_of"]

CHUNK = 512
"""Examples that are judged at once: the outputs of a convolution of more would not stay in the cache."""
MOST_TARGETS = 8192
"""Targets that are: fewer windows of a text, whose outputs would not stay in the cache."""


@dataclass(frozen=True)
class Evaluation:
    """One row of a run's curve."""

    step: int
    """Steps taken so far."""
    batch_loss: float | None
    """Mean loss of the training batches since the evaluation before."""
    val_loss: float
    val_error: float | None
    snapshot: bool = False
    """Whether a period of the schedule ends here."""
    weight_norm: float | None = None
    """This and the next three: of the last step before (:func:`hpscan.diagnostics.measure`); None where not finite."""
    grad_norm: float | None = None
    update_ratio: float | None = None
    rotation: float | None = None
    gap: float | None = None
    """``val_loss`` − ``batch_loss``."""


@dataclass
class RunResult:
    """What became of a run."""

    run: Run
    state: Literal["completed", "diverged", "stopped", "failed"] = "completed"
    steps_done: int = 0
    """Steps with a finite loss."""
    error: str | None = None
    """What a failed run raised."""
    metrics: dict[str, float] = field(default_factory=dict)
    """``train_loss``, ``val_error`` and so on in evaluation mode at the end of the budget; empty if it did not get there. With
    snapshots also ``ensemble_val_loss`` and so on, of their averaged predictions."""
    sharpness: float | None = None
    """The top Hessian eigenvalue at the end of the budget, if it was asked for and is finite."""
    curve: list[Evaluation] = field(default_factory=list)
    wall_s: float = 0.0
    """From the start of its part of the pack to the end of the run."""
    device_s: float = 0.0
    """The run's share of that time: a pack's seconds are divided among the runs alive in it."""
    compile_s: float = 0.0
    """What its part of the pack spent on compiling, trying out what to compile included."""

    @property
    def diagnostics(self) -> dict[str, float | None]:
        """A number for each diagnostic of the curve, if the run completed: norms and gap as they are at the end.

        Update ratio and rotation die out with the schedule; they are means over the curve.
        """
        if self.state != "completed" or not self.curve:
            return {}
        found: dict[str, float | None] = {"sharpness": self.sharpness}
        found |= {name: getattr(self.curve[-1], name) for name in ("weight_norm", "grad_norm", "gap")}
        for name in ("update_ratio", "rotation"):
            values = [getattr(point, name) for point in self.curve]
            found[name] = None if None in values else sum(values) / len(values)
        return found

    def saved(self) -> dict[str, Any]:
        """All of it as plain values, the run by its id."""
        return {**vars(self), "run": self.run.run_id, "curve": [dict(vars(point)) for point in self.curve]}

    @classmethod
    def restored(cls, run: Run, saved: dict[str, Any]) -> RunResult:
        """What :meth:`saved` was called on; raise ValueError if it is another run's."""
        if saved["run"] != run.run_id:
            raise ValueError(f"the result of run {saved['run']}, not of {run.run_id}")
        return cls(**{**saved, "run": run, "curve": [Evaluation(**point) for point in saved["curve"]]})


def examples_at_once(data: Data) -> int:
    """Examples that are judged at once: of those that stay in the cache, the number that goes best into the splits.

    A function of the data, not of the pack: where a split is cut decides how its mean is rounded.
    """
    splits = (data.train.targets, data.validation.targets, data.test.targets)
    most = max(1, min(CHUNK, MOST_TARGETS // max(1, splits[0][0].size)))
    return min(range(most, most // 2, -1), key=lambda n: sum(math.ceil(len(split) / n) * n for split in splits))


@dataclass
class Session:
    """Runs of a pack in training: row i of the strategy belongs to ``results[i]``; further rows are idle copies."""

    program: Program
    strategy: Strategy
    feed: Feed
    everyone: list[RunResult]
    """Of all runs that were begun together."""
    results: list[RunResult]
    """Of those still in training."""
    snapshots: list[list[list[Tensor]]]
    """Of each run in training, at the end of each period: its outputs on the validation and on the test split."""
    at_once: int
    """Examples that are judged at once."""
    losses: list[Tensor] = field(default_factory=list)
    """Training losses since the last evaluation, each of shape (steps, rows)."""
    step: int = 0
    """Steps taken."""

    @classmethod
    def start(
        cls,
        kind: type[Fused | Loop],
        program: Program,
        runs: Sequence[Run],
        data: Data,
        capacity: int,
        *,
        step: int = 0,
    ) -> Session:
        """Initialise runs of one variant and one recipe, in ``capacity`` rows, to be fed from ``step`` on."""
        recipe, seeds = runs[0].recipe, [run.seed for run in runs]
        strategy = kind(program, runs[0].variant.optimizer, recipe.decay_on == "all", seeds, capacity)
        feed = Feed(data, program.task, recipe.batch_size, seeds, program.device, first=step)
        results = [RunResult(run) for run in runs]
        return cls(program, strategy, feed, results, results, [[] for _ in runs], examples_at_once(data), step=step)

    def state(self) -> dict[str, Any]:
        """What :meth:`resume` goes on from, as nested dicts and lists of tensors and plain values."""
        return {
            "step": self.step,
            "rows": self.strategy.count,
            "strategy": self.strategy.state(),
            "everyone": [result.saved() for result in self.everyone],
            "training": [result.run.run_id for result in self.results],
            "snapshots": self.snapshots,
            "losses": self.losses,
        }

    @classmethod
    def resume(
        cls, kind: type[Fused | Loop], program: Program, runs: Sequence[Run], data: Data, state: dict[str, Any]
    ) -> Session:
        """Go on from a state with the runs that were begun; raise ValueError if it is not theirs."""
        by_id = {run.run_id: RunResult.restored(run, own) for run, own in zip(runs, state["everyone"], strict=True)}
        results = [by_id[run_id] for run_id in state["training"]]
        session = cls.start(kind, program, [result.run for result in results], data, state["rows"], step=state["step"])
        session.strategy.restore(state["strategy"])
        session.everyone, session.results = list(by_id.values()), results
        device = program.device
        session.snapshots = [[[part.to(device) for part in parts] for parts in own] for own in state["snapshots"]]
        session.losses = [losses.to(device) for losses in state["losses"]]
        return session

    @classmethod
    def gathered(
        cls,
        kind: type[Fused | Loop],
        program: Program,
        runs: Sequence[Run],
        data: Data,
        capacity: int,
        *,
        states: Sequence[dict[str, Any]],
    ) -> Session:
        """Go on with runs out of several states, all at one step where runs were evaluated.

        Raises
        ------
        KeyError
            If a run is in training in none of them.
        """
        places = {run_id: (state, row) for state in states for row, run_id in enumerate(state["training"])}
        own = [places[run.run_id] for run in runs]
        session = cls.start(kind, program, runs, data, capacity, step=states[0]["step"])
        rows = [(state["strategy"], row) for state, row in own]
        session.strategy.restore(kind.gathered(rows + rows[-1:] * (session.strategy.count - len(rows))))
        saved = {result["run"]: result for state in states for result in state["everyone"]}
        session.everyone = session.results = [RunResult.restored(run, saved[run.run_id]) for run in runs]
        session.snapshots = [
            [[part.to(program.device) for part in parts] for parts in state["snapshots"][row]] for state, row in own
        ]
        return session

    def advance(self, steps: range, *, measured: bool = False) -> Tensor:
        """Take some steps, the last of them ``measured`` if so wanted; the training losses, of shape (steps, rows)."""
        runs = [result.run for result in self.results]
        runs += runs[-1:] * (self.strategy.count - len(runs))
        seeds = [run.seed for run in runs]
        numbers = numbers_of(runs, steps, self.program.device)
        losses = self.strategy.advance(self.feed.take(seeds, steps), seeds, steps, numbers, measured=measured)
        self.losses.append(losses)
        self.step = steps.stop
        return losses

    def keep(self, rows: list[int], capacity: int) -> None:
        """Go on with the rows named."""
        self.strategy.keep(rows, capacity)
        self.results = [self.results[row] for row in rows]
        self.snapshots = [self.snapshots[row] for row in rows]
        columns = rows + rows[-1:] * (self.strategy.count - len(rows))
        self.losses = [losses[:, columns] for losses in self.losses]

    def outputs(self, inputs: Tensor) -> Tensor:
        """Outputs of the live runs in evaluation mode, shape (runs, examples, …), a chunk of examples at a time."""
        parts = [self._outputs(part)[: len(self.results)] for part in torch.split(inputs, self.at_once)]
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    def _outputs(self, inputs: Tensor) -> Tensor:
        """Outputs of all rows for a chunk of examples."""
        missing = self.at_once - len(inputs) if self.program.wants_whole_chunks else 0
        filled = torch.cat([inputs, inputs[:1].expand(missing, *inputs.shape[1:])]) if missing else inputs
        return self.strategy.outputs(filled)[:, : len(inputs)]

    def judge(self, inputs: Tensor, targets: Tensor) -> dict[str, list[float]]:
        """Every metric of the live runs on a split."""
        sums: dict[str, Tensor] = {}
        for x, y in zip(torch.split(inputs, self.at_once), torch.split(targets, self.at_once), strict=True):
            for name, values in judged(self.program.task, self._outputs(x), y).items():
                weighted = values if len(inputs) == len(x) else values * (len(x) / len(inputs))
                sums[name] = sums[name] + weighted if name in sums else weighted
        return {name: values[: len(self.results)].tolist() for name, values in sums.items()}

    def sharpness(self, inputs: Tensor, targets: Tensor, most: int = MOST_ITERATIONS) -> list[float]:
        """The sharpness of the live runs on a sample of a split, the same for all."""
        recipe = self.results[0].run.recipe
        sample = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(0))[:EXAMPLES].to(inputs.device)
        parts = torch.split(sample, recipe.batch_size // recipe.training.accumulate)
        try:
            found = self.strategy.sharpness([(inputs[part], targets[part]) for part in parts], most)
        except NotImplementedError as error:  # an operation of a user's model without a forward derivative
            raise WorkloadError(f"training.sharpness: not of this model: {error}") from error
        return found[: len(self.results)].tolist()


def judged(task: Task, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Every metric of each row of outputs."""
    with torch.no_grad():
        try:
            return {name: vmap(judge, in_dims=(0, None))(outputs, targets) for name, judge in task.judges.items()}
        except (RuntimeError, ValueError):  # a metric of the user's that vmap cannot do
            rows = [{name: judge(row, targets) for name, judge in task.judges.items()} for row in outputs]
            return {name: torch.stack([torch.as_tensor(row[name]) for row in rows]) for name in rows[0]}


def numbers_of(runs: Sequence[Run], steps: range, device: torch.device) -> Tensor:
    """The per-run numbers of some steps, shape (steps, numbers, K), for runs of one variant and one recipe."""
    recipe = runs[0].recipe
    starts = recipe.restarts()
    period = [next(b - a for a, b in pairwise(starts) if step < b or b == starts[-1]) for step in steps]
    settings = [dict(run.cell.settings) for run in runs]
    return step_numbers(
        runs[0].variant,
        {name: np.array([own[name] for own in settings]) for name in settings[0]},
        np.array([run.cell.lr for run in runs]),
        np.array([run.cell.wd for run in runs]),
        np.array([recipe.schedule.multiplier(step, recipe.steps) for step in steps]),
        start=steps.start,
        period=np.array(period),
        paper_momentum=recipe.momentum_form == "paper",
        device=device,
    )
