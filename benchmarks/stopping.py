"""What stopping early costs a landscape: rules replayed on the curves of a sweep that was trained to its end.

    python -m benchmarks.stopping --store results [--sweep quickstart] [--write benchmarks/stopping.md]

Run-steps are those of a sweep in which nothing diverges. A variant's loss lost is that of the whole sweep in the cell that
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
from hpscan.grid import panels
from hpscan.landscape import Landscape, landscapes
from hpscan.rungs import survivors
from hpscan.separability import separability
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


def stopped_by(
    rule: Diverged | Halving, spec: Spec, shape: Landscape, steps: int, curves: pd.DataFrame
) -> tuple[Landscape, float]:
    """The landscape that a rule would have left, and the share of the run-steps that it would have taken."""
    alive, taken, before = np.ones(shape.z.shape[1:], dtype=bool), 0.0, 0
    for rung in rule.steps(steps, spec.evaluations):
        taken += alive.mean() * (rung - before) / steps
        found = curves[curves["step"] == rung].set_index("run_id")[spec.metric].reindex(shape.run_ids.ravel())
        there = found.to_numpy(dtype=float).reshape(shape.z.shape)
        there = np.where(np.isnan(there) & (shape.states == "diverged"), np.inf, there)
        alive, before = survivors(there, alive, rule.kept(int(alive.sum()))), rung
    taken += alive.mean() * (steps - before) / steps
    cut = ~alive & (shape.states == "completed")
    values = {metric: np.where(cut, np.inf, each) for metric, each in shape.values.items()}  # noqa: PD011  (ours)
    return replace(shape, states=np.where(cut, "stopped", shape.states), values=values), taken


def rows_of(store: Store, sweep: str) -> list[str]:
    spec, runs, curves = store.spec(sweep), store.runs(sweep), store.curves(sweep)
    shapes, steps = landscapes(spec, runs), [panel.recipe.steps for panel in panels(spec)]
    names = ", ".join(f"`{shape.name}`" for shape in shapes)
    lines = [
        f"| rule | run-steps | variants with the same best cell | loss lost at the best cell, worst variant | slope of {names} |",
        "|---|---|---|---|---|",
    ]
    for name, rule in RULES.items():
        left, taken = zip(
            *(stopped_by(rule, spec, shape, end, curves) for shape, end in zip(shapes, steps, strict=True)), strict=True
        )
        best, found = ([shape.ranked(1)[0] for shape in of] for of in (shapes, left))
        lost = max(shape.mean()[own] - shape.mean()[most] for shape, own, most in zip(shapes, found, best, strict=True))
        sizes = [shape.z[0].size for shape in shapes]
        same = sum(own == most for own, most in zip(found, best, strict=True))
        slopes = ", ".join(numerals.interval(separability(shape).contour_slope, sign=True) for shape in left)
        told = ("", "") if rule.name == "diverged" else (f"{same} of {len(shapes)}", f"{lost:.3f}")
        lines.append(f"| {name} | {np.average(taken, weights=sizes):.0%} | {told[0]} | {told[1]} | {slopes} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("results"))
    parser.add_argument("--sweep", default="quickstart")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = rows_of(Store(options.store), options.sweep)
    print("\n".join(lines))
    if options.write:
        about = (__doc__ or "").split("\n\n")[2].strip()
        title = f"# What stopping early costs the landscapes of `{options.sweep}`"
        default = [cell.strip() for cell in next(line for line in lines if "(default)" in line).split("|")]
        short = f"In short: the default rule takes {default[2]} of the run-steps, finds the same best cell for {default[3]} variants and loses at most {default[4]}."
        page = [title, "", header("python -m benchmarks.stopping"), "", short, "", about, "", *lines]
        options.write.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
