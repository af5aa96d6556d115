"""A store of 1,000,000 runs and their curves, written as a sweep's workers write it; no training.

    python -m benchmarks.million /tmp/bench-dashboard

Made once and used again: what is there is not written anew.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from hpscan.grid import Cell, Pack, Panel, Run, panels
from hpscan.spec import Spec
from hpscan.store import Store

SWEEPS = {"million": 500, "wide": 300}
"""Points of each axis, by the sweep's name: of the first all is there, of the second the runs alone."""
PACK = 5_000
EVALUATIONS = 54
"""Of a run that completes; with those that diverge, 50 million rows."""
ROWS_A_RUN = {"million": EVALUATIONS, "wide": 0}


def spec_of(name: str) -> Spec:
    """Two variants, as many cells as the sweep's name says, two seeds."""
    grid = f"{{log2: [-12, 0], points: {SWEEPS[name]}}}"
    return Spec.load(
        "quickstart",
        [
            f"name={name}", "variants=[adamw, adamw-torch]", "seeds=2", f"grid={{lr: {grid}, wd: {grid}}}",
            f"budget.steps={100 * EVALUATIONS}", f"evaluations={EVALUATIONS}",
        ],
    )  # fmt: skip


def bowl(lr: np.ndarray, wd: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Final losses about a tilted valley; inf where lr alone or lr·wd is too much."""
    x, y = np.log2(lr), np.log2(wd)
    loss = 0.3 + 0.02 * (x + 5) ** 2 + 0.01 * (y + 6 + 0.4 * (x + 5)) ** 2
    loss = np.minimum(loss, 2.3) * np.exp(rng.normal(0, 0.02, len(x)))
    return np.where((x > -0.7) | (x + y > -2), np.inf, loss)


def save(store: Store, panel: Panel, cells: list[tuple[float, float]], spec: Spec, number: int) -> int:
    """Write a pack of some cells' runs; returns the rows of its curves."""
    runs = [
        Run(Cell(panel.variant, lr, wd, panel.settings), seed, panel.recipe) for lr, wd in cells for seed in spec.seeds
    ]
    rows_a_run = ROWS_A_RUN[spec.name]
    pack, rng = Pack(tuple(runs), PACK), np.random.default_rng(number)
    lr, wd = (np.array([getattr(run.cell, axis) for run in runs]) for axis in ("lr", "wd"))
    loss = bowl(lr, wd, rng)
    done = np.isfinite(loss)
    metrics = {name: np.float32(np.where(done, loss * factor, np.nan)).tolist() for name, factor in FACTORS.items()}
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    provenance = {
        "pack_id": pack.pack_id, "pack_runs": len(runs), "strategy": "fused", "device": "cpu", "host": "node", "threads": 1,
        "hpscan_version": "0.1.0", "finished_at": at, "wall_s": 9.0, "device_s": 9.0, "compile_s": 0.0,
    }  # fmt: skip
    rows = [
        {
            **run.columns(),
            "state": "completed" if done[k] else "diverged",
            "steps_done": spec.steps if done[k] else spec.steps // 2,
            **{name: values[k] for name, values in metrics.items() if done[k]},
            **provenance,
        }
        for k, run in enumerate(runs)
    ]
    points = []
    if rows_a_run:
        progress = np.arange(1, rows_a_run + 1) / rows_a_run
        step = np.rint(progress * spec.steps).astype(int).tolist()
        shape = 1 + 2 * np.exp(-6 * progress)
        values = np.where(done, loss, 2.3)[:, None] * shape * np.exp(rng.normal(0, 0.02, (len(runs), rows_a_run)))
        columns = [np.float32(values * factor).tolist() for factor in CURVE_FACTORS.values()]
        for k, run in enumerate(runs):
            of_run = [column[k] for column in columns]
            for e in range(rows_a_run if done[k] else rows_a_run // 2):
                numbers = dict(zip(CURVE_FACTORS, (column[e] for column in of_run), strict=True))
                points.append({"run_id": run.run_id, "step": step[e], "snapshot": False, **numbers})
    store.save_pack(spec.name, pack.pack_id, rows, points)
    return len(points)


FACTORS = {
    "train_loss": 0.5, "train_error": 0.1, "val_loss": 1.0, "val_error": 0.2, "test_loss": 1.1, "test_error": 0.22,
    "best_val_loss": 0.95, "best_val_error": 0.19, "weight_norm": 9.0, "grad_norm": 0.3, "update_ratio": 0.01,
    "rotation": 0.02, "gap": 0.4,
}  # fmt: skip
CURVE_FACTORS = {
    "batch_loss": 0.8, "val_loss": 1.0, "val_error": 0.2,
    "weight_norm": 9.0, "grad_norm": 0.3, "update_ratio": 0.01, "rotation": 0.02, "gap": 0.4,
}  # fmt: skip


def made(root: Path, *, compacted: bool) -> Store:
    """The store, with whatever of it was missing; as packs left it or with its files merged."""
    store = Store(root / ("compacted" if compacted else "packs"))
    for name in SWEEPS:
        if name in store.sweeps():
            continue
        start = time.perf_counter()
        if compacted:
            packs = made(root, compacted=False)
            start = time.perf_counter()
            shutil.rmtree(store.folder(name), ignore_errors=True)
            shutil.copytree(packs.folder(name), store.folder(name), copy_function=os.link)
            store.files.remove(f"{name}/spec.yaml")
            print(f"{name}: {store.compact(name)} in {time.perf_counter() - start:.0f} s", flush=True)
        else:
            rows = write_packs(store, spec_of(name))
            print(f"{name}: {rows:,} rows of curves in {time.perf_counter() - start:.0f} s", flush=True)
        store.save_spec(spec_of(name))  # last: a sweep that has one is whole
    return store


def write_packs(store: Store, spec: Spec) -> int:
    """Write every run of a sweep; returns the rows of all curves."""
    rows, number, size = 0, 0, PACK // len(spec.seeds)
    for panel in panels(spec):
        cells = [(lr, wd) for lr in panel.lr for wd in panel.wd]
        for k in range(0, len(cells), size):
            rows += save(store, panel, cells[k : k + size], spec, number)
            number += 1
    return rows


if __name__ == "__main__":
    made(Path(sys.argv[1]), compacted=False)
