"""What is drawn over the colours of a map."""

from itertools import groupby, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hpscan.dashboards.axes import axis_places
from hpscan.dashboards.marks import basin, iso_lines, outline, states_of
from tests.conftest import landscape_of
from tests.plotted import array


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=6)))
def test_an_outline_is_made_of_rings_that_run_along_all_borders_of_its_cells_once(inside):
    n_y, n_x = inside.shape
    drawn = outline(inside, np.arange(float(n_x)), np.arange(float(n_y)))
    corners = list(zip(array(drawn["x"]).tolist(), array(drawn["y"]).tolist(), strict=True))
    rings = [list(ring) for apart, ring in groupby(corners, lambda corner: np.isnan(corner[0])) if not apart]
    assert all(ring[0] == ring[-1] for ring in rings)
    passed = sorted(tuple(sorted(pair)) for ring in rings for pair in pairwise(ring))
    cells = {(j, i) for i, j in np.argwhere(inside).tolist()}
    borders = [
        ((j + a - 0.5, i + b - 0.5), (j + c - 0.5, i + d - 0.5))
        for j, i in cells
        for (dj, di), (a, b, c, d) in {(-1, 0): (0, 0, 0, 1), (1, 0): (1, 0, 1, 1), (0, -1): (0, 0, 1, 0), (0, 1): (0, 1, 1, 1)}.items()
        if (j + dj, i + di) not in cells
    ]  # fmt: skip
    assert passed == sorted(borders)


@given(st.integers(0, 1000), st.floats(0, 200), st.floats(0, 200))
def test_a_basin_holds_the_best_cell_and_grows_with_what_it_tolerates(seed, one, other):
    shape = landscape_of(np.random.default_rng(seed).lognormal(size=(2, 4, 5)))
    best = shape.ranked()[0]
    less, more = (basin(shape, best, tolerance) for tolerance in sorted((one, other)))
    assert less[best]
    assert np.all(less <= more)
    np.testing.assert_array_equal(more, shape.mean() <= shape.mean().min() * (1 + max(one, other) / 100))


@pytest.mark.parametrize("zero", [False, True])
def test_along_an_iso_line_the_product_is_the_same_within_the_map(zero):
    shape = landscape_of(np.ones((1, 6, 9)))
    if zero:
        shape.wd[0] = 0.0
    x, y = axis_places("wd", shape.wd), axis_places("lr", shape.lr)
    sent = iso_lines(shape, x, y)
    ends = np.array([[a, b] for a, b in zip(sent["x"], sent["y"], strict=True) if a is not None]).reshape(-1, 2, 2)
    assert len(ends) > 3
    sums = ends.sum(axis=2)
    np.testing.assert_allclose(sums[:, 0], sums[:, 1])
    np.testing.assert_allclose(np.diff(sums[:, 0]), 2.0)
    assert np.all((ends[..., 0] >= x[int(zero)] - 0.5) & (ends[..., 0] <= x[-1] + 0.5))
    assert np.all((ends[..., 1] >= y[0] - 0.5) & (ends[..., 1] <= y[-1] + 0.5))


def test_a_cell_without_a_value_is_told_by_the_gravest_of_its_seeds():
    z = np.ones((2, 2, 2))
    z[0, 0, 0], z[:, 0, 1], z[1, 1, 0] = np.inf, np.nan, np.nan
    z[0, 1, 0] = np.inf
    shape = landscape_of(z)
    found = states_of(shape, shape.mean())
    assert found.tolist() == [["diverged", "missing"], ["diverged", ""]]
