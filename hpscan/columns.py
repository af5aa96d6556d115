"""Columns of a source: which of ours each is, and what numbers are meant by the ways they are written."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpscan.axes import FURTHER_AXES
from hpscan.spec import SpecError, is_validation

__all__ = ["METRIC", "PLAIN", "RECIPE", "TOLD", "TOLERANCE", "Column", "canonical", "columns_of"]

TOLERANCE = 0.01
"""Relative difference up to which two values of lr or wd are one: 0.00049 and 0.00048828125, but no steps of a grid."""
SPELLINGS = 1e-7
"""Up to here values differ by what arithmetic or float32 added, and the shorter is meant."""

RECIPE = ("steps", "batch_size", "width")
TOLD = ("best_val_loss", "best_val_error", "steps_done", "wall_s", "device_s", "compile_s")
"""Further numbers of a store's rows that a source may say."""
PLAIN = ("lr", "wd", "seed", "variant", "state", "error", *FURTHER_AXES, *RECIPE, *TOLD)
METRIC = re.compile(r"(ensemble_)?(train|val|test)_\w+")
COMBINED = re.compile(r"(?:(?P<start>\d+(?:\.\d+)?)-)?(?:(?P<factor>\d+(?:\.\d+)?(?:e-?\d+)?)\*)?(?P<column>.+)")
"""``1-accuracy``, ``0.01*error``, ``1-0.01*accuracy``."""


@dataclass(frozen=True)
class Column:
    """Where one of our columns comes from: ``start + factor × column``."""

    name: str
    start: float = 0.0
    factor: float = 1.0

    @property
    def as_it_is(self) -> bool:
        """Whether nothing is computed."""
        return (self.start, self.factor) == (0.0, 1.0)

    def number(self, values: Mapping[str, Any]) -> float | None:
        """The number, nan and infinity among them; None if there is none."""
        value: Any = values.get(self.name)
        try:
            value = float({"true": 1, "false": 0}.get(str(value).strip().lower(), value))
        except (TypeError, ValueError):
            return None
        return value if self.as_it_is else self.start + self.factor * value


def columns_of(source: str, names: Sequence[str], given: Mapping[str, str]) -> dict[str, Column]:
    """Our columns that the source has: those mapped, and those of the same name but for capitals."""
    lower = {name.lower(): name for name in reversed(names)}
    where = {name: Column(lower[name]) for name in PLAIN if name in lower}
    where |= {name: Column(name) for name in names if METRIC.fullmatch(name)}
    shown = ", ".join(repr(name) for name in names[:40]) + (" …" if len(names) > 40 else "")
    for ours, theirs in given.items():
        if ours not in PLAIN and not METRIC.fullmatch(ours):
            raise SpecError(
                f"--columns {ours}=…: must be one of {', '.join(PLAIN)} or a metric, train_…, val_… or test_…"
            )
        column = Column(theirs)
        if theirs not in names:
            parts = COMBINED.fullmatch(theirs)
            if parts is None or parts["column"] not in names:
                raise SpecError(f"--columns {ours}={theirs}: {source} has no such column; it has {shown}")
            factor = float(parts["factor"] or 1.0)
            column = Column(parts["column"], float(parts["start"] or 0.0), -factor if parts["start"] else factor)
        where[ours] = column
    absent = [name for name in ("lr", "wd") if name not in where]
    if absent or not any(is_validation(name) for name in where):
        lacking = [*absent, *([] if any(map(is_validation, where)) else ["val_loss (or val_error)"])]
        raise SpecError(
            f"{source}: no column for {' and '.join(lacking)}; map with --columns {lacking[0].split()[0]}=NAME; it has {shown}"
        )
    return where


def canonical(values: Iterable[float], tolerance: float = TOLERANCE) -> dict[float, float]:
    """Every value as the one of its neighbours within ``tolerance`` (relative, from the least up) that is meant.

    Of those that differ by float noise, the shortest: 0.3, not 0.30000000000000004. Of those left, the longest, which
    rounding has spared: 0.00048828125, not 0.000488.
    """
    meant: dict[float, float] = {}
    group: list[float] = []
    for value in [*sorted(set(values)), math.inf]:
        if group and value > group[0] * (1 + tolerance):
            meant |= dict.fromkeys(group, _meant(group))
            group = []
        group.append(value)
    return meant


def _meant(group: Sequence[float]) -> float:
    def digits(value: float) -> int:
        return len(repr(value).partition("e")[0].replace(".", "").strip("0"))

    spelt = [
        value
        for value in group
        if not any(abs(value - other) <= SPELLINGS * abs(value) and digits(other) < digits(value) for other in group)
    ]
    return max(spelt, key=digits)
