"""The packed engine against plain loops and against the machine's limit, side by side in one process on one core.

    python -m benchmarks.engine [--rounds 5] [--write benchmarks/engine.md]

Contenders are interleaved: every round times each of them once, and the table has medians over the rounds. ``stock`` is a
``torch.optim`` loop as most people write it; ``tuned`` has fused=True, the better matmul mode and the same malloc settings.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import SimpleQueue, get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.meter import header
from hpscan.engine import CHECK_EVERY
from hpscan.grid import Recipe, Run, runs
from hpscan.hardware import prepare_worker
from hpscan.models import CNN, NormalisedMLP, PlainMLP
from hpscan.program import Program
from hpscan.session import Session, numbers_of
from hpscan.spec import Spec, Training
from hpscan.strategies import Fused, Loop
from hpscan.tasks import Task, classification
from hpscan.workloads import Data, Split

CPU = torch.device("cpu")
STEPS = CHECK_EVERY
OPTIMIZERS = {"adamw-torch": torch.optim.AdamW, "sgd": torch.optim.SGD}


@dataclass(frozen=True)
class Case:
    """A network, a batch size and a number of runs."""

    name: str
    model: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    rows: int
    flops: float
    """Of a run-step."""
    variant: str = "adamw-torch"
    seeds: int = 4


def mlp(widths: tuple[int, ...], batch: int, rows: int, *, norm: bool = False, **other: object) -> Case:
    products = [a * b for a, b in pairwise(widths)]
    flops = 2.0 * batch * (3 * sum(products) - products[0])
    name = "-".join(map(str, widths)) + (" with BatchNorm" if norm else "")
    kind = NormalisedMLP if norm else PlainMLP
    return Case(name, lambda: kind(widths), (widths[0],), batch, rows, flops, **other)  # type: ignore[arg-type]


def cnn(channels: tuple[int, int], batch: int, rows: int) -> Case:
    one, two = channels
    flops = (
        3 * 2.0 * batch * (9 * one * 28 * 28 + 9 * one * two * 14 * 14 + two * 49 * 10) - 2.0 * batch * 9 * one * 784
    )
    return Case(f"CNN {one}-{two}, 28×28", lambda: CNN((1, 28, 28), channels, 10), (1, 28, 28), batch, rows, flops)


CASES = [
    mlp((64, 16, 10), 32, 64),
    mlp((64, 64, 64, 10), 128, 64),
    mlp((64, 128, 128, 10), 128, 16),
    mlp((784, 256, 10), 128, 16),
    mlp((64, 64, 64, 10), 128, 16, norm=True, variant="sgd"),
    cnn((8, 16), 64, 8),
]


def data_of(case: Case, n: int = 2048) -> Data:
    rng = np.random.default_rng(0)
    split = Split(rng.normal(size=(n, *case.shape)).astype(np.float32), rng.integers(0, 10, n))
    return Data(split, split, split)


def members(case: Case) -> tuple[Run, ...]:
    """Runs of a recipe with this batch size, of several seeds mixed."""
    spec = Spec.validated({
        "name": "bench", "workload": "digits", "variants": [case.variant], "batch_size": case.batch,
        "grid": {"lr": [1e-3 * 1.01**k for k in range(case.rows // case.seeds)], "wd": [0.01]},
        "seeds": list(range(case.seeds)), "budget": {"steps": 10_000},
    })  # fmt: skip
    assert Recipe.of(spec).batch_size == case.batch
    return tuple(runs(spec))


def packed(
    case: Case, task: Task, kind: type[Fused | Loop], *, compiled: bool, **training: object
) -> Callable[[], None]:
    """Some steps of a pack."""
    program = Program(task, Training.model_validate(training), CPU, compiled)
    session = Session.start(kind, program, members(case), data_of(case), case.rows)
    return lambda: session.advance(range(1, 1 + STEPS)).sum().item()


def loop(case: Case, *, fused: bool, matmul: str) -> Callable[[], None]:
    """Some steps of one model after another, stock modules and a stock optimizer."""
    count = min(case.rows, 4)
    models = [case.model() for _ in range(count)]
    options = {"fused": True} if fused else {}
    optimizers = [
        OPTIMIZERS[case.variant](model.parameters(), lr=1e-3, weight_decay=0.01, **options) for model in models
    ]
    data = data_of(case).train
    inputs, targets = torch.from_numpy(data.inputs), torch.from_numpy(data.targets)
    rng = np.random.default_rng(1)

    def work() -> None:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(matmul)
        for model, optimizer in zip(models, optimizers, strict=True):
            for _ in range(STEPS):
                index = torch.from_numpy(rng.integers(0, len(inputs), case.batch))
                optimizer.zero_grad()
                loss = F.cross_entropy(model(inputs[index]), targets[index])
                loss.backward()
                optimizer.step()
        torch.set_float32_matmul_precision(before)

    return work


def peak_rate(matmul: str) -> float:
    """FLOP/s of a 2048³ product."""
    a = torch.randn(2048, 2048)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(matmul)
    start = time.process_time()
    a @ a
    seconds = time.process_time() - start
    torch.set_float32_matmul_precision(before)
    return 2 * 2048**3 / seconds


def bandwidth() -> float:
    """Bytes/s of adding arrays that, like the state of a pack, fit in the last cache."""
    a, b, c = (torch.randn(1 << 20) for _ in range(3))
    start = time.process_time()
    for _ in range(8):
        torch.add(a, b, out=c)
    return 8 * 12 * 2**20 / (time.process_time() - start)


def optimizer_bytes(case: Case, params: int) -> int:
    """What the update of a run cannot help to move: θ, gradient and moments are read, all but the gradient written."""
    moments = 1 if case.variant.startswith("sgd") else 2
    return 4 * params * (3 + 2 * moments)


def interleaved(works: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each piece of work, once a round."""
    for work in works.values():
        work()
        work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            start = time.process_time()
            work()
            seconds[name].append(time.process_time() - start)
    return seconds


def micro(seconds: list[float], count: int) -> float:
    """µs a run-step, the median."""
    return statistics.median(seconds) / STEPS / count * 1e6


def table(rounds: int, mode: str) -> tuple[str, list[str]]:
    """In short, and a row for each case."""
    lines = [
        "| network | params | batch | runs | stock | tuned | loop | fused | × stock | × tuned | GFLOP/s | of peak | limit | of limit |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    shares = []
    for case in CASES:
        task = classification(case.model)
        rates: dict[str, list[float]] = {"highest": [], "medium": [], "bytes": []}
        works = {
            "stock": loop(case, fused=False, matmul="highest"),
            "tuned highest": loop(case, fused=True, matmul="highest"),
            "tuned medium": loop(case, fused=True, matmul=mode),
            "loop": packed(case, task, Loop, compiled=True),
            "fused": packed(case, task, Fused, compiled=True),
            "peak highest": lambda rates=rates: rates["highest"].append(peak_rate("highest")),
            "peak medium": lambda rates=rates: rates["medium"].append(peak_rate(mode)),
            "bytes": lambda rates=rates: rates["bytes"].append(bandwidth()),
        }
        seconds = interleaved(works, rounds)
        few = min(case.rows, 4)
        stock = micro(seconds["stock"], few)
        tuned = min(micro(seconds[f"tuned {which}"], few) for which in ("highest", "medium"))
        looped, fused = (micro(seconds[name], case.rows) for name in ("loop", "fused"))
        best = min(looped, fused)
        peak = max(statistics.median(rates[of_mode]) for of_mode in ("highest", "medium"))
        params = sum(parameter.numel() for parameter in case.model().parameters())
        limit = 1e6 * (case.flops / peak + optimizer_bytes(case, params) / statistics.median(rates["bytes"]))
        shares.append((case, case.flops / best * 1e6 / peak, limit / best, tuned / best))
        lines.append(
            f"| {case.name} | {params:,} | {case.batch} | {case.rows} | {stock:.0f} | {tuned:.0f} | {looped:.0f} | "
            f"{fused:.1f} | {stock / best:.1f} | {tuned / best:.1f} | {case.flops / best / 1e3:.0f} | "
            f"{case.flops / best * 1e6 / peak:.2f} | {limit:.1f} | {limit / best:.2f} |"
        )
        print(lines[-1], flush=True)
    told = "; ".join(
        f"{case.name} {of_peak:.2f} of the core's matmul peak, {of_limit:.2f} of the limit, {times:.1f} × the tuned loop"
        for case, of_peak, of_limit, times in shares
    )
    return f"In short: {told}.", lines


def parts(rounds: int) -> list[str]:
    """Where a step of 64-64-64-10 goes."""
    columns = []
    for rows in (64, 16):
        widths, batch_size = (64, 64, 64, 10), 128
        case = mlp(widths, batch_size, rows)
        program = Program(classification(case.model), Training(), CPU, compiled=True)
        session = Session.start(Fused, program, members(case), data_of(case), rows)
        strategy, own = session.strategy, members(case)
        seeds = [run.seed for run in own]
        (batch,) = session.feed.take(seeds, range(1, 2))
        inputs, targets = batch.stacked()
        grads, _ = program.gradients(strategy.params, strategy.buffers, inputs, targets)
        (numbers,) = numbers_of(own, range(1, 2), CPU)
        update = (
            strategy.direction,
            list(strategy.params.values()),
            list(grads.values()),
            strategy.moments,
            strategy.decays,
            numbers,
            None,
        )
        products = []
        for layer, (n_in, n_out) in enumerate(pairwise(widths)):
            x, w, g = (
                torch.randn(rows, batch_size, n_in),
                torch.randn(rows, n_in, n_out),
                torch.randn(rows, batch_size, n_out),
            )
            products += [(x, w), (x.transpose(1, 2), g), *([(g, w.transpose(1, 2))] if layer else [])]
        works = {
            "matrix products": lambda products=products: [a @ b for a, b in products],
            "gradients": lambda p=program, s=strategy, x=inputs, y=targets: p.gradients(s.params, s.buffers, x, y),
            "update": lambda p=program, update=update: p.update(*update),
            "gathering batches": batch.stacked,
        }
        repeated: dict[str, Callable[[], object]] = {
            name: lambda work=work: [work() for _ in range(STEPS)] for name, work in works.items()
        }
        repeated["whole"] = lambda session=session: session.advance(range(1, 1 + STEPS)).sum().item()
        found = {name: micro(seconds, rows) for name, seconds in interleaved(repeated, rounds).items()}
        rest = found["whole"] - found["gradients"] - found["update"] - found["gathering batches"]
        found["gradients, the rest of them"] = found.pop("gradients") - found["matrix products"]
        found["Python between, and reading the loss"] = rest
        columns.append(found)
    lines = [
        "| 64-64-64-10, batch 128, AdamW: where a step goes, µs a run-step | 64 runs | | 16 runs | |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(columns[0], key=lambda name: (name == "whole", -columns[0][name])):
        cells = (f"{found[name]:.1f} | {found[name] / found['whole']:.0%}" for found in columns)
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def costs(rounds: int) -> list[str]:
    """What one thing more costs on 64-64-64-10, fused and compiled, K = 16."""
    plain = mlp((64, 64, 64, 10), 128, 16)
    norm = mlp((64, 64, 64, 10), 128, 16, norm=True)
    sgd = mlp((64, 64, 64, 10), 128, 16, variant="sgd")
    one_seed = mlp((64, 64, 64, 10), 128, 16, seeds=1)
    task, norm_task = classification(plain.model), classification(norm.model)
    program = Program(task, Training(), CPU, compiled=True)
    judged = Session.start(Fused, program, members(plain), data_of(plain), 16)
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.normal(size=(1000, 64)).astype(np.float32))
    targets = torch.from_numpy(rng.integers(0, 10, 1000))
    works = {
        "AdamW": packed(plain, task, Fused, compiled=True),
        "SGD, without bias correction and second moment": packed(sgd, task, Fused, compiled=True),
        "one seed: the same batch for every run": packed(one_seed, task, Fused, compiled=True),
        "BatchNorm after every layer": packed(norm, norm_task, Fused, compiled=True),
        "gradient clipping": packed(plain, task, Fused, compiled=True, clip_norm=1.0),
        "EMA of the weights": packed(plain, task, Fused, compiled=True, ema=0.99),
        "accumulation over 2 parts": packed(plain, task, Fused, compiled=True, accumulate=2),
        "bf16 autocast": packed(plain, task, Fused, compiled=True, precision="bf16"),
        "uncompiled": packed(plain, task, Fused, compiled=False),
        "an evaluation on 1,000 examples, a run": lambda: judged.judge(inputs, targets),
    }
    seconds = interleaved(works, rounds)
    base = micro(seconds["AdamW"], 16)
    lines = ["| 64-64-64-10, batch 128, 16 runs | µs a run-step | against the first |", "|---|---|---|"]
    for name, measured in seconds.items():
        value = statistics.median(measured) / 16 * 1e6 if "evaluation" in name else micro(measured, 16)
        lines.append(f"| {name} | {value:.1f} | {value / base:.2f} |")
        print(lines[-1], flush=True)
    return lines


def worker(barrier: Barrier, counts: SimpleQueue[float], seconds: float) -> None:
    """Run-steps a second of one process, from the moment all are ready."""
    prepare_worker()
    case = mlp((64, 64, 64, 10), 128, 32)
    work = packed(case, classification(case.model), Fused, compiled=True)
    work()
    work()
    for _ in range(3):
        barrier.wait()
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            work()
            steps += STEPS * case.rows
        counts.put(steps / (time.perf_counter() - start))


def scaling(seconds: float = 3.0) -> list[str]:
    """Two workers against one, on 64-64-64-10 with 32 runs each; three turns of each."""
    context = get_context("spawn")
    total = {}
    for workers in (1, 2):
        barrier, counts = context.Barrier(workers), context.SimpleQueue()
        processes = [context.Process(target=worker, args=(barrier, counts, seconds)) for _ in range(workers)]
        for process in processes:
            process.start()
        rates = [counts.get() for _ in range(3 * workers)]
        for process in processes:
            process.join()
        total[workers] = statistics.median(rates) * workers
    return [
        f"One worker: {total[1]:,.0f} run-steps a second of 64-64-64-10; two: {total[2]:,.0f}, {total[2] / total[1]:.2f} × as many."
    ]


def compile_seconds() -> list[str]:
    """What compiling costs in a process that has compiled nothing else of the kind."""
    case = mlp((64, 48, 48, 10), 96, 16)
    start = time.perf_counter()
    packed(case, classification(case.model), Fused, compiled=True)()
    return [f"First step of 64-48-48-10 compiled, cache as found: {time.perf_counter() - start:.1f} s."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    hardware = prepare_worker()
    short, lines = table(options.rounds, hardware.matmul_mode)
    about = (
        f"One thread, matmul mode {hardware.matmul_mode}; medians of {options.rounds} interleaved rounds; CPU-µs a run-step, which other work on the machine hardly moves. Ratios and GFLOP/s are of "
        "the better strategy; the peak is the better of torch.mm in both matmul modes at 2048³, the limit the products at that peak and, after "
        "them, the bytes that the update has to move at the speed of adding arrays in the last cache, both measured in the same rounds."
    )
    sections = [[header("python -m benchmarks.engine")], [short], [about], lines, parts(options.rounds), costs(options.rounds),
                compile_seconds(), scaling()]  # fmt: skip
    text = (
        "# The packed engine against plain loops and the machine's limit\n\n"
        + "\n\n".join(map("\n".join, sections))
        + "\n"
    )
    if options.write:
        options.write.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
