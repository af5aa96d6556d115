"""What makes the runs of one spec others than those of another; of grids that were extended: tests/test_grid.py."""

import pytest

from hpscan.differences import differences
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
