import itertools

import matplotlib as mpl
import numpy as np
import pytest

from hpscan.analysis import Analysis, VariantAnalysis
from hpscan.gallery import further_drawings, save_gallery
from hpscan.landscape import landscapes
from hpscan.scaling_charts import budgets_chart, budgets_groups, scaling_chart
from hpscan.separation import separability
from hpscan.spec import SpecError
from hpscan.store import Store
from tests.test_landscape import frame_of
from tests.test_scaling import GRID, planted

mpl.use("Agg")

NOISY = planted(-0.5, noise=0.2)


@pytest.fixture
def make_analysis(make_spec, tmp_path):
    """The analysis of a sweep at several budgets with a planted exponent."""

    def make(value=NOISY, **changes):
        spec = make_spec(**{"variants": ["sgdw", "adamw-torch"], "grid": {**GRID, "steps": [16, 64, 1024]}, **changes})
        frame = frame_of(spec, value)
        shapes = landscapes(spec, frame)
        return Analysis(
            spec,
            [VariantAnalysis(shape, shape.best(), separability(shape)) for shape in shapes],
            Store(tmp_path),
            shapes,
        )

    return make


def test_every_scaling_has_a_panel_with_its_fit_and_both_references(make_analysis):
    analysis = make_analysis()
    figure = scaling_chart(analysis)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.lines]
    assert [title.split("\n")[0] for title in titles] == ["sgdw", "adamw-torch", "adamw-torch"]
    assert [axes.get_ylabel() for axes in figure.axes if axes.lines][1:] == [
        "best weight decay λ",
        "best α · weight decay",
    ]
    slopes = {}
    for line in figure.axes[0].lines:
        if len(line.get_xdata()) == 50:
            x, y = np.log2(line.get_xdata()), np.log2(line.get_ydata())
            slopes[line.get_label()] = (y[-1] - y[0]) / (x[-1] - x[0])
    assert slopes.pop("fit, with its 95 % band") == pytest.approx(analysis.scalings[0].exponent.value)
    assert slopes == {
        "constant normalised decay (Loshchilov & Hutter)": pytest.approx(-0.5),
        "constant EMA timescale (Wang & Aitchison)": pytest.approx(-1.0),
    }


@pytest.mark.parametrize(
    "steps", [[16, 64, 1024], [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200], [1234567, 2469134]], ids=len
)
def test_ticks_along_the_axis_do_not_overlap(make_analysis, steps):
    figure = scaling_chart(make_analysis(grid={**GRID, "steps": steps}))
    figure.draw_without_rendering()
    for axes in (axes for axes in figure.axes if axes.lines):
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert len(boxes) >= 2
        assert all(before.x1 < after.x0 for before, after in itertools.pairwise(boxes))
        texts = [label.get_text() for label in axes.get_xticklabels()]
        assert set(texts) <= set(map(str, steps))


@pytest.mark.parametrize("variants", [["sgdw"], ["sgdw", "adam"], ["sgdw", "adam", "sgd", "adamw"]], ids=len)
def test_the_legend_fits_into_the_figure(make_analysis, variants):
    narrow = {**GRID, "wd": {"log2": [-7, 0], "points": 8}, "steps": [16, 64, 1024]}  # with an optimum on an edge
    figure = scaling_chart(make_analysis(variants=variants, grid=narrow))
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert 0 <= legend.x0 <= legend.x1 <= figure.bbox.width


def test_optima_on_an_edge_are_triangles_and_said_so(make_analysis):
    narrow = {**GRID, "wd": {"log2": [-7, 0], "points": 8}, "steps": [16, 64, 1024]}
    figure = scaling_chart(make_analysis(planted(-0.5), variants=["sgdw"], grid=narrow))
    (marker,) = [line for line in figure.axes[0].lines if line.get_marker() == "v"]
    assert marker.get_xdata() == [1024]
    assert "on an edge of the grid: beyond, not fitted" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_landscapes_of_the_papers_form_are_drawn_over_raw_and_normalised_decay(make_analysis):
    analysis = make_analysis(planted(-0.5))
    figure = budgets_chart(analysis)
    raw, normalised = ([axes for axes in figure.axes if axes.get_xlabel() == label]
                       for label in ("weight decay λ", "λ_norm = λ √steps"))  # fmt: skip
    lines = [[next(line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2) for axes in row]
             for row in (raw, normalised)]  # fmt: skip
    np.testing.assert_allclose(np.diff(lines[0]), [-1, -2])
    np.testing.assert_allclose(np.diff(lines[1]), 0, atol=1e-9)


def test_a_sweep_without_such_axes_calls_for_neither(make_analysis, tmp_path):
    analysis = make_analysis(grid=GRID, variants=["sgdw"])
    assert [picture.name for picture in further_drawings(analysis)] == ["collapse"]
    assert {path.stem for path in save_gallery(analysis, tmp_path)} == {"heatmaps", "separability", "collapse"}


@pytest.mark.parametrize("fill", [np.nan, np.inf])
def test_nothing_to_see_is_no_error(make_analysis, fill):
    analysis = make_analysis(lambda run: fill)
    for picture in further_drawings(analysis):
        picture.draw(analysis).draw_without_rendering()
    assert len(budgets_groups(analysis)) == 1


def test_without_decay_there_is_no_best_one_to_draw(make_analysis):
    analysis = make_analysis(lambda run: run.cell.lr, grid={**GRID, "wd": [0], "steps": [16, 64]})
    assert further_drawings(analysis) == []
    with pytest.raises(SpecError, match="a best weight decay above 0 at each"):
        scaling_chart(analysis)
    with pytest.raises(SpecError, match="budgets needs adamw, sgdw"):
        budgets_chart(analysis)
