"""Several files as one: each run once, by the row that counts."""

import tempfile
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpscan import merging
from hpscan.merging import Rows, counting, is_merged, last_of_each, merged, merged_file, ordered
from hpscan.parts import RUNS, File, Part, as_table, to_parquet
from hpscan.store import Store
from tests.stored import NOW, parquet_in, point, row, same


def test_a_run_trained_in_two_packs_counts_once_with_the_later_row(store):
    store.save_pack("s", "z", [row("a", "failed", minutes=0, error="boom"), row("b")], [])
    store.save_pack("s", "a", [row("a", minutes=5)], [])
    assert store.runs("s").set_index("run_id")["state"].to_dict() == {"a": "completed", "b": "completed"}


def test_a_run_that_completed_counts_before_one_that_failed_later(store):
    store.save_pack("s", "p", [row("a", minutes=0, val_loss=0.5), row("b", "diverged", minutes=0)], [])
    store.save_pack("s", "q", [row("a", "failed", minutes=5), row("b", "failed", minutes=5)], [])
    assert store.runs("s").set_index("run_id")["state"].to_dict() == {"a": "completed", "b": "diverged"}
    store.compact("s")
    assert store.runs("s").set_index("run_id")["state"].to_dict() == {"a": "completed", "b": "diverged"}


def test_the_curve_of_a_run_trained_again_is_the_later_one_alone(store):
    store.save_pack("s", "z", [row("a", "failed")], [point("a", 1), {**point("a", 2), "val_loss": 9.0}])
    store.save_pack("s", "b", [row("a", minutes=5)], [point("a", 2), point("a", 4)])
    before = store.curves("s")
    assert before[["step", "val_loss"]].to_numpy().tolist() == [[2, 1.0], [4, 1.0]]
    store.compact("s")
    assert same(store.curves("s"), before)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abcdef"),
            st.tuples(st.sampled_from(["completed", "diverged", "failed"]), st.integers(0, 3), st.booleans()),
            min_size=1,
        ),
        max_size=6,
    ),
    st.data(),
)
def test_compaction_changes_no_result_whenever_it_happens(packs, data):
    with tempfile.TemporaryDirectory() as folder:
        plain, compacted = Store(f"{folder}/plain"), Store(f"{folder}/compacted")
        for number, pack in enumerate(packs):
            rows = [
                row(name, state, minutes, **({"val_top5_error": 0.5} if further else {}))
                for name, (state, minutes, further) in pack.items()
            ]
            # equally good rows in several packs are not told apart: their finished_at differs, as a clock's would
            rows = [{**r, "finished_at": r["finished_at"] + timedelta(milliseconds=number)} for r in rows]
            points = [point(name, step) for name, (_, last, _) in pack.items() for step in range(last + 1)]
            for store in (plain, compacted):
                store.save_pack("s", str(number), rows, points)
            if data.draw(st.booleans()):
                compacted.compact("s")
        assert same(compacted.runs("s"), plain.runs("s"))
        assert same(compacted.curves("s"), plain.curves("s"))
        compacted.compact("s")
        assert same(compacted.runs("s"), plain.runs("s"))
        assert len(parquet_in(compacted)) <= 2


RUN_IDS = st.sampled_from(["a", "b", "c", "d", "e", "f", "g"])
PACKS = st.lists(st.dictionaries(RUN_IDS, st.lists(st.integers(1, 4), max_size=4)), min_size=1, max_size=4)


def files_of(packs):
    """Files of curves, each written after the one before; the loss says which row it is."""
    found = {}
    for number, pack in enumerate(packs):
        rows = [
            {**point(name, step), "val_loss": number + place / 100}
            for name, steps in pack.items()
            for place, step in enumerate(steps)
        ]
        content = to_parquet(as_table("curves", rows), f"2026-01-0{number + 1}")
        found[f"curves/pack-{number}.parquet"] = File(pa.BufferReader(content), "curves")
    return found


def as_pandas_has_it(packs):
    """Of each run the rows of the last file that has any, by run and step; of the same step twice the last."""
    last = {name: number for number, pack in enumerate(packs) for name, steps in pack.items() if steps}
    rows = {
        (name, step): number + place / 100
        for name, number in last.items()
        for place, step in enumerate(packs[number][name])
    }
    return sorted((*key, loss) for key, loss in rows.items())


def rows_in(table):
    return list(zip(*(table[name].to_pylist() for name in ("run_id", "step", "val_loss")), strict=True))


@given(packs=PACKS, runs_a_group=st.integers(1, 9), rows_sorted=st.integers(1, 30))
def test_a_merged_file_of_curves_holds_each_run_once_whatever_its_row_groups(packs, runs_a_group, rows_sorted):
    files = files_of(packs)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(merging, "RUNS_A_GROUP", runs_a_group)
        patched.setattr(merging, "ROWS_SORTED", rows_sorted)
        content, n_rows = merged_file("curves", files)
    expected = as_pandas_has_it(packs)
    whole = File(pa.BufferReader(content), "curves")
    assert (n_rows, whole.written) == (len(expected), f"2026-01-0{len(packs)}")
    assert sorted(rows_in(whole.part().table)) == expected
    assert rows_in(merged("curves", {"one": whole.part()})) == expected
    assert rows_in(merged("curves", {name: file.part() for name, file in files.items()})) == expected


@given(packs=PACKS, step=st.integers(1, 4))
def test_rows_at_a_step_are_of_the_last_file_of_each_run_even_if_that_has_not_come_so_far(packs, step):
    files = files_of(packs)
    parts = {name: file.select("step", pa.array([step], pa.int64())) for name, file in files.items()}
    later = {
        name: Part(pa.table({"run_id": files[name].run_ids()}), files[name].written) for name in ordered(files)[1:]
    }
    found = [each for table in last_of_each(parts, later) for each in rows_in(table)]
    last = {each[:2]: each for each in found}  # of the same step twice in a file the last
    assert sorted(last.values()) == [each for each in as_pandas_has_it(packs) if each[1] == step]


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sampled_from(["", "1", "2"])), st.randoms())
def test_the_latest_file_wins_and_of_equals_a_pack_before_what_it_was_merged_into(written, random):
    names = [f"s/runs/{kind}-{name}.parquet" for name in written for kind in ("pack", "compact")]
    random.shuffle(names)
    parts = {name: Part(RUNS.empty_table(), written[name[-9]]) for name in names}
    order = ordered(parts)
    assert sorted(order) == sorted(names)
    ages = [(parts[name].written, "compact" not in name) for name in order]
    assert ages == sorted(ages)
    assert [is_merged(name) for name in order] == ["compact" in name for name in order]


KEYS = st.sampled_from(["0123456789abcdef", "0123456789abcdee", "f" * 16, "F" * 16, "short", "é" * 8, "0" * 15 + "g"])
STATES = st.sampled_from(["completed", "diverged", "failed"])
HELD = st.dictionaries(KEYS, st.tuples(STATES, st.none() | st.floats(0, 9)), max_size=6)


@example({"f" * 16: ("completed", 1.0)}, ["F" * 16, "f" * 16])
@given(HELD, st.lists(KEYS, min_size=1, max_size=8, unique=True))
def test_rows_are_looked_up_as_pandas_would(held, wanted):
    rows = [row(name, state, val_loss=loss) for name, (state, loss) in held.items()]
    found = Rows(as_table("runs", rows)).of(np.array(wanted, object), ["val_loss", "test_loss"])
    columns = ["run_id", "state", "val_loss", "test_loss"]
    expected = pd.DataFrame([{"test_loss": None, **each} for each in rows], columns=columns)
    expected = expected.set_index("run_id").reindex(wanted)
    assert found["state"].tolist() == [None if pd.isna(state) else state for state in expected["state"]]
    for name in ("val_loss", "test_loss"):
        np.testing.assert_array_equal(found[name], expected[name].to_numpy(float))


def test_rows_know_which_numbers_there_are_and_what_failed_first():
    rows = Rows(as_table("runs", [
        row("a", "failed", minutes=2, error="late"), row("b", val_loss=0.5), row("c", "failed", minutes=1, error="early"),
    ]))  # fmt: skip
    assert (rows.has("val_loss"), rows.has("test_loss")) == (True, False)
    assert rows.errors.tolist() == ["early", "late"]
    assert rows.ends.tolist() == [NOW + timedelta(minutes=minutes) for minutes in (2, 0, 1)]
    assert "val_loss" in rows.names


@given(
    st.lists(
        st.tuples(RUN_IDS, st.sampled_from(["completed", "stopped", "failed"]), st.integers(0, 2), st.integers(0, 3)),
        max_size=12,
    ),
    st.sampled_from(["runs", "rungs"]),
)
def test_the_row_that_counts_is_the_best_by_rank_then_time(given_rows, kind):
    """Ended before stopped or failed, at a rung the farthest; then the latest, and of equals the last."""
    rows = [row(name, state, minutes, steps_done=steps) for name, state, minutes, steps in given_rows]
    best = {}
    for place, (name, state, minutes, steps) in enumerate(given_rows):
        rank = (state == "completed" if kind == "runs" else steps, minutes, place)
        best[name] = max(best.get(name, rank), rank)
    found = counting(kind, as_table(kind, rows)).to_pylist()
    expected = [rows[place] for *_, place in best.values()]
    assert sorted((each["run_id"], each["state"], each["steps_done"], each["finished_at"]) for each in found) == sorted(
        (each["run_id"], each["state"], each["steps_done"], each["finished_at"]) for each in expected
    )
