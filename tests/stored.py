"""Rows as packs store them, of runs that were never trained."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def row(run_id, state="completed", minutes=0, **values):
    return {"run_id": run_id, "variant": "sgd", "lr": 0.1, "wd": 0.0, "seed": 0, "state": state,
            "finished_at": NOW + timedelta(minutes=minutes), **values}  # fmt: skip


def point(run_id, step):
    return {"run_id": run_id, "step": step, "batch_loss": 1.0, "val_loss": 1.0, "val_error": 0.5}


def same(left, right):
    pd.testing.assert_frame_equal(left, right)
    return True


def parquet_in(store, sweep="s"):
    return [name for kind in ("runs", "curves") for name in store.files.names(f"{sweep}/{kind}")]
