"""How the best cells learnt, drawn: lines and bands against the curves that they are of."""

import matplotlib as mpl
import numpy as np
import pytest

from hpscan.curve_charts import curves_chart, has_curves
from hpscan.spec import SpecError
from tests.curves import analysis_of

mpl.use("Agg")


def bowl(run):
    """Best at lr 2⁻⁴ and wd 2⁻⁴, worse by a tenth for every further seed."""
    return 0.5 + 0.1 * (np.log2(run.cell.lr) + 4) ** 2 + 0.1 * (np.log2(run.cell.wd) + 4) ** 2 + 0.1 * run.seed


@pytest.fixture
def lines(make_spec):
    def draw(value=bowl, **changes):
        analysis = analysis_of(make_spec(**changes), value, steps=(4, 8, 12))
        (axes, *_) = curves_chart(analysis).axes
        return analysis, axes

    return draw


def test_a_line_is_the_mean_over_the_seeds_of_a_variants_best_cell_and_the_band_reaches_over_them(lines):
    analysis, axes = lines(variants=["sgd", "adamw"], metric="val_loss")
    assert [line.get_label() for line in axes.lines] == [variant.name for variant in analysis.variants]
    for line, band in zip(axes.lines, axes.collections, strict=True):
        assert line.get_xdata().tolist() == [4, 8, 12]
        np.testing.assert_allclose(line.get_ydata(), [0.55 + 0.8, 0.55 + 0.4, 0.55])
        ends = band.get_paths()[0].vertices[:, 1]
        assert (ends.min(), ends.max()) == pytest.approx((0.5, 0.6 + 0.8))


def test_a_metric_above_0_has_a_scale_of_its_powers_and_one_that_reaches_it_has_not(lines):
    assert lines(variants=["sgd"])[1].get_yscale() == "log"
    assert lines(lambda run: bowl(run) - 0.5, variants=["sgd"], seeds=[0])[1].get_yscale() == "linear"


def test_ticks_that_lie_close_have_digits_enough_to_tell_them_apart(lines):
    _, axes = lines(lambda run: 1e5 + bowl(run))
    axes.figure.draw_without_rendering()
    told = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(told)) == len(told) > 1


def test_a_variant_that_diverged_everywhere_has_no_line(lines):
    _, axes = lines(lambda run: np.inf if run.variant.name == "sgd" else bowl(run), variants=["sgd", "adamw"])
    assert [line.get_label() for line in axes.lines] == ["adamw"]


def test_eleven_variants_have_lines_that_can_be_told_apart(lines):
    names = ["sgd", "sgdw", "adam", "adamw", "amsgrad", "amsgradw", "nadam", "nadamw", "adagrad", "lion", "lion-l2"]
    _, axes = lines(variants=names)
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == len(names)


def test_without_evaluations_of_the_metric_there_is_nothing_to_draw(make_spec):
    spec = make_spec(variants=["sgd"])
    diverged, other = analysis_of(spec, lambda run: np.inf), analysis_of(spec, bowl)
    del other.store.curves(spec.name)[spec.metric]
    for analysis in (diverged, other):
        assert not has_curves(analysis)
        with pytest.raises(SpecError, match="tiny: learning curves need best cells with evaluations of"):
            curves_chart(analysis)
