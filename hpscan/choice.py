"""How a workload is trained on this machine: fused or in a loop, compiled or not, and how many rows at once."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from hpscan.errors import told_in_short
from hpscan.feed import on_device
from hpscan.grid import Pack, Recipe
from hpscan.marks import compiled_before, note_compiled
from hpscan.memory import rows_that_fit
from hpscan.operations import GAIN, LONG_S, Operations, operations
from hpscan.program import Program
from hpscan.session import Session, numbers_of
from hpscan.strategies import MIN_ROWS, Fused, Loop, in_eights
from hpscan.workloads import Data, PackedWorkload

__all__ = ["PART_S", "Asked", "Choice", "choose", "compile_seconds", "program_for"]

START_S = 6.0
"""Seconds until the compiler is loaded and has compiled an update."""
JUDGING_S = 4.0
"""Seconds that it takes to compile how runs are judged besides, whatever its operations."""
OPERATION_S = 0.02
"""Seconds that compiling each operation of a fused step costs, about, all cores being busy."""
LOADING_S = 2.0
"""Seconds until the compiler is loaded, about, where it finds what it would compile in its cache."""
LOADED = 0.15
"""Share of what compiling costs that is left then besides, about."""
AMISS = 1.15
"""How many times longer a compiled step may well take than is expected: one that is hardly faster is not compiled."""
MOST_ROWS = 1024
"""Rows beyond which nothing is gained."""
SURE = 2.0
"""How many times over trying and compiling must be expected to pay: what is saved is the difference of two guesses."""
WORTH = 0.05
"""Share of the time that twice as many rows must save: of fewer, the first are done sooner."""
TRYING_S = 3.0
"""Seconds until fused gradients can be tried, about: torch's tracer is slow to import."""
TRIED = 100
"""Run-steps that it takes to try them, about."""
LOOP = 0
"""In place of rows, of what is compiled for a loop."""
FEW = 4
"""Runs of a loop that are timed, and steps after which runs are compared."""
PART_S = 5.0
"""Seconds that parts of runs trained one after another take, about: nothing is gained from more of them together."""


@dataclass(frozen=True)
class Choice:
    """How a workload is trained in this process."""

    strategy: Literal["fused", "loop"]
    compiled: bool
    rows: int
    """Runs that are trained together: as many as are fastest and fit in memory; of a loop few, whose results come soon."""
    reason: str
    seconds: float = 0.0
    """What trying and compiling took."""

    @property
    def kind(self) -> type[Fused | Loop]:
        """The strategy's class."""
        return Fused if self.strategy == "fused" else Loop


@dataclass(frozen=True)
class Asked:
    """What is asked for, and what it is asked on."""

    strategy: Literal["auto", "fused", "loop"]
    may_compile: bool
    cuda_graphs: bool
    device: str
    steps_to_come: float
    """Run-steps that this process is going to train of this workload and batch size: what compiling pays into."""
    memory_share: float
    first_steps: float | None = None
    """Those of them that somebody waits to see: compiling pays into them alone. None if the pack is not among these."""

    @property
    def paid_into(self) -> float:
        """Run-steps that are to earn back what is compiled."""
        return self.steps_to_come if self.first_steps is None else self.first_steps

    def allows(self, strategy: str, *, compiled: bool) -> bool:
        """Whether it may be done this way; a loop always may, being what is left where fused gradients fail."""
        return (strategy == "loop" or self.strategy != "loop") and (self.may_compile or not compiled)


_programs: dict[tuple[str, bool], Program] = {}
_choices: dict[tuple[str, int, str, bool, bool], dict[str, Choice]] = {}
"""By what a choice depends on, then by optimizer."""
_timings: dict[tuple[str, str, str, int], float] = {}
"""Seconds a run-step uncompiled, by strategy, what is trained, optimizer and rows."""


def _identity(recipe: Recipe, asked: Asked) -> str:
    """What a program depends on: the same task trained the same way is compiled once a process, for one batch size."""
    workload, training = recipe.workload.identity(), recipe.training.model_dump(mode="json")
    return json.dumps([workload, recipe.batch_size, training, asked.device, asked.cuda_graphs], sort_keys=True)


def program_for(recipe: Recipe, asked: Asked, *, compiled: bool) -> Program:
    """The program of a recipe; made once in a process."""
    wanted = _identity(recipe, asked), compiled
    if wanted not in _programs:
        workload = recipe.workload
        assert isinstance(workload, PackedWorkload)
        device = torch.device(asked.device)
        _programs[wanted] = Program(workload.task(), recipe.training, device, compiled, asked.cuda_graphs)
    return _programs[wanted]


def compile_seconds() -> float:
    """Seconds that this process has spent on compiling."""
    return sum(program.compile_s for program in _programs.values())


def choose(pack: Pack, data: Data, asked: Asked) -> Choice:
    """Choose a strategy and how many rows it takes, once for each workload, batch size and capacity in a process.

    Gradients are what takes the time; another optimizer is trained likewise, in as many rows as it leaves memory for.

    ``auto`` times a few steps of both, on copies that are thrown away. It tries and compiles only what the run-steps to
    come are expected to earn back, and leaves fused gradients alone that vmap cannot compute.
    """
    optimizer = pack.runs[0].variant.optimizer
    waited_for = asked.first_steps is not None
    wanted = (_identity(pack.runs[0].recipe, asked), pack.capacity, asked.strategy, asked.may_compile, waited_for)
    chosen = _choices.setdefault(wanted, {})
    if optimizer not in chosen:
        start = time.perf_counter()
        trials = _Trials(pack, data, asked)
        found = trials.like(*next(iter(chosen.items()))) if chosen else trials.choice()
        chosen[optimizer] = replace(found, seconds=time.perf_counter() - start)
    return chosen[optimizer]


@dataclass(frozen=True)
class _Trials:
    """Tries out how a pack can be trained."""

    pack: Pack
    data: Data
    asked: Asked
    looked_at: dict[int, Operations] = field(default_factory=dict)
    """By the number of rows."""

    def like(self, optimizer: str, other: Choice) -> Choice:
        """What was chosen for another optimizer."""
        rows = min(other.rows, self._fitting(other.kind))
        return replace(other, rows=rows, reason=f"{other.reason}; tried with {optimizer}")

    def choice(self) -> Choice:
        asked = self.asked
        alone_s = self._seconds(Loop, 1, compiled=False)
        if asked.strategy == "loop":
            return self._loop("asked for", alone_s)
        if asked.strategy == "auto" and not self._worth_trying(alone_s):
            return self._loop(f"{alone_s * 1e6:.0f} µs a run-step in a loop, too few to try them fused", alone_s)
        return self._tried(alone_s)

    def _worth_trying(self, alone_s: float) -> bool:
        """Whether fused gradients are expected to save what it takes to try them."""
        best_s = alone_s / GAIN
        with suppress(Exception):  # whatever a user's model does that cannot be looked at
            best_s = _of_a_step(self._start(Loop, 1, compiled=False)).at_best(alone_s)
        saved_s = self.asked.steps_to_come * (alone_s - best_s)
        return saved_s > SURE * (TRYING_S + TRIED * alone_s)

    def _tried(self, alone_s: float) -> Choice:
        """What is faster; a run alone in a loop takes some seconds a step."""
        asked = self.asked
        try:
            timed = self._timed(alone_s)
            rows, fused_s = _fastest(timed)
            if self._hopeless(rows, fused_s, alone_s):
                return self._faster(fused_s, alone_s, rows, "not worth compiling")
            compiled_s, cost_s = self._expected(rows, fused_s) if asked.may_compile else (fused_s, 0.0)
        except Exception as error:  # noqa: BLE001  (whatever vmap cannot do with a user's model)
            reason = f"no fused gradients: {told_in_short(error)}"
            return self._loop(reason, alone_s)
        loop_s = self._seconds(Loop, FEW, compiled=False)
        if not asked.may_compile:
            return self._faster(fused_s, loop_s, rows, "uncompiled")
        alike = asked.first_steps is None or self._rounds_alike(rows)
        saved_s = asked.paid_into * (min(fused_s if alike else math.inf, loop_s) - compiled_s)
        if asked.strategy == "fused" or _may_pay(saved_s, cost_s):
            rows = self._soonest(rows, timed, compiled_s / fused_s, cost_s)
        if asked.strategy != "fused" and not self._pays(saved_s, rows, cost_s):
            why = "not worth compiling" + ("" if asked.first_steps is None else " for a first look")
            return self._faster(fused_s, loop_s, rows, why) if alike else self._loop("fused rows round apart", loop_s)
        try:
            compiled_s = self._seconds(Fused, rows, compiled=True)
            self._compile_judging(Fused)
        except Exception as error:  # noqa: BLE001  (whatever the compiler cannot do with a user's model)
            return self._faster(fused_s, loop_s, rows, f"cannot be compiled: {told_in_short(error)}")
        chosen = self._faster(compiled_s, loop_s, rows, "compiled", compiled=True)
        if chosen.strategy == "fused":  # what has lost once is not to be tried again for less
            self._mark(rows)
        return chosen

    def _faster(self, fused_s: float, loop_s: float, rows: int, why: str, *, compiled: bool = False) -> Choice:
        reason = f"{fused_s * 1e6:.0f} µs a run-step fused, {loop_s * 1e6:.0f} µs in a loop, {why}"
        if self.asked.strategy == "fused" or fused_s <= loop_s:
            return Choice("fused", compiled, rows, reason)
        return self._loop(reason, loop_s)

    def _loop(self, reason: str, loop_s: float) -> Choice:
        run_s = loop_s * self.pack.runs[0].recipe.steps
        rows = min(self._fitting(Loop), max(1, round(PART_S / run_s)))
        compiled, note = self._loop_compiled() if self.asked.may_compile else (False, "")
        return Choice("loop", compiled, rows, reason + note)

    def _loop_compiled(self) -> tuple[bool, str]:
        """Whether a loop's update, and how its runs are judged, can be compiled and earn it back; what there is to say of it."""
        saved_s, cost_s = self._judging()
        update_s = self._update_s()
        saved_s += self.asked.paid_into * (update_s - update_s / GAIN)
        if not self._pays(saved_s, LOOP, START_S + cost_s):
            return False, ""
        try:
            self._start(Loop, 1, compiled=True).advance(range(1))
            self._compile_judging(Loop)
        except Exception as error:  # noqa: BLE001  (whatever the compiler cannot do with a user's model)
            return False, f"; cannot be compiled: {told_in_short(error)}"
        self._mark(LOOP)
        return True, ""

    def _judging(self) -> tuple[float, float]:
        """Seconds that judging the runs to come would take less if it were compiled, and seconds that compiling it takes."""
        trial = self._start(Loop, 1, compiled=False)
        if not trial.program.judging_compiles:
            return 0.0, 0.0
        recipe = self.pack.runs[0].recipe
        chunk = on_device(self.data.train, trial.program.device)[0][: trial.at_once]
        seen = operations(lambda: trial.outputs(chunk))
        examples = sum(
            times * len(split.targets)
            for times, split in ((1, self.data.train), (recipe.evaluations, self.data.validation), (1, self.data.test))
        )
        runs = self.asked.paid_into / recipe.steps
        saved_s = seen.whole_s - seen.at_best(seen.whole_s)
        return runs * examples / len(chunk) * saved_s, JUDGING_S + OPERATION_S * seen.count

    def _compile_judging(self, kind: type[Fused | Loop]) -> None:
        """Compile how runs are judged, if this is done at all; raise whatever the compiler does."""
        trial = self._start(kind, 1, compiled=True)
        if trial.program.wants_whole_chunks:
            trial.outputs(on_device(self.data.train, trial.program.device)[0][: trial.at_once])

    def _update_s(self) -> float:
        """Seconds that a loop's update takes uncompiled."""
        trial = self._start(Loop, 1, compiled=False)
        trial.advance(range(1))
        assert isinstance(trial.strategy, Loop)
        single = trial.strategy.singles[0]
        numbers = numbers_of(self.pack.runs[:1], range(1, 2), trial.program.device)[0]
        best = math.inf
        for _ in range(3):
            start = time.perf_counter()
            trial.strategy.update(single, numbers)
            single.thetas[0].sum().item()  # waits for the device
            best = min(best, time.perf_counter() - start)
        return best

    def _hopeless(self, rows: int, fused_s: float, alone_s: float) -> bool:
        """Whether a run alone takes less than fused gradients could if all that gains from it were compiled, and may be trained so."""
        return self.asked.strategy == "auto" and self._stacked(rows).at_best(fused_s) > alone_s

    def _stacked(self, rows: int) -> Operations:
        """What a step of so many rows calls."""
        if rows not in self.looked_at:
            self.looked_at[rows] = _of_a_step(self._start(Fused, rows, compiled=False))
        return self.looked_at[rows]

    def _timed(self, alone_s: float) -> dict[int, float]:
        """Seconds a run-step by how many rows are together, ascending; none beyond where more have twice saved nothing."""
        most = min(self._fitting(Fused), self.pack.capacity)
        halves = [math.ceil(most / 2**k) for k in range(most.bit_length())]
        sizes = sorted({rows for rows in halves if rows >= MIN_ROWS} | {most})
        timed = {sizes[0]: self._seconds(Fused, sizes[0], compiled=False)}
        for place, rows in enumerate([] if self._hopeless(*_fastest(timed), alone_s) else sizes[1:], 1):
            timed[rows] = self._seconds(Fused, rows, compiled=False)
            if sizes.index(_fastest(timed)[0]) < place - 1:
                break
        return timed

    def _soonest(self, rows: int, timed: dict[int, float], left: float, cost_s: float) -> int:
        """How many rows end soonest, of which the compiler's cache may have some: others are not compiled for how a clock wavers.

        ``left`` is the share of a step that compiling leaves.
        """
        at_hand = set(filter(self._marked, timed))

        def seconds(rows: int) -> float:
            return self.asked.paid_into * timed[rows] * left + (0.0 if rows in at_hand else cost_s)

        return min([rows, *sorted(at_hand)], key=seconds)

    def _expected(self, rows: int, fused_s: float) -> tuple[float, float]:
        """Seconds a run-step that fused gradients are expected to take compiled, and seconds that compiling them takes."""
        seen = self._stacked(rows)
        return AMISS * seen.at_best(fused_s), START_S + OPERATION_S * seen.count

    def _pays(self, saved_s: float, rows: int, cost_s: float) -> bool:
        """Whether compiling saves :data:`SURE` times what it costs; of that little is left if the compiler's cache has it."""
        if saved_s > SURE * cost_s:
            return True
        if self.asked.first_steps is not None:  # which are to have the same numbers on a machine that knows them
            return False
        return _may_pay(saved_s, cost_s) and self._marked(rows)  # asking where the cache is takes a second of importing

    def _rounds_alike(self, rows: int) -> bool:
        """Whether runs in an uncompiled pack of so many rows have, to the bit, the numbers that they have in the smallest."""
        few = self.pack.runs[:MIN_ROWS]
        more = (*self.pack.runs[MIN_ROWS:rows], *few)
        if len(more) <= MIN_ROWS:
            return True
        program = program_for(few[0].recipe, self.asked, compiled=False)
        found: list[list[torch.Tensor]] = []
        for runs in (few, more):
            trial = Session.start(Fused, program, runs, self.data, in_eights(len(runs)))
            losses, shared = trial.advance(range(FEW)), slice(len(runs) - len(few), len(runs))
            assert isinstance(trial.strategy, Fused)
            found.append([losses[:, shared], *(value[shared] for value in trial.strategy.params.values())])
        return all(
            torch.allclose(one, other, rtol=0.0, atol=0.0, equal_nan=True) for one, other in zip(*found, strict=True)
        )

    def _marked(self, rows: int) -> bool:
        """Whether the compiler's cache has what is compiled for so many rows."""
        return compiled_before(*self._compiled_for(rows))

    def _mark(self, rows: int) -> None:
        """Note that it has."""
        note_compiled(*self._compiled_for(rows))

    def _compiled_for(self, rows: int) -> tuple[str, str, int]:
        run = self.pack.runs[0]
        return _identity(run.recipe, self.asked), run.variant.optimizer, rows

    def _start(self, kind: type[Fused | Loop], rows: int, *, compiled: bool) -> Session:
        runs = self.pack.runs[:rows]  # what is missing to the rows are idle copies
        program = program_for(runs[0].recipe, self.asked, compiled=compiled)
        return Session.start(kind, program, runs, self.data, rows)

    def _fitting(self, kind: type[Fused | Loop]) -> int:
        def trial(rows: int) -> None:
            session = self._start(kind, rows, compiled=False)
            session.advance(range(1))
            if session.program.training.sharpness:
                inputs, targets = on_device(self.data.train, device)
                session.sharpness(inputs, targets, most=1)

        device = torch.device(self.asked.device)
        return rows_that_fit(trial, device, most=MOST_ROWS, share=self.asked.memory_share)

    def _seconds(self, kind: type[Fused | Loop], rows: int, *, compiled: bool) -> float:
        """Seconds a run-step, the best of three times three steps; of fewer if they are long."""
        wanted = kind.name, *self._compiled_for(rows)
        if not compiled and wanted in _timings:
            return _timings[wanted]
        in_tensors = rows if kind is Loop else max(MIN_ROWS, rows) if compiled else in_eights(rows)
        trial = self._start(kind, in_tensors, compiled=compiled)
        trial.advance(range(1))
        best, began, step = math.inf, time.perf_counter(), 1
        for steps in (1, 3, 3, 3):
            start = time.perf_counter()
            trial.advance(range(step, step + steps)).sum().item()  # reading a number waits for the device
            now = time.perf_counter()
            best, step = min(best, (now - start) / steps), step + steps
            if now - began > LONG_S:
                break
        seconds = best / min(rows, trial.strategy.count)
        return seconds if compiled else _timings.setdefault(wanted, seconds)


def _fastest(timed: dict[int, float]) -> tuple[int, float]:
    """How many rows together take the least time, and seconds a run-step then.

    Of more rows every operation is called less often; of fewer, what they work on stays in the cache.
    """
    rows = min(timed)
    for more, seconds in timed.items():
        if seconds <= timed[rows] * (1 - WORTH):
            rows = more
    return rows, timed[rows]


def _may_pay(saved_s: float, cost_s: float) -> bool:
    """Whether compiling could pay if the compiler's cache has it all."""
    return saved_s > SURE * (LOADING_S + LOADED * cost_s)


def _of_a_step(trial: Session) -> Operations:
    return operations(lambda: trial.advance(range(trial.step, trial.step + 1)))
