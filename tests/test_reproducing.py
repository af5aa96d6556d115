"""`hpscan reproduce` as a user reads it: stored beside now, and what differs."""

import json

import pytest

from hpscan.grid import runs
from hpscan.reproduce import Compared, Reproduction, StoredRun
from hpscan.session import RunResult
from hpscan.spec import Spec
from tests.conftest import TINY

RUN = runs(Spec.validated(TINY))[0]


@pytest.fixture
def train_again(monkeypatch):
    """Replace finding and training a run by a result."""

    def use(*, stored=0.5, now=0.5, state="completed", result_state="completed", error=None, **differs):
        row = {"state": state, "steps_done": 12, "error": error, "val_loss": stored}
        found = StoredRun("tiny", RUN, row, {"val_loss": stored}, (RUN,))
        result = RunResult(RUN, result_state, 12, error="now [broken]" if result_state == "failed" else None)
        compared = () if state == "failed" else (Compared("val_loss", stored, now, None),)
        monkeypatch.setattr("hpscan.reproduce.find_run", lambda *given: found)
        monkeypatch.setattr("hpscan.reproduce.reproduce", lambda _: Reproduction(found, result, compared, differs))

    return use


def test_what_came_back_is_shown_beside_what_is_stored(hpscan, train_again):
    train_again(stored=0.5, now=0.5 - 1e-7, torch_version=("2.12.0", "2.13.0"))
    code, out, err = hpscan("reproduce", RUN.run_id)
    assert (code, err) == (0, "")
    assert f"tiny: run {RUN.run_id}, sgd, lr 2⁻⁶ ≈ 0.0156, wd 2⁻⁸ ≈ 0.00391, seed 0, 12 steps" in out
    (row,) = (line.split() for line in out.splitlines() if line.startswith("val_loss"))
    assert row == ["val_loss", "0.5", "0.4999999", "−1.0e−07"]
    assert "torch version: 2.12.0 stored, 2.13.0 now" in out
    assert out.splitlines()[-1].startswith(f"run {RUN.run_id} came back within rounding")


def test_what_did_not_come_back_ends_with_1(hpscan, train_again):
    train_again(stored=0.5, now=0.7)
    code, out, err = hpscan("reproduce", RUN.run_id)
    assert (code, err) == (1, "")
    assert "did not come back: val_loss is " in out


def test_a_run_that_rounds_by_its_pack_is_not_left_unexplained(hpscan, train_again):
    train_again(stored=0.5, now=0.7, pack_runs=(30, 1))
    told = hpscan("reproduce", RUN.run_id)[1].splitlines()[-1]
    assert told.startswith("It was trained uncompiled in a pack of 30 and now alone: ")
    assert told.endswith("with resources: {strategy: loop}, a run comes back to the last digit.")
    train_again(stored=0.5, now=0.5, pack_runs=(30, 1))
    assert "uncompiled" not in hpscan("reproduce", RUN.run_id)[1]


def test_a_metric_that_is_no_longer_there_leaves_its_place_empty(hpscan, train_again):
    train_again(now=None, result_state="diverged")
    code, out, _ = hpscan("reproduce", RUN.run_id)
    assert code == 1
    (row,) = (line.split() for line in out.splitlines() if line.startswith("val_loss"))
    assert row == ["val_loss", "0.5"]


def test_errors_are_shown_as_they_are(hpscan, train_again):
    train_again(now=None, state="failed", result_state="failed", error="then [odd]")
    code, out, _ = hpscan("reproduce", RUN.run_id)
    assert code == 0
    assert "error stored: then [odd]\nerror now: now [broken]\n" in out


def test_for_programs_it_is_one_object_and_the_same_exit_code(hpscan, train_again):
    for now, code in ((0.5, 0), (0.7, 1)):
        train_again(now=now)
        ended, out, err = hpscan("reproduce", RUN.run_id, "--json")
        assert (ended, err) == (code, "")
        assert json.loads(out)["metrics"]["val_loss"]["now"] == now
