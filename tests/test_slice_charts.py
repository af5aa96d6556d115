import math
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

from hpscan.slice_charts import ridge, ridge_chart, slices_chart
from hpscan.spec import SpecError
from tests.curves import analysis_of

mpl.use("Agg")
GRID = {"lr": {"log2": [-8, -2], "points": 7}, "wd": {"log2": [-10, 0], "points": 11}}


def leaning(slope):
    """A valley whose best log wd is −5 + slope · (log lr + 5), with a little noise of seeds."""

    def value(run):
        x, y = math.log2(run.cell.lr) + 5, math.log2(run.cell.wd) + 5
        noise = 0.01 * math.sin(7 * x + 13 * y + 5 * run.seed)
        return 1 + 0.02 * x**2 + 0.05 * (y - slope * x) ** 2 + noise

    return value


@pytest.fixture
def make_analysis(make_spec):
    def make(value, **changes):
        return analysis_of(make_spec(**{"variants": ["sgd"], "grid": GRID, "seeds": 4, **changes}), value)

    return make


@pytest.mark.parametrize("slope", [0.0, -1.0, 0.5])
def test_the_ridge_follows_a_planted_valley(make_analysis, slope):
    (variant,) = make_analysis(leaning(slope)).variants
    optima, fitted = ridge(variant.landscape)
    for best in optima:
        if best.inside:
            assert math.log2(best.wd.value) == pytest.approx(-5 + slope * (math.log2(best.at) + 5), abs=0.3)
    assert fitted.value == pytest.approx(slope, abs=0.1)
    assert fitted.low <= slope <= fitted.high


def test_the_ridge_is_drawn_over_the_landscape(make_analysis):
    analysis = make_analysis(leaning(-0.5))
    figure = ridge_chart(analysis)
    axes = figure.axes[0]
    optima, _ = ridge(analysis.variants[0].landscape)
    (points,) = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(points.get_xdata(), [math.log2(best.wd.value) for best in optima if best.inside])
    assert axes.get_title(loc="left").startswith("sgd\nslope −0.5")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("weight decay λ", "learning rate α")


@pytest.mark.parametrize("variants", [["sgd"], ["sgd", "adam"], ["sgd", "adam", "sgdw"]])
def test_the_legend_of_the_ridge_lies_within_the_figure(make_analysis, variants):
    figure = ridge_chart(make_analysis(leaning(-2.0), variants=variants))
    assert len(figure.legends[0].get_texts()) == 2
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width


def test_an_optimum_on_an_edge_is_a_triangle(make_analysis):
    analysis = make_analysis(lambda run: 1 + run.cell.wd + 0.001 * run.seed)
    axes = ridge_chart(analysis).axes[0]
    (marks,) = [line for line in axes.lines if line.get_marker() == "<"]
    assert list(marks.get_xdata()) == [-10.0] * 7


def test_slices_are_rows_and_columns_through_the_best_cell(make_analysis):
    analysis = make_analysis(leaning(0.0))
    shape = analysis.variants[0].landscape
    i, j = shape.ranked()[0]
    figure = slices_chart(analysis)
    for axes, expected in zip(figure.axes, (shape.mean()[i], shape.mean()[:, j]), strict=True):
        (heavy,) = [line for line in axes.lines if line.get_linewidth() > 1.5]
        np.testing.assert_allclose(heavy.get_ydata(), expected)
    assert [axes.get_xlabel() for axes in figure.axes] == ["weight decay λ", "learning rate α"]


def test_a_landscape_far_above_the_others_has_a_scale_of_its_own(make_analysis):
    def value(run):
        return leaning(0.0)(run) * (100 if run.recipe.steps == 6 else 1)

    budgets = [6, 12, 24, 48, 96, 192]
    analysis = make_analysis(value, grid={**GRID, "steps": budgets})
    figure = slices_chart(analysis)
    for axes, variant in zip(figure.axes[::2], analysis.variants, strict=True):
        low, high = axes.get_ylim()
        assert low < variant.best.means["val_loss"] < high
    assert len({axes.get_ylim() for axes in figure.axes}) == 2


def test_slices_of_a_negative_metric_lie_within_their_axes(make_analysis):
    analysis = make_analysis(lambda run: leaning(0.0)(run) - 5)
    axes = slices_chart(analysis).axes[0]
    low, high = axes.get_ylim()
    assert low < analysis.variants[0].best.means["val_loss"] < high < 0


@pytest.mark.parametrize("metric", ["val_loss", "val_error"])
def test_ticks_that_lie_close_have_digits_enough_to_tell_them_apart(make_analysis, metric):
    figure = slices_chart(make_analysis(lambda run: 0.1 + 1e-4 * leaning(0.0)(run), metric=metric))
    figure.draw_without_rendering()
    told = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(set(told)) == len(told) > 1


def test_a_line_ends_where_a_seed_diverged(make_analysis):
    analysis = make_analysis(lambda run: math.inf if run.cell.wd == 1.0 and run.seed == 0 else leaning(0.0)(run))
    figure = slices_chart(analysis)
    assert all(np.isnan(line.get_ydata()[-1]) for line in figure.axes[0].lines)
    figure.draw_without_rendering()


def test_no_decay_has_a_place_of_its_own(make_analysis):
    analysis = make_analysis(lambda run: 1 + run.cell.wd, grid={"lr": [0.1, 0.2], "wd": [0, 0.25, 0.5, 1]})
    axes = slices_chart(analysis).axes[0]
    assert axes.get_xticklabels()[0].get_text() == "0"
    ridge_chart(analysis).draw_without_rendering()


@pytest.mark.parametrize(("draw", "kind"), [(slices_chart, "slices"), (ridge_chart, "ridge")])
def test_a_metric_by_which_nothing_is_chosen_is_refused_as_such(make_analysis, draw, kind):
    analysis = make_analysis(leaning(0.0))
    shown = replace(analysis, spec=analysis.spec.model_copy(update={"metric": "rotation"}))
    with pytest.raises(SpecError, match=f"tiny: {kind} needs a best cell, and by rotation nothing is chosen"):
        draw(shown)


def test_what_has_no_ridge_or_no_result_says_so(make_analysis):
    with pytest.raises(SpecError, match="tiny: ridge needs results at two learning rates"):
        ridge_chart(make_analysis(leaning(0.0), grid={"lr": [0.1, 0.2], "wd": [0.5]}))
    with pytest.raises(SpecError, match="tiny: slices go through the best cell; no cell has a result yet"):
        slices_chart(make_analysis(lambda run: math.nan))
