"""What may be launched from a browser, and that it really is."""

import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from hpscan.dashboards import launching
from hpscan.dashboards.admission import RefusedError
from hpscan.dashboards.launching import (
    BusyError,
    IdleError,
    JobServerError,
    Launcher,
    NotAllowedError,
    viewer_may_launch,
)
from hpscan.errors import ClusterError, UnknownJobError
from hpscan.spec import SpecError
from hpscan.spec_text import shipped_specs
from hpscan.store import Store
from tests.processes import wait_for


@pytest.fixture
def launcher(tmp_path):
    made = Launcher(Store(tmp_path / "results"), allowed=True)
    yield made
    made.close()


def as_yaml(raw, **changes):
    return yaml.safe_dump({**raw, **changes})


def test_a_spec_is_counted_without_being_launched(launcher, tiny_raw):
    found = launcher.check(as_yaml(tiny_raw), cost=False)
    assert (found.sweep, found.runs, found.to_train) == ("tiny", 72, 72)
    assert launcher.store.sweeps() == []


def test_runs_that_are_stored_need_no_training(launcher, tiny_raw, make_spec):
    from hpscan.grid import runs

    spec = make_spec()
    launcher.store.save_spec(spec)
    rows = [{"run_id": run.run_id, "variant": run.cell.variant, "state": "completed"} for run in runs(spec)[:10]]
    launcher.store.save_pack("tiny", "p", rows, [])
    assert launcher.check(as_yaml(tiny_raw), cost=False).to_train == 62


def test_every_shipped_spec_is_counted_as_the_grid_counts_it(launcher):
    from hpscan.grid import panels
    from hpscan.spec import Spec

    for name, text in shipped_specs().items():
        spec = Spec.load(name)
        cells = sum(len(panel.lr) * len(panel.wd) for panel in panels(spec))
        assert launcher.check(text, cost=False).runs == cells * len(spec.seeds)


def test_the_cost_is_what_a_dry_run_says_and_estimated_once(launcher, tiny_raw, monkeypatch):
    found = launcher.check(as_yaml(tiny_raw))
    assert "a run-step" in found.cost
    assert launcher.store.sweeps() == []
    monkeypatch.setattr(launching.subprocess, "run", None)
    assert launcher.check(as_yaml(tiny_raw)).cost == found.cost


def test_a_read_only_viewer_starts_no_process_for_an_estimate(launcher, tiny_raw):
    mark = viewer_may_launch.set(False)
    try:
        assert launcher.check(as_yaml(tiny_raw)).cost == "not estimated for a read-only token"
    finally:
        viewer_may_launch.reset(mark)


@pytest.mark.parametrize("number", [10**4000, -(10**400), 10**30, 1e308, float("nan"), "1" * 5000])
@pytest.mark.parametrize("field", ["batch_size", "evaluations", "seeds", "budget", "lr", "points", "ends"])
def test_numbers_without_bounds_are_refused_in_one_line_or_counted(launcher, tiny_raw, field, number):
    sys.set_int_max_str_digits(0)  # to write what cannot be read
    lr = {"lr": [number], "points": {"log2": [-8, 0], "points": number}, "ends": {"log2": [0, number], "points": 3}}
    grid = {**tiny_raw["grid"], "lr": lr.get(field, [0.1])}
    plain = {field: number} if field in tiny_raw else {}
    text = as_yaml({**tiny_raw, "grid": grid, **plain, **({"budget": {"steps": number}} if field == "budget" else {})})
    sys.set_int_max_str_digits(4300)
    try:
        told = str(launcher.check(text, cost=False).runs)
    except SpecError as error:
        told = str(error)
    assert told
    assert "\n" not in told


def test_what_is_refused_is_neither_checked_nor_launched(tmp_path, tiny_raw):
    launcher = Launcher(Store(tmp_path), allowed=True, allow=("mine:make",))
    ours, others = (as_yaml(tiny_raw, workload={"factory": code}) for code in ("mine:make", "os:getcwd"))
    assert launcher.check(ours, cost=False).runs == 72
    with pytest.raises(RefusedError, match="os:getcwd"):
        launcher.check(others, cost=False)
    with pytest.raises(RefusedError, match="os:getcwd"):
        launcher.launch(others)
    assert launcher.launches() == []
    launcher = Launcher(Store(tmp_path), allowed=True, allow=("mine:make",), address="http://127.0.0.1:1")
    with pytest.raises(RefusedError, match="job servers"):
        launcher.check(ours, cost=False)


def test_nothing_is_launched_unless_that_is_allowed(tmp_path, tiny_raw):
    launcher = Launcher(Store(tmp_path))
    assert not launcher.may_launch
    with pytest.raises(NotAllowedError, match="--allow-launch"):
        launcher.launch(as_yaml(tiny_raw))
    with pytest.raises(NotAllowedError, match="--allow-launch"):
        launcher.cancel("tiny")
    assert launcher.check(as_yaml(tiny_raw), cost=False).runs == 72


def test_nothing_is_launched_or_cancelled_by_a_viewer(launcher, tiny_raw):
    mark = viewer_may_launch.set(False)
    try:
        assert not launcher.may_launch
        with pytest.raises(NotAllowedError, match="neither launch nor cancel"):
            launcher.launch(as_yaml(tiny_raw))
        with pytest.raises(NotAllowedError, match="neither launch nor cancel"):
            launcher.cancel("tiny")
    finally:
        viewer_may_launch.reset(mark)


def test_a_launch_trains_every_run_and_is_reaped(launcher, tiny_raw):
    started = launcher.launch(as_yaml(tiny_raw, resources={"compile": False, "strategy": "fused"}))
    assert (started.sweep, started.status) == ("tiny", "running")
    assert launcher.running() == ["tiny"]
    with pytest.raises(BusyError, match="tiny"):
        launcher.launch(as_yaml(tiny_raw))
    ended = wait_for(lambda: None if launcher.running() else launcher.last("tiny"))
    assert (ended.status, ended.exit_code) == ("succeeded", 0), launcher.log("tiny")
    assert len(launcher.store.runs("tiny")) == 72
    assert "72 to train" in launcher.log("tiny")
    assert not Path(f"/proc/{ended.how.removeprefix('process ')}").exists()
    with pytest.raises(IdleError, match="has ended"):
        launcher.cancel("tiny")


def test_a_cancelled_launch_keeps_what_it_has(launcher, tiny_raw):
    long = {**tiny_raw, "budget": {"steps": 400_000}, "resources": {"compile": False, "strategy": "fused"}}
    launcher.launch(as_yaml(long))
    wait_for(lambda: "at once" in launcher.log("tiny"))
    launcher.cancel("tiny")
    wait_for(lambda: not launcher.running(), timeout=60)
    assert launcher.last("tiny").status == "cancelled"
    assert "what is trained is stored" in launcher.log("tiny")


def test_closing_ends_what_runs(tmp_path, tiny_raw):
    launcher = Launcher(Store(tmp_path / "results"), allowed=True)
    launcher.launch(as_yaml(tiny_raw, budget={"steps": 400_000}, resources={"compile": False}))
    launcher.close()
    assert launcher.running() == []


def test_a_launch_that_fails_says_why(tmp_path, tiny_raw):
    (tmp_path / "results").write_text("a file, and no folder")
    launcher = Launcher(Store(tmp_path / "results"), allowed=True)
    launcher.launch(as_yaml(tiny_raw))
    wait_for(lambda: not launcher.running())
    assert launcher.last("tiny").status == "failed"
    assert "hpscan: " in launcher.log("tiny")
    launcher.close()


def test_what_a_launch_runs_in_does_not_know_the_tokens(tmp_path, monkeypatch, tiny_raw):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPSCAN_TOKEN", "secret")
    code = "import json, os\ndef train(config):\n    json.dump(dict(os.environ), open('env', 'w'))\n    yield {'val_loss': 1.0}\n"
    (tmp_path / "mine.py").write_text(code.replace("'env'", repr(str(tmp_path / "env"))))
    launcher = Launcher(Store(tmp_path / "results"), allowed=True, allow=("mine:train",))
    one = {"lr": [0.1], "wd": [0.1]}
    launcher.launch(
        as_yaml(tiny_raw, workload={"trainable": "mine:train"}, grid=one, seeds=[0], variants=["sgd"], evaluations=1)
    )
    wait_for(lambda: not launcher.running())
    assert launcher.last("tiny").status == "succeeded", launcher.log("tiny")
    seen = json.loads((tmp_path / "env").read_text())
    assert "PATH" in seen
    assert not [name for name, value in seen.items() if value == "secret"]
    assert os.environ["HPSCAN_TOKEN"] == "secret"
    launcher.close()


def test_a_job_server_that_does_not_answer_is_told_in_one_line(tmp_path, tiny_raw):
    launcher = Launcher(Store(tmp_path), allowed=True, address="http://127.0.0.1:1")
    with pytest.raises(JobServerError, match="job server") as told:
        launcher.launch(as_yaml(tiny_raw))
    assert "\n" not in str(told.value)
    assert launcher.launches() == []


@pytest.mark.parametrize(
    ("error", "status"), [(ClusterError("no answer"), "running"), (UnknownJobError("no job"), "failed")]
)
def test_a_job_that_its_cluster_has_forgotten_can_be_launched_again(tmp_path, tiny_raw, monkeypatch, error, status):
    from hpscan import jobs  # which imports Ray

    def unknown(*_):
        raise error

    job = jobs.Job("job-1", "tiny", "PENDING", None, "")
    monkeypatch.setattr(jobs, "submit", lambda *_: job)
    monkeypatch.setattr(jobs, "latest", lambda *_: job)
    launcher = Launcher(Store(tmp_path), allowed=True, address="http://127.0.0.1:1")
    assert launcher.launch(as_yaml(tiny_raw)).status == "submitted"
    monkeypatch.setattr(jobs, "latest", unknown)
    assert launcher.last("tiny").status == status
    if status == "failed":
        launcher.launch(as_yaml(tiny_raw))
    else:
        with pytest.raises(BusyError, match="tiny"):
            launcher.launch(as_yaml(tiny_raw))


def test_what_was_never_launched_has_no_log(launcher):
    with pytest.raises(IdleError, match="was not launched from here"):
        launcher.log("tiny")
