"""The landscapes of several sweeps on one colour scale."""

import matplotlib as mpl
import numpy as np
import pytest

from hpscan.comparison_charts import side_by_side
from tests.curves import analysis_of

mpl.use("Agg")


@pytest.fixture
def two(make_spec):
    """Two sweeps that have AdamW in common, the second twice as bad."""
    return [
        analysis_of(make_spec(name=name, variants=variants), lambda run, k=k: k * (1 + run.cell.lr + run.cell.wd))
        for name, variants, k in (("one", ["sgd", "adamw"], 1), ("two", ["adamw"], 2))
    ]


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


def shown(analyses, headings):
    """What is written above and beside each landscape, with the (column, row) where it is."""
    figure = side_by_side(analyses, headings, told=lambda variant: f"of {variant.name}")
    figure.draw_without_rendering()
    places = [(axes, axes.get_position()) for axes in panels(figure)]
    columns = sorted({round(place.x0, 2) for _, place in places})
    rows = sorted({round(-place.y0, 2) for _, place in places})
    return {
        (columns.index(round(place.x0, 2)), rows.index(round(-place.y0, 2))): (
            axes.get_title(loc="left"),
            axes.get_ylabel().split("\n")[0],
        )
        for axes, place in places
    }


def test_a_row_is_a_variant_and_a_column_a_sweep_under_its_heading(two):
    assert shown(two, ["First", "Second"]) == {
        (0, 0): ("First\nof sgd", "sgd"),
        (0, 1): ("of adamw", "adamw"),
        (1, 1): ("Second\nof adamw", "learning rate α"),  # which does not have the variant above
    }


def test_a_variant_that_the_first_sweep_does_not_have_is_named_where_it_is(two):
    assert shown(two[::-1], ["Second", "First"]) == {
        (0, 0): ("Second\nof adamw", "adamw"),
        (1, 0): ("First\nof adamw", "learning rate α"),
        (1, 1): ("of sgd", "sgd"),
    }


def test_all_are_on_one_scale_which_spans_what_any_of_them_has(two):
    shown = panels(side_by_side(two, ["First", "Second"]))
    ((low, high),) = {axes.images[0].get_clim() for axes in shown}
    values = np.concatenate([np.ma.compressed(axes.images[0].get_array()) for axes in shown])
    assert low <= values.min() < values.max()
    assert high > low
