"""Slices through landscapes, and learning curves of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from hpscan.landscape import Landscape

from .axes import MANY_CELLS, axis_name, axis_places, gridded, metric_title, octaves, plain, ticked, typed
from .charts import surface
from .view import SHOWN, View

__all__ = ["LINES", "curves", "slices"]

LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666", "#a05a2c")
"""Of Okabe and Ito: told apart by the colour-blind."""


def slices(
    shapes: Sequence[tuple[str, Landscape]], view: View, lr: float, wd: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is shown over weight decay at the learning rate nearest to ``lr``, and over learning rate at ``wd``: a line a landscape."""
    over_wd: list[dict[str, Any]] = []
    over_lr: list[dict[str, Any]] = []
    seen: dict[str, list[np.ndarray]] = {"wd": [], "lr": []}
    if not shapes:
        return {"data": []}, {"data": []}
    times, unit = _unit(shapes[0][1].metric) if view.shows != "n" else (1.0, "")
    for number, (name, shape) in enumerate(shapes):
        z = times * surface(shape, view)
        i, j = (
            int(np.abs(octaves(axis) - octaves(np.array([at]))[0]).argmin())
            for axis, at in ((shape.lr, lr), (shape.wd, wd))
        )
        color = LINES[number % len(LINES)]
        seen["wd"].append(z[i])
        seen["lr"].append(z[:, j])
        for found, values, places in (
            (over_wd, z[i], axis_places(shape.axes[1], shape.wd)),
            (over_lr, z[:, j], axis_places(shape.axes[0], shape.lr)),
        ):
            found.append({
                "type": "scatter", "mode": "lines+markers" if len(values) <= MANY_CELLS else "lines", "name": name, "x": typed(places),
                "y": typed(np.where(np.isfinite(values), values, np.nan)), "line": {"color": color, "width": 1.8},
                "marker": {"size": 5, "symbol": number % 8}, "connectgaps": False,
                "hovertemplate": f"{name}: %{{y:.4g}}{unit}<extra></extra>",
            })  # fmt: skip
    first = shapes[0][1]
    variants = [shape.variant for _, shape in shapes]
    is_metric = view.shows == "mean" or view.seed is not None
    title = metric_title(first.metric) if is_metric else SHOWN[view.shows]
    logged = view.scale == "log" and first.metric not in {"gap", "sharpness"} and view.shows != "n"

    def figure(found: list[dict[str, Any]], axis: str) -> dict[str, Any]:
        values = np.unique(np.concatenate([getattr(shape, axis) for _, shape in shapes]))
        return {
            "data": found,
            "layout": {
                **plain(), "showlegend": len(found) > 1 and axis == "wd", "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 11}}, "height": 250,
                "xaxis": {**ticked(axis, values), "title": {"text": axis_name(axis, variants, view.units)}},
                "yaxis": _values(title, unit, logged=logged and _is_positive(*seen[axis])),
            },
        }  # fmt: skip

    return figure(over_wd, "wd"), figure(over_lr, "lr")


def curves(rows: pd.DataFrame, runs: Sequence[tuple[str, str, int]], metric: str) -> dict[str, Any]:
    """Learning curves of runs: (run_id, cell in words, number of the cell); one colour a cell, one line a seed."""
    data = []
    told: set[str] = set()
    times, unit = _unit(metric)
    seen = rows.loc[rows["run_id"].isin([run_id for run_id, *_ in runs]), metric].to_numpy(dtype=float)
    for run_id, cell, number in runs:
        own = rows[rows["run_id"] == run_id].sort_values("step")
        if own.empty:
            continue
        data.append({
            "type": "scatter", "mode": "lines+markers", "x": typed(own["step"].to_numpy(dtype=float)),
            "y": typed(np.where(np.isfinite(own[metric]), times * own[metric], np.nan)), "name": cell, "legendgroup": cell,
            "showlegend": cell not in told, "line": {"color": LINES[number % len(LINES)], "width": 1.4},
            "marker": {"size": 4}, "hovertemplate": f"step %{{x}}: %{{y:.4g}}{unit}<extra></extra>",
        })  # fmt: skip
        told.add(cell)
    return {
        "data": data,
        "layout": {
            **plain(), "height": 280, "showlegend": len(told) > 1, "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            "xaxis": {"title": {"text": "step"}, **gridded(), "automargin": True},
            "yaxis": _values(metric_title(metric), unit, logged=metric != "gap" and _is_positive(seen)),
        },
    }  # fmt: skip


def _values(title: str, unit: str, *, logged: bool) -> dict[str, Any]:
    """The axis of what is drawn."""
    # by itself Plotly writes 0.3 as a 3 where an axis spans a decade, and all of 1 to 9 in what little height there is
    log: dict[str, Any] = {"type": "log", "tickformat": ".3~g", "nticks": 3} if logged else {"type": "linear"}
    return {"title": {"text": title}, "ticksuffix": unit, "automargin": True, **gridded(), **log}


def _unit(metric: str) -> tuple[float, str]:
    """What a metric's values are multiplied by, and the unit that they then have: error rates are told in percent."""
    return (100.0, " %") if metric.endswith("_error") else (1.0, "")


def _is_positive(*values: np.ndarray) -> bool:
    """Whether all have a place on a logarithmic axis, which leaves the others out."""
    return not any((each <= 0).any() for each in values)
