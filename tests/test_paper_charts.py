from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

from hpscan.analysis import VariantAnalysis
from hpscan.paper_charts import paper_fig1, paper_fig2, paper_fig3, paper_fig4
from hpscan.spec import SpecError
from tests.curves import Recorded, analysis_of

mpl.use("Agg")


def value(run):
    return 1 + run.cell.lr + abs(run.cell.wd - 0.06) + 0.01 * run.seed


@pytest.fixture
def make_analysis(make_spec):
    return lambda value=value, **changes: analysis_of(make_spec(**{"variants": ["adam", "adamw"], **changes}), value)


def maps(figure):
    return [axes for axes in figure.axes if axes.images]


def test_figure_1_has_a_column_a_schedule_and_a_row_a_common_variant(make_analysis):
    sweeps = [make_analysis(name=name, schedule=name, variants=variants)
              for name, variants in (("constant", ["sgd", "adam", "adamw"]), ("step", ["adam", "adamw"]))]  # fmt: skip
    figure = paper_fig1(sweeps)
    drawn = maps(figure)
    assert [axes.get_title(loc="left").split("\n")[0] for axes in drawn[:2]] == ["constant", "step"]
    assert [axes.get_ylabel().split("\n")[0] for axes in drawn] == [
        "adam",
        "learning rate α",
        "adamw",
        "learning rate α",
    ]
    shape = sweeps[1].variants[1].landscape
    np.testing.assert_allclose(np.exp(drawn[3].images[0].get_array()), shape.mean())
    assert len({(axes.images[0].norm.vmin, axes.images[0].norm.vmax) for axes in drawn}) == 1


def test_figure_1_compares_sweeps_that_differ_in_their_schedule_only(make_analysis):
    alone, shorter = make_analysis(), make_analysis(name="shorter", schedule="step", budget={"steps": 6})
    with pytest.raises(SpecError, match="fig1: compares sweeps that differ in their schedule; got tiny alone"):
        paper_fig1([alone])
    with pytest.raises(SpecError, match="fig1: tiny and shorter differ in steps; they may differ in schedule only"):
        paper_fig1([alone, shorter])
    with pytest.raises(SpecError, match="fig1: tiny and other have no variant in common"):
        paper_fig1([alone, make_analysis(name="other", schedule="step", variants=["sgd"])])


def test_figure_2_sets_l2_beside_the_papers_form(make_analysis):
    figure = paper_fig2(make_analysis(variants=["adamw", "sgdw", "sgd", "adam", "adamw-torch"]))
    assert [axes.get_title(loc="left").split(" ")[0] for axes in maps(figure)] == ["sgd", "sgdw", "adam", "adamw"]
    for axes in maps(figure):
        (circles,) = [line for line in axes.lines if line.get_marker() == "o"]
        assert len(circles.get_xdata()) == 10
    with pytest.raises(SpecError, match="tiny: fig2 sets L2 beside decoupled decay"):
        paper_fig2(make_analysis(variants=["sgd", "adamw"]))


def test_a_diagnostic_without_a_best_cell_has_its_colours_explained(make_analysis):
    analysis = make_analysis()
    shapes = [
        replace(shape, metric="weight_norm", values={"weight_norm": shape.z})
        for shape in (variant.landscape for variant in analysis.variants)
    ]
    measured = replace(analysis, variants=[VariantAnalysis.of(shape) for shape in shapes])
    assert not any(variant.best for variant in measured.variants)
    assert "norm of the weights" in paper_fig2(measured).axes[-1].get_ylabel()


def test_figure_3_shows_curves_and_where_they_end(make_analysis):
    analysis = make_analysis(variants=["adam", "adamw-normalised"])
    loss, error, against_wd, against_loss = paper_fig3(analysis).axes
    assert (loss.get_ylabel(), error.get_ylabel()) == ("training loss", "validation loss")
    assert len(error.lines) == 2 * 4  # a line for each weight decay
    for container, variant in zip(against_wd.containers, analysis.variants, strict=True):
        i = variant.landscape.ranked()[0][0]
        np.testing.assert_allclose(container.lines[0].get_ydata(), variant.landscape.mean()[i])
    assert against_loss.get_xlabel() == "final training loss"
    with pytest.raises(SpecError, match="tiny: fig3 needs a variant with results at two weight decays"):
        paper_fig3(make_analysis(grid={"lr": [0.1], "wd": [0.1]}))


def test_figure_3_has_ticks_at_decays_that_are_no_powers_of_two(make_analysis):
    _, _, against_wd, _ = paper_fig3(make_analysis(grid={"lr": [0.1], "wd": [0, 0.001, 0.01, 0.1]})).axes
    assert [label.get_text() for label in against_wd.get_xticklabels()] == ["0", "$10^{-3}$", "$10^{-2}$", "$10^{-1}$"]


def test_the_legend_of_figure_3_lies_within_the_figure(make_analysis):
    grid = {
        "lr": [0.125],
        "wd": [0.1, 0.2],
        "batch_size": [4, 8],
        "variants": {"sgd": {"momentum": [0.85, 0.95], "nesterov": [True]}},
    }
    figure = paper_fig3(make_analysis(variants=["sgd", "adam"], grid=grid))
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width


def test_figure_3_tells_seven_landscapes_apart(make_analysis):
    figure = paper_fig3(make_analysis(grid={"lr": [0.1], "wd": [0.1, 0.2], "batch_size": [4, 5, 6, 8]}))
    marks = {(line.get_color(), line.get_marker()) for line in figure.axes[3].lines if line.get_marker() in "osD^vP"}
    assert len(marks) == 8


def test_ticks_that_lie_close_have_digits_enough_to_tell_them_apart(make_analysis):
    figure = paper_fig3(make_analysis(lambda run: 0.5 + 1e-5 * value(run)))
    figure.draw_without_rendering()
    for axes in figure.axes[1:]:
        told = [label.get_text() for label in axes.get_yticklabels()]
        assert len(set(told)) == len(told) > 1


def test_figure_4_marks_where_periods_end(make_analysis):
    plain = make_analysis(grid={"lr": [0.1], "wd": [0.1], "steps": [6, 12]})
    restarts = make_analysis(
        name="restarts", grid={"lr": [0.1], "wd": [0.1]}, schedule={"name": "cosine_restarts", "first": 6, "mult": 1}
    )
    figure = paper_fig4([plain, restarts])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["adam"]
    marks = {line.get_label(): list(line.get_xdata()) for line in figure.axes[0].lines if line.get_marker() != "None"}
    assert marks["adamw, cosine, restarts from 6 × 1"] == [6, 12]
    assert marks["adam, cosine"] == [6]
    with pytest.raises(SpecError, match="differ in workload"):
        paper_fig4([plain, make_analysis(name="b", workload={**plain.spec.workload.model_dump(), "train": 100})])


@pytest.mark.parametrize("draw", [paper_fig2, paper_fig3, lambda one: paper_fig1([one, one])], ids=["2", "3", "1"])
def test_every_figure_says_what_it_is_of(make_analysis, draw):
    (footer,) = draw(make_analysis()).texts
    told = " ".join(footer.get_text().split())
    assert told == (
        "digits, normalised_mlp · 12 steps of batch 16 · cosine schedule · 2 seeds · validation loss, mean over seeds · "
        "adam: L2 in the gradient; adamw: decay η·λ (paper)"
    )


@pytest.mark.parametrize(
    "draw",
    [paper_fig3, lambda one: paper_fig4([one, replace(one, spec=one.spec.model_copy(update={"name": "b"}))])],
    ids=["3", "4"],
)
def test_sweeps_without_curves_are_refused_where_they_are_drawn(make_analysis, draw):
    analysis = make_analysis()
    empty = replace(analysis, store=Recorded(analysis.curves.iloc[:0]))
    with pytest.raises(SpecError, match=r"tiny: .* has no evaluations on the way"):
        draw(empty)
