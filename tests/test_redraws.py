"""New seeds have the surface, the noise and the brink of those that were there."""

import numpy as np
import pytest

from hpscan.redraws import BATCHES, Redraws

X, Y = np.arange(8.0), np.arange(9.0)
CEILING = 10.0


def seeds_about(surface, n=4, noise=0.2, seed=0):
    return surface + noise * np.random.default_rng(seed).standard_normal((n, len(X), len(Y)))


def of(z, diverged=None):
    diverged = np.zeros(z.shape, dtype=bool) if diverged is None else diverged
    return Redraws.about(np.where(diverged, CEILING, z), diverged, X, Y, CEILING)


def test_means_and_spread_are_those_of_the_seeds():
    surface = 1.0 + 0.1 * np.add.outer(X, Y)
    z = seeds_about(surface)
    drawn = of(z).seeds(np.random.default_rng(1), 2000)
    assert drawn.shape == (2000, 4, 8, 9)
    assert drawn.mean(axis=(0, 1)) == pytest.approx(z.mean(axis=0), abs=0.02)
    assert drawn.std(axis=(0, 1)).mean() == pytest.approx(0.2, rel=0.15)


def test_the_brink_of_a_new_seed_is_an_old_ones_or_a_step_beside_it():
    diverged = np.zeros((2, 8, 9), dtype=bool)
    diverged[0, 5:], diverged[1, 6:] = True, True
    drawn = of(seeds_about(np.ones((8, 9)), n=2), diverged).seeds(np.random.default_rng(2), 4000)
    beyond = drawn == CEILING
    assert (beyond[:, :, :, 0] == beyond[:, :, :, 4]).all()  # a brink moves as a whole
    shares = beyond[..., 0].mean(axis=(0, 1))
    assert not shares[:4].any()
    # row 4: the first seed's brink, a step lower; row 5: that brink as it is or lower, or the second's a step lower
    assert shares[4:] == pytest.approx([0.5 / 8, 0.5 * 7 / 8 + 0.5 / 8, 0.5 + 0.5 * 7 / 8, 1.0], abs=0.03)


def test_a_cell_beyond_the_old_brink_takes_the_value_of_the_one_beside_it():
    """Where all seeds diverged there is no value of its own."""
    diverged = np.zeros((2, 8, 9), dtype=bool)
    diverged[:, 5:] = True
    surface = np.broadcast_to(X[:, None], (8, 9))
    drawn = of(seeds_about(surface, n=2, noise=0.0), diverged).seeds(np.random.default_rng(3), 1000)
    survivors = drawn[:, :, 5][drawn[:, :, 5] < CEILING]
    assert survivors == pytest.approx(4.0)
    assert 0.05 < len(survivors) / (1000 * 2 * 9) < 0.2


def test_what_is_unknown_stays_unknown():
    z = seeds_about(np.ones((8, 9)))
    z[1, 2, 3] = z[:, 5, 5] = np.nan
    drawn = of(z).seeds(np.random.default_rng(4), 10)
    assert (np.isnan(drawn) == np.isnan(z)).all()


def test_as_large_a_share_of_cells_again_is_hidden_from_each_batch():
    z = seeds_about(np.ones((8, 9)))
    z[:, 0, ::3] = np.nan
    redraws = of(z)
    assert redraws.hidden == pytest.approx(3 / 72)
    batches = list(redraws.batches(np.random.default_rng(5), 600))
    assert sum(len(seeds) for seeds, _ in batches) == 600
    assert len(batches) >= BATCHES
    assert {int(hidden.sum()) for _, hidden in batches} == {3}
    assert not any((hidden & np.isnan(z).all(axis=0)).any() for _, hidden in batches)
    assert len({hidden.tobytes() for _, hidden in batches}) > BATCHES / 2


def test_a_coarse_grid_hides_nothing():
    """Rows and columns of which nothing is known yet are no holes."""
    z = seeds_about(np.ones((8, 9)))
    coarse = np.full(z.shape, np.nan)
    coarse[:, ::2, ::2] = z[:, ::2, ::2]
    redraws = of(coarse)
    assert redraws.hidden == 0.0
    assert not any(hidden.any() for _, hidden in redraws.batches(np.random.default_rng(6), 50))


def test_equal_seeds_do_not_vary():
    z = np.broadcast_to(np.add.outer(X, Y), (3, 8, 9)).copy()
    assert not of(z).varies
    diverged = np.zeros(z.shape, dtype=bool)
    diverged[0, 7, 8] = True
    assert of(z, diverged).varies
