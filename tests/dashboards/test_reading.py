"""What is read of a store, against the same read from its files by pandas."""

import math
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpscan.dashboards.reading import LATE_S, Pace, Reader, UnknownError
from hpscan.grid import runs
from hpscan.lease import held
from hpscan.spec import SpecError
from hpscan.store import METRICS, Store

from .conftest import curve_of, result_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def stored(store, kind):
    return pd.concat([pd.read_parquet(path) for path in (store.root / "tiny" / kind).glob("*.parquet")])


@pytest.fixture
def begun(tmp_path, make_spec):
    """A sweep that runs: its first panel has ended, the others have not begun."""
    spec, store = make_spec(), Store(tmp_path / "begun")
    store.save_spec(spec)
    rows = [result_of(run) for run in runs(spec) if run.cell.variant == "sgd"]
    store.save_pack("tiny", "p", rows, [point for row in rows for point in curve_of(row)])
    return store


def test_a_landscape_has_each_run_that_is_stored_at_its_place(reader, store):
    rows = stored(store, "runs").set_index(["variant", "seed", "lr", "wd"])
    every = [reader.shape("tiny", panel, metric) for panel in ("sgd", "sgdw", "adamw") for metric in METRICS]
    for shape in every:
        for k, i, j in np.ndindex(shape.z.shape):
            at = shape.variant, shape.seeds[k], shape.lr[i], shape.wd[j]
            if at not in rows.index:
                assert shape.states[k, i, j] == "missing"
                continue
            row = rows.loc[at]
            assert (shape.run_ids[k, i, j], shape.states[k, i, j]) == (row["run_id"], row["state"])
            told = {"completed": row[shape.metric], "diverged": np.inf, "failed": np.nan}[row["state"]]
            np.testing.assert_equal(shape.z[k, i, j], told)


@pytest.mark.parametrize(("step", "metric"), [(6, "val_loss"), (6, "val_error"), (12, "val_loss")])
def test_a_landscape_at_an_evaluation_is_that_of_the_curves(reader, store, step, metric):
    curves = stored(store, "curves").query("step == @step").set_index("run_id")[metric]
    for panel in ("sgd", "sgdw", "adamw"):
        shape = reader.shape("tiny", panel, metric, step=step)
        told = curves.reindex(shape.run_ids.ravel()).to_numpy().reshape(shape.z.shape)
        lost = np.isnan(told) & (reader.shape("tiny", panel).states == "diverged")
        np.testing.assert_array_equal(shape.z, np.where(lost, np.inf, told))


def test_a_panel_that_has_not_begun_is_empty_at_the_others_evaluations(begun):
    reader = Reader(begun)
    shape = reader.shape("tiny", "adamw", step=6)
    assert np.isnan(shape.z).all()
    assert set(shape.states.ravel()) == {"missing"}
    with pytest.raises(SpecError, match="step: must be one of 6, 12; got 7"):
        reader.shape("tiny", "adamw", step=7)


def test_what_failed_before_an_evaluation_stays_so_and_what_has_no_curve_is_missing(begun, make_spec):
    failed, whole = [result_of(run) for run in runs(make_spec()) if run.cell.variant == "sgdw"][:2]
    begun.save_pack("tiny", "q", [failed | {"state": "failed"}, whole], [])
    states = Reader(begun).shape("tiny", "sgdw", step=6).states.ravel()
    assert sorted(states) == ["failed"] + ["missing"] * 23


def test_the_best_cell_is_the_least_mean_of_those_with_most_seeds(reader, store):
    rows = stored(store, "runs")
    means = {}
    for panel, own in rows.groupby("variant"):
        cells = own.groupby(["lr", "wd"]).agg(
            n=("val_loss", "count"), rows=("state", "size"), mean=("val_loss", "mean")
        )
        whole = cells[(cells["n"] == cells["n"].max()) & (cells["n"] == cells["rows"])]
        means[panel] = whole["mean"].min()
    shape, cell = reader.best("tiny")
    assert cell.means["val_loss"] == min(means.values())
    assert shape.name == min(means, key=means.get)


def test_the_status_counts_what_is_stored_and_what_is_planned(reader, store, make_spec):
    counted = stored(store, "runs")["state"].value_counts().to_dict()
    states = reader.status("tiny")["states"]
    assert {state: n for state, n in states.items() if n and state != "missing"} == counted
    assert sum(states.values()) == len(runs(make_spec()))
    assert reader.pace("tiny").last == stored(store, "runs")["finished_at"].max()


def test_a_sweep_without_a_run_is_known_and_has_nothing(tmp_path, make_spec):
    store = Store(tmp_path / "new")
    assert Reader(store).sweeps() == []
    store.save_spec(make_spec())
    reader = Reader(store)
    assert reader.best("tiny") is None
    assert reader.steps("tiny") == []
    assert reader.metrics("tiny") == ["val_loss"]
    assert reader.status("tiny")["states"]["missing"] == 72
    assert reader.pace("tiny") == Pace(None, is_running=False, eta_s=None)
    with pytest.raises(SpecError, match=r"step: must be one of none, no run has a curve; got 6"):
        reader.shape("tiny", "sgd", step=6)


@pytest.mark.parametrize(
    ("ask", "kind", "says"),
    [
        (lambda reader: reader.version("x\ny"), UnknownError, r"sweep 'x\ny': not in the store"),
        (lambda reader: reader.panel("tiny", "lion"), UnknownError, "panel 'lion': tiny has sgd, sgdw, adamw"),
        (lambda reader: reader.shape("tiny", "sgd", "loss"), SpecError, "--metric loss: not recorded in tiny"),
        (lambda reader: reader.shape("tiny", "sgd", convention="si"), SpecError, "one of paper, torch; got 'si'"),
    ],
)
def test_what_there_is_not_is_refused_in_one_line_that_names_it(reader, ask, kind, says):
    with pytest.raises(kind) as refused:
        ask(reader)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_some_runs_are_those_of_the_files_and_no_others(reader, store):
    rows = stored(store, "runs").set_index("run_id")
    asked = [*rows.index[5:8], "unknown"]
    found = reader.runs("tiny", asked).set_index("run_id")
    pd.testing.assert_series_equal(found["val_loss"].sort_index(), rows["val_loss"].loc[asked[:3]].sort_index())
    assert set(reader.curves("tiny", asked)["run_id"]) == set(asked[:3])


def test_an_answer_is_kept_until_a_file_of_its_sweep_changes(reader, store, make_spec):
    store.save_spec(make_spec(name="other"))
    before, others = reader.shape("tiny", "adamw"), reader.shape("other", "adamw")
    assert reader.shape("tiny", "adamw") is before
    lacking = [run for run in runs(make_spec()) if run.cell.variant == "adamw" and run.seed == 1]
    rows = [{"run_id": run.run_id, "variant": "adamw", "state": "completed", "val_loss": 0.5} for run in lacking]
    store.save_pack("tiny", "q", rows, [])
    reader._looked.clear()  # as a second later
    after = reader.shape("tiny", "adamw")
    assert (after.z[1] == 0.5).all()
    np.testing.assert_array_equal(after.z[0], before.z[0])
    assert reader.shape("other", "adamw") is others


def test_a_look_that_ends_late_does_not_hide_what_one_that_began_after_it_has_seen(reader, store, monkeypatch):
    begun, free, told = threading.Event(), threading.Event(), []

    def slow(sweep):
        begun.set()
        assert free.wait(60)
        return "old"

    monkeypatch.setattr(store, "version", slow)
    late = threading.Thread(target=lambda: told.append(reader.version("tiny")))
    late.start()
    assert begun.wait(60)
    monkeypatch.setattr(store, "version", lambda sweep: "new")
    assert reader.version("tiny") == "new"
    free.set()
    late.join(60)
    assert [*told, reader.version("tiny")] == ["new", "new"]


def test_a_broken_file_is_told_of_until_it_is_gone(reader, store):
    for kind in ("runs", "curves"):
        path = store.root / "tiny" / kind / "pack-x.parquet"
        path.write_bytes(b"no parquet")
        reader._looked.clear()
        (line,) = reader.problems("tiny")
        assert str(path) in line
        assert reader.status("tiny")["states"]["missing"] == 12
        path.unlink()
        reader._looked.clear()
        assert reader.problems("tiny") == []


def test_cells_are_predicted_where_an_adaptive_sweep_has_trained_enough(reader, tmp_path, make_spec):
    assert not reader.predicts("tiny", "sgd")
    spec, store = make_spec(adaptive={"most_cells": 0.5}, variants=["sgdw"]), Store(tmp_path / "adaptive")
    store.save_spec(spec)
    assert not Reader(store).predicts("tiny", "sgdw")
    store.save_pack("tiny", "p", [result_of(run) for run in runs(spec) if run.cell.lr < 2**-2], [])
    assert Reader(store).predicts("tiny", "sgdw")


def test_a_sweep_runs_while_its_launch_does_and_no_longer(reader, store):
    assert not reader.pace("tiny").is_running
    with held(store, "tiny"):
        reader._looked.clear()
        assert reader.pace("tiny").is_running
    reader._looked.clear()
    assert not reader.pace("tiny").is_running


@given(st.lists(st.integers(0, 3000), max_size=20), st.integers(0, 100), st.booleans())
def test_the_rest_takes_as_long_as_what_ended_of_late(ago, missing, launched):
    ends = pd.Series(pd.to_datetime([NOW - timedelta(seconds=s) for s in sorted(ago, reverse=True)], utc=True))
    pace = Pace.of(ends, missing, NOW, launched=launched)
    late = [s for s in ago if s <= LATE_S]
    assert pace.last == (NOW - timedelta(seconds=min(ago)) if ago else None)
    assert pace.is_running is bool(launched and missing)
    expected = missing * max(*late, 1) / len(late) if late and pace.is_running else None
    assert pace.eta_s is expected is None or math.isclose(pace.eta_s, expected)
