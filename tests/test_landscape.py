from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hpscan.grid import runs
from hpscan.landscape import landscapes, shown_by
from hpscan.spec import SpecError
from hpscan.store import METRICS

NAN, INF = np.nan, np.inf


def frame_of(spec, metric_of, state_of=lambda run: "completed"):
    rows = [
        {"run_id": run.run_id, "state": state_of(run), **dict.fromkeys(METRICS, metric_of(run))} for run in runs(spec)
    ]
    return pd.DataFrame(rows)


def test_every_run_lands_on_its_own_cell_whatever_the_order_of_the_rows(make_spec):
    spec = make_spec()
    frame = frame_of(spec, lambda run: run.cell.lr * 1e6 + run.cell.wd * 1e3 + run.seed)
    for shape in landscapes(spec, frame.sample(frac=1, random_state=0)):
        expected = shape.lr[None, :, None] * 1e6 + shape.wd[None, None, :] * 1e3 + np.array(shape.seeds)[:, None, None]
        assert np.array_equal(shape.z, expected)
        assert shape.counts["completed"] == expected.size


def test_what_the_store_lacks_is_missing_and_what_the_spec_lacks_is_left_out(make_spec):
    narrow, wide = make_spec(seeds=[0]), make_spec(seeds=[0, 1], variants=["sgd"])
    (shape,) = landscapes(wide, frame_of(narrow, lambda run: 1.0))
    assert shape.counts == {"completed": 12, "diverged": 0, "stopped": 0, "failed": 0, "missing": 12}
    assert np.isnan(shape.z[1]).all()
    assert np.array_equal(shape.known, np.ones((3, 4)))


def test_states_decide_what_a_value_is(make_spec):
    spec = make_spec(variants=["sgd"], seeds=[0])
    state = {
        run.run_id: name for run, name in zip(runs(spec), ["diverged", "failed", *["completed"] * 10], strict=True)
    }
    (shape,) = landscapes(spec, frame_of(spec, lambda run: 1.0, lambda run: state[run.run_id]))
    assert np.isinf(shape.z).sum() == 1
    assert np.isnan(shape.z).sum() == 1
    assert (shape.counts["diverged"], shape.counts["failed"]) == (1, 1)


def test_the_best_cell_is_the_least_mean(make_landscape):
    z = np.random.default_rng(0).normal(size=(3, 5, 6)) + 5
    shape = make_landscape(z)
    best = shape.best()
    assert best.index == np.unravel_index(z.mean(0).argmin(), (5, 6))
    assert best.means["val_loss"] == pytest.approx(z.mean(0).min())
    assert best.standard_errors["val_loss"] == pytest.approx(z[:, *best.index].std(ddof=1) / np.sqrt(3))
    assert best.n_seeds == 3


def test_a_cell_in_which_a_seed_diverged_is_never_best(make_landscape):
    z = np.ones((3, 3, 3))
    z[:, 1, 1] = [0.1, INF, 0.1]
    z[:, 0, 2] = 0.5
    assert make_landscape(z).best().index == (0, 2)


def test_a_cell_with_fewer_seeds_than_others_is_not_compared_with_them(make_landscape):
    z = np.ones((2, 3, 3))
    z[:, 1, 1] = [0.1, NAN]
    z[:, 2, 0] = 0.5
    shape = make_landscape(z)
    assert shape.best().index == (2, 0)
    assert shape.mean()[1, 1] == 0.1  # it is still shown, with its count
    assert shape.known[1, 1] == 1


def test_a_complete_but_diverged_corner_hides_no_finite_cell(make_landscape):
    z = np.full((2, 3, 3), NAN)
    z[:, 0, 0] = INF
    z[0, 1, 1] = 0.5
    assert make_landscape(z).best().index == (1, 1)


def test_nothing_finite_has_no_best(make_landscape):
    assert make_landscape(np.full((2, 3, 3), INF)).best() is None
    assert make_landscape(np.full((2, 3, 3), NAN)).best() is None


@pytest.mark.parametrize(
    ("cell", "on_edge"), [((0, 1), True), ((2, 1), True), ((1, 0), True), ((1, 2), True), ((1, 1), False)]
)
def test_an_optimum_on_the_edge_is_flagged(make_landscape, cell, on_edge):
    z = np.ones((1, 3, 3))
    z[0, *cell] = 0.1
    assert make_landscape(z).best().on_edge is on_edge


def test_wd_zero_is_no_edge_since_nothing_lies_beyond(make_spec):
    spec = make_spec(variants=["sgd"], seeds=[0], grid={"lr": [0.1, 0.2, 0.4], "wd": [0.0, 0.1, 0.2]})
    (shape,) = landscapes(spec, frame_of(spec, lambda run: abs(run.cell.lr - 0.2) + run.cell.wd))
    assert shape.best().wd == 0.0
    assert shape.best().on_edge is False


def test_an_axis_of_one_point_has_no_edge(make_spec):
    spec = make_spec(variants=["sgd"], seeds=[0], grid={"lr": [0.1, 0.2, 0.4], "wd": [0.1]})
    (shape,) = landscapes(spec, frame_of(spec, lambda run: abs(run.cell.lr - 0.2)))
    assert shape.best().on_edge is False


def test_a_stopped_run_has_no_value_whatever_is_stored_of_it_and_is_never_best(make_spec):
    spec = make_spec(variants=["sgd"], seeds=[0])
    first = runs(spec)[0]
    frame = frame_of(spec, lambda run: 1.0)
    frame["val_loss"] = frame["run_id"].map({first.run_id: 0.1}).fillna(1.0)
    frame.loc[frame["run_id"] == first.run_id, "state"] = "stopped"
    (shape,) = landscapes(spec, frame)
    assert shape.counts["stopped"] == shape.censored.sum() == 1
    assert np.isposinf(shape.z[shape.states == "stopped"])
    assert shape.best().means["val_loss"] == 1.0


def test_only_a_validation_metric_chooses_a_best_cell(make_landscape):
    shape = make_landscape(np.random.default_rng(0).uniform(size=(2, 3, 3)))
    for metric, chosen in (("val_error", True), ("test_error", False), ("train_loss", False), ("rotation", False)):
        values = {"rotation": shape.z, **shape.values}  # noqa: PD011  (no frame)
        other = replace(shape, metric=metric, values=values)
        assert (other.best() is not None) == chosen
        assert bool(other.ranked()) == chosen


def test_a_diagnostic_that_was_recorded_is_shown_and_another_is_refused(make_spec):
    spec = make_spec(variants=["sgd"])
    frame = frame_of(spec, lambda run: 1.0).assign(rotation=0.5, sharpness=NAN)
    (shape,) = landscapes(shown_by(spec, frame, "rotation"), frame)
    assert (shape.z == 0.5).all()
    assert "sharpness" not in shape.values  # noqa: PD011  (no frame)
    with pytest.raises(SpecError, match=r"--metric sharpness: not recorded in tiny; there are .*val_loss.*rotation"):
        shown_by(spec, frame, "sharpness")


def test_the_first_of_the_ranking_are_those_of_the_whole(make_landscape):
    shape = make_landscape(np.random.default_rng(0).normal(size=(2, 4, 5)))
    assert shape.ranked(3) == shape.ranked()[:3]
    assert shape.ranked(100) == shape.ranked()


@pytest.mark.parametrize("best", [0, 1])
def test_nothing_lies_beyond_the_ends_of_a_switch(make_landscape, best):
    z = np.add.outer([abs(0 - best), abs(1 - best)], [1.0, 0.5, 1.0])[None]
    shape = replace(make_landscape(z), lr=np.array([0.0, 1.0]), axes=("nesterov", "wd"))
    assert shape.best().index == (best, 1)
    assert not shape.best().on_edge
    assert replace(shape, axes=("lr", "wd"), lr=np.array([0.5, 1.0])).best().on_edge


@pytest.mark.parametrize("huge", [1e39, -1e300])
def test_a_value_that_no_network_could_have_has_diverged_however_the_landscape_came_about(make_landscape, huge):
    """Whatever is read off it: its best cell, its states, all its metrics."""
    z = np.full((2, 3, 3), 1.0)
    z[0, 1, 1], z[:, 2, 2] = huge, 0.5
    shape = make_landscape(z)
    assert shape.counts["diverged"] == 1
    assert np.isposinf(replace(shape, metric="test_error").z[0, 1, 1])
    assert shape.best().index == (2, 2)
    assert (1, 1) not in shape.ranked()


def test_a_value_of_a_row_that_no_network_could_have_has_diverged(make_spec):
    spec = make_spec(variants=["sgd"], seeds=[0])
    (shape,) = landscapes(spec, frame_of(spec, lambda run: 1e300 if run.cell.lr == max(spec.grid.lr) else 1.0))
    assert shape.counts["diverged"] == len(shape.wd)
