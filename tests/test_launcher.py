"""Launching from Python: what the command line does, and errors that can be caught."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import yaml

import hpscan
from hpscan import launcher
from hpscan.estimate import estimate
from hpscan.grid import runs
from hpscan.lease import held
from hpscan.spec import SpecError
from hpscan.store import Store, StoreError
from hpscan.workloads import WorkloadError
from tests.workers import patch_launch

MINE = """
from pathlib import Path

def train(config):
    if config["seed"] == 1 and not Path("mended").exists():
        raise RuntimeError("not with this seed")
    yield {"val_loss": config["lr"] + config["wd"]}
"""

REGRESSION = """
import numpy as np
from torch import nn
from torch.nn.functional import huber_loss, mse_loss
import hpscan

def load():
    x = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    return hpscan.Data(*(hpscan.Split(part, part.sum(1, keepdims=True)) for part in np.split(x, 3)))

def make():
    return hpscan.UserWorkload(load, hpscan.Task(lambda: nn.Linear(3, 1), mse_loss, metrics={"huber": huber_loss}))
"""


@pytest.fixture
def here(monkeypatch):
    """Launches train in this process, without Ray."""
    patch_launch(monkeypatch)


@pytest.fixture
def spec(make_spec):
    return make_spec(variants=["sgdw"], seeds=[0])


def test_a_sweep_is_launched_through_ray_and_nothing_is_trained_twice(spec, tmp_path, capsys, monkeypatch):
    spec = spec.model_copy(update={"resources": spec.resources.model_copy(update={"workers": 1, "compile": False})})
    sweep = hpscan.launch_sweep(spec, tmp_path)
    assert sweep.status["states"]["completed"] == len(sweep.runs()) == 12
    assert sweep.landscape("sgdw").best() is not None
    assert "tiny: 12 runs, 0 in" in (told := capsys.readouterr().out)
    assert "tiny: 12 done, 0 diverged, 0 failed, 0 missing of 12 runs" in told
    import ray

    assert not ray.is_initialized()
    monkeypatch.setattr("hpscan.launch.launch", None)
    assert hpscan.launch_sweep(spec, Store(tmp_path)).status == sweep.status
    assert "12 runs, 12 in" in capsys.readouterr().out


def test_a_spec_may_be_a_file_with_overrides_or_a_name(here, spec, tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(spec.to_yaml(nulls=False))
    for source in (tmp_path / "mine.yaml", str(tmp_path / "mine.yaml")):
        sweep = hpscan.launch_sweep(source, tmp_path, overrides=["grid.lr=[0.1]", "name=other"])
        assert (sweep.name, sweep.status["runs"]) == ("other", 4)
    monkeypatch.setattr(launcher, "train_missing", lambda spec, *_, **how: seen.append((spec, how)))
    seen = []
    assert hpscan.launch_sweep("quickstart", tmp_path, address="auto").name == "quickstart"
    assert (seen[0][0].name, seen[0][1]["address"]) == ("quickstart", "auto")
    assert seen[0][0] == seen[0][0].resolved()


def test_runs_that_failed_are_an_error_and_the_others_are_stored(here, spec, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    raw = spec.model_dump(mode="json", exclude_none=True) | {"seeds": [0, 1], "workload": {"trainable": "mine:train"}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(hpscan.SweepIncompleteError, match=r"^12 runs failed$"):
        hpscan.launch_sweep("mine.yaml")
    sweep = hpscan.open_sweep("results", "tiny")
    assert sweep.status["errors"] == {"mine:train raised RuntimeError: not with this seed (mine.py, line 6)": 12}
    assert sweep.status["states"]["completed"] == 12
    (tmp_path / "mended").touch()
    again = hpscan.launch_sweep("mine.yaml", retry_failed=True)
    assert again.status["states"]["completed"] == 24


@pytest.mark.parametrize(
    ("adaptive", "message"),
    [(False, "12 runs are missing"), (True, "some runs are missing")],
    ids=["whole", "adaptive"],
)
def test_runs_of_lost_packs_are_an_error_and_none_is_said_to_have_failed(
    make_spec, tmp_path, monkeypatch, adaptive, message
):
    monkeypatch.setattr("hpscan.launch.launch", lambda *_, **__: ["its workers died"])
    with pytest.raises(hpscan.SweepIncompleteError, match=rf"^{message} \(1 pack was lost: its workers died\)$"):
        hpscan.launch_sweep(make_spec(variants=["sgdw"], seeds=[0], adaptive=adaptive), tmp_path)


def test_what_would_make_every_run_another_one_is_refused_unless_it_is_meant(here, spec, make_spec, tmp_path):
    hpscan.launch_sweep(spec, tmp_path)
    longer = make_spec(variants=["sgdw"], seeds=[0], budget={"steps": 15})
    with pytest.raises(SpecError, match=r"^tiny: steps is 12 in the store and 15 in this spec"):
        hpscan.launch_sweep(longer, tmp_path)
    assert set(hpscan.launch_sweep(longer, tmp_path, revise=True).runs()["steps"]) == {15}


def test_runs_without_a_spec_are_gone_on_from(here, spec, make_spec, tmp_path):
    hpscan.launch_sweep(spec, tmp_path)
    (tmp_path / "tiny" / "spec.yaml").unlink()
    assert hpscan.launch_sweep(make_spec(variants=["sgdw"]), tmp_path).status["states"]["completed"] == 24


def test_a_sweep_that_another_holds_is_left_alone(here, spec, tmp_path):
    with held(Store(tmp_path), spec.name), pytest.raises(StoreError, match=r"^tiny: is being launched by"):
        hpscan.launch_sweep(spec, tmp_path)
    assert Store(tmp_path).sweeps() == []


def test_a_launch_that_has_lost_its_sweep_says_so_and_tidies_nothing(here, spec, tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "held", lambda *_: nullcontext(SimpleNamespace(lost=True)))
    monkeypatch.setattr(Store, "tidy", None)
    with pytest.raises(StoreError, match=r"^tiny: stopped, another launch has taken the sweep over"):
        hpscan.launch_sweep(spec, tmp_path)


def test_what_cannot_be_trained_is_refused_before_anything_is_written(make_spec, tmp_path):
    with pytest.raises(
        hpscan.WorkloadError, match=r"^metric: the workload reports val_error, val_loss; got 'val_bleu'"
    ):
        hpscan.launch_sweep(make_spec(metric="val_bleu"), tmp_path)
    with pytest.raises(SpecError, match=r"^--address nowhere: must be"):
        hpscan.launch_sweep(make_spec(), tmp_path, address="nowhere")
    with pytest.raises(SpecError, match=r"^overrides: go with a path or a name"):
        hpscan.launch_sweep(make_spec(), tmp_path, overrides=["seeds=[1]"])
    with pytest.raises(
        SpecError, match=r"^spec: must be a Spec, or the path or name of one; got a dict; Spec.validated makes"
    ):
        hpscan.launch_sweep({"name": "tiny"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_adaptive_sweep_that_leaves_cells_out_is_complete(here, make_spec, tmp_path):
    spec = make_spec(
        variants=["sgdw"], adaptive={"most_cells": 0.5}, seeds=[0],
        grid={"lr": {"log2": [-6, -2], "points": 5}, "wd": {"log2": [-8, -4], "points": 5}},
    )  # fmt: skip
    states = hpscan.launch_sweep(spec, tmp_path).status["states"]
    assert 0 < states["missing"] < len(runs(spec))
    assert hpscan.launch_sweep(spec, tmp_path).status["states"] == states


def test_cells_that_an_adaptive_sweep_leaves_out_are_not_told_as_missing(here, make_spec, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    spec = make_spec(
        variants=["sgdw"], adaptive={"most_cells": 0.5}, seeds=[0, 1], workload={"trainable": "mine:train"},
        grid={"lr": {"log2": [-6, -2], "points": 5}, "wd": {"log2": [-8, -4], "points": 5}},
    )  # fmt: skip
    with pytest.raises(hpscan.SweepIncompleteError, match=r"^12 runs failed$"):
        hpscan.launch_sweep(spec)


def test_a_variant_beside_one_that_is_trained_whole_has_a_budget_of_its_own(here, make_spec, tmp_path, capsys):
    grid = {"lr": {"log2": [-6, -2], "points": 5}, "wd": {"log2": [-8, -4], "points": 5}}
    hpscan.launch_sweep(make_spec(variants=["sgdw"], seeds=[0], grid=grid), tmp_path)
    both = make_spec(variants=["sgdw", "sgd"], seeds=[0], grid=grid, adaptive={"most_cells": 0.3})
    priced = estimate(both, Store(tmp_path))
    assert (priced.n_stored, priced.to_train) == (25, 7)
    capsys.readouterr()
    sweep = hpscan.launch_sweep(both, tmp_path)
    assert "tiny: 50 runs, 25 in " in (told := capsys.readouterr().out)
    assert "at most 7 to train" in told
    assert f"\n{priced.n_packs} pack{'s' * (priced.n_packs > 1)}, 1 at once\n" in told
    assert "of 32 runs" in told
    assert 0 < sweep.status["variants"][1]["states"]["completed"] <= 7
    assert estimate(both, Store(tmp_path)).to_train == 0


@pytest.mark.parametrize("strategy", ["fused", "loop"])
def test_a_regression_has_losses_and_no_share_of_wrong_answers(
    here, make_spec, tmp_path, monkeypatch, hpscan, strategy
):
    monkeypatch.chdir(tmp_path)
    module = f"regression_{strategy}"
    (tmp_path / f"{module}.py").write_text(REGRESSION)
    spec = make_spec(
        variants=["sgdw"], seeds=[0, 1], workload={"factory": f"{module}:make"}, metric="val_huber", batch_size=10,
        resources={"strategy": strategy, "compile": False},
    )  # fmt: skip
    sweep = launcher.launch_sweep(spec, tmp_path / "results")
    rows = sweep.runs()
    assert (rows["state"] == "completed").all()
    assert (0.5 * rows["val_loss"] >= rows["val_huber"] - 1e-6).all()
    assert rows[["train_error", "val_error", "test_error"]].isna().all(axis=None)
    assert sweep.curves()["val_error"].isna().all()
    code, out, _ = hpscan("analyze", "tiny")
    assert (code, "test loss" in out, "test error" in out) == (0, True, False)
    assert hpscan("report", "tiny")[0] == 0
    assert "| validation huber | test loss | seeds |" in (tmp_path / "results/tiny/report/report.md").read_text()
    assert hpscan("reproduce", rows["run_id"][0])[0] == 0
    with pytest.raises(WorkloadError, match=r"^metric: the workload reports val_huber, val_loss; got 'val_error'"):
        launcher.launch_sweep(spec.model_copy(update={"name": "other", "metric": "val_error"}), tmp_path / "results")


def test_a_trainable_that_does_not_yield_the_metric_is_stopped_and_told(here, make_spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of_mine.py").write_text(MINE)
    (tmp_path / "mended").touch()
    spec = make_spec(variants=["sgdw"], seeds=[0], workload={"trainable": "of_mine:train"}, metric="val_error")
    with pytest.raises(WorkloadError, match=r"^metric: the trainable yields val_loss; got 'val_error'"):
        launcher.launch_sweep(spec, tmp_path / "results")
