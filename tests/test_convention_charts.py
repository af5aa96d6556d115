import matplotlib as mpl
import numpy as np
import pytest

from hpscan.analysis import Analysis, VariantAnalysis, analyze
from hpscan.convention_charts import conventions_caption, conventions_chart, heatmaps_in, in_convention
from hpscan.conventions import redrawn
from hpscan.gallery import save_gallery, save_in_convention
from hpscan.rounds import AdaptiveRounds
from hpscan.separation import separability
from hpscan.spec import SpecError
from hpscan.store import Store
from hpscan.variants import Decay
from tests.test_rounds import trained

mpl.use("Agg")


@pytest.fixture
def make_analysis(make_spec, make_landscape, tmp_path):
    """An analysis of a bowl for each variant, of AdamW's two forms if wanted as two views of it."""

    def make(*variants):
        u, v = np.meshgrid(np.arange(7) - 3, np.arange(9) - 4, indexing="ij")
        bowl = make_landscape([1 + 0.1 * (u**2 + v**2) + 0.01 * seed for seed in range(2)], variant="adamw")
        shapes = {name: make_landscape(bowl.z, variant=name) for name in variants}
        if "adamw-torch" in shapes:
            shapes["adamw-torch"] = redrawn(bowl, Decay.TORCH)
        analysed = [VariantAnalysis(shape, shape.best(), separability(shape)) for shape in shapes.values()]
        return Analysis(make_spec(variants=list(variants)), analysed, Store(tmp_path), list(shapes.values()))

    return make


def titles(figure):
    return [axes.get_title(loc="left").split("\n") for axes in figure.axes if axes.images]


def test_a_landscape_stands_beside_itself_in_torchs_units_and_the_one_measured_there(make_analysis):
    analysis = make_analysis("adamw", "adamw-torch", "sgdw")
    figure = conventions_chart(analysis)
    assert [title[0] for title in titles(figure)] == ["As measured", "The same runs, in torch's units", "As measured"]
    paper, again, measured = (axes.images[0].get_array() for axes in figure.axes if axes.images)
    assert again.shape == measured.shape
    np.testing.assert_array_equal(again.filled(-9), measured.filled(-9))
    assert np.sort(again.compressed()).tolist() == np.sort(paper.ravel()).tolist()
    figure.draw_without_rendering()
    assert "The 63 cells that were measured both ways are the same to the last bit" in conventions_caption(analysis)


def test_all_that_have_a_form_are_redrawn_in_the_units_asked_for(make_analysis, tmp_path):
    analysis = make_analysis("sgd", "sgdw", "adamw", "adamw-torch")
    assert [v.name for v in in_convention(analysis, Decay.TORCH).variants] == [
        "sgdw-torch from sgdw",
        "adamw-torch from adamw",
        "adamw-torch",
    ]
    paper = in_convention(analysis, Decay.PAPER)
    assert [variant.name for variant in paper.variants] == ["sgdw", "adamw", "adamw from adamw-torch"]
    np.testing.assert_array_equal(paper.variants[1].landscape.z, paper.variants[2].landscape.z)
    assert [path.name for path in save_in_convention(analysis, Decay.TORCH, tmp_path)] == [
        "heatmaps-torch.png",
        "heatmaps-torch.svg",
        "heatmaps-torch.pdf",
    ]


def test_heatmaps_in_a_form_s_units_name_its_weight_decay(make_analysis):
    analysis = make_analysis("sgdw", "adamw", "adamw-torch")
    for to, label in ((Decay.TORCH, "torch's weight_decay, λ/α"), (Decay.PAPER, "weight decay λ")):
        figure = heatmaps_in(analysis, to)
        assert {axes.get_xlabel() for axes in figure.axes if axes.images} == {label}


def test_a_sweep_with_nothing_to_redraw_says_so(make_analysis):
    with pytest.raises(SpecError, match="tiny: no variant has a form in torch's units"):
        in_convention(make_analysis("sgd", "adam"), Decay.TORCH)


def test_the_comparison_is_drawn_where_both_forms_were_measured(make_analysis, tmp_path):
    assert "conventions.png" in {path.name for path in save_gallery(make_analysis("adamw", "adamw-torch"), tmp_path)}
    assert "conventions.png" not in {path.name for path in save_gallery(make_analysis("adamw"), tmp_path)}


def test_of_an_adaptive_sweep_the_cells_that_were_trained_are_compared(make_spec, tmp_path):
    """What is predicted has the grid of its landscape, which is not the one that both are drawn on."""
    octaves = {"lr": {"log2": [-8, 0], "points": 9}}
    grid = {**octaves, "variants": {name: {"wd": {"log2": [low, low + 8], "points": 9}}
                                    for name, low in (("adamw", -10), ("adamw-torch", -5))}}  # fmt: skip
    spec, store = make_spec(grid=grid, variants=["adamw", "adamw-torch"], adaptive=True), Store(tmp_path)
    store.save_spec(spec)
    rounds = AdaptiveRounds(spec, store.location, frozenset(), 1)
    for _ in range(3):
        trained(store, spec, rounds.next())
    analysis = analyze(store, spec.name)
    assert all(variant.predicted.any() for variant in analysis.variants)
    *_, measured = analysis.sheared[0]
    assert not measured.predicted.any()
    conventions_chart(analysis).draw_without_rendering()


def test_where_nothing_was_measured_in_both_units_nothing_is_said_of_it(make_analysis):
    analysis = make_analysis("adamw", "adamw-torch")
    for _, _, torch in analysis.sheared:
        torch.landscape.values["val_loss"][:] = np.nan
    caption = conventions_caption(analysis)
    assert "nan" not in caption
    assert "measured both ways" not in caption
