import math

import pytest

from hpscan import numerals
from hpscan.intervals import Interval
from hpscan.scaling import Optimum, Scaling
from hpscan.separation import Extent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**-7, "2⁻⁷"),
        (2.0**12, "2¹²"),
        (1e-3, "10⁻³"),
        (1.0, "1"),
        (2.0, "2"),
        (0.0, "0"),
        (0.3, "0.3"),
        (0.0123456, "0.0123"),
    ],
)
def test_powers_are_written_as_powers(value, text):
    assert numerals.power(value) == text


def test_matplotlib_gets_mathtext():
    assert numerals.power(2**-7, style="mathtext") == "$2^{-7}$"


def test_quantities_give_the_decimal_too():
    assert numerals.quantity(2**-7) == "2⁻⁷ ≈ 0.00781"
    assert numerals.quantity(0.3) == "0.3"


@pytest.mark.parametrize(
    ("metric", "value", "error", "text"),
    [
        ("val_loss", 0.28123, 0.0041, "0.281 ± 0.004"),
        ("test_error", 0.0281, 0.003, "2.8 ± 0.3 %"),
        ("val_loss", 1.0, math.nan, "1.000"),
        ("val_loss", 0.0, math.nan, "0.000"),
        ("val_loss", -0.0123, math.nan, "−0.0123"),
        ("val_mse", 0.00123, 0.0002, "0.00123 ± 0.00020"),
        ("val_mse", 1.234e-7, 2e-8, "1.23e−07 ± 2.00e−08"),
        ("val_mse", 95479.917, 812.3, "95479.9 ± 812.3"),
        ("val_mse", 1e30, math.nan, "1.00e+30"),
        ("val_loss", math.inf, math.nan, "inf"),
    ],
)
def test_metrics_carry_their_standard_error_and_unit(metric, value, error, text):
    assert numerals.metric_value(metric, value, error) == text


@pytest.mark.parametrize(
    ("metric", "values", "labels"),
    [
        ("val_loss", [0.1, 0.2], ["0.100", "0.200"]),
        ("val_loss", [0.10801, 0.10804, 0.10812], ["0.10801", "0.10804", "0.10812"]),
        ("val_error", [0.1081, 0.1083, 0.1096], ["10.81 %", "10.83 %", "10.96 %"]),
        ("val_mse", [1.2345e-7, 1.2346e-7], ["1.2345e−07", "1.2346e−07"]),
        ("gap", [-0.01234, 0.0, 0.01235], ["−0.0123", "0", "0.0123"]),
        ("gap", [0.01234, 0.01233], ["0.01234", "0.01233"]),
        ("val_loss", [0.3, 0.3, 0.30004], ["0.30000", "", "0.30004"]),
        ("val_loss", [1.0, 1.0 + 1e-12], ["1.000", ""]),
    ],
)
def test_no_label_of_a_scale_is_told_twice(metric, values, labels):
    assert numerals.scale_labels(metric, values) == labels


def test_nothing_is_less_than_nothing_by_rounding():
    assert numerals.interval(Interval(-0.001, -0.02, 0.0)) == "0.00 [−0.02, 0.00]"
    assert numerals.interval(Interval(-0.001, -0.02, 0.004), sign=True) == "+0.00 [−0.02, +0.00]"


def test_metrics_with_intervals():
    assert numerals.metric_interval("val_loss", Interval(0.281, 0.272, 0.29)) == "0.281 [0.272, 0.290]"
    assert numerals.metric_interval("val_error", Interval(0.028, 0.025, 0.031)) == "2.8 [2.5, 3.1] %"
    assert numerals.metric_interval("val_loss", Interval(0.281, math.nan, math.nan)) == "0.281"


def test_intervals():
    assert numerals.interval(Interval(-1.128, -1.2, 0.05), sign=True) == "−1.13 [−1.20, +0.05]"
    assert numerals.interval(Interval(0.5, math.nan, math.nan)) == "0.50"
    assert numerals.interval(Interval(math.nan, math.nan, math.nan)) == "—"


def test_an_interval_without_ends_is_no_number():
    assert numerals.interval(Interval(3.0, -math.inf, math.inf)) == "—"


def test_extents_are_open_bounded_or_nothing():
    assert numerals.extent(Extent(Interval(2.94, 1.93, 5.42), is_open=False)) == "2.9 [1.9, 5.4]"
    assert numerals.extent(Extent(Interval(5.37, 3.0, 12.0), is_open=True)) == "≥ 5.4"
    assert numerals.extent(Extent(Interval(2.4, 0.0, math.inf), is_open=False)) == "—"
    assert numerals.extent(Extent(Interval(math.nan, math.nan, math.nan), is_open=False)) == "—"


@pytest.mark.parametrize(
    ("seconds", "exact", "rough"),
    [
        (-3.0, "0.0 s", "0 s"),
        (7.26, "7.3 s", "7 s"),
        (75.0, "1.2 min", "75 s"),
        (252.0, "4.2 min", "4 min"),
        (4200.0, "1.2 h", "70 min"),
        (5e6, "1,388.9 h", "1,389 h"),
    ],
)
def test_durations_have_a_unit_that_suits_them(seconds, exact, rough):
    assert (numerals.duration(seconds), numerals.duration(seconds, 0)) == (exact, rough)


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((0.114, 0.077, 0.151), "0.114 [0.077, 0.151]"),
        ((0.0, 0.0, 0.0), "0.000 [0.000, 0.000]"),
        ((1.2e-5, -3e-6, 2.4e-5), "0.000012 [−0.000003, 0.000024]"),
    ],
)
def test_a_regret_has_decimals_enough_to_be_seen(ends, text):
    assert numerals.regret(Interval(*ends)) == text
    assert numerals.difference("val_loss", ends[0]) == text.partition(" ")[0]


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((0.114, 0.077, 0.151), "11.4 [7.7, 15.1] %"),
        ((1e-5, -3.4e-4, 3.2e-4), "0.00 [−0.03, 0.03] %"),
        ((0.0, 0.0, 0.0), "0.0 [0.0, 0.0] %"),
        ((0.0, -1.7e-18, 3e-17), "0.0 [0.0, 0.0] %"),
        ((2e-7, 0.0, 4e-7), "0.00002 [0.00000, 0.00004] %"),
        ((0.02, math.nan, math.nan), "2.0 %"),
        ((0.02, -math.inf, math.inf), "—"),
    ],
)
def test_a_regret_of_an_error_rate_is_in_percent_as_the_rate_is(ends, text):
    assert numerals.regret(Interval(*ends), "val_error") == text


def test_an_optimum_that_is_not_known_is_a_dash():
    optima = [
        Optimum(100.0, Interval(0.021, 0.01, 0.04), 0.1, ""),
        Optimum(400.0, Interval(math.nan, math.nan, math.nan), math.nan, ""),
        Optimum(900.0, Interval(0.0078, math.nan, math.nan), 0.1, "lower"),
    ]
    scaling = Scaling("sgdw", "sgdw", "steps", "wd", optima, Interval(math.nan, math.nan, math.nan), math.nan, {})
    assert numerals.optima(scaling) == "100: 0.021, 400: —, 900: ≤ 0.0078"


def test_regrets_of_any_size_are_told_in_few_digits():
    """A sum over examples or a density can be as large or as small."""
    assert numerals.regret(Interval(1e30, 9e29, 2e30)) == "1.00e+30 [9.00e+29, 2.00e+30]"
    assert numerals.regret(Interval(1e-30, 0.0, 2e-30)) == "1.00e−30 [0.00e+00, 2.00e−30]"
    assert numerals.difference("val_loss", 3e-20) == "3.00e−20"
    assert numerals.regret(Interval(0.0, 0.0, 0.0)) == "0.000 [0.000, 0.000]"
