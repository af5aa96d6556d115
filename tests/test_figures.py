import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from hpscan import figures
from hpscan.analysis import Analysis, VariantAnalysis
from hpscan.separation import separability
from hpscan.store import Store, StoreError
from tests.curves import analysis_of

mpl.use("Agg")


@pytest.fixture
def make_analysis(make_spec, make_landscape, tmp_path):
    """An analysis of hand-made surfaces: {variant: array of shape (seeds, lrs, wds)}."""

    def make(surfaces):
        shapes = [make_landscape(z, variant=variant) for variant, z in surfaces.items()]
        variants = [VariantAnalysis(shape, shape.best(), separability(shape)) for shape in shapes]
        return Analysis(make_spec(variants=list(surfaces)), variants, Store(tmp_path), shapes)

    return make


def bowl(n_seeds=2, n_lr=9, n_wd=9):
    x, y = np.meshgrid(np.arange(n_lr) - n_lr // 2, np.arange(n_wd) - n_wd // 2, indexing="ij")
    return np.repeat((1 + 0.1 * (x**2 + y**2))[None], n_seeds, axis=0)


def panels(figure):
    return [axes for axes in figure.axes if axes.images]


def test_every_variant_has_a_panel_on_one_colour_scale(make_analysis):
    figure = figures.heatmaps(make_analysis({name: bowl() for name in ("sgd", "sgdw", "adam", "adamw", "adamw-torch")}))
    drawn = panels(figure)
    assert [axes.get_title(loc="left").split(" ")[0] for axes in drawn] == [
        "sgd",
        "sgdw",
        "adam",
        "adamw",
        "adamw-torch",
    ]
    assert len({(axes.images[0].norm.vmin, axes.images[0].norm.vmax) for axes in drawn}) == 1


def test_a_full_disk_is_told_of_the_figure_and_leaves_nothing_of_it(make_analysis, tmp_path, monkeypatch):
    drawn = figures.heatmaps(make_analysis({"sgdw": bowl()}))
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StoreError, match=r"new/landscape\.png: cannot be written \(No space left on device\)$"):
        figures.save_figure(drawn, tmp_path / "new", "landscape")
    assert [*tmp_path.rglob("*.*")] == []


def test_one_outlier_does_not_move_the_colour_scale(make_analysis):
    calm, spiked = bowl(), bowl()
    spiked[:, 0, 0] = 1e6
    scales = []
    for z in (calm, spiked):
        (axes,) = panels(figures.heatmaps(make_analysis({"sgdw": z})))
        scales.append((axes.images[0].norm.vmin, axes.images[0].norm.vmax))
    assert scales[0] == pytest.approx(scales[1], rel=0.05)


def test_cells_without_a_result_are_painted_by_their_state_and_never_coloured(make_analysis):
    z = bowl()
    z[:, 0, 0] = np.inf
    z[1, 0, 1] = np.inf
    z[:, 0, 2] = np.nan
    z[1, 4, 5] = np.nan
    figure = figures.heatmaps(make_analysis({"sgdw": z}))
    (axes,) = panels(figure)
    faces = axes.images[1].get_array()
    blank = {(i, j): to_hex(faces[i, j]) for i, j in np.argwhere(faces[..., 3] > 0).tolist()}
    diverged, missing = (figures.BLANKS[state] for state in ("diverged", "missing"))
    assert blank == {(0, 0): diverged[0], (0, 1): diverged[0], (0, 2): missing[0]}
    hatched = {patch.get_hatch(): patch.get_path() for patch in axes.patches}
    for hatch, cells in ((diverged[1], {(0, 0), (0, 1)}), (missing[1], {(0, 2)})):
        inside = {(i, j) for i, j in np.ndindex(z.shape[1:]) if hatched[hatch].contains_point((j, i))}
        assert inside == cells
    coloured = axes.images[0].get_array()
    assert coloured.mask[0, 0]
    assert coloured.mask.sum() == 3
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["best cell", "ten best cells", "fewer seeds than planned", "a seed diverged", "missing"]


def test_the_best_cell_has_a_star_and_the_ten_best_have_circles(make_analysis):
    (axes,) = panels(figures.heatmaps(make_analysis({"sgdw": bowl()})))
    marks = {line.get_marker(): list(zip(line.get_ydata(), line.get_xdata(), strict=True)) for line in axes.lines}
    assert marks["*"] == [(4, 4)]
    assert len(marks["o"]) == 10
    assert marks["o"][0] == (4, 4)


@pytest.mark.parametrize("z", [bowl(n_lr=1, n_wd=1), bowl(n_lr=2, n_wd=5)], ids=["one-cell", "ten-cells"])
def test_where_the_ten_best_would_be_all_cells_none_has_a_circle(make_analysis, z):
    figure = figures.heatmaps(make_analysis({"sgdw": z}))
    (axes,) = panels(figure)
    assert "o" not in {line.get_marker() for line in axes.lines if len(line.get_xdata())}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["best cell"]


@pytest.mark.parametrize("points", [1, 2, 6, 9, 13, 40])
def test_ticks_are_few_and_sit_on_cells(make_analysis, points):
    (axes,) = panels(figures.heatmaps(make_analysis({"sgdw": bowl(n_lr=9, n_wd=points)})))
    ticks = axes.get_xticks()
    assert 1 <= len(ticks) <= 7
    assert set(ticks) <= set(range(points))


@pytest.mark.parametrize("lowest", [-5.0, -1.5])
def test_a_metric_that_is_negative_somewhere_has_a_linear_scale_over_its_own_values(make_analysis, lowest):
    z = bowl() - 1 + lowest
    figure = figures.heatmaps(make_analysis({"sgdw": z}))
    (image,) = [axes.images[0] for axes in panels(figure)]
    np.testing.assert_allclose(image.get_array(), z[0])
    assert image.norm.vmin == lowest < image.norm.vmax < z.max()
    (bar,) = [axes for axes in figure.axes if not axes.images and axes.get_ylabel()]
    assert bar.get_ylabel().endswith("(linear scale, cut at the 80% quantile)")
    assert bar.get_yticklabels()[0].get_text() == f"−{-lowest:.3f}"


@pytest.mark.parametrize("rise", [1.0, 1e-3, 1e-5])
def test_a_colour_bar_tells_its_colours_apart_however_alike_they_are(make_analysis, rise):
    figure = figures.heatmaps(make_analysis({"sgdw": 0.108 + rise * bowl()}))
    (bar,) = [axes for axes in figure.axes if not axes.images and axes.get_ylabel()]
    labels = [label.get_text() for label in bar.get_yticklabels()]
    assert len(set(labels)) == len(labels) == 6


@pytest.mark.parametrize("fill", [np.nan, np.inf, 1.0])
def test_degenerate_landscapes_are_drawn(make_analysis, fill):
    analysis = make_analysis({"sgd": np.full((1, 3, 3), fill), "sgdw": np.full((1, 3, 3), fill)})
    for draw in figures.FIGURES.values():
        draw(analysis).draw_without_rendering()


def test_the_chart_has_a_row_for_every_variant(make_analysis):
    figure = figures.separability_chart(make_analysis({"sgd": bowl(), "sgdw": bowl()}))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["sgd", "sgdw"]


@pytest.mark.parametrize(("metric", "unit"), [("val_loss", ""), ("val_error", " %")])
def test_the_chart_has_a_regret_in_the_units_of_its_metric(make_spec, metric, unit):
    analysis = analysis_of(
        make_spec(metric=metric), lambda run: 0.1 + (run.cell.lr * run.cell.wd * (1 + run.seed)) % 0.1
    )
    figure = figures.separability_chart(analysis)
    figure.draw_without_rendering()
    *others, regret = ([label.get_text() for label in axes.get_xticklabels()] for axes in figure.axes)
    assert all(text.endswith(unit) for text in regret)
    assert not any("%" in text for texts in others for text in texts)


def test_every_format_is_written_and_repeatable(make_analysis, tmp_path):
    analysis = make_analysis({"sgd": bowl(), "sgdw": bowl()})
    first, second = (figures.save_figures(analysis, tmp_path / name) for name in ("a", "b"))
    assert {path.name for path in first} == {
        f"{name}.{suffix}" for name in ("heatmaps", "separability") for suffix in ("png", "svg", "pdf")
    }
    assert Image.open(first[0]).size[0] > 800
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
