"""What a launch would cost, from what was measured: stored runs of the same recipe, else a short probe."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from hpscan.grid import Pack, packs, runs
from hpscan.spec import Spec
from hpscan.store import Store

__all__ = ["Estimate", "estimate"]

STARTUP_S = 20.0
"""Starting Ray and its workers and compiling, on a laptop with a cold cache."""
PROBE_STEPS = 10


@dataclass(frozen=True)
class Estimate:
    """What would run, and for how long."""

    sweep: str
    n_runs: int
    n_stored: int
    n_packs: int
    steps: int
    by_variant: dict[str, int]
    """Runs to train of each variant."""
    seconds_per_run_step: float
    basis: str
    """Where ``seconds_per_run_step`` comes from, for people."""
    workers: int

    @property
    def wall_s(self) -> float:
        """Seconds from the command to the last run, about."""
        to_train = self.n_runs - self.n_stored
        return to_train * self.steps * self.seconds_per_run_step / self.workers + STARTUP_S if to_train else 0.0

    def text(self) -> str:
        """The estimate in a few lines."""
        to_train = self.n_runs - self.n_stored
        variants = ", ".join(f"{name} {count}" for name, count in self.by_variant.items())
        stored = f"{self.n_stored} stored, {to_train} to train in {self.n_packs} packs"
        lines = [f"{self.sweep}: {self.n_runs} runs of {self.steps} steps; {stored}"]
        if to_train:
            rate = f"about {self.seconds_per_run_step * 1e6:.0f} µs a run-step ({self.basis})"
            work = f"{to_train * self.steps * self.seconds_per_run_step:.0f} core-seconds"
            wall = f"about {self.wall_s:.0f} s on {self.workers} workers, start-up included"
            lines += [f"to train: {variants}", f"cost: {rate}, {work}; {wall}"]
        return "\n".join([*lines, "nothing was written"])


def estimate(spec: Spec, store: Store, *, retry_failed: bool = False) -> Estimate:
    """Price a launch of ``spec``: nothing is written, and Ray is not started."""
    every = runs(spec)
    stored = store.runs(spec.name)
    plan = packs(spec, store.ended(spec.name, retry_failed=retry_failed))
    waiting = [run for pack in plan for run in pack.runs]
    own = stored[stored["run_id"].isin({run.run_id for run in every}) & (stored["state"] == "completed")]
    if len(own):
        seconds, basis = float((own["device_s"] / own["steps_done"]).median()), "measured on the stored runs"
    elif plan:
        seconds, basis = _probe(plan[0]), f"{PROBE_STEPS} steps tried uncompiled; compiled, several times less"
    else:
        seconds, basis = 0.0, "nothing to train"
    return Estimate(
        sweep=spec.name,
        n_runs=len(every),
        n_stored=len(every) - len(waiting),
        n_packs=len(plan),
        steps=spec.steps,
        by_variant={name: sum(run.cell.variant == name for run in waiting) for name in spec.variants},
        seconds_per_run_step=seconds,
        basis=basis,
        workers=max(1, min(spec.resources.workers_here, len(plan))),
    )


def _probe(pack: Pack) -> float:
    """Seconds a run-step of a few steps of a pack, in this process."""
    from hpscan.engine import train_pack
    from hpscan.hardware import prepare_worker

    hardware = prepare_worker()
    data = pack.runs[0].recipe.workload.load()

    def seconds(steps: int) -> float:
        short = tuple(replace(run, recipe=replace(run.recipe, steps=steps, evaluations=1)) for run in pack.runs)
        start = time.perf_counter()
        train_pack(Pack(short, len(short)), data, compile=False, device=hardware.device)
        return time.perf_counter() - start

    seconds(1)  # the first call of everything is slow
    few = min(seconds(1) for _ in range(2))
    return max(min(seconds(1 + PROBE_STEPS) for _ in range(2)) - few, 0.0) / (len(pack.runs) * PROBE_STEPS)
