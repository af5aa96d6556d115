"""Stored runs of real sweeps, trained once more; all through the command line."""

import json
import shutil
from datetime import UTC, datetime
from importlib.metadata import version

import pandas as pd
import pytest

from hpscan import choice
from hpscan.course import Course
from hpscan.grid import runs
from hpscan.reproduce import TOLERANCE, Compared, find_run, reproduce
from hpscan.rungs import next_round
from hpscan.store import Store
from hpscan.worker import order
from tests.conftest import assert_refused
from tests.workers import train_through

SMALL = {"variants": ["sgd"], "grid": {"lr": [0.05, 0.1], "wd": [0.0, 0.01]}, "budget": {"steps": 30}}
PLAIN = {"name": "digits", "model": {"name": "plain_mlp", "hidden": [8]}, "train": 200}

WORKERS_VERSION = ("1", version("hpscan"))
"""As the worker of the tests says it, and as it is."""

MODULE = """
from pathlib import Path
import torch

def train(config):
    noise = float(torch.rand(()))
    if config["seed"] == 1 and not Path("mended").exists():
        raise RuntimeError("my model broke")
    yield {"step": 12, "val_loss": config["lr"] + noise, "val_f1": 0.5}
"""


@pytest.fixture
def trained(tmp_path, monkeypatch, make_worker):
    """Train a small sweep as a worker does, into a store in the test's folder, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users_reproducible.py").write_text(MODULE)

    def train(**changes):
        worker = make_worker(sweep=changes.get("name", "tiny"), **{**SMALL, **changes})
        spec, store, every = worker.spec, Store(tmp_path), worker.assignment.runs
        places = {run.run_id: place for place, run in enumerate(every)}
        course = Course(spec, str(tmp_path), every, 1, next_round(spec, store))
        planned = course.packs()
        while planned:
            for pack in planned:
                train_through(worker, order(pack, places))
            planned = course.proceed(lambda _: None)
        return store

    return train


@pytest.fixture
def again(hpscan):
    """Reproduce a run of the store in the test's folder; returns (exit code, what is printed as JSON)."""

    def run(run_id, *options):
        code, out, err = hpscan("reproduce", run_id, "--store", ".", "--json", *options)
        assert err == ""
        return code, json.loads(out)

    return run


def altered(store, run_id, **changes):
    """Store a run's row anew with some values changed."""
    rows = store.runs("tiny")
    row = rows[rows["run_id"] == run_id].iloc[0].dropna().to_dict()
    store.save_pack("tiny", "0" * 16, [{**row, **changes, "finished_at": datetime.now(UTC)}], [])


WAYS = {
    "fused, compiled": {"strategy": "fused", "compile": True},
    "loop": {"strategy": "loop", "compile": False},
    "loop, compiled": {"strategy": "loop", "compile": True},
}


@pytest.mark.parametrize("resources", WAYS.values(), ids=WAYS)
def test_runs_that_round_alike_in_every_pack_come_back_to_the_last_digit(trained, resources):
    store = trained(resources={**resources, "pack_size": 8})
    for run_id in store.runs("tiny")["run_id"]:
        found = reproduce(find_run(store, run_id))
        assert found.exact
        assert found.verdict() == "came back to the last digit"
        assert found.differs == {"hpscan_version": WORKERS_VERSION}
        assert [metric.now for metric in found.metrics] == [metric.stored for metric in found.metrics]
        assert len(found.metrics) == 6


CNN = {"name": "digits", "model": {"name": "cnn", "channels": [4]}, "train": 200}


@pytest.mark.parametrize("strategy", ["fused", "loop"])
def test_runs_that_were_judged_compiled_come_back_to_the_last_digit(trained, monkeypatch, strategy):
    """Whether or not one run alone would be worth compiling."""
    with monkeypatch.context() as patched:
        patched.setattr(choice, "START_S", 0.0)
        patched.setattr(choice, "JUDGING_S", 0.0)
        patched.setattr(choice, "OPERATION_S", 0.0)
        store = trained(
            workload=CNN, variants=["sgd", "adamw"], grid={"lr": [0.01, 0.05], "wd": [0.01]},
            resources={"strategy": strategy, "pack_size": 8},
        )  # fmt: skip
    assert store.runs("tiny")["compiled"].all()
    for run_id in store.runs("tiny")["run_id"]:
        found = reproduce(find_run(store, run_id))
        assert found.exact
        assert found.differs == {"hpscan_version": WORKERS_VERSION}


def test_runs_of_an_uncompiled_pack_come_back_to_the_last_digit_with_those_that_they_were_trained_with(trained):
    store = trained(grid={"lr": [0.01, 1e4], "wd": [0.01, 0.1]})  # some diverge, and leave the others alone
    rows = store.runs("tiny")
    assert set(rows["state"]) == {"completed", "diverged"}
    assert set(zip(rows["strategy"], rows["compiled"], rows["pack_runs"], strict=True)) == {("fused", False, 8)}
    for run_id in rows["run_id"]:
        found = reproduce(find_run(store, run_id))
        assert found.exact
        assert found.differs == {"hpscan_version": WORKERS_VERSION}


def test_runs_of_an_uncompiled_pack_that_is_not_whole_come_back_within_rounding(trained, again):
    store = trained()
    lone, *others = store.runs("tiny")["run_id"]
    altered(store, lone, pack_id="0" * 16)
    for run_id in others:
        code, found = again(run_id)
        assert code == 0
        assert found["verdict"].startswith("came back ")
        assert found["differs"] == {
            "pack_runs": {"stored": 8, "now": 1},
            "hpscan_version": dict(zip(("stored", "now"), WORKERS_VERSION, strict=True)),
        }
        for name, metric in found["metrics"].items():
            assert metric["now"] == pytest.approx(metric["stored"], rel=TOLERANCE), name


def test_a_metric_that_was_tampered_with_does_not_come_back_and_nothing_is_written(trained, hpscan, tmp_path):
    store = trained()
    row = store.runs("tiny").iloc[0]
    altered(store, row["run_id"], val_loss=row["val_loss"] * 1.01)
    before = {path: path.read_bytes() for path in (tmp_path / "tiny").rglob("*") if path.is_file()}
    code, out, err = hpscan("reproduce", row["run_id"][:8].upper(), "--store", ".")
    assert (code, err) == (1, "")
    assert f"run {row['run_id']} did not come back: val_loss is " in out
    assert "a relative difference of 1e-02, and rounding is up to 1e-04" in out
    assert {path: path.read_bytes() for path in (tmp_path / "tiny").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("now", "came_back"), [(0.50, True), (0.51, True), (0.52, False), (None, False)])
def test_an_error_rate_may_differ_by_one_example(now, came_back):
    assert Compared("val_error", 0.5, now, examples=100).came_back == came_back
    assert not Compared("val_loss", 0.5, 0.51, examples=None).came_back


def test_a_diverged_run_diverges_again_at_the_same_step(trained, again):
    store = trained(workload=PLAIN, grid={"lr": [0.05, 1e30], "wd": [0.0]})
    rows = store.runs("tiny")
    row = rows[rows["state"] == "diverged"].iloc[0]
    steps = int(row["steps_done"])
    code, found = again(row["run_id"])
    assert (code, found["verdict"]) == (0, f"came back: it diverged after {steps} steps again")
    altered(store, row["run_id"], steps_done=steps + 1)
    code, found = again(row["run_id"])
    assert (code, found["verdict"]) == (0, f"came back: it diverged after {steps} steps, not {steps + 1}")
    altered(store, row["run_id"], steps_done=29)
    assert again(row["run_id"])[0] == 1
    altered(store, row["run_id"], state="completed", steps_done=30, val_loss=0.5)
    code, found = again(row["run_id"])
    assert code == 1
    assert f"it diverged after {steps} steps, and is stored as completed after 30 steps" in found["verdict"]


def test_a_trainable_is_called_again_with_the_same_random_numbers(trained, again):
    rows = trained(workload={"trainable": "users_reproducible:train"}).runs("tiny")
    code, found = again(rows.loc[rows["seed"] == 0, "run_id"].iloc[0])
    assert (code, found["verdict"]) == (0, "came back to the last digit")
    assert set(found["metrics"]) == {"val_loss", "val_f1"}


def test_a_failed_run_fails_again_until_its_code_is_mended(trained, again, hpscan, tmp_path):
    rows = trained(workload={"trainable": "users_reproducible:train"}).runs("tiny")
    run_id = rows.loc[rows["seed"] == 1, "run_id"].iloc[0]
    code, found = again(run_id)
    assert (code, found["verdict"]) == (0, "came back: it fails again, with the same error")
    assert "my model broke" in found["error"]["now"]
    code, out, _ = hpscan("reproduce", run_id, "--store", ".")
    assert code == 0
    assert out.count("my model broke") == 2
    (tmp_path / "mended").touch()
    code, found = again(run_id)
    assert code == 1
    assert "it completed after 12 steps, and is stored as failed" in found["verdict"]


def test_a_stopped_run_is_compared_as_far_as_it_came_or_refused_without_its_curve(trained, again, hpscan):
    halving = {"name": "halving", "rungs": [0.5], "reduction": 2}
    store = trained(stop=halving, resources={"strategy": "loop", "compile": False})
    rows = store.runs("tiny")
    run_id = rows.loc[rows["state"] == "stopped", "run_id"].iloc[0]
    code, found = again(run_id)
    assert (code, found["verdict"]) == (0, "came back to the last digit, up to step 15")
    curve = store.curves("tiny")
    assert [found["metrics"]["val_loss"]["stored"]] == curve.loc[curve["run_id"] == run_id, "val_loss"].tolist()
    for path in (store.folder("tiny") / "curves").iterdir():  # as of a regression
        pd.read_parquet(path).assign(val_error=None).astype({"val_error": float}).to_parquet(path)
    code, found = again(run_id)
    assert (code, found["verdict"], list(found["metrics"])) == (
        0,
        "came back to the last digit, up to step 15",
        ["val_loss"],
    )
    shutil.rmtree(store.folder("tiny") / "curves")
    assert_refused(hpscan("reproduce", run_id, "--store", "."), "was stopped, and its curve is not stored")


def test_a_run_of_an_earlier_revision_is_rebuilt_from_its_own_config(trained, make_spec, again):
    store = trained()
    revised = make_spec(**{**SMALL, "budget": {"steps": 77}, "batch_size": 20, "workload": PLAIN})
    store.save_spec(revised)
    run_id = store.runs("tiny")["run_id"].iloc[0]
    assert run_id not in {run.run_id for run in runs(revised)}
    code, found = again(run_id)
    assert (code, found["steps_done"]["now"]) == (0, 30)


def test_every_kind_of_run_is_rebuilt_from_its_config(make_spec, tmp_path):
    everything = {
        "variants": ["sgdw", "adamw-normalised", "lion-l2", "adagrad"],
        "workload": {"name": "charlm", "context": 8, "layers": 1},
        "optimizer": {"momentum_form": "paper", "nesterov": False},
        "schedule": {"name": "cosine_restarts", "first": 10, "warmup": 3},
        "training": {"clip_norm": 1.0, "snapshots": True},
        "decay_on": "all",
        "name": "every",
        "seeds": [7],
    }
    spec = make_spec(**{**SMALL, **everything}).resolved()
    store = Store(tmp_path)
    store.save_spec(spec)
    rows = [{**run.columns(), "state": "failed", "finished_at": datetime.now(UTC)} for run in runs(spec)]
    store.save_pack("every", "0" * 16, rows, [])
    for run in runs(spec):
        assert find_run(store, run.run_id).run.config == run.config


def test_a_config_that_does_not_give_the_run_is_refused(trained, hpscan):
    store = trained()
    row = store.runs("tiny").iloc[0]
    for config in (row["config"].replace('"steps": 30', '"steps": 31'), "{}", "{", "[]"):
        altered(store, row["run_id"], config=config)
        assert_refused(hpscan("reproduce", row["run_id"], "--store", "."), "cannot be rebuilt from its stored config")


def test_ids_that_name_no_run_or_several_are_refused(trained, hpscan, again):
    store = trained(workload={"trainable": "users_reproducible:train"})
    run_id = store.runs("tiny")["run_id"].iloc[0]
    unknown = "0000" if not run_id.startswith("0000") else "1111"

    def refused(*arguments):
        return hpscan("reproduce", *arguments, "--store", ".")

    assert_refused(refused(run_id[:3]), "16 hexadecimal digits, or at least its first 4")
    assert_refused(refused("quickstart"), "must be a run_id")
    assert_refused(refused(unknown), f"run {unknown}: not in the store")
    assert_refused(refused(run_id, "--sweep", "other"), "sweep 'other': not in the store")
    trained(workload={"trainable": "users_reproducible:train"}, name="twin")
    assert_refused(refused(run_id), f"may be {run_id} of tiny, {run_id} of twin; give more digits, or --sweep")
    assert_refused(refused(unknown, "--sweep", "twin"), f"run {unknown}: not in sweep 'twin'")
    assert again(run_id[:8], "--sweep", "twin")[1]["sweep"] == "twin"


def test_an_imported_run_cannot_be_trained(hpscan, tmp_path):
    (tmp_path / "their.csv").write_text("lr,wd,seed,val_loss\n0.1,0.01,0,0.5\n0.2,0.01,0,0.4\n")
    assert hpscan("import", "csv", "their.csv", "--sweep", "wb", "--variant", "sgdw")[0] == 0
    run_id = Store(tmp_path / "results").runs("wb")["run_id"].iloc[0]
    assert_refused(hpscan("reproduce", run_id), "imported from their.csv, there is nothing here to train")
