import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hpscan.rungs import stage, survivors

INF, NAN = float("inf"), float("nan")
VALUES = st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5, INF, NAN])
LANDSCAPES = array_shapes(min_dims=3, max_dims=3, max_side=4).flatmap(
    lambda shape: st.tuples(arrays(float, shape, elements=VALUES), arrays(bool, shape[1:]))
)


@given(LANDSCAPES, st.integers(1, 20))
def test_nobody_who_stops_is_better_than_one_who_goes_on(given_landscape, n_kept):
    z, alive = given_landscape
    kept = survivors(z, alive, n_kept)
    mean = np.array([
        [np.mean(cell[~np.isnan(cell)]) if not np.isnan(cell).all() else INF for cell in row] for row in z.transpose(1, 2, 0)
    ])  # fmt: skip
    assert not kept[~alive].any()
    assert np.isfinite(mean[kept]).all()
    out = alive & ~kept
    if kept.any() and out.any():
        assert mean[kept].max() < mean[out].min()  # ties go on
    eligible = int((alive & np.isfinite(mean)).sum())
    assert kept.sum() >= min(n_kept, eligible)
    assert np.sum(mean[kept] < mean[kept].max(initial=-INF)) < n_kept


def test_a_landscape_waits_for_all_runs_of_the_cells_in_it(make_spec):
    spec = make_spec(stop={"name": "halving", "rungs": [0.25, 0.5], "reduction": 2}, evaluations=4)
    z = np.broadcast_to(np.arange(8.0).reshape(2, 4), (2, 3, 2, 4)).copy()
    known = np.ones(z.shape, dtype=bool)
    k, alive = stage(spec, z, known)
    assert k == 2
    assert alive.ravel().tolist() == [True] * 2 + [False] * 6
    known[1, 2, 1, 1] = False  # of a cell that stopped at the first rung: nobody waits for it
    assert stage(spec, z, known)[0] == 2
    known[1, 2, 0, 3] = False
    k, alive = stage(spec, z, known)
    assert k == 1
    assert alive.ravel().tolist() == [True] * 4 + [False] * 4
    known[0, 0, 1, 3] = False
    k, alive = stage(spec, z, known)
    assert k == 0
    assert alive.all()


def test_a_cell_with_a_diverged_seed_stops_and_a_failed_seed_says_nothing():
    z = np.array([[[0.5, INF, NAN, 0.1]], [[0.5, 0.1, 0.2, NAN]]])
    assert survivors(z, np.ones((1, 4), dtype=bool), 2).tolist() == [[False, False, True, True]]
    assert not survivors(np.full((2, 1, 4), INF), np.ones((1, 4), dtype=bool), 2).any()


@pytest.mark.parametrize("n_kept", [1, 2])
def test_ties_with_the_last_go_on(n_kept):
    z = np.array([[[0.1, 0.1, 0.2, 0.3]]])
    assert survivors(z, np.ones((1, 4), dtype=bool), n_kept).sum() == 2
