"""What a browser is sent: read back as Plotly would."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpscan.dashboards.axes import axis_places
from hpscan.dashboards.charts import cells_of, colours, heatmap, surface
from hpscan.dashboards.view import View
from tests.conftest import landscape_of
from tests.plotted import array, trace

RNG = np.random.default_rng(0)


def painted(figure):
    return [each for each in figure["data"] if each["type"] == "heatmap"][1]


def test_a_map_paints_the_mean_of_every_cell_on_the_page_s_scale(shape):
    scale = colours([shape], View(scale="linear"))
    sent = array(painted(heatmap(shape, View(scale="linear"), scale))["z"])
    mean = shape.mean()
    np.testing.assert_allclose(sent, np.where(np.isfinite(mean), mean, np.nan), rtol=1e-6)


def test_cells_lie_within_the_borders_that_are_sent(shape):
    sent = painted(heatmap(shape, View(), colours([shape], View())))
    for axis, key in (("wd", "x"), ("lr", "y")):
        borders, places = array(sent[key]), axis_places(axis, getattr(shape, axis))
        assert len(borders) == len(places) + 1
        assert np.all((borders[:-1] < places) & (places < borders[1:]))


def test_no_decay_is_a_column_apart():
    shape = landscape_of(RNG.uniform(1, 2, (1, 3, 4)))
    shape.wd[0] = 0.0
    sent = painted(heatmap(shape, View(), colours([shape], View())))
    assert np.isnan(array(sent["z"])[:, 1]).all()
    assert array(sent["z"]).shape == (3, 5)
    places, borders = axis_places("wd", shape.wd), array(sent["x"])
    assert places[1] - places[0] > 1.4 * (places[2] - places[1])
    assert borders[0] < places[0] < borders[1] < borders[2] < places[1] < borders[3]


def test_states_are_told_by_marks_and_not_by_colour_alone(shape):
    figure = heatmap(shape, View(), colours([shape], View()))
    assert len(array(trace(figure, "diverged")["x"])) == 1
    assert len(array(trace(figure, "missing")["x"])) == 1
    assert len(array(trace(figure, "fewer seeds")["x"])) == 1
    symbols = [trace(figure, name)["marker"]["symbol"] for name in ("diverged", "missing", "fewer seeds")]
    assert len(set(symbols)) == 3


def test_without_decay_there_are_no_lines_of_constant_lr_wd():
    shape = replace(landscape_of(np.ones((1, 3, 1))), wd=np.zeros(1))
    view = View(iso=True)
    names = [each.get("name") for each in heatmap(shape, view, colours([shape], view))["data"]]
    assert "best" in names
    assert "lr·wd" not in names


def test_predicted_cells_have_a_mark_of_their_own(shape):
    predicted = np.zeros(shape.z.shape[1:], dtype=bool)
    predicted[0, 1] = True
    figure = heatmap(shape, View(), colours([shape], View()), predicted=predicted)
    assert len(array(trace(figure, "predicted")["x"])) == 1
    assert not any(each.get("name") == "missing" for each in figure["data"])


def test_the_star_is_on_the_best_cell_and_the_circles_on_the_next(shape):
    figure = heatmap(shape, View(), colours([shape], View()))
    ranked = shape.ranked()
    star = trace(figure, "best")
    (at,) = cells_of(shape, [{"x": float(array(star["x"])[0]), "y": float(array(star["y"])[0])}])
    assert at == ranked[0]
    assert len(array(trace(figure, "ten best")["x"])) == 9


@given(st.sampled_from(["log", "linear", "rank"]), st.floats(20, 100), st.integers(0, 1000))
def test_a_better_cell_is_never_painted_as_a_worse_one(scale, clip, seed):
    z = np.random.default_rng(seed).lognormal(size=(1, 6, 7))
    shape = landscape_of(z)
    view = View(scale=scale, clip=clip)
    paint = colours([shape], view)
    order = np.argsort(z[0], axis=None)
    assert np.all(np.diff(paint(z[0]).ravel()[order]) >= 0)
    assert paint.low < paint.high


def test_one_scale_serves_all_maps_of_a_page():
    good, bad = landscape_of(np.full((1, 2, 2), 1.0)), landscape_of(np.full((1, 2, 2), 4.0))
    scale = colours([good, bad], View(scale="linear", clip=100.0))
    assert (scale.low, scale.high) == (1.0, 4.0)
    assert scale.value_at(0.0) == 1.0
    assert scale.value_at(1.0) == 4.0


def test_nothing_known_still_makes_a_map():
    shape = landscape_of(np.full((2, 3, 3), np.nan))
    figure = heatmap(shape, View(), colours([shape], View()))
    assert np.isnan(array(painted(figure)["z"])).all()
    assert not any(each.get("name") == "best" for each in figure["data"])


@pytest.mark.parametrize("shows", ["mean", "se", "n", "0", "1", "7"])
def test_what_a_cell_shows_of_its_seeds(shape, shows):
    z, found = shape.z, surface(shape, View(shows=shows))
    if shows == "n":
        np.testing.assert_array_equal(found, np.sum(~np.isnan(z), axis=0))
    elif shows == "se":
        np.testing.assert_allclose(found[1, 1], z[:, 1, 1].std(ddof=1) / np.sqrt(2))
        assert np.isnan(found[0, 0])
    elif shows == "7":
        assert np.isnan(found).all()
    elif shows in {"0", "1"}:
        np.testing.assert_array_equal(found, z[int(shows)])


def test_a_zoom_into_a_large_grid_is_sent_in_its_own_cells():
    shape = landscape_of(RNG.uniform(1, 2, (1, 3, 900)))
    x = axis_places("wd", shape.wd)
    whole = heatmap(shape, View(), colours([shape], View()))
    near = heatmap(shape, View(), colours([shape], View()), window=((x[100], x[150]), (-20.0, 20.0)))
    assert array(painted(whole)["z"]).shape == (3, 300)
    assert array(painted(near)["z"]).shape == (3, 53)
    np.testing.assert_allclose(np.exp(array(painted(near)["z"])), shape.mean()[:, 99:152], rtol=1e-5)


def test_a_map_of_ninety_thousand_cells_is_small():
    lr, wd = np.meshgrid(np.linspace(-3, 3, 300), np.linspace(-3, 3, 300), indexing="ij")
    z = 1 + lr**2 + wd**2 + RNG.normal(scale=0.01, size=(1, 300, 300))
    z[:, lr + wd > 4] = np.inf
    shape = landscape_of(z)
    assert len(json.dumps(heatmap(shape, View(), colours([shape], View())))) <= 700_000


@given(st.integers(0, 3), st.integers(0, 4))
def test_a_point_of_the_browser_is_the_cell_it_lies_on(i, j):
    shape = landscape_of(np.ones((1, 4, 5)))
    x, y = axis_places("wd", shape.wd), axis_places("lr", shape.lr)
    assert cells_of(shape, [{"x": x[j] + 0.3, "y": y[i] - 0.3}]) == [(i, j)]


def test_points_without_places_are_no_cells(shape):
    assert cells_of(shape, [{}, {"x": "1", "y": None}]) == []
