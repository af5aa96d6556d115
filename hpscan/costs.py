"""What a sweep has cost, and what its grid or its rungs saved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from hpscan.analysis import Analysis
from hpscan.numerals import duration, operations

__all__ = ["cost", "union_s"]


def cost(analysis: Analysis) -> list[tuple[str, str]]:
    """Facts: runs and run-steps, operations, wall and device hours, and what was saved; what is not known is left out."""
    rows, spec = analysis.frame, analysis.spec
    states = analysis.states
    told = ", ".join(f"{count:,} {state}" for state, count in states.items() if count)
    facts = [("Runs", f"{sum(states.values()):,}: {told}")]
    steps = float(rows["steps_done"].sum())
    if steps:
        facts.append(("Run-steps", f"{steps:,.0f}"))
    flop = float((rows["steps_done"] * rows["flop_per_step"]).sum(skipna=False)) if len(rows) else np.nan
    if flop > 0:
        facts.append(("Operations", f"{operations(flop)}, forward and backward passes"))
    seconds = float(rows["device_s"].sum())
    if seconds:
        device = "GPU" if (rows["device"].dropna() != "cpu").any() else "core"
        facts += [("Training", f"{duration(seconds)} of {device} time"), ("Wall time", _wall(rows))]
    if spec.adaptive or spec.stop.name != "diverged":
        whole = sum(shape.run_ids.size * spec.at(dict(shape.at)).steps for shape in analysis.planned)
        facts.append(("Saved", f"{1 - steps / whole:.0%} of the {whole:,} run-steps of the full grid to the end"))
    return facts


def _wall(rows: pd.DataFrame) -> str:
    """The hours in which anything was trained: launches may lie days apart."""
    ends = rows["finished_at"].astype("int64").to_numpy() / 1e3  # ms
    return duration(union_s(ends - rows["wall_s"].fillna(0.0).to_numpy(), ends))


def union_s(starts: Sequence[float] | np.ndarray, ends: Sequence[float] | np.ndarray) -> float:
    """The length of the union of intervals."""
    order = np.argsort(starts, kind="stable")
    begin, end = np.asarray(starts, dtype=float)[order], np.asarray(ends, dtype=float)[order]
    until = np.maximum.accumulate(end)
    before = np.concatenate([[-np.inf], until[:-1]])
    return float(np.maximum(until - np.maximum(begin, before), 0.0).sum())
