"""A user's plain training function, one run at a time, and an optimizer for it that follows a run's config."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from hpscan.choice import PART_S
from hpscan.grid import Pack, Run
from hpscan.optimizers import OPTIMIZERS, apply_step
from hpscan.randomness import key
from hpscan.session import Evaluation, RunResult, numbers_of
from hpscan.workloads import Trainable, WorkloadError
from hpscan.workloads.user import user_code

__all__ = ["RunOptimizer", "train_one_by_one"]


class RunOptimizer(torch.optim.Optimizer):
    """The update rule of a run, its schedule and its decay included, for parameters of the user's own.

    Parameters
    ----------
    params
        The parameters, as for any ``torch.optim`` optimizer.
    config
        What a trainable is called with.
    """

    def __init__(self, params: Iterable[Tensor], config: Mapping[str, Any]) -> None:
        super().__init__(params, {})
        self.run: Run = config["run"]
        self.steps_taken = 0
        self.optimizer = OPTIMIZERS[self.run.variant.optimizer]

    def state_dict(self) -> dict[str, Any]:
        """As of any optimizer, with the number of steps taken."""
        return {**super().state_dict(), "steps_taken": self.steps_taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        super().load_state_dict(state_dict)
        self.steps_taken = state_dict["steps_taken"]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step; the learning rate follows the schedule by the number of steps taken. Returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        thetas = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if thetas:
            self._update(thetas)
        self.steps_taken += 1
        return loss

    def _update(self, thetas: list[Tensor]) -> None:
        recipe = self.run.recipe
        first = min(self.steps_taken, recipe.steps - 1)
        (at,) = numbers_of([self.run], range(first, first + 1), thetas[0].device)
        for theta in thetas:
            if not self.state[theta]:
                moments = [torch.zeros_like(theta).unsqueeze(0) for _ in range(self.optimizer.n_moments)]
                self.state[theta] = {"moments": moments}
        apply_step(
            self.optimizer.direction,
            [theta.detach().unsqueeze(0) for theta in thetas],
            [theta.grad.unsqueeze(0) for theta in thetas if theta.grad is not None],
            [self.state[theta]["moments"] for theta in thetas],
            [recipe.decay_on == "all" or theta.dim() >= 2 for theta in thetas],
            at,
            recipe.training.clip_norm,
        )


def train_one_by_one(pack: Pack) -> Iterator[list[RunResult]]:
    """Call the trainable of a pack's recipe for each of its runs, and collect what it yields.

    What has ended since is yielded every few seconds.
    A run whose function raises has failed, and the others go on; one with a loss that is not finite has diverged.
    """
    workload = pack.runs[0].recipe.workload
    assert isinstance(workload, Trainable)
    function = workload.function()
    ended: list[RunResult] = []
    since = time.perf_counter()
    for run in pack.runs:
        ended.append(_train(run, function, workload))
        if time.perf_counter() - since > PART_S:
            yield ended
            ended, since = [], time.perf_counter()
    if ended:
        yield ended


def _train(run: Run, function: Callable[..., Any], workload: Trainable) -> RunResult:
    result = RunResult(run)
    config = {**run.config, "variant": run.variant.name, "args": workload.args, "run": run}
    started = time.perf_counter()
    try:
        for reported in _reports(function, config, workload):
            _take(result, reported, workload)
            if result.state == "diverged":
                break
    except WorkloadError as error:
        result.state, result.error = "failed", str(error)
    else:
        if not result.metrics:
            result.state, result.error = "failed", f"{workload.trainable} yielded nothing; it must yield metrics"
    if result.state != "completed":
        result.metrics = {}
    result.wall_s = result.device_s = time.perf_counter() - started
    return result


def _reports(function: Callable[..., Any], config: Mapping[str, Any], workload: Trainable) -> Iterator[Any]:
    """What a trainable yields, or returns as its only report."""
    with user_code(workload.trainable), torch.random.fork_rng():
        torch.manual_seed(key(config["seed"], "trainable"))
        reports = function(config)
        several = isinstance(reports, Iterable) and not isinstance(reports, Mapping | str | torch.Tensor)
        yield from reports if several else [reports]


SPLITS = ("train_", "val_", "test_")


def _take(result: RunResult, reported: Any, workload: Trainable) -> None:
    """Add what was yielded to a run's curve and metrics; the last of each name counts."""
    what = workload.trainable
    if not isinstance(reported, Mapping) or "val_loss" not in reported:
        raise WorkloadError(f"{what} must yield mappings with val_loss; got {reported!r:.200}")
    unknown = [name for name in reported if name not in ("step", "batch_loss") and not str(name).startswith(SPLITS)]
    if unknown:
        raise WorkloadError(f"{what}: metrics must be named train_…, val_… or test_…; got {unknown[0]!r}")
    given = {str(name): value for name, value in reported.items() if name != "batch_loss" or value is not None}
    metrics = {name: _number(f"{what}: {name}", value) for name, value in given.items()}
    step, batch_loss = metrics.pop("step", result.steps_done), metrics.pop("batch_loss", None)
    if not 0 <= step < 2**53 or step != int(step):
        raise WorkloadError(f"{what}: step must be a whole number of at least 0; got {reported['step']!r:.200}")
    result.steps_done = int(step)
    result.metrics |= metrics
    losses = [batch_loss, *(metrics.get(f"{split}loss") for split in SPLITS)]
    if not all(loss is None or math.isfinite(loss) for loss in losses):  # other metrics may be undefined of a good run
        result.state = "diverged"
        return
    error = metrics.get("val_error", math.nan)
    result.curve.append(
        Evaluation(
            result.steps_done,
            batch_loss,
            metrics["val_loss"],
            error if math.isfinite(error) else None,
            gap=None if batch_loss is None else metrics["val_loss"] - batch_loss,
        )
    )


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise WorkloadError(f"{name} must be a number; got {value!r:.200}") from None
