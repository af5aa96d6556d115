"""Landscapes as Plotly has them: plain dictionaries, arrays as base64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpscan.landscape import FURTHER, Landscape

from .axes import axis_name, axis_places, edges, in_blocks, in_sight, plain, ticked, typed, zero_stands_alone
from .marks import N_CIRCLED, basin, blanks, iso_lines, marks, outline, stars, states_of
from .view import View

__all__ = ["Colours", "cells_of", "colours", "heatmap", "surface"]

COLORS = "Viridis"
MOST_MARKED = 3600
"""Cells up to which each has a mark of its state and can be selected by a box."""


@dataclass(frozen=True)
class Colours:
    """One scale for all maps of a page: cells are painted by a function of their value, from ``low`` to ``high``."""

    scale: str
    low: float
    high: float
    order: np.ndarray
    """All finite values in order; of a rank scale."""
    reverse: bool
    """Whether the least is brightest."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes."""
        return self.order.nbytes

    def __call__(self, z: np.ndarray) -> np.ndarray:
        """What of each value is painted."""
        if self.scale == "rank":
            return np.where(np.isfinite(z), np.searchsorted(self.order, z) / max(len(self.order) - 1, 1), np.nan)
        return _logarithm(z) if self.scale == "log" else np.where(np.isfinite(z), z, np.nan)

    @property
    def is_flat(self) -> bool:
        """Whether its values are all one, so that there is nothing to tell apart."""
        return bool(len(self.order)) and math.isclose(self.value_at(1.0), float(self.order[0]), rel_tol=2e-5)

    @property
    def is_cut(self) -> bool:
        """Whether there are values beyond its end, painted as those at it."""
        end = self.value_at(1.0)
        return bool(len(self.order)) and float(self.order[-1]) > end and not math.isclose(float(self.order[-1]), end)

    def value_at(self, share: float) -> float:
        """The metric at a share of the scale."""
        at = self.low + share * (self.high - self.low)
        if self.scale == "rank":
            return float(self.order[min(int(at * len(self.order)), len(self.order) - 1)]) if len(self.order) else 0.0
        return math.exp(at) if self.scale == "log" else at


def surface(shape: Landscape, view: View) -> np.ndarray:
    """What the cells of a landscape show, shape (lrs, wds)."""
    if view.seed is not None:
        if view.seed not in shape.seeds:
            return np.full(shape.z.shape[1:], np.nan)
        return shape.z[shape.seeds.index(view.seed)]
    if view.shows == "n":
        return shape.known.astype(float)
    if view.shows == "se":
        z = np.where(np.isfinite(shape.z), shape.z, np.nan)
        n = np.sum(~np.isnan(z), axis=0)
        centre = np.where(n > 0, np.nansum(z, axis=0) / np.maximum(n, 1), np.nan)
        spread = np.nansum((z - centre) ** 2, axis=0) / np.maximum(n - 1, 1)
        return np.where(n > 1, np.sqrt(spread / np.maximum(n, 1)), np.nan)
    return shape.mean()


def colours(shapes: Sequence[Landscape], view: View) -> Colours:
    """The scale that several landscapes share: from the best to the clipped quantile of their finite cells."""
    pooled = np.concatenate([surface(shape, view).ravel() for shape in shapes]) if shapes else np.zeros(0)
    order = np.sort(pooled[np.isfinite(pooled)])
    metric = shapes[0].metric if shapes else ""
    scale = view.scale
    if scale == "log" and len(order) and order[0] <= 0:
        scale = "linear"  # gaps and eigenvalues may be negative
    lower, upper = (0.0, view.clip / 100.0)
    if metric in FURTHER and view.shows == "mean":
        lower = min((100.0 - view.clip) / 1000.0, 0.02)
    empty = not len(order)
    if scale == "rank":
        return Colours(scale, 0.0, upper, order, view.shows != "n")
    low, high = (0.0, 1.0) if empty else (float(end) for end in np.quantile(order, (lower, upper)))
    if scale == "log" and not empty:
        low, high = math.log(low), math.log(high)
    return Colours(scale, low, high if high > low else low + 1e-9 + abs(low) * 1e-6, order, view.shows != "n")


def heatmap(
    shape: Landscape,
    view: View,
    scale: Colours,
    *,
    predicted: np.ndarray | None = None,
    window: tuple[tuple[float, float], tuple[float, float]] | None = None,
    uirevision: str = "",
) -> dict[str, Any]:
    """One landscape as a Plotly figure.

    Parameters
    ----------
    shape, view, scale
        What is drawn, how, and in which colours.
    predicted
        Cells that were not trained, shape (lrs, wds); they are marked.
    window
        What is in sight, ((wd from, to), (lr from, to)) in the figure's coordinates: of a grid too large to be drawn
        whole, that part is.
    uirevision
        While it stays, the browser keeps its zoom.
    """
    z = surface(shape, view)
    x, y = axis_places(shape.axes[1], shape.wd), axis_places(shape.axes[0], shape.lr)
    rows, columns = in_sight(y, window[1] if window else None), in_sight(x, window[0] if window else None)
    painted = in_blocks(scale(z), rows, columns)
    states = states_of(shape, z)
    data: list[dict[str, Any]] = [blanks(states, x, y, rows, columns)]
    data.append({
        "type": "heatmap", "z": typed(_with_gap(painted, shape.wd, columns)), "x": typed(edges(x, shape.wd, columns)),
        "y": typed(edges(y, None, rows)), "zmin": scale.low, "zmax": scale.high, "colorscale": COLORS,
        "reversescale": scale.reverse, "showscale": False, "hoverinfo": "none", "xgap": 0, "ygap": 0,
    })  # fmt: skip
    if z.size <= MOST_MARKED:
        data += marks(shape, states, x, y, predicted)
    ranked = shape.ranked(N_CIRCLED) if view.shows == "mean" else []
    if ranked and view.tolerance:
        data.append(outline(basin(shape, ranked[0], view.tolerance), x, y))
    if view.iso and shape.axes == ("lr", "wd") and shape.wd[-1] > 0:
        data.append(iso_lines(shape, x, y))
    if ranked:
        data += stars(ranked, x, y)
    if z.size <= MOST_MARKED:  # last, so that it is what the pointer meets
        i, j = (index.ravel() for index in np.indices(z.shape))
        data.append({
            "type": "scatter", "mode": "markers", "x": typed(x[j]), "y": typed(y[i]), "hoverinfo": "none",
            "marker": {"size": 13, "symbol": "square", "color": "rgba(0,0,0,0)", "line": {"width": 0}}, "showlegend": False, "name": "cells",
            "selected": {"marker": {"color": "rgba(255,255,255,0.55)"}}, "unselected": {"marker": {"opacity": 0}},
        })  # fmt: skip
    return {"data": data, "layout": _layout(shape, view, uirevision, window)}


def cells_of(shape: Landscape, points: Sequence[dict[str, Any]]) -> list[tuple[int, int]]:
    """The cells, (lr, wd) indices, nearest to points that a browser sends."""
    x, y = axis_places(shape.axes[1], shape.wd), axis_places(shape.axes[0], shape.lr)
    found = [
        (int(np.abs(y - float(point["y"])).argmin()), int(np.abs(x - float(point["x"])).argmin()))
        for point in points
        if isinstance(point.get("x"), int | float) and isinstance(point.get("y"), int | float)
    ]
    return list(dict.fromkeys(found))


def _logarithm(z: np.ndarray) -> np.ndarray:
    found = np.full(z.shape, np.nan)
    np.log(z, out=found, where=np.isfinite(z) & (z > 0))
    return found


def _with_gap(z: np.ndarray, wd: np.ndarray, blocks: list[tuple[int, int]]) -> np.ndarray:
    return np.insert(z, 1, np.nan, axis=1) if zero_stands_alone(wd, blocks) else z


def _layout(
    shape: Landscape, view: View, uirevision: str, window: tuple[tuple[float, float], tuple[float, float]] | None
) -> dict[str, Any]:
    # what lies out of sight, such as the best cell, would else widen the axes again
    across, along = ({"range": list(ends), "autorange": False} if ends else {} for ends in window or (None, None))
    along_name, across_name = (axis_name(axis, [shape.variant], view.units) for axis in shape.axes)
    return {
        **plain(), "uirevision": uirevision, "dragmode": "select" if shape.lr.size * shape.wd.size <= MOST_MARKED else "zoom",
        "clickmode": "event+select", "hovermode": "closest", "showlegend": False, "height": 340, "selectionrevision": uirevision,
        "xaxis": {**ticked(shape.axes[1], shape.wd, window[0] if window else None), **across, "title": {"text": across_name}, "showgrid": False},
        "yaxis": {**ticked(shape.axes[0], shape.lr, window[1] if window else None), **along, "title": {"text": along_name}, "showgrid": False},
    }  # fmt: skip
