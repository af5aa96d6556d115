"""An adaptive sweep for real: what it leaves out, what removing `adaptive` trains, what refining adds."""

import pytest

from hpscan.grid import runs
from hpscan.spec import Spec
from hpscan.store import Store
from tests.processes import hpscan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_nothing_is_trained_twice_from_adaptive_to_refined_to_full(spec_file, tmp_path):
    small = {
        "variants": ["sgdw"], "grid": {"lr": {"log2": [-6, 0], "points": 7}, "wd": {"log2": [-8, -2], "points": 7}},
        "budget": {"steps": 40}, "evaluations": 2,
    }  # fmt: skip
    stores = tmp_path / "results"

    def stored():
        rows = Store(stores).runs("sweep")
        return set(rows["run_id"]), dict(zip(rows["run_id"], rows["finished_at"], strict=True))

    spec = spec_file(adaptive={"most_cells": 0.5}, **small)
    done = hpscan("launch", spec, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    adaptive, first = stored()
    assert 0 < len(adaptive) <= 48
    assert ", 0 to train" in hpscan("launch", spec, cwd=tmp_path).stdout

    done = hpscan("refine", "sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    refined, second = stored()
    assert adaptive < refined
    assert {run_id: second[run_id] for run_id in adaptive} == first

    whole = spec_file("full.yaml", **small)
    done = hpscan("launch", whole, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    full, third = stored()
    assert {run.run_id for run in runs(Spec.load(str(whole)))} <= full
    assert {run_id: third[run_id] for run_id in refined} == second
