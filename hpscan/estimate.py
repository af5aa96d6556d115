"""What a launch would cost: measured on stored runs or by a short trial, else priced by its operations."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from hpscan.course import Course
from hpscan.differences import objection
from hpscan.errors import told_in_short
from hpscan.grid import Pack, Recipe, Run, packs, runs
from hpscan.numerals import duration, operations
from hpscan.rounds import to_train
from hpscan.rungs import next_round
from hpscan.spec import Spec
from hpscan.stopping import Halving, Stop
from hpscan.store import Store
from hpscan.workloads import Data, DataAbsentError, PackedWorkload, Split, WorkloadError

__all__ = ["Estimate", "Part", "estimate"]

STARTUP_S = 20.0
"""Starting Ray and its workers and compiling, on a laptop with a cold cache."""
PROBE_STEPS = 10
MOST_PROBED = 2e9
"""Operations of a run-step up to which trying it is a matter of seconds."""
GPU_FLOPS = 60e12
"""Operations a second that a GPU is taken to sustain: 40 % of an A100's peak in TF32."""


@dataclass(frozen=True)
class Part:
    """The runs to train under one recipe."""

    name: str
    """Its values on the axes of the recipe, if the grid has any."""
    n_runs: int
    steps: int
    """Of a run."""
    run_steps: float
    """Of all runs together, about where some are going to stop at rungs."""
    flop_per_run_step: float | None
    """Floating-point operations of a step of one run, forward and backward; None for a trainable."""
    seconds_per_run_step: float | None
    """None if nothing is known of it."""
    basis: str
    """Where ``seconds_per_run_step`` comes from, for people."""

    @property
    def flop(self) -> float:
        """Operations of all runs together; 0 if nothing is known."""
        return self.run_steps * (self.flop_per_run_step or 0.0)

    @property
    def core_s(self) -> float:
        """Seconds of one core for all runs together; nan if nothing is known."""
        seconds = math.nan if self.seconds_per_run_step is None else self.seconds_per_run_step
        return self.run_steps * seconds

    @property
    def rate(self) -> str:
        """What a run-step takes, for people."""
        if self.seconds_per_run_step is None:
            return f"unknown ({self.basis})"
        return f"about {self.seconds_per_run_step * 1e6:,.0f} µs a run-step ({self.basis})"


@dataclass(frozen=True)
class Estimate:
    """What would run, and for how long."""

    sweep: str
    n_runs: int
    """Of the whole grid."""
    n_stored: int
    """Runs that need no training."""
    n_packs: int
    by_variant: dict[str, int]
    """Runs to train of each variant."""
    parts: list[Part]
    """One for each recipe."""
    workers: int
    stop: Stop
    adaptive: float | None
    """The share of each landscape's cells that an adaptive sweep trains at most; it may end before."""
    objection: str | None = None
    """Why a launch would be refused as it is."""

    @property
    def to_train(self) -> int:
        """Runs to train."""
        return sum(part.n_runs for part in self.parts)

    @property
    def core_s(self) -> float:
        """Seconds of one core for all runs; nan if nothing is known of some."""
        return sum(part.core_s for part in self.parts if part.n_runs)

    @property
    def wall_s(self) -> float:
        """Seconds from the command to the last run, about; nan if nothing is known of some."""
        return self.core_s / self.workers + STARTUP_S if self.to_train else 0.0

    def text(self) -> str:
        """The estimate in a few lines."""
        to_train, several = self.to_train, len(self.parts) > 1
        budgets = sorted({part.steps for part in self.parts})
        steps = f"{budgets[0]} to {budgets[-1]}" if len(budgets) > 1 else f"{budgets[0]}"
        stored = f"{self.n_stored} stored, {to_train} to train in {self.n_packs} pack{'s' * (self.n_packs != 1)}"
        lines = [f"{self.sweep}: {self.n_runs} run{'s' * (self.n_runs != 1)} of {steps} steps; {stored}"]
        if to_train:
            lines.append("to train: " + ", ".join(f"{name} {count}" for name, count in self.by_variant.items()))
            lines += self._saving()
            if self.adaptive is not None:
                lines.append(
                    f"adaptive: at most {self.adaptive:.1%} of each landscape's cells, those stored included; priced as if all of these"
                )
            flop = sum(part.flop for part in self.parts)
            if flop:
                hours = flop / GPU_FLOPS / 3600
                gpus = f", {_number(hours)} GPU-hours at {GPU_FLOPS / 1e12:.0f} TFLOP/s" if hours >= 0.1 else ""
                lines.append(f"work: {operations(flop / to_train)} a run, {operations(flop)} in all{gpus}")
            waiting = [part for part in self.parts if part.n_runs]
            if several:
                lines += [f"{part.name}: {part.n_runs} runs of {part.steps} steps, {part.rate}" for part in waiting]
            wall = f"{duration(self.core_s)} of core time; about {duration(self.wall_s)} on {self.workers} workers"
            costs = [] if several else [waiting[0].rate]
            if math.isfinite(self.core_s):
                costs.append(wall)
            lines.append(f"cost: {'; '.join(costs) or 'unknown'}")
        if self.objection is not None:
            lines.append(f"a launch would be refused: {self.objection}")
        return "\n".join([*lines, "nothing was written"])

    def _saving(self) -> list[str]:
        """What stopping at rungs saves."""
        if not isinstance(self.stop, Halving):
            return []
        whole = sum(part.n_runs * part.steps for part in self.parts)
        taken = sum(part.run_steps for part in self.parts)
        rungs = ", ".join(f"{rung:.0%}" for rung in self.stop.rungs)
        return [f"halving: about {taken:,.0f} of {whole:,} run-steps ({taken / whole:.0%}); at {rungs} of the budget "
                f"1/{self.stop.reduction:g} of each landscape's cells go on"]  # fmt: skip


def estimate(spec: Spec, store: Store, *, retry_failed: bool = False, revise: bool = False) -> Estimate:
    """Price a launch of ``spec``: nothing is written, and Ray is not started."""
    every = runs(spec)
    stored = store.runs(spec.name, without=["config"])
    coming = next_round(spec, store, stored, retry_failed=retry_failed)
    waiting = [run for run in every if run.run_id in coming.open]
    if spec.adaptive:
        chosen = to_train(spec, store.location, coming.done, coming.open)
        others = [run.run_id for run in every if run.run_id not in chosen]
        plan = packs(every, spec.resources.most_runs, others, spec.resources.workers_here)
    else:
        chosen = coming.open
        plan = Course(spec, store.location, every, spec.resources.workers_here, coming).packs()
    completed = stored[(stored["state"] == "completed") & (stored["steps_done"] > 0)]
    seconds = completed["device_s"] / completed["steps_done"]
    rates = _Rates(spec, every, dict(zip(completed["run_id"], seconds, strict=True)))
    parts = []
    for point in spec.points():
        recipe = Recipe.of(spec.at(point))
        own = [pack for pack in plan if pack.runs[0].recipe.identity == recipe.identity]
        name = ", ".join(f"{axis} {value:.12g}" for axis, value in point.items())
        alike = [run for run in waiting if run.recipe.identity == recipe.identity]
        n_runs = sum(run.run_id in chosen for run in alike)
        run_steps = coming.run_steps[recipe.identity] * n_runs / max(len(alike), 1)
        parts.append(Part(name, n_runs, recipe.steps, run_steps, *rates.of(recipe, own[0] if own else None)))
    return Estimate(
        sweep=spec.name,
        n_runs=len(every),
        n_stored=len(every) - len(waiting),
        n_packs=len(plan),
        by_variant={
            name: sum(run.cell.variant == name and run.run_id in chosen for run in waiting) for name in spec.variants
        },
        parts=parts,
        workers=max(1, min(spec.resources.workers_here, len(plan))),
        stop=spec.stop,
        adaptive=spec.adaptive.most_cells if spec.adaptive else None,
        objection=None if revise else objection(spec, store, stored),
    )


class _Rates:
    """What a run-step takes, found once for each workload and batch size; a run's number of steps is nothing to it."""

    def __init__(self, spec: Spec, every: Sequence[Run], stored: Mapping[str, float]) -> None:
        self.spec, self.to_come = spec, sum(run.recipe.steps for run in every) / spec.resources.workers_here
        self.stored: dict[str, list[float]] = defaultdict(list)
        recipes = {run.recipe.identity: run.recipe for run in every}
        kinds = {identity: _kind(recipe) for identity, recipe in recipes.items()}
        for run in every:
            if run.run_id in stored:
                self.stored[kinds[run.recipe.identity]].append(stored[run.run_id])
        self.known: dict[str, tuple[float | None, float | None, str]] = {}

    def of(self, recipe: Recipe, pack: Pack | None) -> tuple[float | None, float | None, str]:
        """Operations and seconds a run-step, and where the seconds come from; ``pack`` is tried out if need be."""
        kind = _kind(recipe)
        if kind not in self.known:
            if pack is None:
                return None, None, "nothing to train"
            self.known[kind] = self._found(recipe, pack, self.stored[kind])
        return self.known[kind]

    def _found(self, recipe: Recipe, pack: Pack, stored: list[float]) -> tuple[float | None, float | None, str]:
        from hpscan.flops import flop_per_run_step

        workload = recipe.workload
        flop = (
            flop_per_run_step(workload, workload.example(recipe.batch_size))
            if isinstance(workload, PackedWorkload)
            else None
        )
        if stored:
            return flop, median(stored), "measured on this sweep's stored runs"
        if not isinstance(workload, PackedWorkload):
            return None, None, "a trainable says nothing before it has run"
        if flop is not None and flop > MOST_PROBED:
            rate = _measured_rate()
            return flop, flop / rate, f"at {rate / 1e9:.0f} GFLOP/s a core, half of what matrix products reach here"
        try:
            seconds = _probe(pack, workload.load(), self.spec.resources.strategy, self.to_come)
        except DataAbsentError as error:
            return flop, None, str(error)
        except Exception as error:  # noqa: BLE001  (a model or loss may raise anything)
            return flop, None, f"cannot be tried: {told_in_short(error)}"
        return flop, seconds, f"{PROBE_STEPS} steps tried uncompiled; compiled, up to three times less"


def _kind(recipe: Recipe) -> str:
    """What the cost of a run-step depends on."""
    training = recipe.training.model_dump(mode="json")
    return json.dumps([recipe.workload.identity(), recipe.batch_size, training], sort_keys=True)


def _measured_rate() -> float:
    """Half the operations a second of this machine's matrix products on one core."""
    import torch

    from hpscan.hardware import prepare_worker

    prepare_worker()
    a = torch.randn(1024, 1024)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - start)
    return 2 * 1024**3 / best / 2


def _probe(pack: Pack, data: Data, strategy: Literal["auto", "fused", "loop"], to_come: float) -> float:
    """Seconds a run-step of a few steps of a pack, in this process, trained as if so many were to come."""
    from hpscan.engine import train_pack
    from hpscan.hardware import prepare_worker

    hardware = prepare_worker()
    data = _excerpt(data, 2 * pack.runs[0].recipe.batch_size)

    def seconds(steps: int) -> float:
        short = tuple(replace(run, recipe=replace(run.recipe, steps=steps, evaluations=1)) for run in pack.runs)
        start = time.perf_counter()
        results = train_pack(
            Pack(short, len(short)),
            data,
            strategy=strategy,
            compile=False,
            device=hardware.device,
            steps_to_come=to_come,
        )
        if all(result.state == "failed" for result in results):
            raise WorkloadError(results[0].error)
        return time.perf_counter() - start

    seconds(1)  # the first call of everything is slow
    few = min(seconds(1) for _ in range(2))
    return max(min(seconds(1 + PROBE_STEPS) for _ in range(2)) - few, 0.0) / (len(pack.runs) * PROBE_STEPS)


def _excerpt(data: Data, n: int) -> Data:
    """The first examples of each part: every training ends with an evaluation of all of them, which would hide its steps."""
    first = (Split(part.inputs[:n], part.targets[:n]) for part in (data.train, data.validation, data.test))
    return Data(*first)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
