"""A sweep of a second or so a pack, what becomes of it, and where it may run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from hpscan.store import Store
from tests.processes import Cluster, hpscan

SWEEP = {
    "name": "sweep",
    "workload": {"name": "digits", "model": {"name": "normalised_mlp", "hidden": [16]}, "train": 400},
    "variants": ["sgd", "sgdw"],
    "grid": {"lr": {"log2": [-8, 0], "points": 5}, "wd": {"log2": [-10, -2], "points": 5}},
    "seeds": [0, 1],
    "budget": {"steps": 200},
    "batch_size": 32,
    "evaluations": 4,
    # uncompiled and fused: what is equal to the bit does not depend on which strategy was the faster one today
    "resources": {"workers": 2, "pack_size": 10, "strategy": "fused", "compile": False, "checkpoint_s": 0.2},
}
"""100 runs in 10 packs of a second or so."""


@pytest.fixture
def spec_file(tmp_path):
    """Write the sweep, with some fields replaced, and return its path."""

    def write(name="spec.yaml", **changes):
        path = tmp_path / name
        path.write_text(yaml.safe_dump({**SWEEP, **changes}), encoding="utf-8")
        return path

    return write


def stored_packs(store, sweep="sweep"):
    """How many packs have landed."""
    return len(list(Path(store, sweep, "runs").glob("*.parquet")))


def outcome(store, sweep="sweep"):
    """What determines whether two sweeps are the same: every run's state and metrics, and its curve."""
    opened = Store(store)
    runs = opened.runs(sweep).sort_values("run_id").reset_index(drop=True)
    columns = [
        "run_id",
        "state",
        "steps_done",
        *(c for c in runs if c.startswith(("train_", "val_", "test_", "best_"))),
    ]
    curves = opened.curves(sweep).sort_values(["run_id", "step"]).reset_index(drop=True)
    return runs[columns], curves


def assert_same(one, other):
    """Two outcomes are equal to the bit."""
    for a, b in zip(one, other, strict=True):
        pd.testing.assert_frame_equal(a, b, check_exact=True)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The outcome of the sweep when nothing happens to it."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "spec.yaml").write_text(yaml.safe_dump(SWEEP), encoding="utf-8")
    done = hpscan("launch", "spec.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    return outcome(folder / "results")


@pytest.fixture
def cluster(tmp_path):
    """A cluster without nodes as yet; whatever was added is killed at the end."""
    made = Cluster(tmp_path)
    yield made
    made.end()
