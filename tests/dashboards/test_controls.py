"""What can be chosen of sweeps, and the view and address that come of it."""

import pytest
from starlette.testclient import TestClient

from hpscan.dashboards.controls import MOST_MAPS, controls, maps_of, view_of
from hpscan.dashboards.launching import Launcher
from hpscan.dashboards.server import make_app
from hpscan.dashboards.view import MOST_TOLERANCE, View
from hpscan.grid import runs

from .conftest import called, curve_of, parts_of, result_of, text_of

CHOSEN = {
    "choose-metric.value": "val_loss", "choose-shows.value": "mean", "choose-scale.value": "log", "choose-clip.value": 80,
    "choose-tolerance.value": 5, "choose-units.value": "", "choose-iso.value": [], "choose-step.value": 1,
    "choose-maps.value": ["tiny/sgd", "tiny/sgdw", "tiny/adamw"], "steps.data": [6], "sweeps-of-page.data": ["tiny"],
}  # fmt: skip


@pytest.fixture
def choose(reader, store):
    with TestClient(make_app(reader, Launcher(store)), base_url="http://localhost") as client:
        yield lambda **changes: called(
            client, "view.data", CHOSEN | {name.replace("_", "-"): value for name, value in changes.items()}
        )


@pytest.fixture
def other(store, make_spec):
    """A sweep beside tiny that has one evaluation in common with it, and one metric more."""
    spec = make_spec(name="other", seeds=[1, 7])
    store.save_spec(spec)
    rows = [row | {"test_f1": 0.5} for run in runs(spec) if (row := result_of(run))]
    points = [point | {"step": step} for row in rows for point in curve_of(row)[:1] for step in (3, 6, 12, 24)]
    store.save_pack("other", "p", rows, points)
    return "other"


def shown(reader, names, view=View()):  # noqa: B008  (frozen)
    every = maps_of(reader, names)
    page = controls(reader, names, view, every, every)
    return page, {part.id: part for kind in ("Dropdown", "Slider", "Store") for part in parts_of(page, kind)}


def test_what_all_sweeps_of_a_page_have_is_offered(reader, other):
    _, alone = shown(reader, [other])
    assert "test_f1" in [each["value"] for each in alone["choose-metric"].options]
    assert alone["steps"].data == [3, 6, 12]  # the last is the end of training
    _, both = shown(reader, [other, "tiny"])
    assert "test_f1" not in [each["value"] for each in both["choose-metric"].options]
    assert both["steps"].data == [6]
    assert [each["value"] for each in both["choose-shows"].options][3:] == ["0", "1", "7"]
    assert len(both["choose-maps"].options) == 6


@pytest.mark.parametrize(("step", "at", "words"), [(None, 1, "end of training"), (6, 0, "after 6 steps"), (7, 1, "end of training")])  # fmt: skip
def test_the_slider_stands_at_the_evaluation_that_is_drawn(reader, step, at, words):
    page, parts = shown(reader, ["tiny"], View(step=step))
    assert (parts["choose-step"].value, parts["choose-step"].max) == (at, 1)
    assert words in text_of(page)


def test_of_a_metric_that_curves_do_not_have_no_evaluation_is_offered(reader, other):
    for names in (["tiny"], ["tiny", other]):
        view = view_of(reader, names, "?metric=test_loss&step=6")
        assert view == View(metric="test_loss")
        page, parts = shown(reader, names, view)
        assert parts["steps"].data == []
        assert "end of training" in text_of(page)
        assert view_of(reader, names, "?metric=val_error&step=6") == View(metric="val_error", step=6)


def test_the_slider_of_the_basin_reaches_as_far_as_any_address(reader):
    _, parts = shown(reader, ["tiny"], View.from_query("?tolerance=40"))
    assert parts["choose-tolerance"].value == parts["choose-tolerance"].max == MOST_TOLERANCE


def test_the_plain_choice_has_no_query(choose):
    found = choose()
    assert found["query"]["data"] == ""
    assert View.from_data(found["view"]["data"]) == View()


def test_a_choice_becomes_a_view_and_its_address(choose):
    found = choose(**{
        "choose_metric.value": "test_loss", "choose_step.value": 0, "choose_iso.value": ["iso"],
        "choose_maps.value": ["tiny/sgdw"], "choose_clip.value": 50,
    })  # fmt: skip
    view = View(maps=("tiny/sgdw",), metric="test_loss", step=6, iso=True, clip=50.0)
    assert View.from_data(found["view"]["data"]) == View.from_query(found["query"]["data"]) == view
    assert found["step-words"]["children"] == "after 6 steps"


def test_an_address_of_several_sweeps_names_them(choose, other):
    every = [f"{name}/{panel}" for name in ("tiny", other) for panel in ("sgd", "sgdw", "adamw")]
    compared = {"sweeps_of_page.data": ["tiny", other], "choose_maps.value": every[:MOST_MAPS]}
    assert choose(**compared, **{"url.pathname": "/compare"})["query"]["data"] == "?sweep=tiny&sweep=other"


def test_an_address_names_the_only_sweep_that_is_left_of_a_comparison(choose):
    found = choose(**{"url.pathname": "/compare", "choose_scale.value": "rank"})
    assert found["query"]["data"] == "?sweep=tiny&scale=rank"


def test_an_address_says_the_metric_of_sweeps_tuned_by_several(choose, store, make_spec):
    store.save_spec(make_spec(name="errors", metric="val_error"))
    found = choose(**{"sweeps_of_page.data": ["tiny", "errors"]})
    assert found["view"]["data"]["metric"] == "val_loss"


def test_evaluations_that_come_are_offered_and_the_one_that_is_shown_stays(reader, store, other):
    with TestClient(make_app(reader, Launcher(store)), base_url="http://localhost") as client:

        def lengthened(steps, at, metric="val_loss"):
            values = {
                "version.data": "x",
                "choose-metric.value": metric,
                "steps.data": steps,
                "choose-step.value": at,
                "sweeps-of-page.data": [other],
            }
            return called(client, "steps.data", values)

        found = lengthened([6], 0)
        assert (found["steps"]["data"], found["choose-step"]) == ([3, 6, 12], {"max": 3, "value": 1})
        assert lengthened([6], 1)["choose-step"]["value"] == 3  # the end of training stays the end
        assert "steps" not in lengthened([3, 6, 12], 1)
        assert lengthened([3, 6, 12], 1, "test_loss")["steps"]["data"] == []
        assert lengthened([], 0)["choose-step"] == {"max": 3, "value": 3}  # and back


def test_sliders_say_their_values_in_words(choose):
    told = choose(**{"choose-clip.value": 75, "choose-tolerance.value": 2})
    words = [told[name]["children"] for name in ("clip-words", "tolerance-words")]
    assert words == ["75 % of cells", "2 % of the best"]
