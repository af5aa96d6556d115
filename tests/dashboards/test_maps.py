"""Pages of landscapes: which are drawn, on which scale, and what is told of them."""

import re
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest

from hpscan import numerals
from hpscan.analysis import VariantAnalysis
from hpscan.dashboards import maps
from hpscan.dashboards.maps import _scale
from hpscan.dashboards.numbers import Known, Numbers
from hpscan.dashboards.reading import Reader
from hpscan.dashboards.view import View
from hpscan.grid import runs
from hpscan.spec import SpecError
from hpscan.store import Store
from tests.plotted import array, trace

from .conftest import curve_of, parts_of, result_of, text_of


class AtOnce(Numbers):
    """Numbers that are computed while one waits, and by no process."""

    def of(self, subject, version, read):
        return Known(version, datetime.now(UTC), VariantAnalysis.of(read()))


class Never(Numbers):
    """Numbers that are still being computed."""

    def of(self, subject, version, read):
        return None


@pytest.fixture
def reader(store):
    return Reader(store, Never())


def drawn(page):
    return {graph.id["name"]: graph.figure for graph in parts_of(page, "Graph") if isinstance(graph.id, dict)}


def scales(page):
    """The ends of the colours of every map of a page; of a map's two heatmaps the first is of states."""
    maps = ([each for each in figure["data"] if each["type"] == "heatmap"] for figure in drawn(page).values())
    return {(painted["zmin"], painted["zmax"]) for _, painted in maps}


def means(store, *names):
    """The mean of every cell none of whose seeds diverged or failed, of some sweeps, by pandas."""
    rows = pd.concat(
        [pd.read_parquet(path) for name in names for path in (store.root / name / "runs").glob("*.parquet")]
    )
    cells = rows[rows["state"] != "failed"].groupby(["variant", "lr", "wd"])
    return cells["val_loss"].mean()[cells["state"].agg(lambda states: (states == "completed").all())]


def test_a_page_of_a_sweep_has_a_map_of_each_panel(reader):
    page = maps.page(reader, ["tiny"], "")
    assert [graph.id["name"] for graph in parts_of(page, "Graph") if isinstance(graph.id, dict)] == [
        "tiny/sgd", "tiny/sgdw", "tiny/adamw",
    ]  # fmt: skip
    assert all(graph.figure["data"] for graph in parts_of(page, "Graph") if isinstance(graph.id, dict))


def test_an_address_chooses_maps_and_what_they_show(reader):
    page = maps.page(reader, ["tiny"], "?map=tiny%2Fsgdw&shows=se&step=6")
    assert [graph.id["name"] for graph in parts_of(page, "Graph") if isinstance(graph.id, dict)] == ["tiny/sgdw"]
    view = next(part for part in parts_of(page, "Store") if part.id == "view").data
    assert (view["shows"], view["step"]) == ("se", 6)
    assert "after 6 steps" in text_of(page)


@pytest.mark.parametrize(
    ("units", "labels"),
    [
        ("", {"tiny/sgd": "weight decay λ", "tiny/sgdw": "weight decay λ", "tiny/adamw": "weight decay λ"}),
        (
            "torch",
            {
                "tiny/sgd": "weight decay λ",
                "tiny/sgdw": "torch's weight_decay, λ/α",
                "tiny/adamw": "torch's weight_decay, λ/α",
            },
        ),
    ],
)
def test_a_map_names_the_weight_decay_that_it_is_drawn_over(reader, units, labels):
    figures = drawn(maps.page(reader, ["tiny"], f"?units={units}"))
    assert {name: figure["layout"]["xaxis"]["title"]["text"] for name, figure in figures.items()} == labels


def test_a_comparison_is_of_the_sweeps_it_names_or_of_some(reader):
    assert maps.compared(reader, "?sweep=b&sweep=a&sweep=b") == ["b", "a"]
    assert maps.compared(reader, "") == ["tiny"]


@pytest.mark.parametrize("query", ["?shows=se", "?shows=n", "?shows=0", "?metric=test_loss"])
def test_a_legend_explains_only_marks_that_are_drawn(reader, query):
    assert "ten best" in text_of(maps.page(reader, ["tiny"], ""))
    assert "ten best" not in text_of(maps.page(reader, ["tiny"], query))


def test_the_colours_of_several_sweeps_are_kept_once_whatever_changes(reader, store):
    first = _scale(reader, ["tiny"], View())
    assert _scale(reader, ["tiny"], View()) is first
    kept = reader.cached().kept
    (store.root / "tiny" / "spec.yaml").touch()
    reader._looked.clear()
    assert _scale(reader, ["tiny"], View()) is not first
    assert reader.cached().kept == kept
    assert first.nbytes == first.order.nbytes


def test_the_legend_goes_from_the_best_cell_to_the_quantile_of_the_stored(reader, store):
    known = means(store, "tiny")
    for clip in (80.0, 50.0):
        gradient = maps._legend(reader, ["tiny"], View(scale="linear", clip=clip))[0]
        words = text_of(gradient)
        low, high = known.min(), np.quantile(known, clip / 100)
        assert words.startswith("validation loss")
        assert words.split()[2] == numerals.metric_value("val_loss", low)
        assert words.split()[-2:] == ["≥", numerals.metric_value("val_loss", high)]
    assert "≥" not in text_of(maps._legend(reader, ["tiny"], View(clip=100.0)))
    assert "≥" in text_of(maps._legend(reader, ["tiny"], View(clip=100.0, step=6)))  # it may be beyond the end's


def test_the_legend_tells_its_colours_apart_however_alike_they_are(tmp_path, make_spec):
    spec, store = make_spec(variants=["sgdw"]), Store(tmp_path / "alike")
    store.save_spec(spec)
    rows = [result_of(run) for run in runs(spec)]
    alike = [row | {"val_loss": 0.108 + row["val_loss"] / 1e5} for row in rows]
    store.save_pack("tiny", "p", alike, [])
    told = Reader(store, Never())

    def labels(**view):
        *_, ticks = maps._legend(told, ["tiny"], View(**view))[0].children
        return [span.children for span in ticks.children if span.children]

    assert len(set(labels())) == 5
    store.save_pack("tiny", "p", [row | {"val_loss": 2.42e-4} for row in rows], [])
    told._looked.clear()
    assert [labels(scale=scale) for scale in ("log", "linear", "rank")] == [["0.000242"]] * 3
    store.save_pack("tiny", "p", alike, [])
    told._looked.clear()
    assert labels()[0].startswith("0.1080")
    assert labels(shows="n") == ["2"]  # there is no part of a seed
    for view in ({"scale": "rank"}, {"shows": "se"}):
        assert len(set(labels(**view))) == len(labels(**view)) > 0


def test_the_legend_has_a_mark_for_each_state_that_occurs_and_no_other(reader, store, make_spec):
    told = text_of(maps._legend(reader, ["tiny"], View()))
    assert [word in told for word in ("diverged", "failed", "not trained yet", "stopped early")] == [
        True,
        True,
        True,
        False,
    ]
    store.save_spec(make_spec(name="new"))
    told = text_of(maps._legend(reader, ["new"], View()))
    assert [word in told for word in ("diverged", "failed", "not trained yet")] == [False, False, True]


def test_sweeps_are_compared_on_the_scale_of_all_their_cells(reader, store, make_spec):
    spec = make_spec(name="worse")
    store.save_spec(spec)
    rows = [{**row, "val_loss": 10 * row["val_loss"]} for run in runs(spec)
            if (row := result_of(run)) and row["state"] == "completed"]  # fmt: skip
    store.save_pack("worse", "p", rows, [])
    page = maps.page(reader, ["tiny", "worse"], "?scale=linear&clip=100", comparing=True)
    known = np.concatenate([means(store, name) for name in ("tiny", "worse")])
    ((low, high),) = scales(page)
    assert (low, high) == pytest.approx((known.min(), known.max()))
    assert scales(maps.page(reader, ["tiny"], "?scale=linear&clip=100")) != {(low, high)}


@pytest.mark.parametrize("names", [["tiny", "errors"], ["errors", "tiny"]])
def test_sweeps_tuned_by_several_metrics_are_compared_by_one(reader, store, make_spec, names):
    spec = make_spec(name="errors", metric="val_error")
    store.save_spec(spec)
    rows = [{**row, "val_error": row["val_loss"] / 100} for run in runs(spec)
            if (row := result_of(run)) and row["state"] == "completed"]  # fmt: skip
    store.save_pack("errors", "p", rows, [])
    (page, asked) = (
        maps.page(reader, names, query, comparing=True) for query in ("", f"?metric={reader.spec(names[0]).metric}")
    )
    assert scales(page) == scales(asked)
    assert [figure["data"] for figure in drawn(page).values()] == [figure["data"] for figure in drawn(asked).values()]


def test_sweeps_without_a_common_metric_are_not_compared(reader, store, make_spec):
    store.save_spec(make_spec(name="new", metric="val_f1"))
    with pytest.raises(SpecError, match="tiny, new have none in common"):
        maps.page(reader, ["tiny", "new"], "", comparing=True)


def test_colours_stay_while_evaluations_are_played(reader):
    assert scales(maps.page(reader, ["tiny"], "?step=6")) == scales(maps.page(reader, ["tiny"], ""))


def test_a_map_at_an_evaluation_is_drawn_of_panels_that_have_not_begun(tmp_path, make_spec):
    spec, store = make_spec(), Store(tmp_path / "begun")
    store.save_spec(spec)
    rows = [result_of(run) for run in runs(spec) if run.cell.variant == "sgd"]
    store.save_pack("tiny", "p", rows, [point for row in rows for point in curve_of(row)])
    assert list(drawn(maps.page(Reader(store, Never()), ["tiny"], "?step=6"))) == [
        "tiny/sgd",
        "tiny/sgdw",
        "tiny/adamw",
    ]


@pytest.mark.parametrize("units", ["", "torch", "paper"])
def test_predicted_cells_are_marked_in_whatever_units_they_are_drawn(tmp_path, make_spec, units):
    spec, store = make_spec(adaptive={"most_cells": 0.5}, variants=["sgdw"]), Store(tmp_path / "adaptive")
    store.save_spec(spec)
    store.save_pack("tiny", "p", [result_of(run) for run in runs(spec) if run.cell.lr < 2**-2], [])
    reader = Reader(store, Never())
    (figure,) = drawn(maps.page(reader, ["tiny"], f"?units={units}")).values()
    told = text_of(maps._legend(reader, ["tiny"], View(units=units)))
    assert "predicted" in told
    assert "not trained yet" not in told
    marks = trace(figure, "predicted")
    assert set(array(marks["y"])) == {-2.0}
    assert len(array(marks["x"])) == 4


@pytest.mark.parametrize("query", ["?step=99999999999999999999", "?clip=nan", f"?shows={'9' * 5000}", "?shows=99", "?map=<b>", "?map=tiny%2F"])  # fmt: skip
def test_an_address_that_makes_no_sense_shows_all_maps(reader, query):
    page = maps.page(reader, ["tiny"], query)
    assert list(drawn(page)) == ["tiny/sgd", "tiny/sgdw", "tiny/adamw"]
    assert scales(page) == scales(maps.page(reader, ["tiny"], ""))


def test_the_numbers_name_the_best_cell_that_is_stored(store):
    own = means(store, "tiny")["sgdw"]
    told = text_of(maps._told(Reader(store, AtOnce()), View(), "tiny/sgdw")[0])
    lr, wd = own.idxmin()
    assert f"lr {numerals.power(lr)}, wd {numerals.power(wd)}: {own.min():.2f}"[:-1] in told
    assert "end of training" not in told
    assert "end of training" in text_of(maps._told(Reader(store, AtOnce()), View(step=6), "tiny/sgdw")[0])


def test_a_regret_of_an_error_rate_is_in_percent_as_the_rate_is(store):
    for metric, unit in (("val_loss", ""), ("val_error", " %")):
        store.save_spec(store.spec("tiny").model_copy(update={"metric": metric}))
        told = text_of(maps._told(Reader(store, AtOnce()), View(), "tiny/sgdw")[0])
        ((found,),) = [re.findall(r"Regret of tuning apart.*?\d\]?( %)?(?= [A-Z])", told)]
        assert found == unit, told


def test_a_map_does_not_wait_for_its_numbers(reader):
    assert text_of(maps._told(reader, View(), "tiny/sgdw")[0]) == maps.COMPUTING


def test_an_empty_store_says_what_to_run_to_have_something_to_compare(tmp_path):
    reader = Reader(Store(tmp_path))
    page = maps.page(reader, maps.compared(reader, ""), "", comparing=True)
    assert f"hpscan launch quickstart --store {tmp_path}" in text_of(page)
    assert drawn(page) == {}


def test_a_folder_s_name_is_quoted_in_every_link(reader, store):
    name = "a&b=c?d#e+f"
    (store.root / "tiny").rename(store.root / name)
    page = maps.page(reader, [name], "")
    hrefs = {link.children: urlsplit(link.href) for kind in ("Link", "A") for link in parts_of(page, kind)}
    assert maps.compared(reader, f"?{hrefs['Compare'].query}") == parse_qs(hrefs["Compare"].query)["sweep"] == [name]
    assert hrefs["Report"].path == "/sweeps/a%26b%3Dc%3Fd%23e%2Bf/report"
    assert not hrefs["Spec"].query
    assert not hrefs["Spec"].fragment


def test_the_legend_of_a_sweep_without_a_value_makes_none_up(tmp_path, make_spec):
    store = Store(tmp_path / "new")
    store.save_spec(make_spec())
    title, bar, *_ = (told := maps._legend(Reader(store, Never()), ["tiny"], View()))[0].children
    assert (text_of(title), bar) == ("validation loss", None)
    assert text_of(told).split() == ["validation", "loss", "○", "not", "trained", "yet"]


def test_the_legend_explains_the_dot_where_a_cell_has_fewer_seeds(reader):
    assert "fewer seeds" in text_of(maps._legend(reader, ["tiny"], View()))  # of adamw the second is missing


def test_a_page_says_what_runs_have_failed_of(reader):
    assert "1 failed: RuntimeError: <b>boom</b>" in text_of(maps.page(reader, ["tiny"], ""))
