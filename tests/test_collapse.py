from dataclasses import replace

import numpy as np
import pytest

from hpscan.analysis import Analysis, VariantAnalysis
from hpscan.collapse import collapses, curve_basis
from hpscan.collapse_charts import collapse_chart
from hpscan.separation import separability
from hpscan.store import Store


def planted(make_landscape, function, *, noise=0.0, n_seeds=3):
    """A landscape that is a function of log₂ lr and log₂ wd, and a rotation that is √(lr · wd)."""
    lr, wd = np.meshgrid(np.arange(-6.0, 3.0), np.arange(-8.0, 1.0), indexing="ij")
    rng = np.random.default_rng(0)
    z = function(lr, wd) + noise * rng.normal(size=(n_seeds, 9, 9))
    shape = make_landscape(z)
    return replace(shape, values={**shape.values, "rotation": np.broadcast_to(2 ** ((lr + wd) / 2), z.shape)})


def unexplained(shape):
    return {collapse.parameter: collapse.unexplained for collapse in collapses(shape)}


@pytest.mark.parametrize(
    ("function", "explaining"),
    [
        (lambda lr, wd: 1 + 0.05 * (lr + wd + 7) ** 2, {"lr·wd", "rotation"}),
        (lambda lr, wd: 1 + 0.05 * (wd + 4) ** 2 + 0 * lr, {"wd"}),
        (lambda lr, wd: 1 + 0.05 * (lr + 2) ** 2 + 0 * wd, {"lr"}),
    ],
    ids=["product", "decay", "rate"],
)
def test_what_decides_explains_all_and_nothing_else_does(make_landscape, function, explaining):
    shares = {name: share.value for name, share in unexplained(planted(make_landscape, function)).items()}
    assert {name for name, share in shares.items() if share < 0.05} == explaining
    assert min(share for name, share in shares.items() if name not in explaining) > 0.2


def test_the_noise_of_seeds_is_taken_out_and_the_interval_says_what_it_is(make_landscape):
    product = planted(make_landscape, lambda lr, wd: 1 + 0.05 * (lr + wd + 7) ** 2, noise=0.3)
    raw = collapses(product)[2]
    share = raw.unexplained
    assert np.sum((raw.z - raw.fitted) ** 2) / np.sum((raw.z - raw.z.mean()) ** 2) > share.value
    assert share.low <= share.value <= share.high
    assert share.low < 0.03


def test_a_curve_over_few_values_goes_through_the_mean_of_each():
    x = np.repeat([0.0, 1.0, 2.0, 5.0], 3)
    z = np.random.default_rng(0).normal(size=12)
    basis = curve_basis(x)
    assert basis @ (basis.T @ z) == pytest.approx(np.repeat(z.reshape(4, 3).mean(1), 3))


def test_cells_without_decay_have_no_place_and_other_axes_no_collapse(make_landscape):
    shape = planted(make_landscape, lambda lr, wd: lr + wd)
    without = replace(shape, wd=np.array([0.0, *shape.wd[1:]]))
    assert {len(collapse.x) for collapse in collapses(without)} == {72}
    assert collapses(replace(shape, axes=("lr", "momentum"))) == []
    assert collapses(make_landscape(np.full((2, 9, 9), np.nan))) == []


def test_a_sweep_without_rotation_has_the_other_columns(make_landscape, make_spec, tmp_path):
    old = make_landscape(np.random.default_rng(0).uniform(size=(2, 9, 9)))
    assert list(unexplained(old)) == ["lr", "wd", "lr·wd"]
    shapes = [old, replace(planted(make_landscape, lambda lr, wd: 20 + lr + wd), name="sgdw again")]
    variants = [VariantAnalysis(shape, shape.best(), separability(shape)) for shape in shapes]
    analysis = Analysis(make_spec(), variants, Store(tmp_path), shapes)
    figure = collapse_chart(analysis)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert sum(title.startswith("unexplained") for title in titles) == 3 + 4
    assert [len(row) for row in analysis.collapses.values()] == [3, 4]


@pytest.mark.parametrize("size", [1e5, 1e-10])
def test_ticks_are_the_numbers_that_they_stand_at(make_landscape, make_spec, tmp_path, size):
    shape = make_landscape(size * np.random.default_rng(0).uniform(1, 2, size=(2, 9, 9)))
    analysis = Analysis(make_spec(), [VariantAnalysis.of(shape)], Store(tmp_path), [shape])
    figure = collapse_chart(analysis)
    figure.draw_without_rendering()
    axis = figure.axes[0].yaxis
    told = [float(label.get_text().replace("−", "-")) for label in axis.get_ticklabels()]
    assert told == pytest.approx(axis.get_ticklocs(), rel=0.01)


def test_of_a_constant_landscape_no_parameter_leaves_anything_unexplained(make_landscape):
    assert all(np.isnan(share.value) for share in unexplained(make_landscape(np.full((3, 7, 7), 0.1))).values())


def test_seeds_of_which_nothing_is_known_make_no_interval_narrower(make_landscape):
    z = np.random.default_rng(0).uniform(size=(2, 9, 9))
    more = np.concatenate([z, np.full((1, 9, 9), np.nan)])
    assert unexplained(make_landscape(more)) == unexplained(make_landscape(z))
