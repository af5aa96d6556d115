"""What makes the runs of one spec others than those of another; of grids that were extended: tests/test_grid.py."""

from datetime import UTC, datetime

import pytest

from hpscan.differences import differences, objection
from hpscan.grid import runs
from hpscan.store import Store
from tests.conftest import TINY


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"budget": {"steps": 13}}, "steps"),
        ({"batch_size": 17}, "batch_size"),
        ({"workload": {**TINY["workload"], "label_noise": 0.25}}, "workload.label_noise"),
        ({"schedule": "constant"}, "schedule.name"),
        ({"training": {"clip_norm": 1.0}}, "clip_norm"),
        ({"optimizer": {"momentum": 0.8}}, "optimizer.momentum"),
        ({"optimizer": {"momentum_form": "paper"}}, "optimizer.momentum_form"),
    ],
)
def test_what_makes_every_run_another_one_is_named(make_spec, change, field):
    assert field in differences(make_spec(), make_spec(**change))


def test_what_changes_no_run_is_no_difference(make_spec):
    other = make_spec(
        name="other", notes="x", seeds=[5], variants=["sgd"], metric="val_error", resources={"workers": 3},
        grid={"lr": [0.1], "wd": [0.0], "variants": {"sgd": {"momentum": [0.1, 0.2]}}},
    )  # fmt: skip
    assert differences(make_spec(), other) == {}


@pytest.fixture
def launched(make_spec, tmp_path):
    """Note specs as launched, with all their runs completed, one after another; returns the last objection."""
    store = Store(tmp_path)

    def launch(**changes):
        spec = make_spec(variants=["sgdw", "adamw"], seeds=[0], **changes)
        found = objection(spec, store, store.runs(spec.name))
        rows = [
            {"run_id": run.run_id, "variant": run.cell.variant, "state": "completed", "finished_at": datetime.now(UTC)}
            for run in runs(spec)
        ]
        store.save_spec(spec)
        store.save_pack(spec.name, str(len(store.runs(spec.name))), rows, [])
        return found

    return launch


def test_a_spec_under_which_no_stored_run_would_count_is_objected_to(launched):
    assert launched() is None
    told = launched(budget={"steps": 13})
    assert "steps is 12 in the store and 13 in this spec: every run would be another one, and none of the" in told
    assert launched() is None  # its runs are there


def test_a_setting_of_one_variant_is_an_objection_for_that_one(launched, make_spec):
    assert launched() is None
    n_runs = len(runs(make_spec(variants=["sgdw"], seeds=[0])))
    told = launched(optimizer={"momentum": 0.8})
    assert f"every run of sgdw would be another one, and none of the {n_runs} stored would count" in told
