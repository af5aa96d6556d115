import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpscan.adaptive import believe, first_cells, next_cells

shapes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@st.composite
def landscapes(draw):
    """A landscape of which some cells are known, some of those diverged; weight decay 0 one step below the rest."""
    shape = draw(shapes)
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    i, j = np.indices(shape)
    z = 1 + 0.05 * (i - draw(st.integers(0, 8))) ** 2 + 0.03 * (i + j - draw(st.integers(0, 9))) ** 2
    z += rng.normal(0, 0.01, shape)
    z[i + j > draw(st.integers(-1, 18))] = np.inf
    z[rng.random(shape) > draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))] = np.nan
    return z, np.arange(float(shape[0])) - 9, np.arange(float(shape[1])) - 12


@given(landscapes(), st.integers(0, 12), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_proposals_are_unknown_cells_once_each_and_no_more_than_asked_for(landscape, n, random):
    z, x, y = landscape
    unknown = [(int(i), int(j)) for i, j in np.argwhere(np.isnan(z))]
    pending = random.sample(unknown, len(unknown) // 3)
    chosen = next_cells(z, x, y, n, pending=pending)
    assert len(chosen) == len(set(chosen)) <= n
    assert set(chosen) <= set(unknown) - set(pending)
    assert chosen == next_cells(z.copy(), x, y, n, pending=pending)


@given(shapes)
def test_the_first_cells_are_a_lattice_inside_the_grid(shape):
    cells = first_cells(shape)
    assert len(cells) == len(set(cells))
    rows, columns = ({cell[axis] for cell in cells} for axis in (0, 1))
    assert len(cells) == len(rows) * len(columns)
    for taken, points in ((rows, shape[0]), (columns, shape[1])):
        assert min(points, 2) <= len(taken)
        assert taken <= set(range(points))


def bowl(shape=(11, 13), at=(7, 4)):
    i, j = np.indices(shape)
    return 1 + 0.02 * (i - at[0]) ** 2 + 0.01 * (j - at[1]) ** 2 + 0.012 * (i - at[0]) * (j - at[1])


def played(whole, share, lost=()):
    """Train cells by turns until the landscape is settled or a share of them is spent; of some nothing is ever known."""
    x, y = (np.arange(float(points)) for points in whole.shape)
    z = np.full(whole.shape, np.nan)
    chosen = first_cells(whole.shape)
    while chosen:
        for cell in chosen:
            z[cell] = whole[cell] if cell not in lost else np.nan
        left = int(share * z.size) - int((~np.isnan(z)).sum())
        chosen = next_cells(z, x, y, min(6, left), lost=lost)
    return z, believe(z, x, y)


def test_a_bowl_is_settled_with_a_quarter_of_its_cells():
    whole = bowl()
    z, belief = played(whole, 1.0)
    assert belief.settled(np.zeros(z.shape, dtype=bool))
    assert (~np.isnan(z)).mean() < 0.25
    assert z[7, 4] == whole.min()
    basin = whole <= 1.05 * whole.min()
    assert (belief.basin & basin).sum() / (belief.basin | basin).sum() > 0.95


def test_a_landscape_is_settled_though_its_best_cell_is_lost():
    whole = bowl()
    z, _ = played(whole, 1.0, lost=[(7, 4)])
    assert (~np.isnan(z)).mean() < 0.3
    assert np.nanmin(z) == np.sort(whole, axis=None)[1]


def test_beyond_a_cliff_of_diverged_cells_nothing_is_trained_in_vain():
    whole = bowl()
    whole[9:] = np.inf
    z, belief = played(whole, 1.0)
    assert z[7, 4] == whole.min()
    assert np.isinf(z[9:]).sum() <= 10
    assert not belief.basin[9:].any()


def test_where_all_cells_diverged_the_farthest_ones_are_next():
    z = np.full((5, 5), np.nan)
    z[0, 0] = z[0, 1] = z[1, 0] = np.inf
    x = np.arange(5.0)
    assert believe(z, x, x) is None
    assert next_cells(z, x, x, 2)[0] == (4, 4)


def test_a_value_for_a_bad_cell_does_not_matter_beyond_the_cut():
    whole = bowl()
    x, y = np.arange(11.0), np.arange(13.0)
    z = np.full(whole.shape, np.nan)
    for cell in first_cells(whole.shape):
        z[cell] = whole[cell]
    worse = np.where(z > np.nanquantile(z, 0.95), 1e6, z)
    assert np.allclose(believe(worse, x, y).mean, believe(z, x, y).mean)


def test_uncertainty_is_least_where_cells_are_known():
    whole = bowl()
    z, belief = played(whole, 0.2)
    assert belief.sd[~np.isnan(z)].max() <= belief.sd[np.isnan(z)].max()
    assert np.array_equal(belief.filled[~np.isnan(z)], z[~np.isnan(z)])
    assert ((belief.in_basin >= 0) & (belief.in_basin <= 1)).all()


@pytest.mark.parametrize("constant", [0.0, 1.0, np.inf])
def test_a_plateau_says_nothing(constant):
    z = np.full((4, 4), np.nan)
    z[:2] = constant
    assert believe(z, np.arange(4.0), np.arange(4.0)) is None


@pytest.mark.parametrize("constant", [0.0, 0.1, -2.0])
def test_a_plateau_is_settled_with_a_part_of_the_cells(constant):
    """Where all is the basin, there is no better cell to look for."""
    z, x = np.full((12, 12), np.nan), np.arange(12.0)
    for cell in first_cells(z.shape):
        z[cell] = constant
    while cells := next_cells(z, x, x, 6):
        for cell in cells:
            z[cell] = constant
    assert np.isfinite(z).mean() < 0.15


def test_of_one_good_cell_among_diverged_ones_nothing_is_settled():
    z, x = np.full((8, 8), np.nan), np.arange(8.0)
    z[:2], z[0, 0] = np.inf, 1.0
    assert next_cells(z, x, x, 1) == [(7, 0)]


@pytest.mark.parametrize("least", [0.0, 3e-4])
@pytest.mark.parametrize("seed", range(3))
def test_errors_of_zero_are_settled_with_a_part_of_the_cells(least, seed):
    """A share of 0 is 0: no cell was ever sure enough to be outside, nor an improvement too small to be worth one."""
    rng = np.random.default_rng(seed)
    i, j = np.indices((10, 11))
    rate = np.maximum(0.004 * ((i - 6) ** 2 + 0.5 * (j - 4) ** 2 + 0.6 * (i - 6) * (j - 4)) - 0.012, least)
    whole = rng.binomial(500, np.minimum(rate, 0.9), (3, *rate.shape)).mean(axis=0) / 500
    assert (whole == 0).any()
    z, belief = played(whole, 1.0)
    assert (~np.isnan(z)).mean() < 0.5
    assert np.nanmin(z) == 0
    assert belief.basin[rate == least].mean() > 0.5
    assert not belief.basin[rate > 0.05].any()


def test_a_basin_is_the_same_in_any_unit():
    z, _ = played(bowl(), 0.2)
    x, y = (np.arange(float(points)) for points in z.shape)
    assert np.array_equal(believe(2.0**-50 * z, x, y).basin, believe(z, x, y).basin)
