import numpy as np
import pytest
import scipy.stats

from hpscan.basin import best_wd_trend, extents, likeness, rank_agreement, tilt

X, Y = np.arange(-8.0, 3.0), np.arange(-10.0, 2.0)
EVERY_ROW = np.ones(len(X), dtype=bool)


def furrow(slope, along=0.01):
    x, y = X[:, None] - X.mean(), Y[None, :] - Y.mean()
    return 1.0 + (y - slope * x) ** 2 / (1 + slope**2) + along * (x + slope * y) ** 2


@pytest.mark.parametrize(("slope", "lowest", "highest"), [(0.0, -0.05, 0.05), (-1.0, -1.0, -0.9), (1.0, 0.9, 1.0)])
def test_the_tilt_says_which_way_the_basin_leans(slope, lowest, highest):
    assert lowest <= tilt(furrow(slope), X, Y) <= highest


def test_the_tilt_is_a_weighted_correlation_of_the_best_fifth():
    z = np.random.default_rng(0).random((11, 12))
    threshold = np.sort(z.ravel())[round(0.2 * z.size)]
    weights = np.maximum(threshold - z, 0).ravel()
    x, y = np.repeat(X, len(Y)), np.tile(Y, len(X))
    covariance = np.cov(x, y, aweights=weights)
    assert tilt(z, X, Y) == pytest.approx(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))


def test_the_tilt_of_a_batch_is_that_of_each():
    z = np.random.default_rng(1).random((4, 11, 12))
    z[:, 3, 4] = np.nan
    assert tilt(z, X, Y) == pytest.approx([float(tilt(one, X, Y)) for one in z])


def test_the_trend_is_kendalls_tau_as_scipy_has_it():
    z = np.random.default_rng(2).random((6, 11, 12))
    theirs = [scipy.stats.kendalltau(X, one.argmin(axis=1)).statistic for one in z]
    assert best_wd_trend(z, EVERY_ROW) == pytest.approx(theirs)
    assert best_wd_trend(furrow(0.0), EVERY_ROW) == 0.0  # the same best weight decay throughout has no trend
    assert best_wd_trend(furrow(-1.0), EVERY_ROW) < -0.9


def test_rank_agreement_is_the_mean_of_scipys_spearman_over_pairs():
    z = np.random.default_rng(3).random((11, 12))
    z[z > 0.8] = 0.8  # ties, last
    theirs = scipy.stats.spearmanr(z, axis=1).statistic[np.triu_indices(11, 1)]
    assert rank_agreement(z, EVERY_ROW, 0.8) == pytest.approx(theirs.mean())


def test_rank_agreement_compares_what_is_known_in_both():
    z = np.random.default_rng(4).random((2, 12))
    z[0, 3] = z[1, 7] = np.nan
    both = ~np.isnan(z).any(axis=0)
    ranks = [scipy.stats.rankdata(row, nan_policy="omit") for row in z]
    theirs = np.corrcoef(ranks[0][both], ranks[1][both])[0, 1]
    assert rank_agreement(z, np.ones(2, dtype=bool), np.inf) == pytest.approx(theirs)


def test_rows_that_agree_have_rank_agreement_one():
    assert rank_agreement(furrow(0.0), EVERY_ROW, np.inf) == pytest.approx(1.0)
    assert np.isnan(rank_agreement(furrow(0.0), EVERY_ROW & (X[0] == X), np.inf))


def test_the_extent_of_a_tent_is_where_it_crosses_the_rim():
    z = np.abs(X[:, None] - X[5]) / 8 + np.abs(Y[None, :] - Y[4]) / 4
    width_x, width_y, open_x, open_y = extents(z, X, Y, ceiling=2.0)  # the rim lies at 0.2
    assert (width_x, width_y) == pytest.approx((2 * 1.6, 2 * 0.8))
    assert not open_x
    assert not open_y


def test_a_basin_that_reaches_the_edge_is_open():
    z = np.abs(Y[None, :] - Y[4]) / 4 + np.maximum(X[:, None] - X[1], 0) / 4
    width_x, _, open_x, open_y = extents(z, X, Y, ceiling=2.0)
    assert width_x == pytest.approx(1.8)
    assert open_x
    assert not open_y


def test_an_unknown_cell_ends_what_is_known_of_the_basin():
    z = (X[:, None] - X[5]) ** 2 / 100 + (Y[None, :] - Y[4]) ** 2
    z[7, 4] = np.nan
    width_x, _, open_x, _ = extents(z, X, Y, ceiling=20.0)
    assert open_x
    assert width_x == pytest.approx(6.0)  # five steps down to the edge, one up to the last known cell


def test_a_surface_of_which_nothing_is_known_has_no_end():
    width_x, width_y, open_x, open_y = extents(np.full((3, 4), np.nan), np.arange(3.0), np.arange(4.0), 1.0)
    assert np.all([open_x, open_y])
    assert np.isfinite([width_x, width_y]).all()


def test_a_higher_rim_makes_a_wider_basin():
    z = np.abs(X[:, None] - X[5]) + np.abs(Y[None, :] - Y[6])
    narrow, wide = (extents(z, X, Y, 4.0, slack)[0] for slack in (0.0, 1.0))
    assert (narrow, wide) == pytest.approx((0.8, 2.8))


def test_likeness_is_scipys_spearman_over_all_cells_or_within_rows():
    rng = np.random.default_rng(8)
    one, others = rng.random((6, 7)), rng.random((3, 6, 7))
    others[others > 0.9] = one[2, 2] = 0.9
    one[one > 0.9] = 0.9  # ties, last
    whole = [scipy.stats.spearmanr(one.ravel(), other.ravel()).statistic for other in others]
    assert likeness(one, others, 0.9) == pytest.approx(whole)
    rows = [
        np.mean([scipy.stats.spearmanr(*pair).statistic for pair in zip(one, other, strict=True)]) for other in others
    ]
    assert likeness(one, others, 0.9, by_row=True) == pytest.approx(rows)


def test_likeness_is_over_what_both_know():
    rng = np.random.default_rng(9)
    one, other = rng.random((5, 6)), rng.random((1, 5, 6))
    one[0, 0] = other[0, 3, 3] = np.nan
    both = ~np.isnan(one + other[0])
    expected = scipy.stats.spearmanr(one[both], other[0][both]).statistic
    assert likeness(one, other, np.inf) == pytest.approx([expected])
    assert np.isnan(likeness(np.full((5, 6), np.nan), other, np.inf)).all()


def test_tied_cells_share_their_rank_as_scipys_do():
    z = np.random.default_rng(5).choice([0.1, 0.11, 0.12], size=(6, 8))
    theirs = scipy.stats.spearmanr(z, axis=1).statistic[np.triu_indices(6, 1)]
    assert rank_agreement(z, np.ones(6, dtype=bool), np.inf) == pytest.approx(theirs.mean())
    assert np.isnan(rank_agreement(np.ones((2, 8)), np.ones(2, dtype=bool), np.inf))
    assert likeness(z[:1], z[1:2, None], np.inf) == pytest.approx(scipy.stats.spearmanr(z[0], z[1]).statistic)


@pytest.mark.parametrize("axis", [0, 1])
def test_cells_of_one_row_or_column_have_no_tilt(axis):
    """Not 0, as an upright basin has among many columns."""
    z = np.full((9, 9), np.nan)
    np.moveaxis(z, axis, 0)[3] = np.arange(9.0)
    assert np.isnan(tilt(z, np.arange(9.0), np.arange(9.0)))
