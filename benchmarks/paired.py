"""One run after another: hpscan's engine and the fastest loop taking turns in one process.

    python -m benchmarks.paired [--rounds 5] [--workload cnn] [--write benchmarks/paired.md]

On a shared machine two contenders that are measured minutes apart differ by what else it does. Here both train the same runs
of the grids of ``throughput.py``, a few of them each in turn, judging included; what is left out is what a sweep begins
with: starting Ray and workers, choosing a strategy, compiling.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.meter import header
from benchmarks.plain import WORKLOADS, Tuned, data_of, planned
from hpscan.choice import Asked, choose
from hpscan.engine import train_pack
from hpscan.grid import Pack
from hpscan.hardware import prepare_worker

LOOPED = 3
"""Runs that a loop trains in each round."""


def seconds(work: Callable[[], object], mode: str, runs: int) -> float:
    """Seconds a run that some work takes in a matmul mode."""
    torch.set_float32_matmul_precision(mode)
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) / runs


def compare(workload: str, rounds: int) -> tuple[str, str]:
    """Train in turns; a row of medians with the range of their ratio over the rounds, and in short."""
    every, data = planned(workload), data_of(workload)
    members = tuple(run for run in every if run.cell.variant == every[0].cell.variant)
    half = len(every) / 2 * every[0].recipe.steps  # what one of two workers has before it
    mode, capacity = prepare_worker().matmul_mode, min(64, len(members))
    choice = choose(Pack(members[:capacity], capacity), data, Asked("auto", True, False, "cpu", half, 0.5))
    pack = Pack(members[: choice.rows], capacity)
    contenders = [(lambda: train_pack(pack, data, steps_to_come=half), mode, len(pack.runs))]
    for compiled in (False, True):
        loop = Tuned(every[0], data, compiled=compiled)
        own = torch.get_float32_matmul_precision()  # what it found best for itself
        contenders.append((lambda loop=loop: [loop.train(run) for run in pack.runs[:LOOPED]], own, LOOPED))
    for contender in contenders:  # what is not compiled yet is now
        seconds(*contender)
    took = [[seconds(*contender) for contender in contenders] for _ in range(rounds)]
    ratios = [min(loops) / own for own, *loops in took]
    how = f"{choice.strategy}, {'compiled' if choice.compiled else 'uncompiled'}, {len(pack.runs)} runs at once"
    own, eager, compiled_s = (statistics.median(column) for column in zip(*took, strict=True))
    ratio = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]"
    row = f"| {WORKLOADS[workload][0]} | {how} | {own:.3f} | {eager:.3f} | {compiled_s:.3f} | {ratio} |"
    return row, f"{workload.upper()} {ratio}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workload", choices=list(WORKLOADS))
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "| | hpscan trains it | s a run | fastest loop | fastest loop, compiled | hpscan is faster than the better of them, × |",
        "|---|---|---|---|---|---|",
    ]
    short = []
    for workload in [options.workload] if options.workload else WORKLOADS:
        row, told = compare(workload, options.rounds)
        lines.append(row)
        short.append(told)
        print(row, flush=True)
    if options.write:
        title, _, about = (__doc__ or "").partition("\n\n")
        text = "\n\n".join(part for part in about.split("\n\n") if not part.startswith("    "))
        summary = f"In short: taking turns with the fastest loop, hpscan's engine is so many times faster: {'; '.join(short)}."
        page = [
            f"# {title.rstrip('.')}",
            header("python -m benchmarks.paired"),
            summary,
            text.strip(),
            "\n".join(lines),
        ]
        options.write.write_text("\n\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
