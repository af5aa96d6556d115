import json
from dataclasses import replace

import pytest

from hpscan.analysis import analyze, status
from hpscan.grid import runs
from hpscan.store import Store
from tests.conftest import result_of
from tests.curves import analysis_of


def test_the_numbers_of_known_landscapes(filled):
    found = {variant.name: variant for variant in analyze(filled, "tiny").variants}
    assert found["sgd"].separability.contour_slope.value == pytest.approx(-1, abs=0.3)
    assert found["sgdw"].separability.contour_slope.value == pytest.approx(0, abs=1e-9)
    assert found["sgdw"].best.index == (2, 2)
    assert (found["sgd"].verdict.word, found["sgdw"].verdict.word) == ("tied", "separable")


def test_json_has_the_documented_shape_and_no_infinities(filled):
    text = json.dumps(analyze(filled, "tiny").to_json(), allow_nan=False)
    answer = json.loads(text)
    assert answer["sweep"] == "tiny"
    assert [entry["variant"] for entry in answer["variants"]] == ["sgd", "sgdw", "adamw"]
    sgd = answer["variants"][0]
    assert (sgd["cells"], sgd["seeds"]) == (25, 3)
    assert sgd["states"] == {"completed": 72, "diverged": 3, "stopped": 0, "failed": 0, "missing": 0}
    assert {"lr", "wd", "val_loss", "low", "high", "n_seeds", "test_error", "on_edge"} <= set(sgd["best"])
    assert sgd["best"]["low"] < sgd["best"]["val_loss"] < sgd["best"]["high"]
    assert sgd["best"]["test_error"] == pytest.approx(0.1)
    for name in ("contour_slope", "interaction_share", "independent_tuning_regret"):
        assert {"value", "low", "high"} <= set(sgd[name])
        if sgd[name]["low"] is not None:
            assert sgd[name]["low"] <= sgd[name]["value"] <= sgd[name]["high"]
    assert set(sgd["p_values"]) == {"surface", "lr", "wd", "interaction"}
    assert set(sgd["extents"]) == {"lr", "wd"}
    assert sgd["sentence"].endswith(".")
    (pair,) = answer["pairs"]
    assert (pair["coupled"], pair["decoupled"]) == ("sgd", "sgdw")
    assert {"contour_slope", "interaction_share", "independent_tuning_regret", "verdict", "sentence"} <= set(pair)


def test_an_empty_sweep_has_nulls_for_numbers(tmp_path, make_spec):
    store = Store(tmp_path)
    store.save_spec(make_spec())
    (first, *_) = json.loads(json.dumps(analyze(store, "tiny").to_json(), allow_nan=False))["variants"]
    assert first["best"] is None
    assert first["contour_slope"] == {"value": None, "low": None, "high": None}
    assert first["states"]["missing"] == 24


def test_status_adds_up(filled):
    found = status(filled, "tiny")
    assert found["runs"] == sum(found["states"].values()) == 225
    assert found["states"]["missing"] == 25
    assert [entry["states"]["missing"] for entry in found["variants"]] == [0, 0, 25]
    assert found["errors"] == {}


def test_status_counts_what_failed_runs_raised(filled):
    run = next(run for run in runs(filled.spec("tiny")) if result_of(run) is None)
    row = {"run_id": run.run_id, "variant": run.cell.variant, "state": "failed", "error": "RuntimeError: boom"}
    filled.save_pack("tiny", "q", [row], [])
    assert status(filled, "tiny")["errors"] == {"RuntimeError: boom": 1}


def test_runs_of_an_earlier_spec_are_not_part_of_the_landscape(filled, make_spec):
    spec = filled.spec("tiny")
    filled.save_spec(spec.model_copy(update={"seeds": (0,)}))
    analysis = analyze(filled, "tiny")
    assert analysis.states["completed"] == 25 * 3 - 1
    assert len(analysis.frame) == 75


@pytest.mark.parametrize("metric", ["test_loss", "rotation"])
def test_what_no_cell_is_chosen_by_has_no_best_decay_that_scales(make_spec, metric):
    spec = make_spec(variants=["sgdw"], grid={**make_spec().grid.model_dump(exclude_none=True), "steps": [6, 12]})
    value = lambda run: run.cell.lr + abs(run.cell.wd - 0.02)  # noqa: E731
    analysis = analysis_of(spec, value)
    assert analysis.scalings
    other = replace(analysis, spec=spec.model_copy(update={"metric": metric}))
    assert other.scalings == []


def test_errors_of_runs_that_are_not_asked_for_any_more_do_not_count(make_spec, tmp_path):
    grid = {**make_spec().grid.model_dump(exclude_none=True), "variants": {"adamw": {"lr": [0.1]}}}
    narrow = make_spec(variants=["sgd", "adamw"], grid=grid)  # landscapes of two sizes
    store, wide = Store(tmp_path), make_spec(variants=["sgd", "sgdw"])
    store.save_spec(narrow)
    store.save_pack(
        "tiny",
        "p",
        [
            {"run_id": run.run_id, "state": "failed", "error": f"{run.cell.variant}\nand {run.run_id}"}
            for run in runs(wide)
        ],
        [],
    )
    assert status(store, "tiny")["errors"] == {"sgd": len(runs(make_spec(variants=["sgd"])))}
