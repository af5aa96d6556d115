"""What is drawn over the colours of a map: states, the best cells, the basin, lines of constant lr·wd."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hpscan.conventions import OUTSIDE
from hpscan.landscape import Landscape

from .axes import MANY_CELLS, edges, typed

__all__ = ["MARKS", "N_CIRCLED", "basin", "blanks", "has_fewer", "iso_lines", "marks", "outline", "stars", "states_of"]

N_CIRCLED = 10
STAYS = {"marker": {"opacity": 1}}
"""Plotly pales what is not selected."""
MARKS = {  # of cells without a finite value: (Plotly's symbol, the same as text, face)
    "diverged": ("x-thin-open", "×", "#c9c9c9"),
    "stopped": ("line-ew-open", "–", "#dbe2ea"),
    "failed": ("triangle-up-open", "△", "#f1b8b2"),
    "missing": ("circle-open", "○", "rgba(128,128,128,0.08)"),
    OUTSIDE: ("", "", "rgba(0,0,0,0)"),
}


def states_of(shape: Landscape, z: np.ndarray) -> np.ndarray:
    """Of each cell without a finite value its state, of others the empty text."""
    found = np.full(z.shape, "", dtype=object)
    blank = ~np.isfinite(z)
    own, told = shape.states[:, blank], found[blank]
    for state in ("missing", "failed", "stopped", "diverged", OUTSIDE):  # the last that any seed has is told
        told[(own == state).any(axis=0)] = state
    found[blank] = told
    return found


def blanks(
    states: np.ndarray, x: np.ndarray, y: np.ndarray, rows: list[tuple[int, int]], columns: list[tuple[int, int]]
) -> dict[str, Any]:
    """Faces of the cells that have no finite value."""
    names = list(MARKS)
    codes = np.zeros(states.shape, dtype=np.int8)  # of bits that are set base64 makes "/", and JSON "\\u002f" of each
    blank = states != ""
    told, own = states[blank], codes[blank]
    for number, name in enumerate(names, start=1):
        own[told == name] = number
    codes[blank] = own
    starts = [[first for first, _ in blocks] for blocks in (rows, columns)]
    within = codes[: rows[-1][1], : columns[-1][1]]
    codes = np.maximum.reduceat(np.maximum.reduceat(within, starts[0], axis=0), starts[1], axis=1)
    faces = ["rgba(0,0,0,0)", *(face for _, _, face in MARKS.values())]
    steps = [[(number + end) / len(faces), face] for number, face in enumerate(faces) for end in (0, 1)]
    return {
        "type": "heatmap", "z": typed(codes, "i1"), "x": typed(edges(x, None, columns)), "y": typed(edges(y, None, rows)),
        "zmin": -0.5, "zmax": len(names) + 0.5, "colorscale": steps, "showscale": False, "hoverinfo": "none",
    }  # fmt: skip


def marks(
    shape: Landscape, states: np.ndarray, x: np.ndarray, y: np.ndarray, predicted: np.ndarray | None
) -> list[dict[str, Any]]:
    """Each state has a shape of its own, and so have cells with fewer seeds than planned."""
    size = max(4.0, min(9.0, 150.0 / max(states.shape)))
    data = []
    partial = (states == "") & has_fewer(shape)
    wanted = [(state, states == state, symbol) for state, (symbol, _, _) in MARKS.items() if symbol]
    predicted = np.zeros(states.shape, dtype=bool) if predicted is None else predicted
    wanted += [("fewer seeds", partial, "circle"), ("predicted", predicted, "diamond-open")]
    for name, where, symbol in wanted:
        i, j = np.nonzero(where & ~predicted) if name != "predicted" else np.nonzero(where)
        if len(i):
            looks: dict[str, Any] = {
                "symbol": symbol,
                "size": size,
                "color": "#555",
                "line": {"width": 1.2, "color": "#555"},
            }
            if name in {"missing", "predicted"}:  # on the page's own ground, light or dark
                looks |= {"color": "#808080", "line": {"width": 1.2, "color": "#808080"}}
            if name == "fewer seeds":  # on any colour of the scale
                looks |= {"size": 5, "color": "#fff", "line": {"width": 1, "color": "#333"}}
            data.append({
                "type": "scatter", "mode": "markers", "x": typed(x[j]), "y": typed(y[i]), "hoverinfo": "skip", "name": name, "unselected": STAYS,
                "marker": looks, "showlegend": False,
            })  # fmt: skip
    return data


def has_fewer(shape: Landscape) -> np.ndarray:
    """The cells with a value of fewer seeds than planned."""
    return np.isfinite(shape.mean()) & (shape.known < len(shape.seeds))


def stars(ranked: list[tuple[int, int]], x: np.ndarray, y: np.ndarray) -> list[dict[str, Any]]:
    """The best cell and the ten best."""
    best = ranked[0]
    others = ranked[1:]
    return [
        {
            "type": "scatter", "mode": "markers", "x": typed(x[[j for _, j in others]]), "y": typed(y[[i for i, _ in others]]),
            # filled faintly, to be seen on the darkest cells too
            "marker": {"symbol": "circle", "size": 11, "color": "rgba(255,255,255,0.35)", "line": {"width": 1.4, "color": "#111"}}, "hoverinfo": "skip", "name": "ten best", "unselected": STAYS,
            "showlegend": False,
        },
        {
            "type": "scatter", "mode": "markers", "x": typed(x[[best[1]]]), "y": typed(y[[best[0]]]), "hoverinfo": "skip", "name": "best", "unselected": STAYS,
            "marker": {"symbol": "star", "size": 15, "color": "#e3342f", "line": {"width": 1.2, "color": "#fff"}}, "showlegend": False,
        },
    ]  # fmt: skip


def basin(shape: Landscape, best: tuple[int, int], tolerance: float) -> np.ndarray:
    """Cells at most so many percent worse than the best one."""
    z = shape.mean()
    return np.isfinite(z) & (z <= z[best] + abs(z[best]) * tolerance / 100.0)


def outline(inside: np.ndarray, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """The borders of a set of cells, drawn along the cells' own: in rings, since each piece costs the browser a path."""
    every = [(k, k + 1) for k in range(len(x))], [(k, k + 1) for k in range(len(y))]
    xs, ys = edges(x, None, every[0]), edges(y, None, every[1])
    corners: list[tuple[float, float]] = []
    for ring in _rings(inside):
        corners += [(xs[j], ys[i]) for i, j in ring]
        corners.append((math.nan, math.nan))
    along, up = np.array(corners).reshape(-1, 2).T
    return {
        "type": "scatter", "mode": "lines", "x": typed(along), "y": typed(up), "line": {"color": "#ffffff", "width": 2.2 if max(inside.shape) <= MANY_CELLS else 1.0}, "hoverinfo": "skip",
        "showlegend": False, "name": "basin",
    }  # fmt: skip


def _rings(inside: np.ndarray) -> list[list[tuple[int, int]]]:
    """The corners, (row, column), of the closed lines around a set of cells, which lies to the left of each."""
    padded = np.pad(inside, 1).astype(np.int8)
    sides = np.diff(padded, axis=1)[1:-1], np.diff(padded, axis=0)[:, 1:-1]  # 1 where the set begins, −1 where it ends
    next_: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for side, sign, (back, ahead) in (
        (sides[0], -1, ((0, 0), (1, 0))), (sides[0], 1, ((1, 0), (0, 0))),
        (sides[1], 1, ((0, 0), (0, 1))), (sides[1], -1, ((0, 1), (0, 0))),
    ):  # fmt: skip
        for i, j in np.argwhere(side == sign).tolist():
            next_.setdefault((i + back[0], j + back[1]), []).append((i + ahead[0], j + ahead[1]))
    rings = []
    while next_:
        ring = [next(iter(next_))]
        while (ends := next_.get(ring[-1])) is not None:
            at = ring[-1]
            ring.append(ends.pop())
            if not ends:
                del next_[at]
        rings.append(ring)
    return rings


def iso_lines(shape: Landscape, x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Lines along which lr·wd is the same, two octaves apart."""
    first = int(shape.wd[0] == 0)
    left, right, low, high = x[first] - 0.5, x[-1] + 0.5, y[0] - 0.5, y[-1] + 0.5
    xs, ys = [], []
    for total in np.arange(math.ceil(left + low), right + high, 2.0):
        a, b = max(left, total - high), min(right, total - low)
        if a < b:
            xs += [a, b, None]
            ys += [total - a, total - b, None]
    return {
        "type": "scatter", "mode": "lines", "x": xs, "y": ys, "line": {"color": "rgba(255,255,255,0.65)", "width": 1, "dash": "dot"},
        "hoverinfo": "skip", "showlegend": False, "name": "lr·wd",
    }  # fmt: skip
