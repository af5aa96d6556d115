"""A landscape over training: the same cells at each evaluation of their runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from hpscan.landscape import Landscape
from hpscan.spec import SpecError

__all__ = ["evolution"]


def evolution(landscape: Landscape, curves: pd.DataFrame, metric: str | None = None) -> list[tuple[int, Landscape]]:
    """The landscape at each evaluation, with its step; empty where no run has a curve.

    ``curves`` are a store's (:meth:`hpscan.store.Store.curves`); ``metric`` one of its columns, by default the
    landscape's own. From the step at which it diverged a run is ``diverged``, before that it is as the others.

    Raises
    ------
    SpecError
        If curves do not have the metric.
    """
    metric = metric or landscape.metric
    if metric not in curves.columns or not pd.api.types.is_float_dtype(curves[metric]):
        known = ", ".join(str(name) for name in curves.columns if str(name).startswith("val_"))
        raise SpecError(f"{landscape.name}: curves have {known}, and no {metric}")
    ids = landscape.run_ids.ravel()
    place = pd.Index(ids).get_indexer(curves["run_id"])
    rows, place = curves[place >= 0], place[place >= 0]
    steps, at = np.unique(rows["step"].to_numpy(), return_inverse=True)
    values = np.full((len(steps), ids.size), np.nan)
    values[at, place] = rows[metric].to_numpy(dtype=np.float64)
    values = values.reshape(-1, *landscape.run_ids.shape)
    lost = ~np.isfinite(values) & (landscape.states == "diverged")
    values[lost] = np.inf
    states = np.where(np.isfinite(values), "completed", np.where(lost, "diverged", "missing")).astype(object)
    states = np.where((states == "missing") & (landscape.states != "completed"), landscape.states, states)
    return [
        (int(step), replace(landscape, metric=metric, states=states[number], values={metric: values[number]}))
        for number, step in enumerate(steps)
    ]
