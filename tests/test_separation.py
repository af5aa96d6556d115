"""All numbers of a landscape together: what they hold, what they do with noise, holes, divergence and single seeds."""

import importlib.util
import itertools
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from hpscan.separation import coordinates, held_out_regrets, separability, settled
from hpscan.surfaces import contour_slope
from tests.test_surfaces import furrow

X, Y = np.arange(11), np.arange(12)


def sweep(slope, n_seeds=3, noise=0.05, seed=0, along=0.02):
    rng = np.random.default_rng(seed)
    return furrow(slope, along=along)[None] + rng.normal(scale=noise, size=(n_seeds, len(X), len(Y)))


@pytest.mark.parametrize("slope", [0.0, -0.5, -1.0, -2.0])
def test_the_slope_of_a_noisy_furrow_is_recovered(make_landscape, slope):
    found = separability(make_landscape(sweep(slope, along=0.0))).contour_slope
    assert found.value == pytest.approx(slope, abs=0.05)
    assert found.low <= found.value <= found.high


def test_noise_does_not_flatten_the_slope(make_landscape):
    """As the slope of their mean that knows nothing of noise is flattened."""
    sweeps = [sweep(-1.0, n_seeds=2, noise=0.6, seed=k, along=0.0) for k in range(10)]
    slopes = [separability(make_landscape(z)).contour_slope for z in sweeps]
    assert np.median([slope.value for slope in slopes]) == pytest.approx(-1.0, abs=0.15)
    assert sum(slope.low <= -1.0 <= slope.high for slope in slopes) >= 8
    plugged_in = [contour_slope(z.mean(axis=0), np.arange(11.0), np.arange(12.0)) for z in sweeps]
    assert np.median(plugged_in) > -0.95


def test_intervals_widen_with_noise_and_narrow_with_seeds(make_landscape):
    def widths(**changes):
        numbers = separability(make_landscape(sweep(-1.0, **changes)))
        return [
            interval.high - interval.low
            for interval in (numbers.contour_slope, numbers.interaction_share, numbers.independent_tuning_regret)
        ]

    assert all(a < b for a, b in zip(widths(noise=0.05), widths(noise=0.5), strict=True))
    assert all(a < b for a, b in zip(widths(n_seeds=8, noise=0.3), widths(n_seeds=2, noise=0.3), strict=True))


def test_a_separable_bowl_has_numbers_that_say_so(make_landscape):
    numbers = separability(make_landscape(sweep(0.0)))
    assert abs(numbers.contour_slope.value) < 0.05
    assert numbers.interaction_share.value < 0.01
    assert abs(numbers.independent_tuning_regret.value) < 0.05
    assert abs(numbers.tilt.value) < 0.2
    assert numbers.rank_agreement.value > 0.9
    assert numbers.evidence.interaction > 0.01
    assert max(numbers.evidence.surface, numbers.evidence.first, numbers.evidence.second) < 0.05


def test_a_diagonal_furrow_has_numbers_that_say_so(make_landscape):
    numbers = separability(make_landscape(sweep(-1.0)))
    assert numbers.interaction_share.low > 0.3
    assert numbers.independent_tuning_regret.low > 0
    assert numbers.tilt.value < -0.8
    assert numbers.best_wd_trend.value < -0.9
    assert numbers.evidence.interaction < 0.05


def test_a_cliff_of_divergence_does_not_move_the_slope(make_landscape):
    calm = sweep(-1.0, noise=0.01)
    cliff = calm.copy()
    worst = calm.mean(axis=0) > np.quantile(calm, 0.9)
    cliff[:, worst] = np.where(np.arange(worst.sum()) % 2, np.inf, 1e6)
    numbers = [separability(make_landscape(z)) for z in (calm, cliff)]
    assert numbers[0].contour_slope.value == pytest.approx(numbers[1].contour_slope.value, abs=0.05)
    assert numbers[0].interaction_share.value == pytest.approx(numbers[1].interaction_share.value, abs=0.1)


def test_divergence_where_it_is_bad_anyway_does_not_make_an_additive_surface_interact(make_landscape):
    z = sweep(0.0, noise=0.01)
    z[:, furrow(0.0, along=0.02) > np.quantile(furrow(0.0, along=0.02), 0.85)] = np.inf
    assert separability(make_landscape(z)).interaction_share.value < 0.01


def test_stopped_cells_where_it_is_bad_anyway_do_not_make_an_additive_surface_interact(make_landscape):
    z = sweep(0.0, noise=0.01)
    late = furrow(0.0, along=0.02) > np.quantile(furrow(0.0, along=0.02), 0.7)
    z[:, late] = np.inf
    shape = make_landscape(z)
    shape.states[:, late] = "stopped"
    numbers = separability(shape)
    assert abs(numbers.contour_slope.value) < 0.1
    assert numbers.interaction_share.value < 0.05
    assert not late[shape.best().index]


def test_missing_runs_cost_width_and_not_the_value(make_landscape):
    z = sweep(-1.0, n_seeds=3)
    z[np.random.default_rng(1).random(z.shape) < 0.2] = np.nan
    z[:, 3, 4] = np.nan
    whole, part = separability(make_landscape(sweep(-1.0, n_seeds=3))), separability(make_landscape(z))
    assert part.contour_slope.value == pytest.approx(-1.0, abs=0.1)
    assert part.contour_slope.high - part.contour_slope.low > whole.contour_slope.high - whole.contour_slope.low


def test_a_coarse_grid_that_is_all_there_is_has_its_numbers(make_landscape):
    z = sweep(-1.0, n_seeds=2)
    coarse = np.full_like(z, np.nan)
    coarse[:, ::2, ::2] = z[:, ::2, ::2]
    assert separability(make_landscape(coarse)).contour_slope.value == pytest.approx(-1.0, abs=0.15)


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_seeds_of_which_nothing_is_known_change_nothing(make_landscape, n_seeds):
    """Neither do they make intervals narrower, nor is a single seed chosen and judged by others that are not there."""
    z = sweep(-1.0, n_seeds=n_seeds, noise=0.1)
    some = separability(make_landscape(np.concatenate([z, np.full((3 - n_seeds, *z.shape[1:]), np.nan)])))
    assert repr(some) == repr(separability(make_landscape(z)))


def test_rows_and_columns_of_which_nothing_is_known_do_not_end_the_basin(make_landscape):
    z = sweep(0.0, n_seeds=2, noise=0.01)
    coarse = np.full_like(z, np.nan)
    coarse[:, ::2, ::2] = z[:, ::2, ::2]
    for found, fine in zip(*(separability(make_landscape(seeds)).extents for seeds in (coarse, z)), strict=True):
        assert found.width.low <= found.width.value <= found.width.high
        assert found.width.value == pytest.approx(fine.width.value, abs=2.0)
        assert found.is_open == fine.is_open


def test_one_seed_has_intervals_from_its_neighbours(make_landscape):
    numbers = separability(make_landscape(sweep(-1.0, n_seeds=1, along=0.0)))
    assert numbers.n_seeds == 1
    assert numbers.contour_slope.low < -1.0 < numbers.contour_slope.high
    assert numbers.contour_slope.high - numbers.contour_slope.low < 0.5


def test_a_surface_without_noise_has_values_and_no_intervals(make_landscape):
    numbers = separability(make_landscape(np.repeat(furrow(-1.0)[None], 3, axis=0)))
    assert numbers.contour_slope.value == pytest.approx(-1.0, abs=0.02)
    assert np.isnan(numbers.contour_slope.low)
    assert np.isnan(numbers.independent_tuning_regret.high)


@pytest.mark.parametrize("z", [np.full((2, 4, 4), np.nan), np.full((2, 4, 4), np.inf), np.ones((2, 4, 4)),
                               np.random.default_rng(0).random((2, 1, 4))])  # fmt: skip
def test_where_there_is_nothing_to_measure_numbers_are_nan(make_landscape, z):
    numbers = separability(make_landscape(z))
    assert np.isnan(numbers.contour_slope.value)
    assert np.isnan(numbers.interaction_share.value)


def test_weight_decay_zero_has_no_octave(make_spec, make_landscape):
    at = coordinates("wd", np.array([0.0, 0.25, 0.5, 1.0]))
    assert at.tolist() == [-3.0, -2.0, -1.0, 0.0]
    assert coordinates("momentum", np.array([0.0, 0.5, 0.75])).tolist() == [0.0, 1.0, 2.0]
    assert coordinates("nesterov", np.array([0.0, 1.0])).tolist() == [0.0, 1.0]


def test_a_column_without_decay_that_is_all_there_is_has_no_extent(make_landscape):
    """Nor a rim: the noise of no cell at all was infinite."""
    from dataclasses import replace

    z = sweep(-1.0)
    z[:, :, 1:] = np.nan
    shape = make_landscape(z)
    numbers = separability(replace(shape, wd=np.concatenate([[0.0], shape.wd[1:]])))
    assert [(extent.width.value, extent.is_open) for extent in numbers.extents] == [(0.0, True)] * 2


def test_the_step_to_no_decay_is_in_no_extent(make_landscape):
    from dataclasses import replace

    z = sweep(0.0, noise=0.001)[:, :, 6:]  # the best weight decay lies just within
    shape = make_landscape(np.concatenate([z[:, :, :1], z], axis=2))
    found = separability(replace(shape, wd=np.concatenate([[0.0], shape.wd[1:]]))).extents[1]
    expected = separability(make_landscape(z)).extents[1]
    assert found.width.value == pytest.approx(expected.width.value, abs=0.1)  # the cut is another
    assert found.is_open


def test_a_column_without_decay_takes_no_part_in_the_slope(make_landscape):
    from dataclasses import replace

    z = sweep(-1.0)
    z[:, :, 0] += 100.0
    shape = make_landscape(z)
    with_zero = replace(shape, wd=np.concatenate([[0.0], shape.wd[1:]]))
    without = make_landscape(z[:, :, 1:], wd_first_exponent=-7)
    found, expected = separability(with_zero).contour_slope.value, separability(without).contour_slope.value
    assert found == pytest.approx(expected, abs=0.02)


def test_a_cell_is_settled_by_the_greater_part_of_its_seeds():
    z = np.array([[1.0, 1.0, 1.0, np.nan], [3.0, 9.0, 9.0, np.nan], [5.0, 2.0, 9.0, 2.0]])[:, None]
    assert settled(z, 9.0) == pytest.approx(np.array([[3.0, 1.5, 9.0, 2.0]]))


def test_regrets_are_judged_on_the_seed_left_out():
    """By hand: two seeds, a row of two columns; each seed's choice costs what the other says."""
    z = np.array([[[1.0, 2.0], [3.0, 4.0]], [[2.0, 1.0], [4.0, 3.0]]])
    combined, one_pass = held_out_regrets(z, 10.0)
    assert (combined, one_pass) == pytest.approx((0.0, 0.0))  # additive: whoever chooses, one by one or both at once


def test_a_cell_in_which_a_seed_chosen_by_diverged_is_chosen_last():
    z = np.array([[[1.0, 2.0], [3.0, 4.0]]] * 3)
    z[0, 0, 0] = 10.0
    combined, _ = held_out_regrets(z, 10.0)
    kept, _ = held_out_regrets(np.array([[[2.5, 2.0], [3.0, 4.0]]] * 3), 10.0)
    assert combined >= kept


def test_regrets_of_a_single_seed_have_no_interval(make_landscape):
    numbers = separability(make_landscape(sweep(-1.0, n_seeds=1)))
    for regret in (numbers.independent_tuning_regret, numbers.one_pass_regret):
        assert np.isfinite(regret.value)
        assert np.isnan(regret.low)


def test_the_same_landscape_has_the_same_numbers(make_landscape):
    assert separability(make_landscape(sweep(-1.0))) == separability(make_landscape(sweep(-1.0)))


@pytest.fixture
def calibration(monkeypatch):
    """benchmarks/calibration.py, from its file: the checkout is not on the path, so that an installed hpscan is tested."""
    path = Path(__file__).parents[1] / "benchmarks" / "calibration.py"
    spec = importlib.util.spec_from_file_location("calibration", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "calibration", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say(calibration):
    """90 to 99 of 100 of each number, and no fewer than chance may make of 90 in the 160 sweeps of any one kind."""
    held = defaultdict(list)
    for condition, seeds in itertools.product(({}, {"missing": 0.2}, {"corner": True}, {"curved": True}), (2, 3, 5)):
        of_kind = defaultdict(list)
        for slope, noise in itertools.product(calibration.SLOPES, ("low", "medium")):
            found, _ = calibration.covered(calibration.Case(slope=slope, noise=noise, seeds=seeds, **condition), 20)
            for name, results in found.items():
                of_kind[name] += [holds for holds, _, _ in results]
        for name, results in of_kind.items():
            assert np.mean(results) >= 0.87, (name, condition, seeds)
            held[name] += results
    shares = {name: np.mean(results) for name, results in held.items()}
    assert all(0.9 <= share <= 0.99 for share in shares.values()), shares


@pytest.mark.parametrize("n_seeds", [2, 3])
@pytest.mark.parametrize("points", [4, 9])
def test_two_seeds_of_a_small_grid_that_agree_are_evidence(make_landscape, n_seeds, points):
    """Symmetric and additive: hardly a move of one seed against the other tells them apart."""
    at = np.arange(points) - (points - 1) / 2
    z = np.add.outer(at**2, at**2) + 0.001 * np.random.default_rng(0).standard_normal((n_seeds, points, points))
    evidence = separability(make_landscape(z)).evidence
    assert max(evidence.surface, evidence.first, evidence.second) < 0.05


@pytest.mark.parametrize("points", [3, 4])
def test_two_seeds_of_a_small_grid_of_noise_are_seldom_evidence(make_landscape, points):
    found = [
        separability(make_landscape(np.random.default_rng(k).standard_normal((2, points, points)))).evidence.surface
        for k in range(60)
    ]
    assert np.mean(np.array(found) < 0.05) <= 0.15


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_noise_on_a_coarse_grid_within_a_fine_one_is_seldom_evidence(make_landscape, n_seeds):
    """Its moves are those of the coarse grid: moved by odd steps of the fine one a seed would meet only holes."""

    def p_values(k):
        z = np.full((n_seeds, 9, 9), np.nan)
        z[:, ::2, ::2] = np.random.default_rng(k).standard_normal((n_seeds, 5, 5))
        evidence = separability(make_landscape(z)).evidence
        return evidence.surface, evidence.first, evidence.second, evidence.interaction

    found = np.array([p_values(k) for k in range(60)])
    assert ((found < 0.05).mean(axis=0) <= 0.15).all()
    assert (found.min(axis=0) < 0.5).all()


def test_runs_that_diverge_at_random_are_no_interaction(make_landscape):
    """Which cells an additive surface clears is asked of each seed: of the mean, a third of such sweeps had one."""

    def found(k):
        rng = np.random.default_rng(k)
        z = rng.standard_normal((3, 8, 8))
        return separability(make_landscape(np.where(rng.random(z.shape) < 0.4, np.inf, z))).evidence.interaction

    assert np.mean([found(k) < 0.05 for k in range(40)]) <= 0.15


@pytest.mark.parametrize("holes", [0, 1, 6])
def test_seeds_that_differ_by_a_constant_are_evidence(make_landscape, holes):
    """Their noise is one number for all cells, which rounding would give an order that all seeds have."""
    at = np.arange(5) - 2
    z = 1 + 0.1 * np.add.outer(at**2, at**2) + 0.01 * np.arange(3)[:, None, None]
    z[:, *np.unravel_index(np.random.default_rng(0).choice(25, holes, replace=False), (5, 5))] = np.nan
    evidence = separability(make_landscape(z)).evidence
    assert max(evidence.surface, evidence.first, evidence.second) < 0.05


def test_a_single_seed_of_a_coarse_grid_shows_its_surface(make_landscape):
    z = np.full((1, 9, 9), np.nan)
    z[:, ::2, ::2] = furrow(-1.0)[None, :9:2, :9:2]
    assert separability(make_landscape(z)).evidence.surface < 0.05


def test_a_constant_landscape_has_no_interaction_share_and_no_evidence(make_landscape):
    numbers = separability(make_landscape(np.full((3, 5, 5), 0.1)))
    assert np.isnan(numbers.interaction_share.value)
    assert np.isnan(numbers.evidence.interaction)


@pytest.mark.parametrize("seed", range(6))
def test_a_seed_that_diverged_throughout_agrees_with_another_on_nothing(make_landscape, seed):
    """What two seeds have in common is 0 then; of that no share is explained, whatever rounding leaves of it."""
    z = sweep(-1.0, n_seeds=2, seed=seed)
    z[0] = np.inf
    numbers = separability(make_landscape(z))
    assert np.isnan(numbers.interaction_share.value)
    assert np.isnan(numbers.contour_slope.value)


def test_a_constant_beside_the_metric_changes_no_share(make_landscape):
    """As far as its own rounding goes: a metric of 10⁶ has digits enough for it."""
    one, other = (separability(make_landscape(sweep(-1.0) + level)).interaction_share for level in (0.0, 1e6))
    assert (other.value, other.low, other.high) == pytest.approx((one.value, one.low, one.high), rel=1e-6)


@pytest.mark.parametrize("huge", [1e39, 1e160, 1.7e308, -1e300])
def test_a_value_beyond_what_networks_train_in_has_diverged(make_landscape, huge):
    """Its square is no number, which numpy warned of; tests take warnings for errors."""
    z = sweep(-0.5)
    z[0, 3, 3], z[:, 0, 0] = huge, huge
    diverged = np.where(z == huge, np.inf, z)
    assert separability(make_landscape(z)) == separability(make_landscape(diverged))


def test_a_landscape_of_which_all_is_beyond_that_has_no_numbers(make_landscape):
    assert np.isnan(separability(make_landscape(1e300 * sweep(-0.5))).contour_slope.value)


def test_numbers_have_no_unit(make_landscape):
    small, large = (separability(make_landscape(2.0**power * sweep(-0.5))) for power in (-30, 120))
    assert small.contour_slope == large.contour_slope
    assert small.interaction_share == large.interaction_share
    assert small.evidence == large.evidence


def error_rates(seed):
    """Of 30 validation examples: many cells are equal, and the highest learning rates diverge."""
    rng = np.random.default_rng(seed)
    z = rng.integers(3, 9, size=(3, 5, 6)) / 30
    z[:, 3:] = np.inf
    return z


@pytest.mark.parametrize("seed", range(4))
def test_where_cells_are_equal_no_number_depends_on_the_order_of_seeds_or_of_an_axis(make_landscape, seed):
    """Nor on how a mean is rounded: 0.1 + 0.2 is no worse than 0.3."""
    z = error_rates(seed)

    def numbers(z, mirrored=1):
        found = separability(make_landscape(z))
        regrets = found.independent_tuning_regret.value, found.one_pass_regret.value, found.worst_regret
        return [*regrets, found.rank_agreement.value, mirrored * found.best_wd_trend.value]

    expected = pytest.approx(numbers(z), abs=1e-9)
    assert numbers(z[[2, 0, 1]]) == expected
    assert numbers(z[:, ::-1], -1) == expected
    assert numbers(z[:, :, ::-1], -1) == expected
    assert [value / scale for value, scale in zip(numbers(10 * z), (10, 10, 10, 1, 1), strict=True)] == expected


def test_from_where_all_diverged_no_weight_decay_is_chosen_before_another(make_landscape):
    """The least decay was, which happens to be the best one here and the worst one mirrored."""
    z = np.full((1, 3, 4), np.inf)
    z[0, 0], z[0, 1] = [1.0, 2.0, 3.0, 4.0], 8.0
    for way in (1, -1):
        regret = separability(make_landscape(z[:, :, ::way])).independent_tuning_regret.value
        assert regret == pytest.approx(2 / 3 * 1.5)  # from two rows of three, any of four


@pytest.mark.parametrize("seed", range(3))
def test_an_interval_holds_its_value_whatever_rounding_has_it(make_landscape, seed):
    """Seeds that are alike have no spread but that."""
    z = np.repeat(np.random.default_rng(seed).random((1, 4, 9)) ** 3, 2, axis=0)
    z[:, 0, 8] = np.nan
    found = separability(make_landscape(z))
    for each in (found.contour_slope, found.interaction_share, *(extent.width for extent in found.extents)):
        assert np.isnan(each.low) or each.low <= each.value <= each.high
