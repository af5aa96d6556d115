"""What stopping early costs a landscape: rules replayed on the curves of a sweep that was trained to its end.

    python -m benchmarks.stopping --store results [--sweep quickstart] [--write benchmarks/stopping.md]

Run-steps are those of a sweep of one budget in which nothing diverges. A variant's loss lost is that of the whole sweep in the cell that
the rule finds, less that in the best one.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.meter import header
from hpscan import numerals
from hpscan.landscape import Landscape, landscapes
from hpscan.rungs import stage
from hpscan.separation import separability
from hpscan.spec import Spec
from hpscan.stopping import Diverged, Halving
from hpscan.store import Store

RULES = {
    "whole sweep": Diverged(),
    "rung 3/4 by 2": Halving(rungs=(0.75,)),
    "rung 1/2 by 2 (default)": Halving(),
    "rungs 1/2, 3/4 by 2": Halving(rungs=(0.5, 0.75)),
    "rung 1/2 by 3": Halving(reduction=3),
    "rungs 1/4, 1/2 by 3": Halving(rungs=(0.25, 0.5), reduction=3),
}


def stopped_by(rule: Diverged | Halving, spec: Spec, shape: Landscape, at: pd.DataFrame) -> tuple[Landscape, float]:
    """The landscape that a rule would have left, and the share of the run-steps that it would have taken.

    ``at`` is the metric of a run (row) after a step (column); the last step is the budget.
    """
    rungs = rule.steps(at.columns[-1], spec.evaluations)
    z = at[list(rungs)].reindex(shape.run_ids.ravel()).to_numpy(dtype=float).T.reshape(-1, *shape.z.shape)
    z = np.where(np.isnan(z) & (shape.states == "diverged"), np.inf, z)
    ruled, known = spec.model_copy(update={"stop": rule}), np.ones(z.shape, dtype=bool)
    alive = [stage(ruled, z[:k], known[:k])[1] for k in range(len(rungs) + 1)]
    legs = np.diff([0, *rungs, at.columns[-1]]) / at.columns[-1]
    cut = ~alive[-1] & (shape.states == "completed")
    values = {metric: np.where(cut, np.inf, each) for metric, each in shape.values.items()}  # noqa: PD011  (ours)
    left = replace(shape, states=np.where(cut, "stopped", shape.states), values=values)
    return left, float(np.dot(legs, [each.mean() for each in alive]))


def replayed(store: Store, sweep: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """The names of a sweep's landscapes; of each rule the cells of its row."""
    spec = store.spec(sweep)
    at = store.curves(sweep).pivot_table(index="run_id", columns="step", values=spec.metric)
    shapes = landscapes(spec, store.runs(sweep))
    rows = []
    for name, rule in RULES.items():
        left, taken = zip(*(stopped_by(rule, spec, shape, at) for shape in shapes), strict=True)
        best, found = ([shape.ranked(1)[0] for shape in of] for of in (shapes, left))
        lost = max(shape.mean()[own] - shape.mean()[most] for shape, own, most in zip(shapes, found, best, strict=True))
        share = np.average(taken, weights=[shape.z[0].size for shape in shapes])
        same = sum(own == most for own, most in zip(found, best, strict=True))
        slopes = ", ".join(numerals.interval(separability(shape).contour_slope, sign=True) for shape in left)
        told = ("", "") if rule.name == "diverged" else (f"{same} of {len(shapes)}", f"{lost:.3f}")
        rows.append((name, f"{share:.0%}", *told, slopes))
    return [shape.name for shape in shapes], rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("results"))
    parser.add_argument("--sweep", default="quickstart")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    names, rows = replayed(Store(options.store), options.sweep)
    titles = ("rule", "run-steps", "variants with the same best cell", "loss lost at the best cell, worst variant",
              f"slope of {', '.join(f'`{name}`' for name in names)}")  # fmt: skip
    lines = [f"| {' | '.join(cells)} |" for cells in (titles, *rows)]
    lines.insert(1, "|---" * len(titles) + "|")
    print("\n".join(lines))
    if options.write:
        about = (__doc__ or "").split("\n\n")[2].strip()
        title = f"# What stopping early costs the landscapes of `{options.sweep}`"
        _, share, same, lost, _ = next(cells for cells in rows if "default" in cells[0])
        short = (
            f"In short: the default rule takes {share} of the run-steps, finds the same best cell for {same} variants "
            f"and loses at most {lost}."
        )
        page = [title, "", header("python -m benchmarks.stopping"), "", short, "", about, "", *lines]
        options.write.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
