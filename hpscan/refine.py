"""The next grid of a sweep: finer about the basin, wider where the best cell lies on an edge."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool

from hpscan.landscape import Landscape
from hpscan.rounds import belief_of
from hpscan.sampling import Adaptive
from hpscan.spec import Spec, SpecError

__all__ = ["Refinement", "refined", "refined_within"]

WIDER_BY = 2
"""Points that an axis gains on the side of a best cell on its edge."""
SHARE = 0.5
"""Of the new cells about the basin, those that are trained at most."""


@dataclass(frozen=True)
class Refinement:
    """A revised spec, and what is new in it, in words."""

    spec: Spec
    changes: list[str]


def refined(spec: Spec, shapes: list[Landscape], *, finer: bool = True, wider: bool = True) -> Refinement:
    """The spec with more ticks for each variant whose landscape calls for them.

    Wider goes before finer: the basin of a landscape whose best cell is on an edge is not all in view. The new grid is
    adaptive: the cells that are stored are known, and of the others the promising ones are trained, the rest predicted.
    What a rung has stopped stays so, and is known to be worse; of the new cells none is stopped.

    Raises
    ------
    SpecError
        If nothing is trained yet, or there is nothing to refine.
    """
    tolerance = (spec.adaptive or Adaptive()).tolerance
    ticks: dict[str, dict[str, set[float]]] = {name: {"lr": set(), "wd": set()} for name in spec.variants}
    changes: list[str] = []
    for shape in shapes:
        best, belief = shape.best(), belief_of(shape, tolerance)
        if best is None or belief is None:
            continue
        outside = _outside(shape, best.index) if wider else {}
        inside = _between(shape, belief.basin) if finer and not outside else {}
        for axis, values in {**outside, **inside}.items():
            ticks[shape.variant][axis] |= values
        for word, found in (("wider", outside), ("finer", inside)):
            changes += [_change(shape, axis, word, values) for axis, values in found.items()]
    if not changes:
        raise SpecError(f"{spec.name}: nothing to refine: no best cell on an edge, and no basin of whole cells")
    if spec.stop.name != "diverged":
        changes.append("stop: diverged; an adaptive grid chooses among cells that are trained to the end")
    return Refinement(_revised(spec, shapes, ticks), changes)


def refined_within(
    spec: Spec, shapes: list[Landscape], shape: Landscape, cells: Collection[tuple[int, int]]
) -> Refinement:
    """The spec with ticks between and beside those of some cells, (lr, wd) indices, of one of its landscapes.

    Raises
    ------
    SpecError
        If there is nothing between these ticks.
    """
    inside = np.zeros(shape.z.shape[1:], dtype=bool)
    inside[tuple(np.array(list(cells), dtype=int).reshape(-1, 2).T)] = True
    ticks = {name: dict[str, set[float]](lr=set(), wd=set()) for name in spec.variants}
    ticks[shape.variant] |= _between(shape, inside)
    changes = [_change(shape, axis, "finer", values) for axis, values in ticks[shape.variant].items() if values]
    if not changes:
        raise SpecError(f"{spec.name}: nothing to refine: no ticks beside these cells")
    return Refinement(_revised(spec, shapes, ticks), changes)


def _change(shape: Landscape, axis: str, word: str, values: Collection[float]) -> str:
    return f"{shape.name}: {axis} {word} by {' '.join(f'{value:.4g}' for value in sorted(values))}"


def _revised(spec: Spec, shapes: list[Landscape], ticks: dict[str, dict[str, set[float]]]) -> Spec:
    raw = _with_ticks(spec, ticks)
    tolerance = (spec.adaptive or Adaptive()).tolerance
    raw["adaptive"], raw["stop"] = {"tolerance": tolerance, "most_cells": 1.0}, "diverged"
    widest = Spec.validated(raw)
    raw["adaptive"]["most_cells"] = _share(widest, shapes)
    return Spec.validated(raw)


def _with_ticks(spec: Spec, ticks: dict[str, dict[str, set[float]]]) -> dict[str, Any]:
    """The spec's fields, each variant's new ticks in a range of its own."""
    raw = spec.model_dump(mode="json")
    for variant, added in ticks.items():
        for axis, old in zip(("lr", "wd"), spec.grid.axes(variant), strict=True):
            if added[axis]:
                own = raw["grid"]["variants"].setdefault(variant, {})
                own[axis] = sorted({*old, *added[axis]})
    for axis in ("lr", "wd"):  # an axis given for all must concern some variant
        if all((raw["grid"]["variants"].get(name) or {}).get(axis) is not None for name in spec.variants):
            raw["grid"][axis] = None
    return raw


def _outside(shape: Landscape, best: tuple[int, int]) -> dict[str, set[float]]:
    """Points beyond the ends that the best cell lies on, spaced as the axis is there."""
    found = {}
    for axis, values, at in (("lr", shape.lr, best[0]), ("wd", shape.wd, best[1])):
        positive = values[values > 0]
        if len(positive) < 2 or values[at] == 0.0:
            continue
        if values[at] == positive[-1]:
            ratio, end = positive[-1] / positive[-2], positive[-1]
        elif values[at] == positive[0] and at == 0:
            ratio, end = positive[0] / positive[1], positive[0]
        else:
            continue
        found[axis] = {_tidy(end * ratio**step) for step in range(1, WIDER_BY + 1)}
    return found


def _between(shape: Landscape, chosen: Bool[np.ndarray, "lrs wds"]) -> dict[str, set[float]]:
    """Midpoints, in the logarithm, of neighbouring values of which one has a chosen cell."""
    found = {}
    rows, columns = (set(np.nonzero(chosen)[axis].tolist()) for axis in (0, 1))
    for axis, values, inside in (("lr", shape.lr, rows), ("wd", shape.wd, columns)):
        middles = {
            _tidy(math.sqrt(low * high))
            for at, (low, high) in enumerate(pairwise(values.tolist()))
            if low > 0 and {at, at + 1} & inside
        }
        if middles:
            found[axis] = middles
    return found


def _share(new: Spec, shapes: list[Landscape]) -> float:
    """The most cells of the new grid: what is trained, and :data:`SHARE` of the cells on new ticks near the basin."""
    shares = []
    for shape in shapes:
        trained = int((shape.states != "missing").any(axis=0).sum())
        lr, wd = (np.array(axis) for axis in new.grid.axes(shape.variant))
        rows, columns = int((~np.isin(lr, shape.lr)).sum()), int((~np.isin(wd, shape.wd)).sum())
        # as many old ticks lie between the new ones as there are new ones
        fresh = (2 * rows + 1) * (2 * columns + 1) if rows and columns else rows * len(wd) + columns * len(lr)
        shares.append((trained + SHARE * min(fresh, lr.size * wd.size - trained)) / (lr.size * wd.size))
    return min(1.0, math.ceil(1000 * max(shares)) / 1000)


def _tidy(value: float) -> float:
    """Twelve digits, as a ladder's fractional powers have: the same tick is the same number, however it came about."""
    exponent = round(math.log2(value), 9)
    return 2.0 ** int(exponent) if exponent.is_integer() else float(f"{value:.12g}")
