from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hpscan.analysis import analyze
from hpscan.grid import runs
from hpscan.landscape import landscapes
from hpscan.spec import SpecError
from hpscan.store import METRICS, Store
from hpscan.views import view
from tests.test_landscape import frame_of

GRID = {
    "lr": {"log2": [-6, -2], "points": 5},
    "wd": [0.001, 0.003, 0.01, 0.1],
    "momentum": [0.0, 0.5, 0.9],
}


def value_of(run):
    """Best where lr / (1 − momentum) = 2⁻³ and wd = 0.01, a little worse each seed."""
    momentum = dict(run.cell.settings)["momentum"]
    across = np.log2(run.cell.lr) - np.log2(1 - momentum) + 3
    return 1.0 + 0.1 * across**2 + 0.05 * np.log10(run.cell.wd / 0.01) ** 2 + 0.01 * run.seed


@pytest.fixture
def spec(make_spec):
    return make_spec(variants=["sgdw"], seeds=[0, 1], grid=GRID)


@pytest.fixture
def shapes(spec):
    rows = [{"run_id": run.run_id, "state": "completed", **dict.fromkeys(METRICS, value_of(run))} for run in runs(spec)]
    return landscapes(spec, pd.DataFrame(rows))


def test_two_axes_are_laid_out_and_the_third_is_held(shapes):
    (found,) = view(shapes, ("momentum", "lr"), at={"wd": 0.1})
    assert found.axes == ("momentum", "lr")
    assert found.lr.tolist() == [0.0, 0.5, 0.9]
    assert found.z.shape == (2, 3, 5)
    expected = 1.05 + 0.1 * (np.log2(shapes[0].lr) + 3) ** 2
    assert found.z[0, 0] == pytest.approx(expected)
    assert found.name == "sgdw wd=0.1"
    assert dict(found.at) == {"wd": 0.1}


def test_holding_a_further_axis_gives_its_own_landscape_back(shapes):
    (found,) = view(shapes, at={"momentum": 0.5})
    (panel,) = [shape for shape in shapes if dict(shape.at) == {"momentum": 0.5}]
    assert np.array_equal(found.z, panel.z)
    assert np.array_equal(found.run_ids, panel.run_ids)
    assert found.best().index == panel.best().index


def test_over_takes_the_best_of_each_cell_or_the_mean(shapes):
    full = np.stack([shape.z for shape in shapes], axis=-1)
    (best,) = view(shapes, over={"momentum": "best"})
    (mean,) = view(shapes, over={"momentum": "mean"})
    assert best.z == pytest.approx(full.min(axis=-1))
    assert mean.z == pytest.approx(full.mean(axis=-1))
    assert best.name == "sgdw momentum=best"


def test_the_best_is_one_value_for_all_seeds_and_never_a_diverged_one(shapes):
    shapes[0].z[:, 0, 0] = [0.0, np.inf]
    shapes[0].states[:, 0, 0] = ["completed", "diverged"]
    shapes[1].z[:, 0, 0] = [0.1, 5.0]
    shapes[2].z[:, 0, 0] = [2.0, 2.0]
    (found,) = view(shapes, over={"momentum": "best"})
    assert found.z[:, 0, 0].tolist() == [2.0, 2.0]


@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_what_diverged_is_known_and_comes_before_what_is_missing(shapes, places):
    """Whichever of the two has the lesser value of the axis."""
    diverged, missing = (shapes[place] for place in places)
    diverged.z[:, 0, 0], diverged.states[:, 0, 0] = np.inf, "diverged"
    for shape in (missing, shapes[2]):
        shape.z[:, 0, 0], shape.states[:, 0, 0] = np.nan, "missing"
    (found,) = view(shapes, over={"momentum": "best"})
    assert found.states[:, 0, 0].tolist() == ["diverged", "diverged"]


@pytest.mark.parametrize("metric", ["test_loss", "train_loss"])
def test_nothing_is_chosen_by_the_test_set(shapes, metric):
    shown = [replace(shape, metric=metric) for shape in shapes]
    with pytest.raises(SpecError, match="momentum=best: is chosen by a validation metric"):
        view(shown, over={"momentum": "best"})
    assert view(shown, over={"momentum": "mean"})[0].metric == metric


def test_a_mean_over_a_diverged_value_has_diverged(shapes):
    shapes[0].z[0, 0, 0] = np.inf
    shapes[0].states[0, 0, 0] = "diverged"
    (found,) = view(shapes, over={"momentum": "mean"})
    assert found.states[:, 0, 0].tolist() == ["diverged", "completed"]
    assert np.isinf(found.z[0, 0, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "several values of momentum (0, 0.5, 0.9); add `--at momentum=VALUE` or `--over momentum=best`"),
        ({"at": {"momentum": 0.7}}, "--at momentum=0.7: not a value of sgdw's momentum; they are 0, 0.5, 0.9"),
        ({"over": {"momentum": "worst"}}, "--over momentum: must be best or mean; got 'worst'"),
        ({"axes": ("lr", "beta1")}, "the sweep has no axis 'beta1'; its axes are lr, wd, momentum"),
        ({"at": {"momentum": 0.5, "lr": 0.1}}, "--at lr: is shown; the other axes are held or taken together"),
        ({"over": {"momentum": "best", "wd": "best"}}, "--over wd: is shown"),
        ({"at": {"momentum": 0.5}, "over": {"momentum": "best"}}, "--over momentum: is held by --at momentum=0.5"),
        ({"axes": ("lr", "lr"), "at": {"momentum": 0.5}}, "two different axes; got lr twice"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(shapes, arguments, message):
    with pytest.raises(SpecError) as refused:
        view(shapes, **arguments)
    assert message in str(refused.value)


def test_analysis_of_other_axes_names_them(tmp_path, spec):
    store = Store(tmp_path)
    store.save_spec(spec)
    rows = [
        {"run_id": run.run_id, "variant": "sgdw", "lr": run.cell.lr, "wd": run.cell.wd, "seed": run.seed,
         "state": "completed", **dict.fromkeys(METRICS, value_of(run))}
        for run in runs(spec)
    ]  # fmt: skip
    store.save_pack(spec.name, "p", rows, [])
    found = analyze(store, spec.name, axes=("momentum", "lr"), over={"wd": "best"}).to_json()["variants"][0]
    assert found["axes"] == ["momentum", "lr"]
    assert found["best"]["lr"] / (1 - found["best"]["momentum"]) == pytest.approx(2**-3)
    assert {"momentum", "lr"} <= set(found["p_values"])
    assert found["contour_slope"]["value"] == pytest.approx(-1.0, abs=0.15)  # octaves of lr and of 1 / (1 − momentum)


def test_of_a_mixed_sweep_the_variants_that_have_the_axes_are_shown(make_spec):
    grid = {"lr": [0.1, 0.2], "wd": [0.0, 0.1], "variants": {"sgd": {"momentum": [0.8, 0.9]}}}
    spec = make_spec(variants=["sgd", "adamw"], grid=grid)
    shapes = landscapes(spec, frame_of(spec, lambda run: run.cell.lr + run.cell.wd))
    assert [shape.name for shape in view(shapes, ("momentum", "lr"), over={"wd": "best"})] == ["sgd wd=best"]
    assert [shape.name for shape in view(shapes, ("wd", "lr"), at={"momentum": 0.9})] == ["sgd momentum=0.9", "adamw"]
    assert [shape.name for shape in view(shapes, over={"momentum": "mean"})] == ["sgd momentum=mean", "adamw"]
