"""The best configurations and the landscape as data say what the store says."""

import json
from io import StringIO

import numpy as np
import pandas as pd
import pytest

from hpscan.analysis import analyze
from hpscan.configs import best_configs, cells
from hpscan.grid import runs
from hpscan.importing import import_sweep
from hpscan.store import Store
from tests.conftest import result_of


def configs(store, sweep="tiny"):
    analysis = analyze(store, sweep)
    return json.loads(json.dumps(best_configs(analysis.spec, analysis.planned), allow_nan=False))


def test_best_configs_are_plain_and_complete(filled):
    answer = configs(filled)
    assert [config["variant"] for config in answer["best"]] == ["sgd", "sgdw", "adamw"]
    adamw = answer["best"][2]
    assert (adamw["lr"], adamw["wd"], adamw["n_seeds"]) == (2**-4, 2**-6, 2)
    assert adamw["torch"] == {
        "class": "torch.optim.AdamW", "lr": 2**-4, "weight_decay": 2**-2, "betas": [0.9, 0.999], "eps": 1e-8,
    }  # fmt: skip
    assert adamw["schedule"]["name"] == "cosine"
    assert adamw["metrics"]["test_error"]["mean"] == pytest.approx(0.1)
    assert answer["best"][1]["torch"] is None  # torch.optim.SGD has no decoupled decay


def test_switches_are_true_or_false(tmp_path, make_spec):
    spec = make_spec(
        variants=["sgd"],
        seeds=[0],
        grid={"lr": [2**-4], "wd": [2**-6], "variants": {"sgd": {"nesterov": [False, True]}}},
    )
    store = Store(tmp_path)
    store.save_spec(spec)
    store.save_pack(spec.name, "p", [result_of(run) for run in runs(spec)], [])
    for config, nesterov in zip(configs(store)["best"], (False, True), strict=True):
        assert [where["nesterov"] for where in (config, config["optimizer"], config["torch"])] == [nesterov] * 3
        assert isinstance(config["nesterov"], bool)
        assert isinstance(config["optimizer"]["nesterov"], bool)


def test_what_is_recommended_comes_with_its_room(filled):
    sgdw = configs(filled)["best"][1]["recommended"]
    assert (sgdw["lr"], sgdw["wd"]) == (2**-4, 2**-6)
    assert sgdw["within"] == pytest.approx(0.02 * 1.01)
    for axis in ("lr", "wd"):
        room = sgdw["ranges"][axis]
        assert room["low"] < sgdw[axis] < room["high"]
        assert room["beyond_the_grid"] == [False, False]
        assert room["octave_costs"] == pytest.approx(0.1)


def test_a_slip_into_divergence_is_a_word(filled):
    rows = filled.runs("tiny")
    steep = (rows["variant"] == "sgdw") & (rows["lr"] == 2**-3)
    rows.loc[steep, "state"] = "diverged"
    rows["finished_at"] = pd.Timestamp.now("UTC")
    filled.save_pack("tiny", "later", rows[steep].dropna(axis=1, how="all").to_dict("records"), [])
    assert configs(filled)["best"][1]["recommended"]["ranges"]["lr"]["octave_costs"] == "diverges"


def test_what_an_import_does_not_know_is_null(filled, tmp_path):
    (tmp_path / "x.csv").write_text("lr,wd,val_loss\n0.1,0.1,1.0\n")
    import_sweep(filled, "blank", "csv", str(tmp_path / "x.csv"), variants=["adamw-torch"])
    (config,) = configs(filled, "blank")["best"]
    assert [config[name] for name in ("steps", "batch_size", "schedule", "decay_on", "torch")] == [None] * 5
    assert config["optimizer"] == {"name": "adam"}
    assert config["recommended"]["ranges"]["lr"]["octave_costs"] is None


def test_the_table_of_cells_agrees_with_pandas(filled):
    table = pd.read_csv(StringIO(cells(analyze(filled, "tiny").planned).to_csv(index=False)))
    assert len(table) == 75
    runs = filled.runs("tiny")
    grouped = runs[runs["state"] == "completed"].groupby(["variant", "lr", "wd"])["val_loss"].agg(["mean", "sem"])
    finite = table[np.isfinite(table["val_loss"])].set_index(["variant", "lr", "wd"])
    assert finite["val_loss"].to_numpy() == pytest.approx(grouped["mean"].reindex(finite.index).to_numpy())
    assert finite["val_loss_se"].to_numpy() == pytest.approx(
        grouped["sem"].reindex(finite.index).to_numpy(), nan_ok=True
    )
    assert table.loc[table["diverged"] > 0, "val_loss"].eq(np.inf).all()
    assert (table[["completed", "diverged", "stopped", "failed", "missing"]].sum(axis=1) == 3).all()
