"""Against repeated-measures analysis of variance, scipy's Student and Fieller's textbook formula."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.anova import AnovaRM

from hpscan.intervals import (
    Form,
    Interval,
    Sample,
    difference,
    mean_of_seeds,
    percentile_interval,
    pivotal_interval,
    ratio,
    student,
    without_attenuation,
)
from hpscan.surfaces import additive_fit


def sample_of(z, noise=0.0):
    flat = z.reshape(len(z), -1)
    draws = noise * np.random.default_rng(0).standard_normal((2000, flat.shape[1])) / np.sqrt(len(z))
    return Sample(flat, flat.mean(axis=0), draws)


def projections(shape):
    """Interaction and total as forms."""
    fit = additive_fit(np.ones(shape, dtype=bool))
    unexplained, centred = (lambda v: v - fit(v)), (lambda v: v - v.mean(axis=-1, keepdims=True))
    return Form(unexplained, unexplained), Form(centred, centred)


def test_the_interaction_without_noise_is_that_of_repeated_measures_anova():
    """F of lr × wd with seeds as blocks says how much of the interaction's mean square is noise."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=(1, 5, 4)) + rng.normal(size=(4, 1, 1)) + 0.5 * rng.normal(size=(4, 5, 4))
    rows = [(s, i, j, z[s, i, j]) for s, i, j in np.ndindex(z.shape)]
    table = pd.DataFrame(rows, columns=["seed", "lr", "wd", "z"])
    anova = AnovaRM(table, "z", "seed", within=["lr", "wd"]).fit().anova_table
    mean = z.mean(axis=0)
    residual = mean - mean.mean(axis=0) - mean.mean(axis=1, keepdims=True) + mean.mean()
    without_noise = np.sum(residual**2) * (1 - 1 / anova.loc["lr:wd", "F Value"])

    top, bottom = projections((5, 4))
    pairs = [(s, t) for s in range(4) for t in range(4) if s != t]
    centred = z - z.mean(axis=(1, 2), keepdims=True)
    total = np.mean([np.sum(centred[s] * centred[t]) for s, t in pairs])
    assert ratio(top, bottom, sample_of(z)).value == pytest.approx(without_noise / total)


def test_noise_does_not_move_a_ratio_on_average():
    rng = np.random.default_rng(2)
    surface = np.outer(np.arange(6) - 2.5, np.arange(6) - 2.5) + np.arange(6)[:, None] * 2.0
    top, bottom = projections(surface.shape)
    truth = ratio(top, bottom, sample_of(surface[None])).value
    values = [ratio(top, bottom, sample_of(surface + 4 * rng.normal(size=(3, 6, 6)))).value for _ in range(400)]
    plugged_in = [ratio(top, bottom, sample_of((surface + 4 * rng.normal(size=(3, 6, 6))).mean(axis=0)[None])).value
                  for _ in range(400)]  # fmt: skip
    assert np.mean(values) == pytest.approx(truth, abs=0.02)
    assert np.mean(plugged_in) > truth + 0.05


def test_an_interval_without_bound_is_said_to_have_none():
    rng = np.random.default_rng(3)
    top, bottom = projections((5, 5))
    found = ratio(top, bottom, sample_of(rng.normal(size=(2, 5, 5)), noise=1.0))
    assert (found.low, found.high) == (-np.inf, np.inf)


def test_without_noise_there_is_no_interval():
    surface = np.outer(np.arange(4.0), np.arange(4.0))[None]
    found = ratio(*projections((4, 4)), sample_of(surface))
    assert np.isfinite(found.value)
    assert np.isnan(found.low)


def test_missing_terms_widen_the_interval():
    z = np.outer(np.arange(6.0), np.arange(6.0)) + 0.1 * np.random.default_rng(4).normal(size=(3, 6, 6))
    whole, part = (ratio(*projections((6, 6)), sample_of(z, 0.1), unknown) for unknown in (0.0, 0.3))
    assert part.low < whole.low < whole.high < part.high
    assert part.value == whole.value


@pytest.mark.parametrize("degrees", [1, 2, 4, 8, 16, 31, 80])
def test_students_quantile_is_scipys(degrees):
    assert student(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), abs=1e-3)


def test_the_interval_of_a_mean_is_scipys():
    seeds = np.random.default_rng(5).normal(size=5)
    theirs = scipy.stats.ttest_1samp(seeds, 0.0).confidence_interval()
    ours = mean_of_seeds(seeds)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-3)
    assert np.isnan(mean_of_seeds(seeds[:1]).low)
    assert np.isnan(mean_of_seeds(seeds[:0]).value)


def test_the_percentile_interval_reaches_to_the_value():
    draws = np.random.default_rng(6).gamma(2.0, size=4000)
    theirs = np.quantile(draws, [0.025, 0.975])
    found = percentile_interval(1.0, draws)
    assert (found.low, found.high) == pytest.approx(theirs, abs=0.01)
    assert found.value == 1.0
    assert percentile_interval(0.0, draws).low == 0.0
    assert percentile_interval(20.0, draws).high == 20.0


def test_the_pivotal_interval_is_scipys_basic_one_without_the_shift():
    data = np.random.default_rng(6).gamma(2.0, size=60)
    theirs = scipy.stats.bootstrap((data,), np.mean, method="basic", n_resamples=9999, random_state=1)
    found = pivotal_interval(data.mean(), theirs.bootstrap_distribution + 5.0)
    interval = theirs.confidence_interval
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.01)


@pytest.mark.parametrize("interval", [percentile_interval, pivotal_interval])
def test_nothing_known_has_no_interval(interval):
    assert np.isnan(interval(np.nan, np.ones(3)).low)
    assert np.isnan(interval(1.0, np.full(3, np.nan)).low)
    assert interval(1.0, np.array([np.nan, 1.0, 1.0])).ends == (1.0, 1.0)


def test_a_correlation_without_its_attenuation_is_what_it_was_without_noise():
    """Ranks of a true surface, seen through noise: Spearman's correction finds the correlation back."""
    rng = np.random.default_rng(8)
    truth = rng.standard_normal((2, 4000)) * [[1.0], [0.3]] + rng.standard_normal(4000) * [[0.0], [0.954]]
    truth[1] = 0.8 * truth[0] + 0.6 * truth[1]
    seen = truth + 0.7 * rng.standard_normal(truth.shape)
    again = seen + 0.7 * rng.standard_normal(truth.shape)
    r_true, r_seen = np.corrcoef(truth)[0, 1], np.corrcoef(seen)[0, 1]
    likeness = np.array([np.corrcoef(seen[k], again[k])[0, 1] for k in (0, 1)])
    found = without_attenuation(Interval(r_seen, r_seen, r_seen), likeness)
    assert found.value == r_seen
    assert found.low == r_seen
    assert found.high == pytest.approx(r_true, abs=0.03)
    assert r_seen < r_true - 0.15


@pytest.mark.parametrize("likeness", [0.1, 0.0, -0.4])
def test_a_correlation_of_nothing_but_noise_has_no_bound(likeness):
    found = without_attenuation(Interval(0.2, 0.1, 0.3), np.full(5, likeness))
    assert (found.low, found.high) == (-1.0, 1.0)


def test_a_correlation_without_interval_stays_without():
    found = without_attenuation(Interval(0.2, np.nan, np.nan), np.full(5, 0.9))
    assert np.isnan(found.low)


numbers = st.floats(-5, 5)


@given(a=numbers, b=numbers, spreads=st.lists(st.floats(0.01, 3), min_size=4, max_size=4))
def test_a_difference_is_recovered_from_two_intervals(a, b, spreads):
    one, other = Interval(a, a - spreads[0], a + spreads[1]), Interval(b, b - spreads[2], b + spreads[3])
    gap, back = difference(one, other), difference(other, one)
    assert gap.low <= a - b <= gap.high
    assert (gap.low, gap.high) == pytest.approx((-back.high, -back.low))
    exact = Interval(0.0, 0.0, 0.0)
    assert (difference(one, exact).low, difference(one, exact).high) == pytest.approx((one.low, one.high))


def test_the_difference_of_two_means_has_the_width_of_the_normal_theory():
    gap = difference(Interval(1.0, 0.4, 1.6), Interval(0.0, -0.8, 0.8))
    assert (gap.low, gap.high) == pytest.approx((0.0, 2.0))


def test_one_term_of_a_population_sets_no_bound_on_the_ratio_of_the_others():
    form = Form(lambda v: v[..., :1], lambda v: v[..., :1])
    z = 1.0 + 0.01 * np.random.default_rng(0).standard_normal((3, 1, 1))
    found = ratio(form, form, sample_of(z, 0.01), unknown=0.75)
    assert (found.value, found.low, found.high) == (pytest.approx(1.0), -np.inf, np.inf)
