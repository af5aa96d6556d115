import itertools

import numpy as np
import pytest
import scipy.stats

from hpscan import nulls
from hpscan.nulls import additive_residuals, centred_ranks, p_value

X, Y = np.arange(9.0), np.arange(8.0)


def smooth_noise(rng, n_seeds, reach=2.0):
    roots = [np.linalg.cholesky(np.exp(-np.abs(at[:, None] - at) / reach)) for at in (X, Y)]
    return roots[0] @ rng.standard_normal((n_seeds, len(X), len(Y))) @ roots[1].T


def rejections(fields, n=200):
    return np.mean([p_value(fields(np.random.default_rng(k)), np.random.default_rng(k)) < 0.05 for k in range(n)])


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_smooth_noise_is_seldom_taken_for_a_surface(n_seeds):
    found = rejections(lambda rng: centred_ranks(smooth_noise(rng, n_seeds), (1, 2)))
    assert found <= 0.12  # 5 % within the error of 200 sweeps, and what shifting around a small torus costs


def test_a_single_seed_of_independent_noise_is_seldom_taken_for_a_surface():
    assert rejections(lambda rng: centred_ranks(rng.standard_normal((1, 9, 8)), (1, 2))) <= 0.1


def test_each_axis_is_found_where_it_matters_and_not_where_it_does_not():
    def z(rng):
        return 0.3 * (X - 4)[:, None] ** 2 + rng.standard_normal((3, 9, 8))

    assert rejections(lambda rng: centred_ranks(z(rng), (1,)), 40) == 1.0
    assert rejections(lambda rng: centred_ranks(z(rng), (2,)), 100) <= 0.12


def test_an_interaction_is_found_and_a_sum_is_not_taken_for_one():
    every = np.ones((9, 8), dtype=bool)
    total, product = np.add.outer(X, Y), np.multiply.outer(X - 4, Y - 3.5) / 3

    def fields(surface):
        return lambda rng: additive_residuals(surface + smooth_noise(rng, 3), every)

    assert rejections(fields(product), 40) == 1.0
    assert rejections(fields(total), 100) <= 0.13


def test_ranks_are_scipys_and_unknown_runs_have_none():
    z = np.random.default_rng(0).random((2, 4, 5))
    z[0, 1, 1], z[1, 2, 2], z[1, 2, 3] = np.nan, np.inf, np.inf
    ranks = centred_ranks(z, (1, 2))
    assert ranks[0, 1, 1] == 0.0
    theirs = scipy.stats.rankdata(z[1]).reshape(4, 5)
    assert ranks[1] == pytest.approx(theirs - theirs.mean())
    by_row = centred_ranks(z, (2,))
    assert by_row[1, 0] == pytest.approx(scipy.stats.rankdata(z[1, 0]) - 3)


def test_the_statistic_orders_sweeps_as_friedmans_does():
    """Σ_{s≠t}⟨r_s, r_t⟩ and Friedman's χ² are increasing functions of one another."""
    sweeps = [np.random.default_rng(k).random((4, 3, 4)) for k in range(20)]
    ours = [float((centred_ranks(z, (1, 2)).sum(axis=0) ** 2).sum()) for z in sweeps]
    theirs = [scipy.stats.friedmanchisquare(*z.reshape(4, -1).T).statistic for z in sweeps]
    assert np.array_equal(np.argsort(ours), np.argsort(theirs))


def test_residuals_of_seeds_with_holes_are_those_of_their_own_cells():
    z = np.random.default_rng(1).random((2, 5, 6))
    z[0, 2, 3] = np.nan
    found = additive_residuals(z, np.ones((5, 6), dtype=bool))
    assert found[0, 2, 3] == 0.0
    assert found[0].sum(axis=0) == pytest.approx(0.0, abs=1e-9)
    assert found[1] == pytest.approx(z[1] - z[1].mean(axis=0) - z[1].mean(axis=1, keepdims=True) + z[1].mean())


def test_where_nothing_varies_there_is_no_p_value():
    assert np.isnan(p_value(np.zeros((3, 4, 5)), np.random.default_rng(0)))


@pytest.mark.parametrize(
    "surface", [np.full((5, 5), 0.1), np.add.outer(0.1 * X[:5], np.zeros(5))], ids=["constant", "lr"]
)
def test_how_a_sum_is_rounded_is_no_interaction(surface):
    """Seeds that are equal to the bit, as of an error rate where nothing was learnt, are rounded alike, too."""
    residuals = additive_residuals(np.stack([surface] * 3), np.ones(surface.shape, dtype=bool))
    assert np.isnan(p_value(residuals, np.random.default_rng(0)))


@pytest.mark.parametrize("share", [0.35, 0.5])
def test_noise_with_holes_that_all_seeds_have_is_seldom_taken_for_an_interaction(share):
    """Moved, what is left in some cells more than in others would meet less of its like: 16 % where a third is known."""

    def found(k):
        rng = np.random.default_rng(k)
        known = rng.random((9, 8)) < share

        def fields(n):
            return additive_residuals(np.where(known, rng.standard_normal((n, 3, 9, 8)), np.nan), known)

        return p_value(fields(1)[0], rng, fields, moved=False)

    assert np.mean([found(k) < 0.05 for k in range(200)]) <= 0.08


def test_an_interaction_is_found_in_spite_of_holes_that_all_seeds_have():
    rng = np.random.default_rng(0)
    known = rng.random((9, 8)) < 0.5

    def fields(surface, n):
        return additive_residuals(np.where(known, surface + rng.standard_normal((n, 3, 9, 8)), np.nan), known)

    product = np.multiply.outer(X - 4, Y - 3.5) / 3
    assert p_value(fields(product, 1)[0], rng, lambda n: fields(0.0, n), moved=False) == pytest.approx(1 / 200)


def test_residuals_of_many_sweeps_are_those_of_each():
    rng = np.random.default_rng(2)
    z, cells = rng.random((4, 2, 5, 6)), rng.random((2, 5, 6)) < 0.8
    z[:, 1, 2, 2] = np.nan
    assert additive_residuals(z, cells) == pytest.approx(np.stack([additive_residuals(one, cells) for one in z]))


def test_a_cell_that_is_fitted_exactly_has_no_residual_whatever_rounding_has_it():
    """Alone in its row: 1e-17 there would count as a cell that seeds have in common."""
    z = np.random.default_rng(3).random((1, 6, 7))
    z[0, 4, 1:], z[0, 1:, 2] = np.nan, np.nan
    left = additive_residuals(z, np.ones((6, 7), dtype=bool))[0]
    assert left[4, 0] == left[0, 2] == 0.0
    assert (left[np.ix_([0, 1, 2, 3, 5], [0, 1, 3, 4, 5, 6])] != 0.0).all()


@pytest.mark.parametrize(("n_seeds", "shape"), [(2, (2, 2)), (3, (5, 4)), (4, (1, 6)), (2, (7, 9))])
def test_moved_fields_agree_as_their_cells_do_one_by_one(n_seeds, shape):
    fields = np.random.default_rng(4).integers(-3, 4, size=(n_seeds, *shape)).astype(float)
    moves = [nulls._moves(shape, np.random.default_rng(seed)) for seed in range(n_seeds)]
    found = nulls._agreement(fields, moves)
    for n in range(0, nulls.PERMUTATIONS, 50):
        moved = [
            field[np.ix_(*((starts[n, k] + ways[n, k] * np.arange(shape[k])) % shape[k] for k in (0, 1)))]
            for field, (starts, ways) in zip(fields, moves, strict=True)
        ]
        expected = sum((one * other).sum() for one, other in itertools.permutations(moved, 2))
        assert found[n] == pytest.approx(expected, abs=1e-9)
