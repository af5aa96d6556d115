"""Train one pack: K runs as stacked tensors, one compiled gradient and one compiled update a step.

Each parameter is one tensor of shape (K, *shape); a run is a row of it. Nothing here knows of Ray, files or the
grid's shape. A run's result depends on its own config alone: rows never mix, and initialisation and batch order come
from generators keyed by the run's seed.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from hpscan.grid import Pack, Recipe, Run
from hpscan.hardware import can_compile
from hpscan.models import Task
from hpscan.optimizers import OPTIMIZERS, StepNumbers, apply_step
from hpscan.variants import decay_coefficients
from hpscan.workloads import Data, Split

__all__ = ["Evaluation", "RunResult", "batches", "initial_model", "train_pack"]

CHECK_EVERY = 25
"""Steps between looks for non-finite losses; a run's recorded divergence step does not depend on it."""
COMPILE_S = 8.0
"""Seconds that compiling the gradients for another number of rows costs, about: what shrinking a pack must save."""

MIN_ROWS = 8
"""Rows of a compiled pack at the least. From four rows on, the compiler's kernels round alike whatever the number of
rows; below, it vectorises some sums along another axis, and a run's last bits would depend on its pack."""

Named = dict[str, Tensor]


@dataclass(frozen=True)
class Evaluation:
    """One row of a run's curve."""

    step: int
    """Steps taken so far."""
    batch_loss: float
    """Mean loss of the training batches since the evaluation before."""
    val_loss: float
    val_error: float


@dataclass
class RunResult:
    """What became of a run."""

    run: Run
    state: Literal["completed", "diverged"] = "completed"
    steps_done: int = 0
    """Steps with a finite loss."""
    metrics: dict[str, float] = field(default_factory=dict)
    """``train_loss``, ``val_error`` and so on in evaluation mode at the end of the budget; empty if diverged."""
    curve: list[Evaluation] = field(default_factory=list)
    wall_s: float = 0.0
    """From the start of the pack to the end of the run."""
    device_s: float = 0.0
    """The run's share of that time: a pack's seconds are divided among the runs alive in it."""


# --- what a run's seed decides ----------------------------------------------------------------------------------


def _key(seed: int, purpose: str) -> int:
    """A generator seed of its own for each (run seed, purpose)."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:7], "big")


def initial_model(task: Task, seed: int) -> nn.Module:
    """Build the model with the initialisation of a run's seed; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_key(seed, "initialisation"))
        return task.model()


def batches(seed: int, n_train: int, batch_size: int) -> Iterator[np.ndarray]:
    """Yield the batches of a run for ever, each of shape (batch_size,).

    Epochs are permutations laid end to end: every example is seen once an epoch, every batch is full, and a batch may
    reach into the next epoch.
    """
    rng = np.random.default_rng(_key(seed, "batches"))
    queue = np.empty(0, dtype=np.int64)
    while True:
        while len(queue) < batch_size:
            queue = np.concatenate([queue, rng.permutation(n_train)])
        yield queue[:batch_size]
        queue = queue[batch_size:]


# --- the two compiled functions -----------------------------------------------------------------------------------


def _loss_of_one(task: Task, model: nn.Module) -> Callable[..., tuple[Tensor, Named]]:
    def loss(params: Named, buffers: Named, batch: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Named]:
        # BatchNorm updates its statistics in place, which vmap refuses for captured tensors: work on copies.
        buffers = {name: buffer.clone() for name, buffer in buffers.items()}
        outputs = functional_call(model, (params, buffers), (inputs[batch],))
        return task.loss(outputs, targets[batch]), buffers

    return loss


@dataclass
class Step:
    """The training step of one task, shared by every pack that trains it in this process."""

    task: Task
    compiled: bool
    rows_compiled: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.compiled:  # every number of rows is a graph of its own; dynamo's default gives up after eight
            torch._dynamo.config.recompile_limit = 256  # noqa: SLF001
        self.template = self.task.model()
        self.frozen = copy.deepcopy(self.template).eval()
        gradients = vmap(
            grad_and_value(_loss_of_one(self.task, self.template), has_aux=True), in_dims=(0, 0, 0, None, None)
        )
        self.gradients = torch.compile(gradients, dynamic=False, fullgraph=True) if self.compiled else gradients
        self.update = torch.compile(apply_step, dynamic=False, fullgraph=True) if self.compiled else apply_step

    def judge(self, params: Named, buffers: Named, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and error of each run on a whole split, in evaluation mode; each of shape (K,)."""

        def one(params: Named, buffers: Named, inputs: Tensor) -> tuple[Tensor, Tensor]:
            outputs = functional_call(self.frozen, (params, buffers), (inputs,))
            return self.task.loss(outputs, targets), self.task.error(outputs, targets)

        # One copy of the inputs a run: shared inputs would make vmap fold the runs into one product, whose rounding
        # depends on their number.
        rows = len(next(iter(params.values())))
        with torch.no_grad():
            return vmap(one)(params, buffers, inputs.expand(rows, *inputs.shape))


@lru_cache(maxsize=4)
def _step(workload: Any, compiled: bool) -> Step:
    return Step(workload.task(), compiled)


# --- a pack in training -------------------------------------------------------------------------------------------


@dataclass
class _Rows:
    """The live state of a pack: row i of every tensor belongs to ``results[i]``; further rows are idle copies."""

    params: Named
    buffers: Named
    moments: list[list[Tensor]]
    results: list[RunResult]

    @property
    def count(self) -> int:
        return len(next(iter(self.params.values())))

    def keep(self, rows: list[int], capacity: int) -> _Rows:
        """The rows named, as tensors of ``capacity`` rows; the last is repeated to fill them."""
        index = torch.tensor(rows + rows[-1:] * (capacity - len(rows)))
        return _Rows(
            params={name: value[index] for name, value in self.params.items()},
            buffers={name: value[index] for name, value in self.buffers.items()},
            moments=[[moment[index] for moment in moments] for moments in self.moments],
            results=[self.results[row] for row in rows],
        )


def _initial_rows(step: Step, pack: Pack, device: torch.device, capacity: int) -> _Rows:
    models = {seed: initial_model(step.task, seed) for seed in {run.seed for run in pack.runs}}
    params, buffers = stack_module_state([models[run.seed] for run in pack.runs])
    n_moments = OPTIMIZERS[pack.runs[0].variant.optimizer].n_moments
    params = {name: value.detach().to(device) for name, value in params.items()}
    rows = _Rows(
        params=params,
        buffers={name: value.to(device) for name, value in buffers.items()},
        moments=[[torch.zeros_like(value) for _ in range(n_moments)] for value in params.values()],
        results=[RunResult(run) for run in pack.runs],
    )
    return rows.keep(list(range(len(pack.runs))), capacity)


def _numbers(runs: Sequence[Run], recipe: Recipe, start: int, stop: int, device: torch.device) -> list[StepNumbers]:
    """The per-run numbers of steps ``start`` to ``stop``, computed in float64."""
    lr, wd = (np.array([getattr(run.cell, axis) for run in runs]) for axis in ("lr", "wd"))
    eta = np.array([[recipe.schedule.multiplier(step, recipe.steps)] for step in range(start, stop)])
    l2, shrink = decay_coefficients(runs[0].variant.decay, lr, wd, eta)
    beta1, beta2 = (recipe.momentum, 0.0) if runs[0].variant.optimizer == "sgd" else recipe.betas
    count = np.arange(start + 1, stop + 1)[:, None]
    numbers = {
        "lr": eta * lr,
        "l2": l2,
        "shrink": shrink,
        "beta1": beta1,
        "beta2": beta2,
        "complement1": 1.0 - beta1,
        "complement2": 1.0 - beta2,
        "correction1": 1.0 - beta1**count,
        "correction2": 1.0 - beta2**count,
        "eps": recipe.eps,
    }
    table = np.stack(
        [np.broadcast_to(numbers[name], (stop - start, len(runs))) for name in StepNumbers._fields], axis=1
    )
    stacked = torch.from_numpy(table.astype(np.float32)).to(device)
    return [StepNumbers(*row.unbind(0)) for row in stacked.unbind(0)]


def train_pack(
    pack: Pack,
    data: Data,
    *,
    compile: bool = True,  # noqa: A002  (the spec's word)
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> list[RunResult]:
    """Train the runs of a pack together and return their results in the pack's order.

    Parameters
    ----------
    pack
        Runs of one variant and one recipe.
    data
        What ``recipe.workload.load()`` returned.
    compile
        Compile the step; without a C++ compiler the same step runs uncompiled.
    device
        A torch device.
    clock
        What tells seconds, for ``wall_s`` and ``device_s``.
    """
    recipe = pack.runs[0].recipe
    compiled = compile and can_compile()
    target = torch.device(device)
    step = _step(recipe.workload, compiled)
    training, validation, test = (_on(device, split) for split in (data.train, data.validation, data.test))
    rows = _initial_rows(step, pack, target, max(pack.capacity, MIN_ROWS) if compiled else len(pack.runs))
    results = rows.results
    direction = OPTIMIZERS[pack.runs[0].variant.optimizer].direction
    decays = [recipe.decay_on == "all" or value.dim() > 2 for value in rows.params.values()]  # axis 0 is the run
    streams = {run.seed: batches(run.seed, len(data.train.targets), recipe.batch_size) for run in pack.runs}
    evaluate_at = {round(recipe.steps * k / recipe.evaluations) for k in range(1, recipe.evaluations + 1)} - {0}
    since_evaluation: list[Tensor] = []
    started = segment = clock()

    for start, stop in _segments(recipe.steps, evaluate_at):
        padded = [result.run for result in rows.results]
        padded += padded[-1:] * (rows.count - len(padded))
        order = {seed: np.stack([next(stream) for _ in range(start, stop)]) for seed, stream in streams.items()}
        batch = torch.from_numpy(np.stack([order[run.seed] for run in padded], axis=1)).to(target)
        losses = torch.empty(stop - start, rows.count, device=target)
        numbers = _numbers(padded, recipe, start, stop, target)
        for i in range(stop - start):
            grads, (loss, rows.buffers) = step.gradients(rows.params, rows.buffers, batch[i], *training)
            losses[i] = loss
            step.update(direction, list(rows.params.values()), list(grads.values()), rows.moments, decays, numbers[i])
        since_evaluation.append(losses)
        compiling = rows.count not in step.rows_compiled
        step.rows_compiled.add(rows.count)
        finite = torch.isfinite(losses).cpu().numpy()
        for row, result in enumerate(rows.results):
            result.steps_done = stop if finite[:, row].all() else start + int(np.argmin(finite[:, row]))
            result.state = "completed" if finite[:, row].all() else "diverged"
        if stop in evaluate_at:
            # contiguous rows: the rounding of a column's mean would depend on the number of columns
            batch_loss = torch.cat(since_evaluation).T.contiguous().mean(1)
            _evaluate(step, rows, validation, stop, batch_loss)
            since_evaluation = []
        if stop == recipe.steps:
            _finish(step, rows, training, validation, test)
        now = clock()
        for result in rows.results:
            result.device_s += (now - segment) / len(rows.results)
            result.wall_s = now - started
        live = [row for row, result in enumerate(rows.results) if result.state == "completed"]
        if not live:
            break
        # A segment in which something was compiled says nothing of how long the rest will take.
        seconds_left = 0.0 if compiling else (now - segment) / (stop - start) * (recipe.steps - stop)
        capacity = _capacity(len(live), rows.count, seconds_left, step)
        if len(live) < len(rows.results) or capacity < rows.count:
            rows = rows.keep(live, capacity)
            columns = live + live[-1:] * (capacity - len(live))
            since_evaluation = [losses[:, columns] for losses in since_evaluation]
        segment = now
    return results


def _segments(steps: int, evaluate_at: set[int]) -> Iterator[tuple[int, int]]:
    """Cut the budget at every evaluation and every :data:`CHECK_EVERY` steps."""
    cuts = sorted({0, steps, *evaluate_at, *range(0, steps, CHECK_EVERY)})
    return pairwise(cuts)


def _capacity(live: int, now: int, seconds_left: float, step: Step) -> int:
    """The rows to go on with: exactly the live ones, unless compiling for fewer rows costs more than it saves."""
    if not step.compiled:
        return live
    ready = min(rows for rows in step.rows_compiled if rows >= live)
    smaller = max(MIN_ROWS, 2 ** math.ceil(math.log2(live)))
    saved = seconds_left * (ready - smaller) / now
    return smaller if saved > COMPILE_S else ready


def _on(device: str, split: Split) -> tuple[Tensor, Tensor]:
    return torch.tensor(split.inputs, device=device), torch.tensor(split.targets, device=device)


def _evaluate(step: Step, rows: _Rows, validation: tuple[Tensor, Tensor], at: int, batch_loss: Tensor) -> None:
    """Add a row to the curve of each live run; a run whose validation loss is not finite has diverged."""
    loss, error = step.judge(rows.params, rows.buffers, *validation)
    table = torch.stack([batch_loss, loss, error])[:, : len(rows.results)].tolist()
    for result, values in zip(rows.results, zip(*table, strict=True), strict=True):
        if all(map(math.isfinite, values)):
            result.curve.append(Evaluation(at, *values))
        else:
            result.state = "diverged"


def _finish(step: Step, rows: _Rows, *splits: tuple[Tensor, Tensor]) -> None:
    """Fill in the final metrics of the runs still alive; one whose loss is not finite on any split has diverged."""
    for name, split in zip(("train", "val", "test"), splits, strict=True):
        for metric, values in zip(("loss", "error"), step.judge(rows.params, rows.buffers, *split), strict=True):
            for result, value in zip(rows.results, values[: len(rows.results)].tolist(), strict=True):
                result.metrics[f"{name}_{metric}"] = value
    for result in rows.results:
        if not all(map(math.isfinite, result.metrics.values())):
            result.state = "diverged"
        if result.state == "diverged":
            result.metrics = {}
