"""How often the 95 % intervals hold the truth, on surfaces whose truth is known.

    python -m benchmarks.calibration                      # docs/calibration.md and docs/calibration.png, half an hour
    python -m benchmarks.calibration --repeats 20 --write /tmp/calibration

Each sweep is a furrow of known slope on a 9 × 9 grid with its noise: larger the worse a cell is, alike in neighbouring
cells of a seed, as in real sweeps. The truth of a number is what infinitely many seeds would give.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import textwrap
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
import numpy as np

from hpscan import basin
from hpscan.intervals import Interval
from hpscan.landscape import Landscape
from hpscan.separation import Separability, held_out_regrets, separability, settled, worst_finite_cell
from hpscan.surfaces import capped, contour_slope, cut, interaction_share
from hpscan.verdicts import verdict

SLOPES = (0.0, -0.5, -1.0, -2.0)
NOISES = {"low": 0.02, "medium": 0.1, "high": 0.4}
"""The standard deviation in the basin, as a share of the way from the best cell to the cut."""
SEEDS = (1, 2, 3, 5)
NUMBERS = (
    "contour_slope", "interaction_share", "independent_tuning_regret", "one_pass_regret", "tilt", "best_wd_trend",
    "rank_agreement", "extent_lr", "extent_wd",
)  # fmt: skip
X, Y = np.arange(-8.0, 1.0), np.arange(-9.0, 0.0)


@dataclass(frozen=True)
class Case:
    """What a sweep is drawn from."""

    slope: float = 0.0
    noise: str = "medium"
    seeds: int = 3
    missing: float = 0.0
    """The share of runs that are not there."""
    corner: bool = False
    """Whether runs diverge where lr and wd are both high, a seed earlier than another."""
    reach: float = 2.0
    """How far a seed's noise reaches, in cells; 0: each cell its own."""
    flat: bool = False
    """Nothing but noise."""
    curved: bool = False
    """A furrow that bends, steeper on one side, on 7 × 12 cells."""

    @property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """x and y, in octaves."""
        return (np.arange(-6.0, 1.0), np.arange(-11.0, 1.0)) if self.curved else (X, Y)

    def surface(self) -> np.ndarray:
        """A quadratic furrow along the slope, closed at its ends by a shallower one."""
        x, y = (axis - axis.mean() for axis in self.axes)
        x, y = x[:, None] - 0.3, y[None, :] + 0.4
        across, along = ((a - self.slope * b) / np.hypot(1.0, self.slope) for a, b in ((y, x), (x, -y)))
        if self.curved:
            across = across + along**2 / 12
            across = np.where(across > 0, 1.4 * across, across)
        surface = 1.0 + across**2 / 16 + along**2 / 160
        return np.ones_like(surface) if self.flat else surface

    def draw(self, rng: np.random.Generator, n_seeds: int) -> np.ndarray:
        """The metric of ``n_seeds`` seeds."""
        surface = self.surface()
        depth = 1.0 if self.flat else cut(surface) - surface.min()
        size = NOISES[self.noise] * depth * (1.0 + (surface - surface.min()) / depth)
        noise = rng.standard_normal((n_seeds, *surface.shape))
        x, y = self.axes
        if self.reach:
            roots = [np.linalg.cholesky(np.exp(-np.abs(at[:, None] - at) / self.reach)) for at in (x, y)]
            noise = 0.8**0.5 * (roots[0] @ noise @ roots[1].T) + 0.2**0.5 * rng.standard_normal(noise.shape)
        z = surface + size * noise
        if self.corner:
            brink = x[:, None] - x.max() + y[None, :] - y.max() + 4.5 + 0.7 * rng.standard_normal((n_seeds, 1, 1))
            z = np.where(brink > 0, np.inf, z)
        return np.where(rng.random(z.shape) < self.missing, np.nan, z)


def landscape(z: np.ndarray, x: np.ndarray = X, y: np.ndarray = Y) -> Landscape:
    """Seeds as a landscape."""
    states = np.where(np.isnan(z), "missing", np.where(np.isinf(z), "diverged", "completed")).astype(object)
    return Landscape(
        name="synthetic", variant="sgdw", metric="val_loss", lr=2.0**x, wd=2.0**y, seeds=tuple(range(len(z))),
        run_ids=np.full(z.shape, "", dtype=object), states=states, values={"val_loss": z},
    )  # fmt: skip


def truth(case: Case) -> dict[str, float]:
    """What infinitely many seeds would give; of a regret, what choices made with one seed less cost on average."""
    rng = np.random.default_rng(12345)
    many = replace(case, missing=0.0).draw(rng, 4000)
    at, worst = cut(many), worst_finite_cell(many)
    surface, uncut = capped(many, at).mean(axis=0), settled(capped(many, worst), worst)
    rows = (surface < at).any(axis=1)
    x, y = case.axes
    widths = basin.extents(surface, x, y, at)
    few = max(case.seeds, 2)
    groups = capped(many, worst)[: 4000 // few * few].reshape(-1, few, *surface.shape)
    combined, one_pass = held_out_regrets(groups, worst)
    return {
        "contour_slope": contour_slope(surface, x, y),
        "interaction_share": interaction_share(surface, 2 * (many >= at).sum(axis=0) > len(many)),
        "independent_tuning_regret": float(combined.mean()),
        "one_pass_regret": float(one_pass.mean()),
        "tilt": float(basin.tilt(surface, x, y)),
        "best_wd_trend": float(basin.best_wd_trend(uncut, rows)),
        "rank_agreement": float(basin.rank_agreement(uncut, rows, worst)),
        "extent_lr": float(widths[0]),
        "extent_wd": float(widths[1]),
    }


def intervals(numbers: Separability) -> dict[str, Interval]:
    """Every interval of a landscape by name."""
    found = {name: getattr(numbers, name) for name in NUMBERS if hasattr(numbers, name)}
    return found | {"extent_lr": numbers.extents[0].width, "extent_wd": numbers.extents[1].width}


def covered(case: Case, repeats: int) -> tuple[dict[str, list[tuple[bool, float, float]]], list[str]]:
    """For every number and repeat: whether the interval holds the truth, its width, the error; and the verdicts."""
    rng = np.random.default_rng(hash_of(case))
    true = truth(case)
    found = defaultdict(list)
    words = []
    for _ in range(repeats):
        numbers = separability(landscape(case.draw(rng, case.seeds), *case.axes))
        words.append(verdict(numbers).word)
        for name, interval in intervals(numbers).items():
            if np.isnan(true[name]) or np.isnan(interval.low):
                continue
            slack = 1e-9
            holds = interval.low - slack <= true[name] <= interval.high + slack
            found[name].append((bool(holds), interval.high - interval.low, interval.value - true[name]))
    return found, words


def hash_of(case: Case) -> list[int]:
    """A seed that is the same whenever the case is."""
    return list(repr(case).encode())


CONDITIONS = {
    "complete": {},
    "a fifth of the runs missing": {"missing": 0.2},
    "a corner diverges": {"corner": True},
    "noise of each cell its own": {"reach": 0.0},
    "a bent furrow on 7 × 12 cells": {"curved": True},
}
TITLES = {
    "contour_slope": "contour slope", "interaction_share": "interaction share", "independent_tuning_regret": "regret",
    "one_pass_regret": "regret, one pass", "tilt": "tilt", "best_wd_trend": "trend of best wd",
    "rank_agreement": "rank agreement", "extent_lr": "extent, lr", "extent_wd": "extent, wd",
}  # fmt: skip

Table = dict[tuple[str, int, str], dict[str, float]]


def measure(repeats: int) -> Table:
    """Coverage by condition, seeds and noise, all slopes together."""
    table: Table = {}
    for (condition, changes), seeds, noise in itertools.product(CONDITIONS.items(), SEEDS, NOISES):
        held = defaultdict(list)
        for slope in SLOPES:
            found, _ = covered(Case(slope=slope, noise=noise, seeds=seeds, **changes), repeats)
            for name, results in found.items():
                held[name] += [holds for holds, _, _ in results]
        table[condition, seeds, noise] = {name: float(np.mean(results)) for name, results in held.items()}
        print(condition, seeds, noise, file=sys.stderr)
    return table


def slopes_at_low_noise() -> list[tuple[float, float]]:
    """(slope, the largest error of ten sweeps) of open furrows, whose slope is known by construction."""
    rng = np.random.default_rng(7)
    rows = []
    for slope in SLOPES:
        across = (Y[None, :] - Y.mean() - slope * (X[:, None] - X.mean())) / np.hypot(1.0, slope)
        surface = 1.0 + across**2 / 16
        size = 0.01 * (cut(surface) - 1.0)
        sweeps = (surface + size * rng.standard_normal((3, *surface.shape)) for _ in range(10))
        errors = [abs(separability(landscape(z)).contour_slope.value - slope) for z in sweeps]
        rows.append((slope, max(errors)))
    return rows


def pure_noise(repeats: int) -> list[tuple[int, str, dict[str, float]]]:
    """How often sweeps of nothing but noise are told to be just that, and how often each test rejects at 5 %."""
    rows = []
    for seeds, reach in itertools.product(SEEDS, (0.0, 2.0)):
        rng = np.random.default_rng([seeds, int(reach)])
        case = Case(seeds=seeds, reach=reach, flat=True)
        numbers = [separability(landscape(case.draw(rng, seeds))) for _ in range(repeats)]
        words = [verdict(one).word for one in numbers]
        shares = {"told": float(np.mean([word == "no evidence" for word in words]))} | {
            name: float(np.mean([getattr(one.evidence, name) < 0.05 for one in numbers]))
            for name in ("surface", "first", "second", "interaction")
        }
        rows.append((seeds, "its own" if reach == 0 else "shared by neighbours", shares))
    return rows


def chart(table: Table, path: Path) -> None:
    """Coverage of every number, a panel each: seeds along, a line for each noise, a row for each condition."""
    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 10), layout="constrained")
    grid = figure.subplots(len(CONDITIONS), len(NUMBERS), sharex=True, sharey=True)
    colours = dict(zip(NOISES, ("#0f766e", "#b45309", "#7c2d92"), strict=True))
    for row, condition in zip(grid, CONDITIONS, strict=True):
        for axes, name in zip(row, NUMBERS, strict=True):
            axes.axhspan(0.9, 0.98, color="#e5e7eb")
            axes.axhline(0.95, color="#9ca3af", linewidth=0.8)
            for noise, colour in colours.items():
                heights = [table[condition, seeds, noise].get(name, np.nan) for seeds in SEEDS]
                axes.plot(range(len(SEEDS)), heights, "o-", color=colour, markersize=4, linewidth=1.3, label=noise)
            axes.set_xticks(range(len(SEEDS)), [str(seeds) for seeds in SEEDS])
            axes.set_ylim(0.7, 1.02)
            axes.spines[["top", "right"]].set_visible(False)
    for axes, name in zip(grid[0], NUMBERS, strict=True):
        axes.set_title(TITLES[name], fontsize=10)
    for row, condition in zip(grid, CONDITIONS, strict=True):
        row[0].set_ylabel(textwrap.fill(condition, 16), fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("seeds")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, title="noise", loc="outside right center", frameon=False)
    figure.suptitle("Share of sweeps whose 95 % interval holds the truth (grey: 90 to 98 %)", fontsize=12)
    figure.savefig(path, dpi=110, metadata={"Software": "hpscan"})


def page(table: Table, repeats: int, seconds: float) -> str:
    """The tables as Markdown."""
    lines = [
        "# Calibration",
        "",
        f"`python -m benchmarks.calibration --repeats {repeats}`: {repeats} sweeps for each of the slopes "
        f"{', '.join(f'{slope:g}' for slope in SLOPES).replace('-', '−')}, all slopes together in one number; "
        f"{seconds / 60:.0f} minutes. What is simulated says `benchmarks/calibration.py`; what the numbers are, "
        "[statistics.md](statistics.md).",
        "",
        "![Coverage of the intervals](calibration.png)",
        "",
        "Percent of the sweeps whose 95 % interval holds the truth. With one seed the interval is the stated fallback.",
    ]
    for condition in CONDITIONS:
        lines += ["", f"## {condition[0].upper()}{condition[1:]}", ""]
        lines += ["| seeds | noise | " + " | ".join(TITLES[name] for name in NUMBERS) + " |"]
        lines += ["|---|---|" + "---|" * len(NUMBERS)]
        for seeds, noise in itertools.product(SEEDS, NOISES):
            found = table[condition, seeds, noise]
            lines += [f"| {seeds} | {noise} | " + " | ".join(_percent(found.get(name)) for name in NUMBERS) + " |"]
    lines += [
        "",
        "## Slopes at low noise",
        "",
        "Open furrows, noise 1 % of their depth, three seeds, ten sweeps each.",
        "",
    ]
    lines += ["| slope | largest error |", "|---|---|"]
    lines += [f"| {slope:g} | {error:.3f} |".replace("-", "−", 1) if slope < 0 else f"| {slope:g} | {error:.3f} |"
              for slope, error in slopes_at_low_noise()]  # fmt: skip
    lines += ["", "## Nothing but noise", "", "Percent of the sweeps that are told to show no evidence; and in which each "
              "permutation test finds something at 5 %.", ""]  # fmt: skip
    lines += [
        "| seeds | a cell's noise | no evidence | surface | lr | wd | interaction |",
        "|---|---|---|---|---|---|---|",
    ]
    for seeds, reach, shares in pure_noise(5 * repeats):
        lines += [f"| {seeds} | {reach} | " + " | ".join(f"{100 * share:.0f}" for share in shares.values()) + " |"]
    return "\n".join(lines) + "\n"


def _percent(share: float | None) -> str:
    """A dash where there is no interval."""
    return "—" if share is None else f"{100 * share:.0f}"


def main() -> None:
    """Measure, write the page and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--write", type=Path, default=Path("docs/calibration"))
    arguments = parser.parse_args()
    start = time.monotonic()
    table = measure(arguments.repeats)
    chart(table, arguments.write.with_suffix(".png"))
    text = page(table, arguments.repeats, time.monotonic() - start)
    arguments.write.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
