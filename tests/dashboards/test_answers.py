"""Whatever a store holds becomes JSON that any program can read."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hpscan.dashboards.admission import MOST_TEXT
from hpscan.dashboards.answers import PanelStates, SpecText, SweepSummary, ValidationText, finite, json_values

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    plain | st.builds(np.float64, st.floats()) | st.builds(np.int64, st.integers(-(2**63), 2**63 - 1)),
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.integers() | st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_anything_is_json_without_a_nan(value):
    told = json_values(value)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert json_values(told) == told


@given(st.floats() | st.integers(-(2**53), 2**53))
def test_a_number_stays_what_it_is_or_is_none(number):
    assert finite(number) == (number if math.isfinite(number) else None)


def test_a_row_of_a_table_keeps_numbers_and_truths():
    frame = pd.DataFrame({"n": [2**62 + 1], "x": [math.inf], "is": [True], "s": ["<b>"], "at": [pd.NaT]})
    told = json_values(frame.iloc[0].to_dict())
    assert told == {"n": 2**62 + 1, "x": None, "is": True, "s": "<b>", "at": None}
    assert told["is"] is True
    assert [json_values(value) for value in (np.int64(3), np.float32(0.5), np.bool_(True))] == [3, 0.5, True]
    assert json_values(pd.Timestamp("2026-01-02T03:04:05Z")) == "2026-01-02 03:04:05+00:00"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: PanelStates(variant="sgd", states={"lost": 1}), "states.lost"),
        (lambda: SweepSummary(name="x", progress=1.5), "progress"),
        (lambda: SpecText(text="x" * (MOST_TEXT + 1)), "text"),
        (lambda: ValidationText(text="x", cost="yes"), "cost"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_field(make, field):
    with pytest.raises(ValidationError) as refused:
        make()
    assert ".".join(map(str, refused.value.errors()[0]["loc"])).startswith(field)


def test_the_longest_spec_is_taken():
    assert len(SpecText(text="x" * MOST_TEXT).text) == MOST_TEXT
