"""Which column is which, and which float is meant."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpscan.columns import Column, canonical, columns_of
from hpscan.spec import SpecError

GRID = [2.0 ** (exponent / 2) for exponent in range(-28, -1)]


def spelt(value, how):
    return {
        "whole": value,
        "three digits": float(f"{value:.2e}"),
        "float32": float(np.float32(value)),
        "arithmetic": value * 3 / 3 * (1 + 2**-52),
    }[how]


SPELLINGS = st.sampled_from(["whole", "three digits", "float32", "arithmetic"])


@given(st.lists(st.tuples(st.sampled_from(GRID), SPELLINGS), min_size=1, max_size=60))
def test_however_a_grid_is_written_it_has_its_own_number_of_values(written):
    values = {(value, how): spelt(value, how) for value, how in written}
    meant = canonical(values.values())
    assert len(set(meant.values())) == len({value for value, _ in written})
    for (value, _), shown in values.items():
        assert meant[shown] == pytest.approx(value, rel=5e-3)


@given(st.lists(st.sampled_from(GRID), min_size=1, unique=True))
def test_a_grid_written_once_stays_as_it_is(values):
    assert canonical(values) == {value: value for value in values}


def test_26_spellings_of_14_learning_rates():
    rates = [2.0 ** (exponent / 2) for exponent in range(-24, -10)]
    written = {*rates, *(float(f"{rate:.2e}") for rate in rates[1:13])}
    meant = canonical(written)
    assert len(written) == 26
    assert sorted(set(meant.values())) == rates


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ([0.3, 0.30000000000000004], 0.3),
        ([0.1, 0.10000000149011612], 0.1),
        ([0.000488, 0.00048828125], 0.00048828125),
        ([1e-3, 0.0010000000474974513], 1e-3),
        ([0.0], 0.0),
    ],
)
def test_noise_is_dropped_and_digits_are_kept(written, meant):
    assert set(canonical(written).values()) == {meant}


def test_zero_is_no_neighbour_of_anything():
    assert canonical([0.0, 1e-300, 1e-4]) == {0.0: 0.0, 1e-300: 1e-300, 1e-4: 1e-4}


def test_columns_are_found_by_name_by_mapping_and_by_arithmetic():
    names = ["LR", "config/wd", "acc", "err", "State", "val_loss", "Seed"]
    where = columns_of("x.csv", names, {"wd": "config/wd", "val_error": "1-0.01*acc", "test_error": "0.01*err"})
    assert {name: where[name].name for name in ("lr", "wd", "state", "seed", "val_loss")} == {
        "lr": "LR", "wd": "config/wd", "state": "State", "seed": "Seed", "val_loss": "val_loss",
    }  # fmt: skip
    assert where["val_error"].number({"acc": "93"}) == pytest.approx(0.07)
    assert where["test_error"].number({"err": 7}) == pytest.approx(0.07)


def test_a_column_of_the_very_name_is_no_arithmetic():
    assert columns_of("x", ["lr", "wd", "1-acc"], {"val_error": "1-acc"})["val_error"] == Column("1-acc")


@pytest.mark.parametrize(
    ("value", "number"),
    [("0.5", 0.5), (" 1e-3 ", 1e-3), ("", None), (None, None), ("high", None), ("True", 1.0), (False, 0.0), ("Infinity", math.inf), ([], None)],
)  # fmt: skip
def test_numbers_are_read_and_anything_else_is_none(value, number):
    assert Column("x").number({"x": value}) == number


def test_nan_is_a_number_and_a_blank_is_not():
    assert math.isnan(Column("x").number({"x": "NaN"}))
    assert Column("x").number({}) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": "alpha"}, "--columns lr=alpha: x.csv has no such column; it has 'lr', 'wd', 'val_loss'"),
        ({"loss": "lr"}, "--columns loss=…: must be one of lr, wd, seed"),
    ],
)
def test_mappings_that_cannot_be_are_refused(given, message):
    with pytest.raises(SpecError) as refused:
        columns_of("x.csv", ["lr", "wd", "val_loss"], given)
    assert message in str(refused.value)


def test_what_is_lacking_is_named():
    with pytest.raises(SpecError, match=r"no column for wd and val_loss \(or val_error\); map with --columns wd=NAME"):
        columns_of("x.csv", ["lr", "loss"], {})
