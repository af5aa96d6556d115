"""Where cells lie on a map, how arrays are sent, and what all charts have: nothing is said of light or dark."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from hpscan import numerals
from hpscan.conventions import IN_TORCH
from hpscan.separation import coordinates
from hpscan.variants import VARIANTS, Decay

__all__ = [
    "MANY_CELLS",
    "MOST_CELLS",
    "axis_name",
    "axis_places",
    "cell_name",
    "edges",
    "gridded",
    "in_blocks",
    "in_sight",
    "metric_title",
    "octaves",
    "plain",
    "ticked",
    "typed",
    "zero_stands_alone",
]

MOST_CELLS = 300
"""Cells along an axis that are sent to a browser; more are drawn in blocks, until it zooms in."""

MANY_CELLS = 40
"""Along an axis: single ones are not told apart any more."""


def axis_places(axis: str, values: np.ndarray) -> np.ndarray:
    """Where an axis's values lie on a map: octaves; no decay stands apart, a step and a half below the least other."""
    places = coordinates(axis, values)
    if axis == "wd" and len(values) > 1 and values[0] == 0:
        places = places.copy()
        places[0] -= 0.5 * (places[1] - places[0])
    return places


def typed(values: np.ndarray, kind: str = "f4") -> dict[str, Any]:
    """An array as Plotly reads it without parsing numbers: little-endian, in base64."""
    packed = np.ascontiguousarray(values, dtype=f"<{kind}")
    spec: dict[str, Any] = {"dtype": kind, "bdata": base64.b64encode(packed.tobytes()).decode()}
    return spec | ({"shape": ", ".join(map(str, packed.shape))} if packed.ndim > 1 else {})


def edges(places: np.ndarray, wd: np.ndarray | None, blocks: list[tuple[int, int]]) -> np.ndarray:
    """Borders of the blocks; with a gap behind no decay."""
    if len(places) == 1:
        return np.array([places[0] - 0.5, places[0] + 0.5])
    middles = (places[1:] + places[:-1]) / 2
    borders = np.concatenate(
        [[places[0] - (middles[0] - places[0])], middles, [places[-1] + (places[-1] - middles[-1])]]
    )
    zero = zero_stands_alone(wd, blocks)
    if zero and len(places) > 2:
        half = (places[2] - places[1]) / 2
        own = [places[0] - half, places[0] + half, places[1] - half]
        return np.concatenate([own, borders[[end for _, end in blocks[1:]]]])
    return borders[[blocks[0][0], *(end for _, end in blocks)]]


def zero_stands_alone(wd: np.ndarray | None, blocks: list[tuple[int, int]]) -> bool:
    """Whether the first block is the column of no decay, apart from the others."""
    return wd is not None and len(wd) > 2 and float(wd[0]) == 0 and blocks[0] == (0, 1)


def ticked(axis: str, values: np.ndarray, window: tuple[float, float] | None = None) -> dict[str, Any]:
    """Ticks on the cells in sight, at most eight, or on whole octaves where cells are many and lie on none."""
    places = axis_places(axis, values)
    low, high = (min(window), max(window)) if window else (-math.inf, math.inf)
    zero = int(axis == "wd" and len(values) > 1 and values[0] == 0)
    seen = [k for k in range(zero, len(values)) if low <= places[k] <= high]
    step = math.ceil(len(seen) / 7) or 1
    at = [*range(zero), *seen[(len(seen) - 1) % step // 2 :: step]]
    ticks = {float(places[k]): float(values[k]) for k in at}
    if axis in {"lr", "wd"} and len(seen) > MANY_CELLS:
        first, last = math.ceil(places[seen[0]]), math.floor(places[seen[-1]])
        if last - first >= 2:
            octaves_apart = math.ceil((last - first + 1) / 7)
            whole = {float(octave): 2.0**octave for octave in range(first, last + 1, octaves_apart)}
            ticks = {float(places[k]): float(values[k]) for k in range(zero)} | whole
    return {
        "tickvals": list(ticks), "ticktext": [numerals.power(value) for value in ticks.values()],
        "zeroline": False, "ticks": "outside", "ticklen": 3, "automargin": True, **gridded(),
    }  # fmt: skip


def gridded() -> dict[str, Any]:
    """What every axis has."""
    return {"gridcolor": "rgba(128,128,128,0.18)", "zeroline": False}


def plain() -> dict[str, Any]:
    """What every layout has; the page sets the colour of text for light and dark."""
    return {
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "margin": {"l": 58, "r": 10, "t": 8, "b": 46},
        "font": {"family": "inherit", "size": 12, "color": "#6b7280"},
    }  # fmt: skip


def metric_title(metric: str) -> str:
    """A metric's name where there is little room."""
    name = numerals.metric_name(metric)
    return name if len(name) < 28 else metric.replace("_", " ")


def axis_name(axis: str, variants: Iterable[str], units: str) -> str:
    """An axis of some variants' landscapes in words, with the paper's letters; they are drawn in ``units`` where they have such."""
    if axis != "wd":
        return "learning rate α" if axis == "lr" else axis
    in_torch = {units == Decay.TORCH and VARIANTS[name].decay is Decay.TORCH for name in variants}
    if len(in_torch) > 1:
        return "in each map's units"
    return IN_TORCH if in_torch == {True} else "weight decay λ"


def cell_name(lr: float, wd: float) -> str:
    """A cell in words."""
    return f"lr {numerals.power(lr)}, wd {numerals.power(wd)}"


def octaves(values: np.ndarray) -> np.ndarray:
    """Logarithms to base two; zero lies far below."""
    return np.log2(np.where(values > 0, values, 1e-300))


def in_sight(places: np.ndarray, window: tuple[float, float] | None) -> list[tuple[int, int]]:
    """Blocks of neighbouring indices, first and one beyond the last: single cells where they are few enough."""
    first, last = 0, len(places)
    if window:
        inside = np.flatnonzero((places >= min(window)) & (places <= max(window)))
        if len(inside):
            first, last = max(int(inside[0]) - 1, 0), min(int(inside[-1]) + 2, len(places))
    size = math.ceil((last - first) / MOST_CELLS)
    return [(start, min(start + size, last)) for start in range(first, last, size)]


def in_blocks(z: np.ndarray, rows: list[tuple[int, int]], columns: list[tuple[int, int]]) -> np.ndarray:
    """The mean over the known cells of each block."""
    if len(rows) == z.shape[0] and len(columns) == z.shape[1]:
        return z
    known = np.isfinite(z)
    starts = [start for start, _ in rows], [start for start, _ in columns]
    within = np.s_[: rows[-1][1], : columns[-1][1]]

    def added(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(np.add.reduceat(values[within], starts[0], axis=0), starts[1], axis=1)

    count = added(known.astype(float))
    return np.where(count > 0, added(np.where(known, z, 0.0)) / np.maximum(count, 1.0), np.nan)
