"""The three numbers on surfaces whose answer is known, and against statsmodels' analysis of variance."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st

from hpscan.separability import (
    censored,
    contour_slope,
    independent_tuning_regret,
    interaction_share,
    mean_over_seeds,
    separability,
)

X, Y = np.arange(-8.0, 3.0), np.arange(-10.0, 2.0)


def valley(slope, curvature=0.1, along=0.0):
    """A surface whose contours run along dlog wd / dlog lr = slope."""
    across = (Y[None, :] - Y.mean()) - slope * (X[:, None] - X.mean())
    return 1.0 + curvature * across**2 + along * (X[:, None] - X.mean()) ** 2


@given(slope=st.floats(-3, 3))
@settings(deadline=None)
def test_the_slope_of_a_straight_valley_is_recovered(slope):
    assert contour_slope(valley(slope), X, Y) == pytest.approx(slope, abs=0.03, rel=0.07)


@given(slope=st.floats(-2, 2), noise=st.floats(0, 0.02), seed=st.integers(0, 99))
@settings(deadline=None)
def test_the_slope_bears_a_little_noise_and_a_few_holes(slope, noise, seed):
    rng = np.random.default_rng(seed)
    z = valley(slope) + rng.normal(scale=noise, size=(len(X), len(Y)))
    z[rng.integers(0, len(X), 3), rng.integers(0, len(Y), 3)] = [np.nan, np.inf, np.nan]
    assert contour_slope(z, X, Y) == pytest.approx(slope, abs=0.1, rel=0.1)


def test_a_separable_bowl_has_slope_zero_and_no_interaction():
    z = valley(0.0, along=0.2)
    assert contour_slope(z, X, Y) == pytest.approx(0.0, abs=1e-9)
    assert interaction_share(z) == pytest.approx(0.0, abs=1e-12)
    assert np.allclose(independent_tuning_regret(z), 0.0)


def test_swapping_the_axes_inverts_the_slope_of_a_straight_valley():
    assert contour_slope(valley(-2.0).T, Y, X) == pytest.approx(-0.5, abs=0.05)


@given(scale=st.floats(0.1, 100), shift=st.floats(-10, 10))
@settings(deadline=None)
def test_units_of_the_metric_do_not_matter(scale, shift):
    z = valley(-1.0, along=0.05)
    assert contour_slope(z * scale + shift, X, Y) == pytest.approx(contour_slope(z, X, Y))
    assert interaction_share(z * scale + shift) == pytest.approx(interaction_share(z))
    assert independent_tuning_regret(z * scale + shift) == pytest.approx(independent_tuning_regret(z) * scale, abs=1e-9)


@pytest.mark.parametrize("holes", [0, 12], ids=["complete", "with holes"])
def test_interaction_share_is_the_residual_of_a_two_way_anova(holes):
    rng = np.random.default_rng(3)
    z = rng.normal(size=(9, 7)) + rng.normal(size=(9, 1)) * 2
    z.ravel()[rng.permutation(z.size)[:holes]] = np.nan
    table = pd.DataFrame([(i, j, z[i, j]) for i, j in np.ndindex(z.shape)], columns=["lr", "wd", "z"]).dropna()
    fit = smf.ols("z ~ C(lr) + C(wd)", table).fit()
    assert interaction_share(z) == pytest.approx(1 - fit.rsquared, abs=1e-10)


def test_regret_follows_its_definition_from_every_start():
    z = np.random.default_rng(4).normal(size=(5, 6))
    expected = np.array([[z[z[:, j].argmin(), z[i].argmin()] - z.min() for j in range(6)] for i in range(5)])
    np.testing.assert_allclose(independent_tuning_regret(z), expected)


def test_a_diverged_end_counts_as_the_worst_finite_cell():
    z = np.array([[1.0, 0.5], [0.5, np.inf]])
    assert independent_tuning_regret(z)[0, 0] == pytest.approx(0.5)


def test_starts_from_which_nothing_is_known_have_no_regret():
    z = np.full((5, 5), np.nan)
    z[::4, ::4] = [[1.0, 2.0], [3.0, np.inf]]
    assert np.array_equal(np.argwhere(np.isfinite(independent_tuning_regret(z))), [[0, 0], [0, 4], [4, 0], [4, 4]])


def test_one_learning_rate_has_no_interaction():
    assert np.isnan(interaction_share(np.array([[1.0, 2.0, 4.0]])))


def test_unknown_cells_are_never_chosen():
    z = np.array([[np.nan, 2.0, 3.0], [1.0, 4.0, 5.0]])
    assert independent_tuning_regret(z)[0, 0] == pytest.approx(3.0)  # lr row 1 at wd 0, wd column 1 at lr row 0


def test_censoring_bounds_what_diverged_and_keeps_what_is_unknown():
    z = np.arange(25.0).reshape(5, 5)
    z[4, 4], z[4, 3], z[0, 0] = np.inf, 1e9, np.nan
    cut = censored(z)
    assert np.isnan(cut[0, 0])
    assert cut[4, 4] == cut[4, 3] == cut.max(where=~np.isnan(cut), initial=0) < 24
    kept = z < cut.max(where=~np.isnan(cut), initial=0)
    assert np.array_equal(cut[kept], z[kept])


def test_a_cliff_of_divergence_does_not_move_the_slope(make_landscape):
    calm, cliff = (np.repeat(valley(-1.0)[None], 2, axis=0) for _ in range(2))
    worst = calm[0] > np.quantile(calm[0], 0.9)
    cliff[:, worst] = np.where(np.arange(worst.sum()) % 2, np.inf, 1e6)
    numbers = [separability(make_landscape(z)) for z in (calm, cliff)]
    assert numbers[0].contour_slope.value == pytest.approx(numbers[1].contour_slope.value, abs=0.05)


def test_the_interval_of_a_cells_mean_agrees_with_scipy():
    seeds = np.random.default_rng(5).normal(size=12)
    theirs = scipy.stats.bootstrap((seeds,), np.mean, method="percentile", rng=0).confidence_interval
    ours = mean_over_seeds(seeds)
    assert ours.value == pytest.approx(seeds.mean())
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=0.1)
    assert np.isnan(mean_over_seeds(seeds[:1]).low)


@pytest.mark.parametrize("z", [np.full((4, 4), np.nan), np.full((4, 4), np.inf), np.ones((4, 4)), np.ones((1, 4))])
def test_where_there_is_nothing_to_measure_the_answer_is_nan(z):
    assert np.isnan(contour_slope(z, X[: z.shape[0]], Y[: z.shape[1]]))
    assert np.isnan(interaction_share(z))


def noisy_seeds(slope, n_seeds, noise, seed=0):
    rng = np.random.default_rng(seed)
    return valley(slope)[None] + rng.normal(scale=noise, size=(n_seeds, len(X), len(Y)))


def test_intervals_hold_the_value_and_widen_with_noise(make_landscape):
    quiet, loud = (separability(make_landscape(noisy_seeds(-1.0, 5, noise))) for noise in (0.01, 0.3))
    for name in ("contour_slope", "interaction_share"):
        widths = []
        for numbers in (quiet, loud):
            interval = getattr(numbers, name)
            assert interval.low <= interval.high
            widths.append(interval.high - interval.low)
        assert widths[0] < widths[1]
    assert quiet.contour_slope.low <= quiet.contour_slope.value <= quiet.contour_slope.high


def test_the_interval_is_a_paired_bootstrap_over_seeds(make_landscape):
    """Against a plain bootstrap that draws seeds one by one."""
    z = noisy_seeds(-0.5, 4, 0.2)
    rng = np.random.default_rng(1)
    slopes = [contour_slope(censored(z[rng.integers(0, 4, 4)].mean(0)), X + 2, Y + 2) for _ in range(2000)]
    interval = separability(make_landscape(z)).contour_slope
    width = interval.high - interval.low
    assert interval.low == pytest.approx(np.quantile(slopes, 0.025), abs=0.15 * width)
    assert interval.high == pytest.approx(np.quantile(slopes, 0.975), abs=0.15 * width)


def test_one_seed_has_values_but_no_intervals(make_landscape):
    numbers = separability(make_landscape(noisy_seeds(-1.0, 1, 0.01)))
    assert numbers.contour_slope.value == pytest.approx(-1.0, abs=0.05)
    assert np.isnan(numbers.contour_slope.low)
    assert np.isnan(numbers.independent_tuning_regret.high)
    assert numbers.verdict == "tied"


@pytest.mark.parametrize(
    ("slope", "noise", "verdict"), [(0.0, 0.02, "separable"), (-1.0, 0.02, "tied"), (-0.53, 0.4, "unclear")]
)
def test_verdicts(make_landscape, slope, noise, verdict):
    assert separability(make_landscape(noisy_seeds(slope, 4, noise))).verdict == verdict


def test_level_contours_are_not_enough_to_be_called_separable(make_landscape):
    """A cross: its contours lean both ways and cancel, and the axes interact all the same."""
    cross = (X[:, None] - X.mean()) * (Y[None, :] - Y.mean())
    numbers = separability(make_landscape(np.repeat((1 + 0.02 * cross**2)[None], 3, axis=0)))
    assert abs(numbers.contour_slope.value) < 0.1
    assert numbers.interaction_share.value > 0.15
    assert numbers.verdict == "unclear"


def test_a_landscape_without_results_has_no_numbers(make_landscape):
    numbers = separability(make_landscape(np.full((2, 4, 4), np.nan)))
    assert np.isnan(numbers.contour_slope.value)
    assert np.isnan(numbers.worst_regret)
    assert numbers.verdict == "unclear"


def test_missing_seeds_leave_the_rest_usable(make_landscape):
    z = noisy_seeds(-1.0, 3, 0.01)
    z[2, ::2] = np.nan
    assert separability(make_landscape(z)).contour_slope.value == pytest.approx(-1.0, abs=0.05)


def test_a_landscape_in_which_only_lr_matters_is_not_called_tied(make_landscape):
    """Its contours are vertical, so their slope is a huge number and means nothing."""
    rng = np.random.default_rng(0)
    z = 1 + 0.05 * (X[:, None] - X.mean()) ** 2 + 1e-4 * rng.normal(size=(3, len(X), len(Y))) + 1e-3 * X[:, None]
    numbers = separability(make_landscape(z))
    assert numbers.interaction_share.value < 0.01
    assert numbers.verdict != "tied"
