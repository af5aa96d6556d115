"""What a row of each kind is, and one file read whole or in part, against pandas."""

import stat
from contextlib import contextmanager

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpscan import parts
from hpscan.parts import CURVES, METRICS, RUNS, File, as_frame, as_table, to_parquet
from hpscan.store import StoreError
from tests.stored import point, row


def test_files_are_plain_parquet_with_the_documented_columns(store):
    store.save_pack("s", "p", [row("a")], [point("a", 1)])
    runs, curves = (store.root / "s" / kind / "pack-p.parquet" for kind in ("runs", "curves"))
    assert pq.read_schema(runs).names == RUNS.names
    assert pq.read_schema(curves).names == CURVES.names
    assert {"run_id", "variant", "lr", "wd", "seed", "state", *METRICS, "wall_s", "device_s", "git_commit"} <= set(
        RUNS.names
    )
    assert stat.S_IMODE(runs.stat().st_mode) == 0o644


def test_further_metrics_have_columns_of_their_own(store):
    store.save_pack("s", "p", [row("a", val_top5_error=0.25)], [])
    store.save_pack("s", "q", [row("b")], [])
    runs = store.runs("s").set_index("run_id")
    assert runs.loc["a", "val_top5_error"] == 0.25
    assert pd.isna(runs.loc["b", "val_top5_error"])


def test_a_file_of_an_earlier_version_lacks_columns_and_is_read(store):
    store.save_pack("s", "p", [row("a", val_loss=0.5)], [])
    path = store.root / "s" / "runs" / "pack-p.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["gpu", "strategy"]), path)
    runs = store.runs("s")
    assert runs.loc[0, "val_loss"] == 0.5
    assert runs["gpu"].isna().all()
    pq.write_table(pq.read_table(path).drop_columns(["state"]), path)
    with pytest.raises(StoreError, match=r"it has no column state"):
        store.runs("s")


STEPS = st.integers(0, 5)
IDS = st.sampled_from(["a", "ab", "b", "ü", "zz"])
POINTS = st.lists(st.tuples(IDS, STEPS, st.none() | st.floats(-9, 9)), max_size=30)


def curves_of(points):
    return [{"run_id": run_id, "step": step, "val_loss": loss, "snapshot": step == 5} for run_id, step, loss in points]


def opened(rows, *, rows_a_group, kind="curves", **how):
    """Rows as a file of several row groups; and as pandas has them."""
    table, buffer = as_table(kind, rows), pa.BufferOutputStream()
    pq.write_table(table, buffer, row_group_size=rows_a_group, **how)
    return File(pa.BufferReader(buffer.getvalue()), kind), as_frame(as_table(kind, rows))


@contextmanager
def few_at_once(rows):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parts, "ROWS_AT_ONCE", rows)
        yield


NAMES = st.none() | st.sets(st.sampled_from(CURVES.names[:-1]), min_size=1)
LAYOUT = {
    "rows_a_group": st.integers(1, 7),
    "held": st.integers(1, 12),
    "how": st.sampled_from([{}, {"use_dictionary": False}, {"write_statistics": False}]),
}


@given(points=POINTS, wanted=st.sets(IDS), by_id=st.booleans(), names=NAMES, **LAYOUT)
def test_the_rows_of_some_runs_are_those_that_pandas_finds(points, wanted, by_id, names, rows_a_group, held, how):
    """In the order of the file, whatever its row groups, with footers that say what is in them or not."""
    with few_at_once(held):
        file, frame = opened(curves_of(points), rows_a_group=rows_a_group, **how)
        column, values = ("run_id", sorted(wanted)) if by_id else ("step", [1, 4])
        found = file.select(column, pa.array(values, pa.string() if by_id else pa.int64()), names, without=["gap"])
        columns = [name for name in CURVES.names if name != "gap" and (names is None or name in names)]
        expected = frame[frame[column].isin(values)][columns].reset_index(drop=True)
        assert found.table.schema == pa.schema([CURVES.field(name) for name in columns])
        pd.testing.assert_frame_equal(as_frame(found.table), expected)


@given(points=POINTS, **LAYOUT)
def test_the_runs_and_steps_of_a_file_are_those_that_pandas_finds(points, rows_a_group, held, how):
    with few_at_once(held):
        file, frame = opened(curves_of(points), rows_a_group=rows_a_group, **how)
        assert file.rows == len(frame)
        assert file.run_ids().to_pylist() == list(dict.fromkeys(frame["run_id"]))
        assert file.steps() == set(frame["step"])
        pd.testing.assert_frame_equal(as_frame(file.part().table), frame)
        assert file.part(["step", "gap"]).table.column_names == [
            name for name in CURVES.names if name not in {"step", "gap"}
        ]


def test_a_row_group_that_cannot_have_a_row_is_not_read():
    """Of the others every page is broken, which nobody notices who does not look."""
    rows = [point(name, step) for name in "abcd" for step in range(50)]
    table, buffer = as_table("curves", rows), pa.BufferOutputStream()
    pq.write_table(table, buffer, row_group_size=50, compression="zstd")
    content = bytearray(buffer.getvalue().to_pybytes())
    footer = pq.read_metadata(pa.BufferReader(bytes(content)))
    for group in (0, 1, 3):
        for place in range(footer.num_columns):
            column = footer.row_group(group).column(place)
            start = column.dictionary_page_offset or column.data_page_offset
            content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    file = File(pa.BufferReader(bytes(content)), "curves")
    assert file.select("run_id", pa.array(["c"])).table["step"].to_pylist() == list(range(50))
    with pytest.raises((OSError, pa.ArrowException, ValueError)):
        file.select("run_id", pa.array(["b", "c"]))
    with pytest.raises((OSError, pa.ArrowException, ValueError)):
        file.check()


def test_a_file_says_when_it_was_written_and_one_of_others_nothing():
    table = as_table("curves", [point("a", 1)])
    content = to_parquet(table, "2026-01-01")
    file = File(pa.BufferReader(content), "curves")
    assert (file.written, file.part().written, bytes(file.content())) == ("2026-01-01", "2026-01-01", content)
    assert opened([point("a", 1)], rows_a_group=9)[0].written == ""


@pytest.mark.parametrize("kind", ["runs", "curves", "rungs"])
def test_numbers_of_other_types_are_read_as_the_columns_are_and_words_are_refused(kind):
    rows = [point("a", 1)] if kind == "curves" else [row("a", steps_done=3)]
    table = as_table(kind, rows)
    names = {"curves": "val_error", "runs": "val_loss", "rungs": "val_loss"}
    place = table.column_names.index(names[kind])
    for values, good in ((pa.array([1], pa.int32()), True), (pa.array(["much"]), False)):
        buffer = pa.BufferOutputStream()
        pq.write_table(table.set_column(place, names[kind], values), buffer)
        file = File(pa.BufferReader(buffer.getvalue()), kind)
        if good:
            assert file.part().table[names[kind]].to_pylist() == [1.0]
        else:
            with pytest.raises(pa.ArrowInvalid, match="much"):
                file.check()
