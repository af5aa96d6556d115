"""How few cells show the best one and the basin: landscapes whose every cell is known, replayed.

    python -m benchmarks.adaptive --write benchmarks/adaptive.md           # an hour on one core
    python -m benchmarks.adaptive --record STORE quickstart plain fashion_mnist   # the sweeps, into landscapes.parquet
    python -m benchmarks.adaptive --record STORE clean small_gpt small_cnn --kind held-out   # into held_out.parquet

Smooth landscapes are drawn: bowls and furrows of any direction, some bent, some with a cliff beyond which runs diverge,
as public grids of language models look. Rough ones are recorded: every cell of three sweeps in five variants, as the
mean over seeds and as the first seed alone. On these the sampler's settings were chosen; the held-out ones, of other
networks, data and variants, were recorded after that and nothing was changed for them. A sampler is told the value of a cell when it has chosen it, and nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
import pandas as pd

from benchmarks.meter import header
from hpscan.adaptive import TOLERANCE, believe, first_cells, next_cells
from hpscan.landscape import landscapes
from hpscan.store import Store

HERE = Path(__file__).parent
RECORDED = {"rough": HERE / "landscapes.parquet", "held-out": HERE / "held_out.parquet"}
BATCH = 6
"""Cells a round: with five seeds a pack of 30 runs."""
N_SMOOTH = 48
INDISTINCT = 2.0
"""Standard errors of a cell within which it is as good as the best."""

Index = tuple[int, int]


@dataclass(frozen=True)
class Known:
    """A landscape of which every cell is known."""

    name: str
    z: np.ndarray
    x: np.ndarray
    y: np.ndarray
    noise: float
    """Standard error of a cell's value near the basin."""

    tolerance: float
    """Of the basin, as a share of the best value."""

    @property
    def rim(self) -> float:
        return float(self.z.min()) * (1 + self.tolerance)

    @property
    def basin(self) -> np.ndarray:
        return self.z <= self.rim


def smooth(seed: int) -> Known:
    """A drawn landscape of 10 to 16 points an axis, noise a hundredth of its depth."""
    rng = np.random.default_rng(seed)
    n, m = rng.integers(10, 17, 2)
    x, y = np.arange(float(n)), np.arange(float(m))
    along, across = np.meshgrid(x - rng.uniform(0.2, 0.8) * n, y - rng.uniform(0.2, 0.8) * m, indexing="ij")
    angle = rng.choice([0.0, -np.pi / 4, rng.uniform(-np.pi / 2, np.pi / 2)])
    bend = rng.choice([0.0, rng.uniform(-0.05, 0.05)])
    a = along * np.cos(angle) + across * np.sin(angle)
    b = -along * np.sin(angle) + across * np.cos(angle) + bend * a**2
    q = (a / rng.uniform(2, 8)) ** 2 + (b / rng.uniform(1.5, 4)) ** 2
    q = q * np.where(along > 0, rng.uniform(1, 3), 1.0)  # too high a learning rate hurts more than too low a one
    z = rng.uniform(2, 3.2) + (0.05 * q, 0.15 * np.sqrt(1 + q), 0.4 * (1 - np.exp(-q / 4)))[rng.integers(3)]
    deep = float(np.quantile(z, 0.8) - z.min())
    noise = 0.01 * deep
    z = z + rng.normal(0, noise, z.shape)
    if rng.random() < 0.5:
        z[along > rng.uniform(0.3, 0.7) * (x[-1] + along.min()) + 2] = np.inf
    return Known(f"smooth {seed}", z, x, y, noise, 0.1 * deep / float(z.min()))


def recorded(kind: str) -> list[Known]:
    """The recorded landscapes: the mean over seeds of each, and its first seed."""
    found = []
    for (sweep, variant), rows in pd.read_parquet(RECORDED[kind]).groupby(["sweep", "variant"], sort=False):
        lr, wd, seeds = (np.unique(rows[axis]) for axis in ("lr", "wd", "seed"))
        order = rows.sort_values(["seed", "lr", "wd"])["value"].to_numpy()
        z = order.reshape(len(seeds), len(lr), len(wd))
        mean = z.mean(axis=0)
        near = mean <= 1.2 * mean.min()
        sd = float(np.sqrt(z[:, near].var(axis=0, ddof=1).mean()))
        for name, surface, noise in (
            (f"{sweep}, {variant}", mean, sd / np.sqrt(len(seeds))),
            (f"{sweep}, {variant}, one seed", z[0], sd),
        ):
            tolerance = max(TOLERANCE, INDISTINCT * noise / float(surface.min()))
            found.append(Known(name, surface, np.log2(lr), np.log2(wd), noise, tolerance))
    return found


def by_adaptive(known: Known, most: int) -> list[Index]:
    """As a launch does it: each round is chosen while the one before it trains."""
    order = first_cells(known.z.shape)
    trained, pending = order, []
    while len(order) < most:
        seen, n = _seen(known, trained), min(BATCH, most - len(order))
        chosen = next_cells(seen, known.x, known.y, n, tolerance=known.tolerance, pending=pending)
        if not chosen and not pending:
            break
        trained, pending = [*trained, *pending], chosen
        order = [*order, *chosen]
    return order[:most]


def by_random(known: Known, most: int, seed: int) -> list[Index]:
    rng = np.random.default_rng(seed)
    return [divmod(int(at), known.z.shape[1]) for at in rng.permutation(known.z.size)[:most]]


def by_optuna(known: Known, most: int, sampler: optuna.samplers.BaseSampler) -> list[Index]:
    """One cell at a time, which is the best that a sampler can have; a cell chosen again costs nothing."""
    study = optuna.create_study(sampler=sampler)
    axes = {
        name: optuna.distributions.IntDistribution(0, points - 1)
        for name, points in zip("ij", known.z.shape, strict=True)
    }
    worst = float(known.z[np.isfinite(known.z)].max())  # a sampler takes no infinite value
    rng = np.random.default_rng(0)
    order: list[Index] = []
    repeats = 0
    while len(order) < most:
        trial = study.ask(axes)
        cell = trial.params["i"], trial.params["j"]
        if cell in order and (repeats := repeats + 1) > 20:  # it would choose the same for ever
            free = [divmod(at, known.z.shape[1]) for at in range(known.z.size)]
            left = [each for each in free if each not in order]
            cell = left[rng.integers(len(left))]
            study.add_trial(optuna.create_trial(
                params=dict(zip("ij", cell, strict=True)), distributions=axes, value=min(float(known.z[cell]), worst)))  # fmt: skip
        study.tell(trial, min(float(known.z[trial.params["i"], trial.params["j"]]), worst))
        if cell not in order:
            order.append(cell)
            repeats = 0
    return order


Sampler = Callable[[Known, int], list[Index]]
SAMPLERS: dict[str, list[Sampler]] = {
    "hpscan": [by_adaptive],
    "random": [lambda known, most, seed=seed: by_random(known, most, seed) for seed in range(5)],
    "Optuna TPE": [
        lambda known, most, seed=seed: by_optuna(known, most, optuna.samplers.TPESampler(seed=seed))
        for seed in range(2)
    ],
    "Optuna GP": [lambda known, most: by_optuna(known, most, optuna.samplers.GPSampler(seed=0))],
}


@dataclass(frozen=True)
class Outcome:
    """What a sampler has found with a share of the cells."""

    cells: float
    """The share it used; an adaptive sweep may end before."""
    regret: float
    """How much worse its best cell is than the best, relative to that; 0 if it is that cell."""
    iou: float
    """Of the basin as believed and as recorded: cells in both over cells in either."""


def outcome(known: Known, cells: list[Index]) -> Outcome:
    """Judge the choice of cells; what is not known is filled by the same process, whoever chose."""
    seen = _seen(known, cells)
    belief = believe(seen, known.x, known.y, known.tolerance)
    basin = np.zeros(seen.shape, dtype=bool) if belief is None else belief.basin
    best, found = float(known.z.min()), float(np.nanmin(seen))
    both, either = (basin & known.basin).sum(), (basin | known.basin).sum()
    return Outcome(len(cells) / known.z.size, (found - best) / abs(best), float(both / either))


def _seen(known: Known, cells: Iterable[Index]) -> np.ndarray:
    seen = np.full(known.z.shape, np.nan)
    for cell in cells:
        seen[cell] = known.z[cell]
    return seen


def replay(every: list[Known], shares: tuple[float, ...], only: list[str]) -> dict[tuple[str, float], list[Outcome]]:
    """All outcomes by sampler and share."""
    found: dict[tuple[str, float], list[Outcome]] = defaultdict(list)
    for known in every:
        for name in only:
            for sampler in SAMPLERS[name]:
                order = sampler(known, round(max(shares) * known.z.size))
                for share in shares:
                    found[name, share].append(outcome(known, order[: round(share * known.z.size)]))
    return found


def table(found: dict[tuple[str, float], list[Outcome]]) -> str:
    lines = [
        "| cells allowed | sampler | cells used | exact best cell | best cell worse by, median | 90th percentile | IoU, mean | median | 10th percentile | replays |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, share in sorted(found, key=lambda key: (key[1], list(SAMPLERS).index(key[0]))):
        each = found[name, share]
        regret, iou = (np.array([getattr(one, field) for one in each]) for field in ("regret", "iou"))
        used = np.mean([one.cells for one in each])
        lines.append(
            f"| {share:.0%} | {name} | {used:.0%} | {(regret == 0).mean():.0%} | {100 * np.median(regret):.2g} % | "
            f"{100 * np.quantile(regret, 0.9):.2g} % | {iou.mean():.2f} | {np.median(iou):.2f} | {np.quantile(iou, 0.1):.2f} | {len(each)} |"
        )
    return "\n".join(lines)


def per_landscape(every: list[Known], found: dict[tuple[str, float], list[Outcome]], shares: tuple[float, ...]) -> str:
    low, high = shares
    lines = [
        f"| landscape | cells | basin | rim above the best | noise of a cell | best cell worse by, at {low:.0%} | IoU at {high:.0%} |",
        "|---|---|---|---|---|---|---|",
    ]
    for at, known in enumerate(every):
        best = float(known.z.min())
        regret, iou = found["hpscan", low][at].regret, found["hpscan", high][at].iou
        lines.append(
            f"| {known.name} | {known.z.shape[0]} × {known.z.shape[1]} | {int(known.basin.sum())} | "
            f"{(known.rim - best) / best:.1%} | {known.noise / best:.1%} | {100 * regret:.2g} % | {iou:.2f} |"
        )
    return "\n".join(lines)


def record(store: str, sweeps: list[str], kind: str) -> None:
    """Keep every cell of some sweeps in one small file."""
    opened, parts = Store(store), []
    for sweep in sweeps:
        spec = opened.spec(sweep)
        for shape in landscapes(spec, opened.runs(sweep)):
            if np.isnan(shape.z).any():
                sys.exit(f"{sweep}, {shape.name}: not every cell is there")
            seed, lr, wd = np.meshgrid(shape.seeds, shape.lr, shape.wd, indexing="ij")
            columns = {"lr": lr, "wd": wd, "seed": seed, "value": shape.z}
            frame = pd.DataFrame({name: values.ravel() for name, values in columns.items()})
            parts.append(frame.assign(sweep=sweep, variant=shape.variant, metric=spec.metric))
    pd.concat(parts).to_parquet(RECORDED[kind], index=False, compression="zstd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", type=Path)
    parser.add_argument("--record", nargs="+", metavar=("STORE", "SWEEP"))
    parser.add_argument("--only", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--kind", nargs="+", choices=("smooth", *RECORDED))
    arguments = parser.parse_args()
    if arguments.record:
        kind, *more = arguments.kind or ["rough"]
        if more or kind not in RECORDED:
            parser.error(f"--record writes one file: give --kind one of {', '.join(RECORDED)}")
        store, *sweeps = arguments.record
        record(store, sweeps, kind)
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    parts = []
    for kind in arguments.kind or ("smooth", *RECORDED):
        every = recorded(kind) if kind in RECORDED else [smooth(seed) for seed in range(N_SMOOTH)]
        shares = (0.35, 0.5) if kind in RECORDED else (0.2, 0.3)
        found = replay(every, shares, arguments.only)
        parts.append(f"## {kind.capitalize()} landscapes\n\n{table(found)}\n")
        if kind in RECORDED and "hpscan" in arguments.only:
            parts.append(f"{per_landscape(every, found, shares)}\n")
        print(parts[-1] if kind == "smooth" else "\n".join(parts[-2:]), flush=True)
    print(f"{time.perf_counter() - start:.0f} s")
    if arguments.write:
        measured = header("python -m benchmarks.adaptive", ("hpscan", "scikit-learn", "optuna", "numpy"))
        title = "# How few cells show the best one and the basin"
        arguments.write.write_text("\n".join([title, "", measured, "", *parts]), encoding="utf-8")


if __name__ == "__main__":
    main()
