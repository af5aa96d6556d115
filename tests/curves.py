"""Stores filled with hand-made runs and curves, for figures that need both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from hpscan.analysis import Analysis, VariantAnalysis
from hpscan.landscape import landscapes
from hpscan.store import Store
from tests.test_landscape import frame_of


def with_run_ids(shape):
    ids = np.array([f"run{k}" for k in range(shape.z.size)], dtype=object).reshape(shape.z.shape)
    return replace(shape, run_ids=ids)


def curves_of(shape, steps, value=lambda z, step: z):
    """A row for each run and step with a finite value; all losses and errors are that value."""
    rows = [
        {
            "run_id": run_id,
            "step": step,
            **dict.fromkeys(("batch_loss", "val_loss", "val_error"), float(value(z, step))),
        }
        for run_id, z in zip(shape.run_ids.ravel(), shape.z.ravel(), strict=True)
        for step in steps
    ]
    frame = pd.DataFrame(rows)
    return frame[np.isfinite(frame["val_loss"])]


class Recorded(Store):
    """A store that knows curves only."""

    def __init__(self, curves):
        self._curves = curves

    def curves(self, sweep):
        return self._curves


def analysis_of(spec, value, steps=(6, 12)):
    """The analysis of a spec whose runs end at ``value(run)``, with curves that fall towards it."""
    shapes = landscapes(spec, frame_of(spec, value))
    curves = pd.concat([curves_of(shape, steps, lambda z, step: z + (steps[-1] - step) / 10) for shape in shapes])
    return Analysis(spec, [VariantAnalysis.of(shape) for shape in shapes], Recorded(curves), shapes)
