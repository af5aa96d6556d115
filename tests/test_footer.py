import matplotlib as mpl
import pytest
from matplotlib.figure import Figure

from hpscan.footer import add_footer, setting
from tests.curves import analysis_of

mpl.use("Agg")


@pytest.fixture
def make_analysis(make_spec):
    return lambda **changes: analysis_of(make_spec(**changes), lambda run: 1.0 + run.cell.wd)


def test_what_differs_between_sweeps_is_joined(make_analysis):
    told = setting([make_analysis(seeds=1), make_analysis(name="b", schedule="step")], ["sgdw", "sgdw-torch"])
    assert "· cosine or step schedule · 1 seed or 2 seeds ·" in told
    assert told.endswith("sgdw: decay η·λ (paper); sgdw-torch: decay η·lr·λ (torch)")


def test_noise_in_the_labels_and_decay_on_everything_are_said(make_analysis, make_spec):
    noisy = make_analysis(
        workload={**make_spec().workload.model_dump(), "label_noise": 0.2}, decay_on="all", metric="val_error"
    )
    told = setting([noisy], ["sgd"])
    assert "20% of the labels random" in told
    assert "validation error" in told
    assert told.endswith("biases and gains decay, too")


@pytest.mark.parametrize("width", [3.35, 7.0])
def test_neither_panels_nor_legend_lie_on_it_and_it_fits(make_analysis, width):
    figure = Figure(figsize=(width, 3), layout="constrained")
    axes = figure.subplots()
    axes.plot([1, 2], label="a line")
    axes.set_xlabel("below")
    figure.legend(loc="outside lower center")
    add_footer(figure, [make_analysis()], ["sgd", "sgdw", "adam", "adamw"])
    figure.draw_without_rendering()
    footer, legend = figure.texts[0].get_window_extent(), figure.legends[0].get_window_extent()
    assert 0 <= footer.x0 <= footer.x1 <= figure.bbox.width
    assert 0 <= footer.y0 <= footer.y1 <= legend.y0 + 1
    assert legend.y1 <= axes.get_tightbbox().y0 + 1
