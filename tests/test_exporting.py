"""What is handed out says what the store says, in other tools' terms."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch

from hpscan.exporting import best_configs, to_csv, to_optuna, torch_optimizer
from hpscan.grid import panels
from hpscan.importing import import_sweep
from hpscan.sweep import open_sweep
from hpscan.variants import VARIANTS
from tests.test_analysis import filled  # noqa: F401  (a fixture)
from tests.test_optimizers import START, STEPS, cosine, grads_of, train


def assert_same_landscapes(one, other):
    for mine, its in zip(one.landscapes(), other.landscapes(), strict=True):
        assert (mine.name, mine.seeds, mine.metric) == (its.name, its.seeds, its.metric)
        for name in ("lr", "wd", "states"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(its, name))
        assert mine.values.keys() == its.values.keys()
        for metric, values in mine.values.items():
            np.testing.assert_array_equal(values, its.values[metric])


@pytest.mark.parametrize(("kind", "write"), [("csv", to_csv), ("optuna", to_optuna)], ids=["csv", "optuna"])
def test_what_is_exported_can_be_imported_to_the_last_digit(filled, tmp_path, kind, write):  # noqa: F811
    sweep = open_sweep(filled, "tiny")
    write(sweep, tmp_path / "out")
    import_sweep(filled, "again", kind, str(tmp_path / "out"))
    assert_same_landscapes(sweep, open_sweep(filled, "again"))


def test_an_imported_csv_is_exported_as_it_came(filled, tmp_path):  # noqa: F811
    to_csv(open_sweep(filled, "tiny"), tmp_path / "1.csv")
    import_sweep(filled, "first", "csv", str(tmp_path / "1.csv"))
    to_csv(open_sweep(filled, "first"), tmp_path / "2.csv")
    import_sweep(filled, "second", "csv", str(tmp_path / "2.csv"))
    assert_same_landscapes(open_sweep(filled, "first"), open_sweep(filled, "second"))
    assert filled.spec("first").unknown == filled.spec("second").unknown


def test_optuna_opens_it_and_agrees_on_the_best_run(filled, tmp_path):  # noqa: F811
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


def test_best_configs_are_plain_and_complete(filled):  # noqa: F811
    answer = json.loads(json.dumps(best_configs(open_sweep(filled, "tiny")), allow_nan=False))
    assert [config["variant"] for config in answer["best"]] == ["sgd", "sgdw", "adamw"]
    adamw = answer["best"][2]
    assert (adamw["lr"], adamw["wd"], adamw["n_seeds"]) == (2**-4, 2**-6, 2)
    assert adamw["torch"] == {
        "class": "torch.optim.AdamW", "lr": 2**-4, "weight_decay": 2**-2, "betas": [0.9, 0.999], "eps": 1e-8,
    }  # fmt: skip
    assert adamw["schedule"]["name"] == "cosine"
    assert adamw["metrics"]["test_error"]["mean"] == pytest.approx(0.1)
    assert answer["best"][1]["torch"] is None  # torch.optim.SGD has no decoupled decay


def test_what_an_import_does_not_know_is_null(filled, tmp_path):  # noqa: F811
    (tmp_path / "x.csv").write_text("lr,wd,val_loss\n0.1,0.1,1.0\n")
    import_sweep(filled, "blank", "csv", str(tmp_path / "x.csv"), variants=["adamw-torch"])
    (config,) = best_configs(open_sweep(filled, "blank"))["best"]
    assert [config[name] for name in ("steps", "batch_size", "schedule", "decay_on", "torch")] == [None] * 5
    assert config["optimizer"] == {"name": "adam"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_torchs_optimizer_takes_the_same_steps(make_spec, variant):
    """Under a schedule, over 200 steps; where torch has no such optimizer, none is named."""
    (panel,) = panels(make_spec(variants=[variant]))
    panel = replace(panel, recipe=replace(panel.recipe, steps=STEPS))
    lr, wd = 0.01, 0.001
    told = torch_optimizer(panel, lr, wd)
    if told is None:
        assert variant in {"sgdw", "sgdw-torch", "sgdw-normalised", "lion", "lion-l2"}
        return
    theta = torch.nn.Parameter(torch.tensor(START[0]))
    named = getattr(torch.optim, told.pop("class").removeprefix("torch.optim."))
    optimizer = named([theta], **{**told, **({"betas": tuple(told["betas"])} if "betas" in told else {})})
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = lr * cosine(step)
        theta.grad = torch.tensor(grads_of(step, START.shape[1:], len(START))[0])
        optimizer.step()
    ours = train(variant, [lr] * 3, [wd] * 3, cosine, START, period=STEPS)[0]
    np.testing.assert_allclose(ours, theta.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.slow
def test_optuna_dashboard_opens_it(filled, tmp_path):  # noqa: F811
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
