"""Statistics of one surface, where the answer is known, and against statsmodels' analysis of variance."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hpscan.surfaces import (
    additive_fit,
    capped,
    contour_slope,
    cut,
    gradients,
    interaction_share,
    mean_regrets,
    ranks,
    regret,
    to_compare,
    unexplained_cells,
)

X, Y = np.arange(-8.0, 3.0), np.arange(-10.0, 2.0)


def furrow(slope, x=X, y=Y, curvature=0.1, along=0.0):
    """A surface whose contours run along dlog wd / dlog lr = slope."""
    across = (y[None, :] - y.mean()) - slope * (x[:, None] - x.mean())
    return 1.0 + curvature * across**2 + along * (x[:, None] - x.mean()) ** 2


@given(slope=st.floats(-3, 3), steps=st.lists(st.floats(0.3, 3), min_size=10, max_size=18))
@settings(deadline=None)
def test_the_slope_of_a_quadratic_furrow_is_exact_on_any_spacing(slope, steps):
    x, y = np.cumsum(steps[: len(steps) // 2]), np.cumsum(steps[len(steps) // 2 :])
    assert contour_slope(furrow(slope, x, y), x, y) == pytest.approx(slope, abs=1e-8)


@given(slope=st.floats(-2, 2), offset=st.floats(-1.5, 1.5))
@settings(deadline=None)
def test_the_cut_moves_the_slope_by_little(slope, offset):
    z = furrow(slope, x=X + offset)
    assert contour_slope(capped(z, cut(z)), X, Y) == pytest.approx(slope, abs=0.06)


def test_gradients_skip_blocks_with_a_hole_and_close_up_empty_rows():
    known = np.ones((5, 6), dtype=bool)
    known[1] = False
    known[3, 3] = False
    along_x, along_y = gradients(known, np.arange(5.0), np.arange(6.0))
    z = np.where(known, np.add.outer(2.0 * np.arange(5), -3.0 * np.arange(6)), np.nan).ravel()
    areas = np.array([2.0] * 5 + [1.0] * 6)  # of 3 × 5 − 4 blocks, none of which reads a hole
    assert np.allclose(along_x(z), 2 * np.sqrt(areas))
    assert np.allclose(along_y(z), -3 * np.sqrt(areas))


def test_a_separable_bowl_has_slope_zero_and_no_interaction():
    z = furrow(0.0, along=0.2)
    assert contour_slope(z, X, Y) == pytest.approx(0.0, abs=1e-9)
    assert interaction_share(z) == pytest.approx(0.0, abs=1e-12)
    assert np.allclose(regret(z, z), 0.0)
    assert mean_regrets(z, z)[1] == pytest.approx(0.0)


def test_an_additive_surface_stays_additive_when_it_is_cut():
    z = furrow(0.0, along=0.2)
    at = cut(z)
    assert interaction_share(capped(z, at)) > 0.05  # as numbers, the cut cells bend it
    assert interaction_share(capped(z, at), z >= at) == pytest.approx(0.0, abs=1e-6)


def test_a_censored_cell_that_no_additive_surface_clears_still_counts():
    z = np.where(np.eye(6, dtype=bool), 0.0, 1.0)
    assert interaction_share(z, z == 1.0) > 0.3


def test_swapping_the_axes_inverts_the_slope_of_a_straight_furrow():
    assert contour_slope(furrow(-2.0).T, Y, X) == pytest.approx(-0.5)


@given(scale=st.floats(0.1, 100), shift=st.floats(-10, 10))
@settings(deadline=None)
def test_units_of_the_metric_do_not_matter(scale, shift):
    z = furrow(-1.0, along=0.05)
    assert contour_slope(z * scale + shift, X, Y) == pytest.approx(contour_slope(z, X, Y))
    assert interaction_share(z * scale + shift) == pytest.approx(interaction_share(z))
    moved = z * scale + shift
    assert regret(moved, moved) == pytest.approx(regret(z, z) * scale, abs=1e-9)


@pytest.mark.parametrize("holes", [0, 12], ids=["complete", "with holes"])
def test_interaction_share_is_the_residual_of_a_two_way_anova(holes):
    rng = np.random.default_rng(3)
    z = rng.normal(size=(9, 7)) + rng.normal(size=(9, 1)) * 2
    z.ravel()[rng.permutation(z.size)[:holes]] = np.nan
    table = pd.DataFrame([(i, j, z[i, j]) for i, j in np.ndindex(z.shape)], columns=["lr", "wd", "z"]).dropna()
    fit = smf.ols("z ~ C(lr) + C(wd)", table).fit()
    assert interaction_share(z) == pytest.approx(1 - fit.rsquared, abs=1e-10)


def equals(values):
    """Where the least of them are."""
    return [int(at) for at in np.flatnonzero(values == np.nanmin(values))]


@pytest.mark.parametrize("values", [2, 4, 10**9], ids=["many equal", "some equal", "none equal"])
def test_regret_follows_its_definition_from_every_start(values):
    """Of equals each is chosen as often."""
    rng = np.random.default_rng(4)
    choose, judge = rng.integers(values, size=(5, 6)).astype(float), rng.normal(size=(5, 6))
    best = np.mean([judge.ravel()[at] for at in equals(choose.ravel())])
    expected = [
        [np.mean([judge[k, m] for k in equals(choose[:, j]) for m in equals(choose[i])]) - best for j in range(6)]
        for i in range(5)
    ]
    np.testing.assert_allclose(regret(choose, judge), expected, atol=1e-14)
    assert mean_regrets(choose, judge)[0] == pytest.approx(np.mean(expected), abs=1e-14)


@pytest.mark.parametrize("values", [2, 10**9], ids=["many equal", "none equal"])
def test_one_pass_tunes_one_axis_and_then_the_other(values):
    rng = np.random.default_rng(5)
    choose, judge = rng.integers(values, size=(3, 5, 6)).astype(float), rng.normal(size=(3, 5, 6))
    for c, j, found in zip(choose, judge, mean_regrets(choose, judge)[1], strict=True):
        best = np.mean([j.ravel()[at] for at in equals(c.ravel())])
        lr_first = [np.mean([np.mean(j[i, equals(c[i])]) for i in equals(c[:, k])]) for k in range(6)]
        wd_first = [np.mean([np.mean(j[equals(c[:, k]), k]) for k in equals(c[i])]) for i in range(5)]
        assert found == pytest.approx((np.mean(lr_first) + np.mean(wd_first)) / 2 - best)


def test_what_is_equal_but_for_rounding_is_equal():
    one, other = to_compare(np.array([0.1 + 0.2, 0.3]))
    assert one == other
    assert np.array_equal(np.isnan(to_compare(np.array([np.nan, 1.0]))), [True, False])


def test_starts_from_which_nothing_is_known_have_no_regret():
    z = np.full((5, 5), np.nan)
    z[::4, ::4] = [[1.0, 2.0], [3.0, 4.0]]
    assert np.array_equal(np.argwhere(np.isfinite(regret(z, z))), [[0, 0], [0, 4], [4, 0], [4, 4]])


def test_unknown_cells_are_never_chosen():
    z = np.array([[np.nan, 2.0, 3.0], [1.0, 4.0, 5.0]])
    assert regret(z, z)[0, 0] == pytest.approx(3.0)  # lr row 1 at wd 0, wd column 1 at lr row 0


def test_the_cut_bounds_what_diverged_and_keeps_what_is_unknown():
    z = np.arange(25.0).reshape(5, 5)
    z[4, 4], z[4, 3], z[0, 0] = np.inf, 1e9, np.nan
    at = cut(z)
    cut_surface = capped(z, at)
    assert np.isnan(cut_surface[0, 0])
    assert cut_surface[4, 4] == cut_surface[4, 3] == at < 24
    assert np.array_equal(cut_surface[z < at], z[z < at])


@pytest.mark.parametrize("z", [np.full((4, 4), np.nan), np.ones((4, 4)), np.ones((1, 4))])
def test_where_there_is_nothing_to_measure_the_answer_is_nan(z):
    assert np.isnan(contour_slope(z, X[: z.shape[0]], Y[: z.shape[1]]))
    assert np.isnan(interaction_share(z))
    assert np.isnan(cut(np.full((2, 2), np.inf)))


@given(
    arrays(np.float64, array_shapes(min_dims=2, max_dims=2), elements=st.sampled_from([np.nan, 0.0, 1.0, 2.5, np.inf]))
)
def test_ranks_are_scipys_less_their_mean(z):
    for row, mine in zip(z, ranks(z), strict=True):
        known = ~np.isnan(row)
        theirs = scipy.stats.rankdata(row[known]) - (known.sum() + 1) / 2
        assert mine[known] == pytest.approx(theirs)
        assert (mine[~known] == 0).all()


@pytest.mark.parametrize("level", [0.0, 0.1, 0.7])
def test_a_constant_surface_has_no_share_whatever_its_mean_is_rounded_to(level):
    assert np.isnan(interaction_share(np.full((7, 7), level)))


some_cells = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))


def design(cells):
    """Indicators of rows and columns on the given cells."""
    rows, columns = np.indices(cells.shape)[:, cells]
    found = np.zeros((cells.size, sum(cells.shape)))
    found[cells.ravel(), :] = np.eye(sum(cells.shape))[rows] + np.eye(sum(cells.shape))[len(cells) + columns]
    return found


@given(some_cells, st.integers(0, 99))
@settings(deadline=None)
def test_the_additive_fit_is_that_of_least_squares_whatever_the_holes(cells, seed):
    z = np.random.default_rng(seed).normal(size=(3, cells.size)) * cells.ravel()
    expected = z @ design(cells) @ np.linalg.pinv(design(cells))
    assert np.allclose(additive_fit(cells)(z), expected, atol=1e-12)


def cleared_by_raising(z, censored):
    """The censored cells that the fit clears, by the definition: raised to the fit until nothing changes."""
    known = ~np.isnan(z)
    projection = design(known) @ np.linalg.pinv(design(known))
    floor = np.nan_to_num(z).ravel()
    free = (censored & known).ravel()
    raised = floor
    for _ in range(500):
        fitted = projection @ raised
        again = np.where(free, np.maximum(floor, fitted), floor)
        if np.abs(again - raised).max() < 1e-7 * np.ptp(z[known]):
            break
        raised = again
    return free.reshape(z.shape) & (fitted >= floor).reshape(z.shape)


@pytest.mark.parametrize("noise", [0.02, 0.1, 1.0])
@pytest.mark.parametrize("slope", [0.0, -0.5, -2.0])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_cells_are_cleared_as_by_raising_them_to_the_fit(slope, noise, missing):
    rng = np.random.default_rng(0)
    for _ in range(5):
        z = furrow(slope, along=0.01) + rng.normal(0, noise, (len(X), len(Y)))
        z[rng.random(z.shape) < missing] = np.nan
        at = cut(z)
        censored = z >= at
        kept = unexplained_cells(capped(z, at), censored)
        assert np.array_equal(kept, ~np.isnan(z) & ~cleared_by_raising(capped(z, at), censored))


@pytest.mark.parametrize("at", [0.1, 1.1, 2.3, 1e-3 / 3])
def test_a_seed_that_diverged_throughout_leaves_nothing_to_explain(at):
    z = np.full((9, 10), at)
    z[::3, ::4] = np.nan
    assert not unexplained_cells(z, ~np.isnan(z)).any()


@pytest.mark.parametrize("seed", range(8))
def test_a_censored_cell_alone_in_its_row_is_nothing_to_explain(seed):
    """A fit meets it exactly; rounding alone would say on which side of it."""
    z = np.minimum(1 + np.random.default_rng(seed).random((4, 12)), 1.9)
    z[2] = np.nan
    z[2, 1] = 1.9
    assert not unexplained_cells(z, z == 1.9)[2, 1]
