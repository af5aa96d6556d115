"""What is handed out says what the store says, in other tools' terms."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import optuna
import pytest

from hpscan.exporting import to_csv, to_optuna
from hpscan.grid import runs
from hpscan.importing import import_sweep
from hpscan.store import METRICS
from hpscan.sweep import open_sweep
from tests.conftest import result_of


def assert_same_landscapes(one, other):
    for mine, its in zip(one.landscapes(), other.landscapes(), strict=True):
        assert (mine.name, mine.seeds, mine.metric) == (its.name, its.seeds, its.metric)
        for name in ("lr", "wd", "states"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(its, name))
        assert mine.values.keys() == its.values.keys()
        for metric, values in mine.values.items():
            np.testing.assert_array_equal(values, its.values[metric])


@pytest.mark.parametrize(("kind", "write"), [("csv", to_csv), ("optuna", to_optuna)], ids=["csv", "optuna"])
def test_what_is_exported_can_be_imported_to_the_last_digit(filled, tmp_path, kind, write):
    sweep = open_sweep(filled, "tiny")
    write(sweep, tmp_path / "out")
    import_sweep(filled, "again", kind, str(tmp_path / "out"))
    assert_same_landscapes(sweep, open_sweep(filled, "again"))


def test_an_imported_csv_is_exported_as_it_came(filled, tmp_path):
    to_csv(open_sweep(filled, "tiny"), tmp_path / "1.csv")
    import_sweep(filled, "first", "csv", str(tmp_path / "1.csv"))
    to_csv(open_sweep(filled, "first"), tmp_path / "2.csv")
    import_sweep(filled, "second", "csv", str(tmp_path / "2.csv"))
    assert_same_landscapes(open_sweep(filled, "first"), open_sweep(filled, "second"))
    assert filled.spec("first").unknown == filled.spec("second").unknown


def test_optuna_opens_it_and_agrees_on_the_best_run(filled, tmp_path):
    sweep = open_sweep(filled, "tiny")
    to_optuna(sweep, tmp_path / "optuna.log")
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.log")))
    assert optuna.get_all_study_names(storage) == ["tiny sgd", "tiny sgdw", "tiny adamw"]
    study = optuna.load_study(study_name="tiny sgdw", storage=storage)
    runs = sweep.runs().query("variant == 'sgdw'")
    assert len(study.trials) == len(runs) == 75
    best = runs.loc[runs["val_loss"].idxmin()]
    assert study.best_trial.user_attrs["run_id"] == best["run_id"]
    assert study.best_params == {"lr": best["lr"], "wd": best["wd"]}
    diverged = optuna.load_study(study_name="tiny sgd", storage=storage)
    assert sum(np.isinf(trial.value) for trial in diverged.trials) == 3


@pytest.mark.slow
def test_optuna_dashboard_opens_it(filled, tmp_path):
    to_optuna(open_sweep(filled, "tiny"), tmp_path / "optuna.log")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(sys.executable).with_name("optuna-dashboard")
    server = subprocess.Popen(
        [script, tmp_path / "optuna.log", "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:

        def ask(path):
            for _ in range(240):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
                        return json.load(answer)
                except (ConnectionError, urllib.error.URLError):
                    assert server.poll() is None
                    time.sleep(0.25)
            raise AssertionError("it does not answer")

        studies = ask("/api/studies")["study_summaries"]
        assert [study["study_name"] for study in studies] == ["tiny sgd", "tiny sgdw", "tiny adamw"]
        detail = ask(f"/api/studies/{studies[0]['study_id']}?after=0")
        assert len(detail["trials"]) == 75
        assert {"lr", "wd"} == {entry["name"] for entry in detail["union_search_space"]}
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


@pytest.mark.parametrize(("kind", "write"), [("csv", to_csv), ("optuna", to_optuna)], ids=["csv", "optuna"])
def test_what_a_rung_stopped_is_exported_and_comes_back_as_stopped(store, make_spec, tmp_path, kind, write):
    spec = make_spec(variants=["sgdw"], stop="halving", evaluations=2)
    store.save_spec(spec)
    rows = [row if run.cell.lr > 0.05 else {name: value for name, value in row.items() if name not in METRICS} | {"state": "stopped"}
            for run in runs(spec) if (row := result_of(run))]  # fmt: skip
    store.save_pack(spec.name, "p", rows, [])
    sweep = open_sweep(store, "tiny")
    assert sweep.status["states"]["stopped"] > 0
    write(sweep, tmp_path / "out")
    import_sweep(store, "again", kind, str(tmp_path / "out"))
    assert open_sweep(store, "again").status["states"] == sweep.status["states"]


@pytest.mark.parametrize(("kind", "write"), [("csv", to_csv), ("optuna", to_optuna)], ids=["csv", "optuna"])
@pytest.mark.parametrize("state", ["diverged", "failed"])
def test_a_sweep_without_a_completed_run_comes_back_too(store, make_spec, tmp_path, kind, write, state):
    spec = make_spec(variants=["sgdw"], metric="val_error")
    store.save_spec(spec)
    rows = [{name: value for name, value in result_of(run).items() if name not in METRICS} | {"state": state}
            for run in runs(spec)]  # fmt: skip
    store.save_pack(spec.name, "p", rows, [])
    sweep = open_sweep(store, "tiny")
    write(sweep, tmp_path / "out")
    import_sweep(store, "again", kind, str(tmp_path / "out"), overrides=["metric=val_error"])
    assert open_sweep(store, "again").status["states"] == sweep.status["states"]
