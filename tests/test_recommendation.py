"""What is recommended lies in the middle of what is good, and says truly how far it reaches."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hpscan.recommendation import NEAR, less, recommend
from tests.conftest import landscape_of

X, Y = np.meshgrid(np.arange(9.0), np.arange(9.0), indexing="ij")


def seeds_of(surface, n=3, noise=0.0):
    """The surface for each of n seeds, which shift it as a whole and by independent noise."""
    rng = np.random.default_rng(0)
    return surface + 0.1 * np.arange(n)[:, None, None] + noise * rng.standard_normal((n, *surface.shape))


def test_the_middle_of_a_flat_basin_is_chosen_not_its_least_cell(make_landscape):
    surface = np.full((9, 9), 2.0)
    surface[2:7, 3:8] = 1.0
    surface[2, 3] = 0.995  # the best cell, in the corner
    found = recommend(make_landscape(surface[None]))
    assert found.index == (4, 5)
    assert found.n_cells == 25
    assert found.cost.value == pytest.approx(0.005)
    assert not found.by_noise
    low, high = found.ranges
    assert low.octaves == pytest.approx((2 + 0.0149, 2 + 0.0149), abs=1e-3)  # the rim is crossed at once
    assert high.octaves == pytest.approx(low.octaves, abs=1e-9)
    assert low.is_open == high.is_open == (False, False)


def test_along_a_diagonal_furrow_the_recommended_cell_lies_in_it(make_landscape):
    found = recommend(make_landscape(seeds_of(1 + 0.2 * (X + Y - 8) ** 2)))
    assert found.index == (4, 4)
    assert found.n_cells == 9
    for axis in found.ranges:
        assert axis.slip.value == pytest.approx(0.2)
        assert axis.slip.low == pytest.approx(axis.slip.high)  # seeds differ by the same everywhere
        assert axis.octaves[0] == pytest.approx(axis.octaves[1])
        assert axis.octaves[0] < 0.2


def test_a_parabola_is_left_where_straight_lines_between_cells_say(make_landscape):
    found = recommend(make_landscape((1 + 0.01 * (X - 4) ** 2 + 0.04 * (Y - 4) ** 2)[None]))
    along_lr, along_wd = found.ranges
    assert along_lr.octaves == pytest.approx((1 + 1 / 3, 1 + 1 / 3))  # 0.01 at 1, 0.04 at 2: 0.02 a third of the way
    assert along_wd.octaves == pytest.approx((0.5, 0.5))
    assert (along_lr.low, along_lr.high) == pytest.approx((found.lr * 2 ** (-4 / 3), found.lr * 2 ** (4 / 3)))
    assert (along_lr.slip.value, along_wd.slip.value) == pytest.approx((0.01, 0.04))


def test_a_slip_into_divergence_says_so_and_the_basin_ends_before_it(make_landscape):
    surface = 1 + 0.001 * (X - 4) ** 2 + 0.001 * (Y - 4) ** 2
    surface[5:] = np.inf
    found = recommend(make_landscape(seeds_of(surface)))
    along_lr, along_wd = found.ranges
    edge = found.lr * 2 ** along_lr.octaves[1]
    assert edge == pytest.approx(2.0 ** (-6 + 4))
    assert not along_lr.is_open[1]
    if found.index[0] == 4:
        assert along_lr.slip.value == math.inf
    assert np.isfinite(along_wd.slip.value)


def test_an_end_of_the_grid_and_an_unknown_neighbour_leave_the_basin_open(make_landscape):
    surface = 1 + 0.0001 * Y + 0.5 * np.abs(X - 4)
    surface[:, 6:] = np.nan
    found = recommend(make_landscape(seeds_of(surface, n=1)))
    assert found.ranges[1].is_open == (True, True)
    assert found.ranges[0].is_open == (False, False)


def test_noise_widens_the_basin_and_what_seeds_do_to_all_cells_alike_does_not(make_landscape):
    surface = 1 + 0.05 * (X - 4) ** 2 + 0.05 * (Y - 4) ** 2
    calm, noisy = (recommend(make_landscape(seeds_of(surface, 4, noise))) for noise in (0.0, 0.2))
    assert (calm.by_noise, noisy.by_noise) == (False, True)
    assert calm.within == pytest.approx(NEAR * 1.15)
    assert noisy.within == pytest.approx(0.2 * math.sqrt(2 / 4), rel=0.4)


def test_no_decay_is_the_end_of_an_axis_and_not_of_the_grid(make_landscape):
    shape = make_landscape(seeds_of(1 + 0.0001 * Y + 0.5 * np.abs(X - 4)))
    shape = replace(shape, wd=np.array([0.0, *shape.wd[1:]]))
    along_wd = recommend(shape).ranges[1]
    assert along_wd.low == 0.0
    assert along_wd.is_open == (False, True)


def test_nothing_is_recommended_where_nothing_is_finite(make_landscape):
    assert recommend(make_landscape(np.full((2, 9, 9), np.inf))) is None


def test_the_difference_of_two_cells_is_paired(make_landscape):
    shape = make_landscape(seeds_of(X))
    found = less(shape, (3, 0), shape, (1, 0))
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))


@given(arrays(float, (2, 9, 9), elements=st.one_of(st.floats(0.01, 10), st.just(math.inf), st.just(math.nan))))
def test_whatever_the_surface_the_cell_is_as_good_as_is_said(z):
    shape = landscape_of(z)
    found = recommend(shape)
    if found is None:
        assert shape.best() is None
        return
    assert shape.mean()[found.index] <= shape.mean()[shape.best().index] + found.within + 1e-9
    for axis, value in zip(found.ranges, (found.lr, found.wd), strict=True):
        assert axis.low <= value <= axis.high
        assert min(axis.octaves) >= 0


def test_what_a_rung_stopped_has_no_price_and_what_diverged_does(make_landscape):
    z = seeds_of(1 + 0.2 * (X - 4) ** 2 + 0.2 * (Y - 4) ** 2)
    z[:, [3, 5], :] = np.inf
    shape = make_landscape(z)
    assert math.isinf(recommend(shape).ranges[0].slip.value)
    shape.states[np.isinf(z)] = "stopped"
    lr, wd = recommend(shape).ranges
    assert math.isnan(lr.slip.value)
    assert lr.octaves == pytest.approx((0, 0))
    assert wd.slip.value == pytest.approx(0.2)


def test_no_decay_reaches_up_to_a_value_and_has_no_octaves(make_landscape):
    shape = make_landscape(seeds_of(1 + 0.2 * (X - 4) ** 2 + np.array([0.0, 0.01, 0.03, 1, 1, 1, 1, 1, 1])))
    wd = recommend(replace(shape, wd=np.array([0.0, *shape.wd[1:]]))).ranges[1]
    assert wd.low == 0.0
    assert shape.wd[1] < wd.high < shape.wd[2]
    assert np.isnan([*wd.octaves, wd.slip.value]).all()
    assert wd.is_open == (False, False)


@pytest.mark.parametrize("rises", [(np.inf, 0.1, 0.0, 0.2, np.inf), (0.1, 0.0, 0.2)], ids=["divergence", "the end"])
@pytest.mark.parametrize("base", np.geomspace(0.001, 0.9, 20))
def test_an_octave_that_ends_on_a_cell_knows_nothing_of_what_is_beyond(make_landscape, rises, base):
    """Whatever the logarithms of the values are rounded to."""
    z = np.add.outer(np.array(rises), [1.5, 1.0, 1.5])[None]
    shape = replace(make_landscape(z), lr=base * 2.0 ** np.arange(len(rises)))
    assert recommend(shape).ranges[0].slip.value == pytest.approx(0.2)


def test_between_the_least_decay_and_none_the_line_is_one_in_the_decay(make_landscape):
    decays = np.array([0.0, 0.01, 0.02, 0.04])
    shape = replace(make_landscape(np.add.outer([0.1, 0.0, 0.1], 0.5 + 10 * abs(decays - 0.01))[None]), wd=decays)
    found = recommend(shape)
    wd = found.ranges[1]
    assert found.wd == 0.01
    assert wd.low == pytest.approx(0.01 - found.within / 10)
    assert wd.octaves[0] == pytest.approx(np.log2(0.01 / wd.low))
    steep = replace(shape, values={"val_loss": shape.z + np.where(decays == 0.0, 1.0, 0.0)})
    assert recommend(steep).ranges[1].slip.value == pytest.approx(1.1 / 2)  # half the decay is half the way


def test_from_no_decay_the_line_is_one_in_octaves_beyond_the_least(make_landscape):
    decays = np.array([0.0, 0.01, 0.02, 0.04])
    surface = np.add.outer([0.1, 0.0, 0.1], [1.0, 1.0 + 1e-9, 1.04, 1.08])
    surface[:, 1] += [0.1, 0.0, 0.1]
    found = recommend(replace(make_landscape(surface[None]), wd=decays))
    assert found.wd == 0.0
    assert found.ranges[1].high == pytest.approx(0.01 * 2**0.5)


def test_the_range_of_a_momentum_is_one_of_momenta(make_landscape):
    """Its octaves are those of 1/(1 − β): half of 1/(1 − 0.75) is 1/(1 − 0.5)."""
    momenta = np.array([0.0, 0.5, 0.75, 0.875, 0.9375])
    surface = 1.0 + np.where(np.eye(5)[2][:, None] > 0, 0.0, 0.04) + np.abs(np.arange(5) - 2)
    found = recommend(replace(make_landscape(surface[None]), lr=momenta, axes=("momentum", "wd")))
    reach = found.ranges[0]
    assert found.lr == 0.75
    assert reach.octaves == pytest.approx((0.5, 0.5))
    assert (1 / (1 - reach.low), 1 / (1 - reach.high)) == pytest.approx((4 * 2**-0.5, 4 * 2**0.5))
    none = recommend(replace(make_landscape(surface[[2, 1, 0, 3, 4]][None]), lr=momenta, axes=("momentum", "wd")))
    assert none.lr == 0.0
    assert none.ranges[0].octaves == pytest.approx((0.0, 0.5))  # of no momentum there is an octave
    assert none.ranges[0].slip.value == pytest.approx(0.04)


def test_no_decay_is_no_number_of_octaves_away(make_landscape):
    """Not the step to it, which is made up."""
    shape = make_landscape(np.add.outer([0.1, 0.0, 0.1], [1.0, 1.0, 1.0, 2.0])[None])
    found = recommend(replace(shape, wd=np.array([0.0, 1.0, 2.0, 4.0])))
    wd = found.ranges[1]
    assert (found.wd, wd.low) == (1.0, 0.0)
    assert wd.octaves == pytest.approx((math.inf, 1.02))
    assert wd.is_open == (False, False)


@pytest.mark.parametrize("dense", [(), (0, 8)], ids=["coarse", "with lines in between"])
def test_the_basin_of_a_sparse_map_hangs_together_across_what_is_unknown(make_landscape, dense):
    surface = np.full((9, 9), 2.0)
    surface[2:7, 2:7] = 1.0
    surface[2, 2] = 0.995  # the best cell, in the corner
    surface[4, 6] = 0.996  # off the middle, and no nearer for being good
    sparse = np.full_like(surface, np.nan)
    for cells in [np.s_[::2, ::2], *(np.s_[line] for line in dense), *(np.s_[:, line] for line in dense)]:
        sparse[cells] = surface[cells]
    found = recommend(make_landscape(sparse[None]))
    assert (found.index, found.n_cells) == ((4, 4), 9)


def test_a_wall_of_bad_cells_parts_a_sparse_map(make_landscape):
    sparse = np.full((9, 9), np.nan)
    sparse[::2, ::2] = 1.0
    sparse[4, ::2] = np.inf
    sparse[0, :] = sparse[8, :] = 1.0
    sparse[0, 0] = 0.999
    found = recommend(make_landscape(sparse[None]))
    assert found.index[0] < 4
    assert found.n_cells == 9 + 5


def test_rows_and_columns_of_which_nothing_is_known_do_not_end_a_range(make_landscape):
    surface = 1 + 0.01 * (X - 4) ** 2 + 0.04 * (Y - 4) ** 2
    coarse = np.full_like(surface, np.nan)
    coarse[::2, ::2] = surface[::2, ::2]
    lr, wd = recommend(make_landscape(coarse[None])).ranges
    assert lr.octaves == pytest.approx((1.0, 1.0))  # 0.02 half the way to 0.04, two octaves off
    assert wd.octaves == pytest.approx((0.25, 0.25))
    assert (lr.slip.value, wd.slip.value) == pytest.approx((0.02, 0.08))
    assert lr.is_open == wd.is_open == (False, False)


def test_where_nothing_is_known_nothing_is_recommended(make_landscape):
    assert recommend(make_landscape(np.full((2, 9, 9), np.nan))) is None


def test_of_a_best_value_of_zero_the_basin_is_what_noise_does_not_tell_from_it(make_landscape):
    """2 % of 0 is nothing: where the best cells' seeds all have it, it is these cells; else the noise says how far."""
    good = (abs(X - 4) <= 2) & (abs(Y - 4) <= 2)
    errors = np.stack([np.where(good, 0.0, 0.1)] * 5)
    found = recommend(make_landscape(errors))
    assert (found.index, found.n_cells, found.within, found.by_noise) == ((4, 4), 25, 0.0, False)
    for number, cell in enumerate(np.argwhere(good)):
        errors[number % 5, *cell] = 0.0 if number % 6 == 0 else 0.002  # one in 500 examples, of one seed
    found = recommend(make_landscape(errors))
    assert (found.index, found.n_cells, found.by_noise) == ((4, 4), 25, True)


@pytest.mark.parametrize("huge", [1e160, 1.7e308])
def test_a_value_beyond_what_networks_train_in_is_recommended_as_a_diverged_one(make_landscape, huge):
    z = seeds_of(1 + 0.2 * (X - 4) ** 2 + 0.2 * (Y - 4) ** 2, noise=0.01)
    z[0, 3, 4] = huge
    assert recommend(make_landscape(z)) == recommend(make_landscape(np.where(z == huge, np.inf, z)))
