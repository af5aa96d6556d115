"""Train the runs of a pack: choose how, feed them, judge them, drop the diverged, return what became of each.

Nothing here knows of Ray, files or the grid's shape. A run's result depends on its own config alone: rows never mix,
and all that is random comes from generators keyed by the run's seed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from hpscan.checkpoint import Checkpoints, Standing, decode, encode, from_rung
from hpscan.choice import Asked, Choice, choose, compile_seconds, program_for
from hpscan.diagnostics import MEASURES
from hpscan.errors import told
from hpscan.feed import on_device
from hpscan.grid import Pack, Run
from hpscan.hardware import can_compile
from hpscan.memory import is_out_of_memory
from hpscan.program import Program
from hpscan.session import Evaluation, RunResult, Session, judged
from hpscan.strategies import MIN_ROWS, Strategy, in_eights
from hpscan.tasks import Task
from hpscan.workloads import Data

__all__ = ["train_pack", "train_parts"]

COMPILE_S = 8.0
"""Seconds that compiling the gradients for another number of rows costs, about: what shrinking a pack must save."""
CHECK_EVERY = 25
"""Steps between looks for non-finite losses; a run's recorded divergence step does not depend on it."""


def train_pack(pack: Pack, data: Data, **how: Any) -> list[RunResult]:
    """Train the runs of a pack and return their results in the pack's order; ``how`` is as for :func:`train_parts`."""
    return [result for part in train_parts(pack, data, **how) for result in part]


def train_parts(
    pack: Pack,
    data: Data,
    *,
    strategy: Literal["auto", "fused", "loop"] = "auto",
    compile: bool = True,  # noqa: A002  (the spec's word)
    cuda_graphs: bool = False,
    device: str = "cpu",
    steps_to_come: float | None = None,
    first_steps: float | None = None,
    memory_share: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
    chosen: Choice | None = None,
    on_choice: Callable[[Choice], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
) -> Iterator[list[RunResult]]:
    """Train the runs of a pack, in its order, and yield the results of each part as it ends.

    First comes what had ended before, according to the checkpoint that the pack goes on from: nothing, of one that begins.
    What had failed by then is trained again, last.
    A pack that is trained fused is one part, unless fewer rows are faster or all do not fit in the device's memory; where memory
    runs out all the same, a part is halved and tried again. A loop's parts are a few runs each. A part that raises is
    halved, too, until it is one run, which has failed; the others go on.

    Parameters
    ----------
    pack
        Runs of one variant and one recipe. Where it ends at a rung, its runs come back as ``stopped`` there; what they
        can go on from is kept in ``checkpoints``, and it begins where its own runs were kept so.
    data
        What ``recipe.workload.load()`` returned.
    strategy
        How gradients are computed.
    compile
        Compile the step; without a C++ compiler the same step runs uncompiled.
    cuda_graphs
        On a GPU, replay the compiled step as a CUDA graph.
    device
        A torch device.
    steps_to_come
        Run-steps that this process is going to train of this recipe, this pack's included: what compiling pays into.
    first_steps
        Those of them that somebody waits to see, if the pack is among these: compiling has to pay into them alone.
    memory_share
        Of the device's free memory that is this process's to use.
    clock
        What tells seconds, for ``wall_s``, ``device_s`` and ``checkpoints``.
    chosen
        How the pack is trained, where that is known and nothing is to be tried.
    on_choice
        Is told which strategy was chosen, and why.
    checkpoints
        Where to go on from, and what to save to every so often. A pack that goes on ends with the numbers, to the bit,
        of one that was never interrupted. What cannot be gone on from is ignored; what ``save`` raises is not.
    """
    may_compile = compile and (can_compile() or device != "cpu")
    to_come = len(pack.runs) * pack.runs[0].recipe.steps if steps_to_come is None else steps_to_come
    compiled_before = compile_seconds()
    asked = Asked(strategy, may_compile, cuda_graphs, device, to_come, memory_share, first_steps)
    standing = decode(checkpoints.load(), pack, data, asked) if checkpoints is not None else None
    before = from_rung(checkpoints.sources(), pack, asked) if checkpoints is not None and pack.sources else None
    if standing is not None and before is not None:
        standing.rungs = before.rungs
    standing = standing or before or Standing(pack, chosen or _chosen(pack, data, asked), compiled_before)
    pack, choice, finished = standing.pack, standing.choice, standing.finished
    yield list(finished)
    on_choice(choice)
    program = program_for(pack.runs[0].recipe, asked, compiled=choice.compiled)
    journal = _Journal(standing, checkpoints, clock, saved_at=0.0 if checkpoints is None else clock())
    begin = partial(Session.gathered, states=standing.rungs) if standing.rungs else Session.start
    to_try: list[tuple[Run, ...]] = []
    while len(finished) < len(pack.runs):
        most = standing.choice.rows
        part = to_try.pop() if to_try else pack.runs[len(finished) : len(finished) + most]
        if len(part) > most:
            to_try += [part[most:], part[:most]]
            continue
        rows = len(part)
        if choice.strategy == "fused":
            rows = max(min(pack.capacity, most), rows, MIN_ROWS) if program.compiled else in_eights(rows)
        try:
            standing.session = standing.session or begin(choice.kind, program, part, data, rows)
            part = tuple(result.run for result in standing.session.everyone)  # a checkpoint's may be fewer
            ended = _train(standing.session, data, clock, journal, pack.end)
            _keep_rung(standing, checkpoints)
        except _NotSavedError as error:
            raise error.__cause__ or error from None
        except OSError:  # the machine's fault
            raise
        except Exception as error:  # noqa: BLE001  (a model or loss may raise anything)
            ended, halves = _after(error, part, standing)
            to_try += halves
        standing.session = None
        if ended:
            for result in ended:
                result.compile_s = standing.compile_s
            standing.compiled_before = compile_seconds()
            finished += ended
            yield ended


def _chosen(pack: Pack, data: Data, asked: Asked) -> Choice:
    """How the pack is trained, tried out with the first of its runs that can be; raise what the first raised if none can."""
    errors = []
    for at in range(len(pack.runs)):
        try:
            return choose(replace(pack, runs=pack.runs[at:] + pack.runs[:at]), data, asked)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  (a model or loss may raise anything)
            errors.append(error)
    raise errors[0]


def _after(
    error: Exception, part: tuple[Run, ...], standing: Standing
) -> tuple[list[RunResult], list[tuple[Run, ...]]]:
    """What becomes of a part that raised: a run alone has failed; of more, what to try, the last first."""
    half, out_of_memory = math.ceil(len(part) / 2), is_out_of_memory(error)
    if out_of_memory and len(part) == 1:
        raise error
    if out_of_memory:
        standing.choice = replace(standing.choice, rows=half)
    if len(part) == 1:
        return [RunResult(part[0], "failed", error=told(error))], []
    return [], [part[half:], part[:half]]


class _NotSavedError(Exception):
    """A checkpoint could not be kept; the cause says why, and is no fault of the runs."""


def _keep_rung(standing: Standing, checkpoints: Checkpoints | None) -> None:
    """Where the part in training has come to a rung, keep its live runs and mark them as stopped."""
    session = standing.session
    assert session is not None
    live = [result for result in session.results if result.state == "completed"]
    if session.step == standing.pack.runs[0].recipe.steps or not live:
        return
    if checkpoints is not None:
        name = Pack(tuple(result.run for result in session.everyone), standing.pack.capacity).pack_id
        with _saving():
            checkpoints.keep_rung(name, [result.run.run_id for result in live], encode(standing))
    for result in live:
        result.state = "stopped"


@contextmanager
def _saving() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _NotSavedError from error


@dataclass
class _Journal:
    """Saves where a pack stands, if the last time is long enough ago."""

    standing: Standing
    checkpoints: Checkpoints | None
    clock: Callable[[], float]
    saved_at: float

    def keep(self, now: float) -> float:
        """Save if it is time; what the clock says afterwards."""
        if self.checkpoints is None or now - self.saved_at < self.checkpoints.every_s:
            return now
        with _saving():
            self.checkpoints.save(encode(self.standing))
        self.saved_at = self.clock()
        return self.saved_at


Splits = dict[str, tuple[Tensor, Tensor]]


def _train(session: Session, data: Data, clock: Callable[[], float], journal: _Journal, until: int) -> list[RunResult]:
    """Train runs from where they stand until a step."""
    program, recipe = session.program, session.everyone[0].run.recipe
    named = (("train", data.train), ("val", data.validation), ("test", data.test))
    splits = {name: on_device(split, program.device) for name, split in named}
    ends = set(recipe.restarts()[1:]) if recipe.training.snapshots else set()
    evaluate_at = {round(recipe.steps * k / recipe.evaluations) for k in range(1, recipe.evaluations + 1)} - {0} | ends
    accounted = went_on = clock()

    for start, stop in _segments(session.step, until, evaluate_at):
        compiling = program.compiled and session.strategy.count not in program.rows_compiled
        losses = session.advance(range(start, stop), measured=stop in evaluate_at)
        _note_divergence(session, losses, start, stop)
        if stop in evaluate_at:
            validation = _evaluate(session, splits["val"], snapshot=stop in ends)
        if stop in ends:
            _take_snapshot(session, splits)
        if stop == recipe.steps:
            _finish(session, splits, validation)
        now = clock()
        for result in session.results:
            result.device_s += (now - accounted) / len(session.results)
            result.wall_s += now - accounted
        live = [row for row, result in enumerate(session.results) if result.state == "completed"]
        if not live:
            break
        # A segment in which something was compiled says nothing of how long the rest will take.
        seconds_left = 0.0 if compiling else (now - went_on) / (stop - start) * (until - stop)
        rows = session.strategy.count
        capacity = _capacity(len(live), rows, seconds_left, program, session.strategy)
        if len(live) < len(session.results) or capacity < rows:
            session.keep(live, capacity)
        accounted, went_on = now, journal.keep(now)  # saving says nothing of the pace
    return session.everyone


def _note_divergence(session: Session, losses: Tensor, start: int, stop: int) -> None:
    """Mark the runs that had a loss that is not finite, with the step it came at."""
    finite = torch.isfinite(losses).cpu().numpy()
    for row, result in enumerate(session.results):
        result.steps_done = stop if finite[:, row].all() else start + int(np.argmin(finite[:, row]))
        result.state = "completed" if finite[:, row].all() else "diverged"


def _segments(taken: int, until: int, evaluate_at: set[int]) -> Iterator[tuple[int, int]]:
    """Cut what is left at every evaluation and every :data:`CHECK_EVERY` steps."""
    cuts = sorted({taken, until, *evaluate_at, *range(0, until, CHECK_EVERY)})
    return pairwise(cut for cut in cuts if taken <= cut <= until)


def _capacity(live: int, now: int, seconds_left: float, program: Program, strategy: Strategy) -> int:
    """The rows to go on with: those of the live ones, unless compiling for fewer rows costs more than it saves."""
    if strategy.name == "loop":
        return live
    if not program.compiled:
        return in_eights(live)
    ready = min(rows for rows in program.rows_compiled if rows >= live)
    smaller = max(MIN_ROWS, 2 ** math.ceil(math.log2(live)))
    saved = seconds_left * (ready - smaller) / now
    return smaller if saved > COMPILE_S else ready


def _evaluate(session: Session, validation: tuple[Tensor, Tensor], *, snapshot: bool) -> dict[str, list[float]]:
    """Add a row to the curve of each live run; a run whose validation loss is not finite has diverged.

    Returns the validation metrics of the rows.
    """
    # contiguous rows: the rounding of a column's mean would depend on the number of columns
    batch_loss = torch.cat(session.losses).T.contiguous().mean(1).tolist()
    session.losses = []
    metrics = session.judge(*validation)
    errors: Sequence[float | None] = metrics.get("error", [None] * len(session.results))
    steps = session.strategy.measured.T.tolist()
    for row, result in enumerate(session.results):
        losses, error = (batch_loss[row], metrics["loss"][row]), errors[row]
        if all(map(math.isfinite, losses)):
            found: dict[str, Any] = {
                name: value if math.isfinite(value) else None for name, value in zip(MEASURES, steps[row], strict=True)
            }
            gap = metrics["loss"][row] - batch_loss[row]
            error = error if error is not None and math.isfinite(error) else None
            result.curve.append(Evaluation(session.step, *losses, error, snapshot, gap=gap, **found))
        else:
            result.state = "diverged"
    return metrics


def _take_snapshot(session: Session, splits: Splits) -> None:
    """Keep what each live run predicts at the end of a period."""
    outputs = [session.outputs(splits[name][0]) for name in ("val", "test")]
    for row, taken in enumerate(session.snapshots):
        taken.append([of_all[row] for of_all in outputs])


def _finish(session: Session, splits: Splits, validation: dict[str, list[float]]) -> None:
    """Fill in the final metrics of the runs still alive; one whose loss is not finite on one of the splits has diverged."""
    for name, split in splits.items():
        for metric, values in (validation if name == "val" else session.judge(*split)).items():
            for result, value in zip(session.results, values, strict=True):
                result.metrics[f"{name}_{metric}"] = value
    if session.program.training.sharpness:
        for result, value in zip(session.results, session.sharpness(*splits["train"]), strict=True):
            result.sharpness = value if math.isfinite(value) else None
    for result, taken in zip(session.results, session.snapshots, strict=True):
        if not all(math.isfinite(result.metrics[f"{name}_loss"]) for name in splits):
            result.state = "diverged"  # another metric may be undefined of a good run
        if result.state == "diverged":
            result.metrics = {}
        elif taken:
            result.metrics |= _ensemble(session.program.task, taken, splits)


def _ensemble(task: Task, snapshots: list[list[Tensor]], splits: Splits) -> dict[str, float]:
    """The metrics of the averaged predictions of a run's snapshots: Huang et al. 2017."""
    assert task.average is not None
    metrics: dict[str, float] = {}
    for name, outputs in zip(("val", "test"), zip(*snapshots, strict=True), strict=True):
        found = judged(task, task.average(torch.stack(outputs))[None], splits[name][1])
        metrics |= {f"ensemble_{name}_{metric}": float(value) for metric, value in found.items()}
    return metrics
