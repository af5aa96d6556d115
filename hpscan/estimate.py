"""What a launch would cost: measured on stored runs or by a short trial, else priced by its operations."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace

from hpscan.grid import Pack, packs, runs
from hpscan.spec import Spec
from hpscan.store import Store, ended
from hpscan.workloads import Data, DataAbsentError, PackedWorkload, Trainable

__all__ = ["Estimate", "estimate"]

STARTUP_S = 20.0
"""Starting Ray and its workers and compiling, on a laptop with a cold cache."""
PROBE_STEPS = 10
MOST_PROBED = 2e9
"""Operations of a run-step up to which trying it is a matter of seconds."""
GPU_FLOPS = 60e12
"""Operations a second that a GPU is taken to sustain: 40 % of an A100's peak in TF32."""


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
    flop_per_run_step: float | None
    """Floating-point operations of a step of one run, forward and backward; None for a trainable."""
    seconds_per_run_step: float | None
    """None if nothing is known of it."""
    basis: str
    """Where ``seconds_per_run_step`` comes from, for people."""
    workers: int

    @property
    def wall_s(self) -> float:
        """Seconds from the command to the last run, about; nan if nothing is known."""
        to_train = self.n_runs - self.n_stored
        if self.seconds_per_run_step is None:
            return float("nan")
        return to_train * self.steps * self.seconds_per_run_step / self.workers + STARTUP_S if to_train else 0.0

    def text(self) -> str:
        """The estimate in a few lines."""
        to_train = self.n_runs - self.n_stored
        variants = ", ".join(f"{name} {count}" for name, count in self.by_variant.items())
        stored = f"{self.n_stored} stored, {to_train} to train in {self.n_packs} packs"
        lines = [f"{self.sweep}: {self.n_runs} runs of {self.steps} steps; {stored}"]
        if to_train:
            lines.append(f"to train: {variants}")
            if self.flop_per_run_step:
                a_run = self.flop_per_run_step * self.steps
                hours = a_run * to_train / GPU_FLOPS / 3600
                gpus = f", {_number(hours)} GPU-hours at {GPU_FLOPS / 1e12:.0f} TFLOP/s" if hours >= 0.1 else ""
                lines.append(f"work: {_flop(a_run)} a run, {_flop(a_run * to_train)} in all{gpus}")
            if self.seconds_per_run_step is not None:
                rate = f"about {_seconds(self.seconds_per_run_step)} a run-step ({self.basis})"
                core = _seconds(to_train * self.steps * self.seconds_per_run_step)
                lines.append(
                    f"cost: {rate}; {core} of core time; about {_seconds(self.wall_s)} on {self.workers} workers"
                )
            else:
                lines.append(f"cost: unknown ({self.basis})")
        return "\n".join([*lines, "nothing was written"])


def estimate(spec: Spec, store: Store, *, retry_failed: bool = False) -> Estimate:
    """Price a launch of ``spec``: nothing is written, and Ray is not started."""
    every = runs(spec)
    stored = store.runs(spec.name, without=["config"])
    done = ended(stored, retry_failed=retry_failed)
    plan = packs(every, spec.resources.most_runs, done, spec.resources.workers_here)
    waiting = Counter(run.cell.variant for pack in plan for run in pack.runs)
    own = stored[stored["run_id"].isin({run.run_id for run in every}) & (stored["state"] == "completed")]
    own = own[own["steps_done"] > 0]
    packed = None if isinstance(spec.workload, Trainable) or not plan else spec.workload
    flop = None if packed is None else _flop_per_run_step(packed, spec.batch_size)
    seconds: float | None = None
    if len(own):
        seconds, basis = float((own["device_s"] / own["steps_done"]).median()), "measured on this sweep's stored runs"
    elif packed is None:
        basis = "a trainable says nothing before it has run" if plan else "nothing to train"
    elif flop is not None and flop > MOST_PROBED:
        rate = _measured_rate()
        seconds, basis = flop / rate, f"at {rate / 1e9:.0f} GFLOP/s a core, half of what matrix products reach here"
    else:
        try:
            seconds, basis = (
                _probe(plan[0], packed.load()),
                f"{PROBE_STEPS} steps tried uncompiled; compiled, up to three times less",
            )
        except DataAbsentError as error:
            basis = str(error)
    return Estimate(
        sweep=spec.name,
        n_runs=len(every),
        n_stored=len(every) - waiting.total(),
        n_packs=len(plan),
        steps=spec.steps,
        by_variant={name: waiting[name] for name in spec.variants},
        flop_per_run_step=flop,
        seconds_per_run_step=seconds,
        basis=basis,
        workers=max(1, min(spec.resources.workers_here, len(plan))),
    )


def _flop_per_run_step(workload: PackedWorkload, batch_size: int) -> float | None:
    """Operations of a forward and backward pass, counted by torch on tensors without storage."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    task = workload.task()
    inputs = torch.from_numpy(workload.example(batch_size))
    inputs = inputs if task.prepare is None else task.prepare(inputs)
    with torch.device("meta"):
        model = task.model()
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            model(inputs.to("meta")).sum().backward()
    except (RuntimeError, NotImplementedError, AttributeError):  # a user's model that needs real numbers
        return None
    return float(counter.get_total_flops())


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


def _probe(pack: Pack, data: Data) -> float:
    """Seconds a run-step of a few steps of a pack, in this process."""
    from hpscan.engine import train_pack
    from hpscan.hardware import prepare_worker

    hardware = prepare_worker()

    def seconds(steps: int) -> float:
        short = tuple(replace(run, recipe=replace(run.recipe, steps=steps, evaluations=1)) for run in pack.runs)
        start = time.perf_counter()
        train_pack(Pack(short, len(short)), data, compile=False, device=hardware.device)
        return time.perf_counter() - start

    seconds(1)  # the first call of everything is slow
    few = min(seconds(1) for _ in range(2))
    return max(min(seconds(1 + PROBE_STEPS) for _ in range(2)) - few, 0.0) / (len(pack.runs) * PROBE_STEPS)


def _flop(number: float) -> str:
    for unit, size in (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1e6:.3g} MFLOP"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _seconds(value: float) -> str:
    for unit, size in (("days", 86400 * 2), ("h", 7200), ("min", 120), ("s", 1), ("ms", 1e-3)):
        if value >= size:
            return f"{value / {'days': 86400, 'h': 3600, 'min': 60}.get(unit, size):.3g} {unit}"
    return f"{value * 1e6:.3g} µs"
