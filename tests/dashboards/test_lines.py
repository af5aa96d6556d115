"""Slices and learning curves, read back as Plotly would, against landscapes and files."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpscan.dashboards.charts import surface
from hpscan.dashboards.lines import LINES, curves, slices
from hpscan.dashboards.view import View
from tests.conftest import landscape_of
from tests.plotted import array

RNG = np.random.default_rng(0)


def test_slices_go_through_the_cell_that_is_asked_for(shape):
    over_wd, over_lr = slices([("one", shape), ("other", shape)], View(scale="linear"), shape.lr[1], shape.wd[2])
    assert len(over_wd["data"]) == 2
    np.testing.assert_allclose(array(over_wd["data"][0]["y"]), shape.mean()[1], rtol=1e-6)
    np.testing.assert_allclose(
        array(over_lr["data"][0]["y"]), np.where(np.isfinite(shape.mean()[:, 2]), shape.mean()[:, 2], np.nan), rtol=1e-6
    )


@given(st.floats(-9, 0), st.floats(-11, -1))
def test_a_slice_is_the_nearest_one_in_octaves(log_lr, log_wd):
    shape = landscape_of(np.arange(20.0).reshape(1, 4, 5) + 1)
    over_wd, over_lr = slices([("one", shape)], View(), 2.0**log_lr, 2.0**log_wd)
    i, j = np.abs(np.log2(shape.lr) - log_lr).argmin(), np.abs(np.log2(shape.wd) - log_wd).argmin()
    np.testing.assert_array_equal(array(over_wd["data"][0]["y"]), shape.z[0, i])
    np.testing.assert_array_equal(array(over_lr["data"][0]["y"]), shape.z[0, :, j])


def test_a_landscape_of_another_grid_has_its_own_places(shape):
    other = landscape_of(RNG.uniform(1, 2, (1, 4, 3)), wd_first_exponent=-4)
    over_wd, _ = slices([("one", shape), ("other", other)], View(), shape.lr[0], 2.0**-4)
    one, two = (array(line["x"]) for line in over_wd["data"])
    assert (len(one), len(two)) == (5, 3)
    assert one[4] == two[0]


@pytest.mark.parametrize(("shows", "scale", "kind"), [("mean", "log", "log"), ("mean", "linear", "linear"), ("n", "log", "linear")])  # fmt: skip
def test_an_axis_is_logarithmic_only_of_what_is_positive(shape, shows, scale, kind):
    for figure in slices([("one", shape)], View(shows=shows, scale=scale), 1.0, 1.0):
        assert figure["layout"]["yaxis"]["type"] == kind


@pytest.mark.parametrize("least", [0.0, -3.0])
def test_what_is_not_positive_somewhere_has_a_place_on_the_axis(shape, reader, least):
    z = np.where(np.isfinite(shape.z), shape.z - np.nanmin(shape.z) + least, shape.z)
    for figure in slices([("one", replace(shape, values={"val_loss": z}))], View(), 1.0, 1.0):
        assert figure["layout"]["yaxis"]["type"] == (
            "linear" if np.nanmin(array(figure["data"][0]["y"])) <= 0 else "log"
        )
    run_id = reader.shape("tiny", "sgdw").run_ids[0, 0, 0]
    rows = reader.curves("tiny", [run_id])
    for change, kind in ((0.0, "log"), (rows["val_loss"].min() - least, "linear")):
        figure = curves(rows.assign(val_loss=rows["val_loss"] - change), [(run_id, "a", 0)], "val_loss")
        assert figure["layout"]["yaxis"]["type"] == kind


@pytest.mark.parametrize(
    ("variants", "units", "label"),
    [
        (["sgdw", "sgd"], "", "weight decay λ"),
        (["adamw-torch", "sgdw-torch"], "torch", "torch's weight_decay, λ/α"),
        (["adamw-torch", "sgd"], "torch", "in each map's units"),
    ],
)
def test_slices_name_the_weight_decay_that_they_go_along(shape, variants, units, label):
    shapes = [(name, replace(shape, variant=name)) for name in variants]
    over_wd, over_lr = slices(shapes, View(units=units), 1.0, 1.0)
    assert over_wd["layout"]["xaxis"]["title"]["text"] == label
    assert over_lr["layout"]["xaxis"]["title"]["text"] == "learning rate α"


@pytest.mark.parametrize(("shows", "label"), [("mean", "validation loss"), ("1", "validation loss"), ("se", "standard error"), ("n", "seeds known")])  # fmt: skip
def test_slices_name_what_they_show(shape, shows, label):
    for figure in slices([("one", shape)], View(shows=shows), 1.0, 1.0):
        assert figure["layout"]["yaxis"]["title"]["text"] == label


@pytest.mark.parametrize(("shows", "times", "unit"), [("mean", 100, " %"), ("se", 100, " %"), ("0", 100, " %"), ("n", 1, "")])  # fmt: skip
def test_error_rates_are_in_percent_as_they_are_everywhere(shape, shows, times, unit):
    errors = replace(shape, metric="val_error")
    view = View(shows=shows)
    for figure, own in zip(slices([("one", errors)], view, shape.lr[0], shape.wd[3]), (np.s_[0], np.s_[:, 3]), strict=True):  # fmt: skip
        drawn = surface(errors, view)[own]
        np.testing.assert_allclose(array(figure["data"][0]["y"]), times * np.where(np.isfinite(drawn), drawn, np.nan), rtol=1e-6)  # fmt: skip
        assert figure["layout"]["yaxis"]["ticksuffix"] == unit
        assert f"}}{unit}<" in figure["data"][0]["hovertemplate"]


def test_curves_of_error_rates_are_in_percent(reader):
    run_id = reader.shape("tiny", "sgdw").run_ids[0, 0, 0]
    rows = reader.curves("tiny", [run_id]).sort_values("step")
    figure = curves(rows, [(run_id, "a", 0)], "val_error")
    np.testing.assert_allclose(array(figure["data"][0]["y"]), 100 * rows["val_error"], rtol=1e-6)
    assert figure["layout"]["yaxis"]["ticksuffix"] == " %"


def test_no_landscapes_are_no_lines():
    assert slices([], View(), 1.0, 1.0) == ({"data": []}, {"data": []})


def test_a_curve_is_that_of_the_file_and_ends_where_the_run_did(reader, store):
    shape = reader.shape("tiny", "sgd")
    (path,) = (store.root / "tiny" / "curves").glob("*.parquet")
    rows = pd.read_parquet(path).sample(frac=1, random_state=0)  # in no order
    lost, whole = shape.run_ids[0, 2, 3], shape.run_ids[1, 1, 1]
    figure = curves(rows, [(lost, "a", 0), ("unknown", "a", 0), (whole, "b", 9)], "val_loss")
    for line, run_id in zip(figure["data"], (lost, whole), strict=True):
        own = rows[rows["run_id"] == run_id].set_index("step")["val_loss"].sort_index()
        np.testing.assert_array_equal(array(line["x"]), own.index)
        np.testing.assert_allclose(array(line["y"]), own, rtol=1e-6)
    assert np.isnan(array(figure["data"][0]["y"])[1])
    assert [line["line"]["color"] for line in figure["data"]] == [LINES[0], LINES[9 % len(LINES)]]


def test_seeds_of_a_cell_share_one_entry_of_the_legend(reader):
    shape = reader.shape("tiny", "sgdw")
    ids = shape.run_ids[:, 0, 0].tolist() + shape.run_ids[:, 1, 1].tolist()
    rows = reader.curves("tiny", ids)
    figure = curves(rows, list(zip(ids, ["a", "a", "b", "b"], [0, 0, 1, 1], strict=True)), "val_loss")
    assert [line["showlegend"] for line in figure["data"]] == [True, False, True, False]
    assert figure["layout"]["showlegend"]
    assert not curves(rows, [(ids[0], "a", 0), (ids[1], "a", 0)], "val_loss")["layout"]["showlegend"]


@pytest.mark.parametrize("scale", ["log", "linear"])
def test_what_a_logarithmic_axis_says_is_whole_numbers_and_few(shape, scale):
    """Plotly would write 0.3 as 3 where an axis spans a decade."""
    for figure in slices([("one", shape)], View(scale=scale), shape.lr[0], shape.wd[0]):
        axis = figure["layout"]["yaxis"]
        assert axis["type"] == scale
        assert (axis.get("tickformat"), axis.get("nticks")) == ((".3~g", 3) if scale == "log" else (None, None))
