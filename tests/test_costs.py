"""What a sweep has cost adds up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpscan.analysis import analyze
from hpscan.costs import cost, union_s

SPANS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 50)), min_size=1, max_size=20)


@given(SPANS)
def test_the_time_in_which_anything_ran_counts_once(spans):
    starts, ends = np.array([(start, start + length) for start, length in spans], dtype=float).T
    seconds = {second for start, length in spans for second in range(start, start + length)}
    assert union_s(starts, ends) == pytest.approx(len(seconds))


def test_it_adds_up(filled):
    rows = filled.runs("tiny")
    facts = dict(cost(analyze(filled, "tiny")))
    assert facts["Runs"] == "225: 197 completed, 3 diverged, 25 missing"
    assert facts["Training"] == f"{rows['device_s'].sum() / 60:.1f} min of core time"
    assert "Operations" not in facts  # nobody counted them
    assert "Saved" not in facts


def test_operations_and_savings(filled):
    spec = filled.spec("tiny")
    rows = filled.runs("tiny").dropna(axis=1, how="all").assign(steps_done=12, flop_per_step=1e9)
    filled.save_pack("tiny", "p", rows.to_dict("records"), [])
    filled.save_spec(
        spec.model_copy(
            update={"adaptive": type(spec).validated({**spec.model_dump(mode="json"), "adaptive": True}).adaptive}
        )
    )
    facts = dict(cost(analyze(filled, "tiny")))
    assert facts["Run-steps"] == "2,400"
    assert facts["Operations"] == "2.4 TFLOP, forward and backward passes"
    assert facts["Saved"] == "11% of the 2,700 run-steps of the full grid to the end"
