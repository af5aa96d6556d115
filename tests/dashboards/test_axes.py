"""Where cells lie on a map, and how arrays are sent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hpscan.dashboards.axes import MOST_CELLS, axis_places, edges, in_blocks, in_sight, ticked, typed
from tests.plotted import array


@given(arrays(np.float32, array_shapes(min_dims=1, max_dims=2, max_side=5)))
def test_what_is_sent_is_what_was_given(values):
    np.testing.assert_array_equal(array(typed(values)), values)


@given(st.integers(2, 400), st.booleans())
def test_places_are_octaves_and_no_decay_stands_apart(n, zero):
    wd = np.concatenate([[0.0] * zero, 2.0 ** np.arange(-n + 1.0, 1.0)])
    places = axis_places("wd", wd)
    np.testing.assert_allclose(np.diff(places[int(zero) :]), 1.0)
    if zero:
        assert places[1] - places[0] == pytest.approx(1.5)


@given(st.integers(1, 40), st.integers(301, 1500), st.integers(0, 100))
def test_blocks_of_a_large_grid_are_the_means_of_their_cells(n_lr, n_wd, seed):
    z = np.random.default_rng(seed).normal(size=(n_lr, n_wd))
    z[0, ::3] = np.nan
    rows, columns = in_sight(np.arange(n_lr), None), in_sight(np.arange(n_wd), None)
    assert len(columns) <= MOST_CELLS
    assert [first for first, _ in columns[1:]] == [end for _, end in columns[:-1]]
    found = in_blocks(z, rows, columns)
    expected = np.full(found.shape, np.nan)
    for r, (i, k) in enumerate(rows):
        for c, (j, m) in enumerate(columns):
            if np.isfinite(z[i:k, j:m]).any():
                expected[r, c] = np.nanmean(z[i:k, j:m])
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(st.integers(1, 1500), st.floats(-50, 1600), st.floats(0, 500))
def test_all_that_is_in_sight_is_sent_in_neighbouring_blocks(n, low, width):
    places = np.arange(float(n))
    blocks = in_sight(places, (low, low + width))
    assert 1 <= len(blocks) <= MOST_CELLS
    assert [first for first, _ in blocks[1:]] == [end for _, end in blocks[:-1]]
    seen = np.flatnonzero((places >= low) & (places <= low + width))
    if len(seen):
        assert blocks[0][0] <= seen[0]
        assert seen[-1] < blocks[-1][1]


def test_borders_of_a_single_value_are_half_a_step_off():
    np.testing.assert_array_equal(edges(np.array([3.0]), None, [(0, 1)]), [2.5, 3.5])


@given(st.integers(1, 200), st.booleans(), st.floats(0.1, 3))
def test_ticks_are_few_in_order_and_on_values(n, zero, octaves):
    wd = np.concatenate([[0.0] * zero, 2.0 ** (octaves * np.arange(float(n)) - 60)])
    ticks = ticked("wd", wd)
    at = ticks["tickvals"]
    assert 1 <= len(at) <= 9
    assert at == sorted(set(at))
    assert len(ticks["ticktext"]) == len(at)
    places = axis_places("wd", wd)
    assert all(np.isclose(places, each).any() or float(each).is_integer() for each in at)


def test_ticks_follow_a_zoom():
    wd = 2.0 ** np.arange(-30.0, 0.0)
    inside = ticked("wd", wd, window=(-12.5, -8.5))["tickvals"]
    assert inside
    assert all(-12.5 <= each <= -8.5 for each in inside)
