"""A sweep by halving in real processes: killed as a whole in the middle of a round, it comes to the same."""

import pytest

from hpscan.store import Store
from tests.e2e.conftest import assert_same, outcome
from tests.processes import end, hpscan, started, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STOP = {"stop": {"name": "halving", "rungs": [0.25, 0.5], "reduction": 2}}


def test_a_halving_sweep_that_is_killed_goes_on_to_the_same_outcome(spec_file, tmp_path):
    spec_file(**STOP)
    whole = hpscan("launch", "spec.yaml", "--store", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    assert "72 stopped" in whole.stdout
    runs = Store(tmp_path / "whole").runs("sweep")
    assert runs["state"].value_counts().to_dict() == {"stopped": 72, "completed": 28}
    assert set(runs.loc[runs["state"] == "stopped", "steps_done"]) == {50, 100}

    launch = started("launch", "spec.yaml", "--store", "killed", cwd=tmp_path)
    curves = tmp_path / "killed" / "sweep" / "rungs"
    wait_for(lambda: launch.poll() is not None or len(list(curves.glob("*.parquet"))) >= 12, what="the second round")
    assert launch.poll() is None
    end(launch)
    again = hpscan("launch", "spec.yaml", "--store", "killed", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert_same(outcome(tmp_path / "whole"), outcome(tmp_path / "killed"))
