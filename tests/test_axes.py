import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpscan.axes import Axes, Grid


@given(low=st.integers(-20, 10), octaves=st.integers(1, 12))
def test_a_log2_ladder_holds_exact_powers(low, octaves):
    axis = Axes(lr={"log2": [low, low + octaves], "points": octaves + 1}).lr
    assert axis == tuple(2.0**exponent for exponent in range(low, low + octaves + 1))


@given(
    base=st.sampled_from(["log2", "log10"]),
    low=st.integers(-9, 0),
    more_below=st.integers(0, 3),
    more_above=st.integers(0, 3),
    per=st.sampled_from([1, 2, 3, 4]),
)
def test_a_wider_ladder_holds_the_narrow_one_to_the_bit(base, low, more_below, more_above, per):
    narrow = Axes(lr={base: [low, low + 4], "points": 4 * per + 1}).lr
    wide_low, wide_high = low - more_below, low + 4 + more_above
    wide = Axes(lr={base: [wide_low, wide_high], "points": (wide_high - wide_low) * per + 1}).lr
    assert set(narrow) <= set(wide)


def test_numbers_written_differently_are_the_same_value():
    assert Axes(lr=["1e-1", 0.01]).lr == Axes(lr=[0.1, 1e-2]).lr == (0.01, 0.1)


def test_one_number_is_an_axis_of_one_point():
    assert Axes(wd=0).wd == (0.0,)


@pytest.mark.parametrize(
    ("axis", "value", "message"),
    [
        ("lr", [-0.1], "must be positive; got -0.1"),
        ("lr", [0], "must be positive; got 0"),
        ("wd", [-1], "must not be negative; got -1"),
        ("lr", [], "at least one value"),
        ("lr", [0.1, 0.1], "must not repeat a value"),
        ("lr", [math.inf], "finite number"),
        ("lr", {"log2": [0, -8], "points": 9}, "must rise"),
        ("lr", {"log2": [-8, 0]}, "must be a list"),
        ("lr", {"log3": [-8, 0], "points": 9}, "must be a list"),
        ("lr", {"log2": [-8, 0], "points": 1}, "at least 2; got 1"),
        ("lr", {"log2": [-8, 0], "points": 10**9}, "points must be at most 10000; got 1000000000"),
        ("lr", {"log2": [-8], "points": 9}, "two exponents"),
        ("lr", {"log2": [-5000, 0], "points": 9}, "within"),
    ],
    ids=str,
)
def test_bad_axes_are_refused_with_the_value(axis, value, message):
    with pytest.raises(ValueError, match=message):
        Axes(**{axis: value})


def test_a_variants_own_range_comes_before_the_common_one():
    grid = Grid(lr=[0.1], wd=[0.2], variants={"adam": {"lr": [0.01]}})
    assert grid.axes("adam") == ((0.01,), (0.2,))
    assert grid.axes("sgd") == ((0.1,), (0.2,))


def test_a_missing_axis_names_both_places_where_it_could_stand():
    with pytest.raises(ValueError, match=r"`grid.wd`: missing, and `grid.variants.sgd.wd`"):
        Grid(lr=[0.1]).axes("sgd")
