import stat
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow.parquet as pq
import pytest

from hpscan.store import CURVES, METRICS, RUNS, Store, StoreError, ended

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def row(run_id, state="completed", minutes=0, **values):
    return {"run_id": run_id, "variant": "sgd", "lr": 0.1, "wd": 0.0, "seed": 0, "state": state,
            "finished_at": NOW + timedelta(minutes=minutes), **values}  # fmt: skip


def point(run_id, step):
    return {"run_id": run_id, "step": step, "batch_loss": 1.0, "val_loss": 1.0, "val_error": 0.5}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_a_pack_comes_back_as_it_was_written(store):
    store.save_pack("s", "p", [row("a", val_loss=0.25, lr=2.0**-7)], [point("a", 5), point("a", 10)])
    runs, curves = store.runs("s"), store.curves("s")
    assert runs.loc[0, ["run_id", "lr", "val_loss", "state"]].tolist() == ["a", 2.0**-7, 0.25, "completed"]
    assert curves["step"].tolist() == [5, 10]
    assert pd.isna(runs.loc[0, "test_loss"])


def test_files_are_plain_parquet_with_the_documented_columns(store):
    store.save_pack("s", "p", [row("a")], [point("a", 1)])
    runs, curves = (store.root / "s" / kind / "pack-p.parquet" for kind in ("runs", "curves"))
    assert pq.read_schema(runs).names == RUNS.names
    assert pq.read_schema(curves).names == CURVES.names
    assert {"run_id", "variant", "lr", "wd", "seed", "state", *METRICS, "wall_s", "device_s", "git_commit"} <= set(
        RUNS.names
    )
    assert stat.S_IMODE(runs.stat().st_mode) == 0o644


def test_a_retry_overwrites_its_own_pack(store):
    for value in (1.0, 2.0):
        store.save_pack("s", "p", [row("a", val_loss=value)], [])
    assert store.runs("s")["val_loss"].tolist() == [2.0]


def test_a_run_trained_in_two_packs_counts_once_with_the_later_row(store):
    store.save_pack("s", "z", [row("a", "failed", minutes=0, error="boom"), row("b")], [])
    store.save_pack("s", "a", [row("a", minutes=5)], [])
    assert store.runs("s").set_index("run_id")["state"].to_dict() == {"a": "completed", "b": "completed"}


def test_failed_runs_have_ended_unless_they_are_to_be_retried(store):
    store.save_pack("s", "p", [row("a", "failed", error="RuntimeError: boom"), row("b"), row("c", "diverged")], [])
    assert ended(store.runs("s")) == {"a", "b", "c"}
    assert ended(store.runs("s"), retry_failed=True) == {"b", "c"}
    assert store.errors("s") == {"RuntimeError: boom": 1}


def test_a_sweep_without_runs_is_an_empty_table(store):
    assert list(store.runs("nothing").columns) == RUNS.names
    assert store.runs("nothing").empty
    assert store.sweeps() == []


def test_a_revised_spec_keeps_the_earlier_one_beside_it(store, make_spec):
    assert store.save_spec(make_spec()) is False
    assert store.save_spec(make_spec()) is False
    assert store.save_spec(make_spec(seeds=[7])) is True
    assert store.sweeps() == ["tiny"]
    assert store.spec("tiny").seeds == (7,)
    earlier = list((store.root / "tiny").glob("spec-*.yaml"))
    assert len(earlier) == 1
    assert "- 0\n- 1\n" in earlier[0].read_text()


def test_an_unknown_sweep_is_bad_input_and_names_what_there_is(store, make_spec):
    store.save_spec(make_spec())
    with pytest.raises(StoreError, match=r"sweep 'other': not in the store .* \(tiny\); launch it first") as error:
        store.spec("other")
    assert error.value.bad_input


@pytest.mark.parametrize(
    "content", [b"", b"PAR1 truncated", b"not parquet at all" * 100], ids=["empty", "truncated", "foreign"]
)
def test_a_broken_file_is_named_in_one_line(store, content):
    store.save_pack("s", "p", [row("a")], [])
    broken = store.root / "s" / "runs" / "pack-q.parquet"
    broken.write_bytes(content)
    with pytest.raises(StoreError, match=r"pack-q\.parquet: not a parquet file of hpscan's") as error:
        store.runs("s")
    assert "\n" not in str(error.value)


def test_temporary_files_are_neither_read_nor_left(store, monkeypatch):
    store.save_pack("s", "p", [row("a")], [])
    (store.root / "s" / "runs" / ".pack-x.parquet-tmp123").write_bytes(b"half a file")
    assert len(store.runs("s")) == 1
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StoreError, match=r"cannot be written \(No space left on device\)"):
        store.save_pack("s", "q", [row("b")], [])
    assert {path.name for path in (store.root / "s").rglob("*.parquet*")} == {
        "pack-p.parquet",
        ".pack-x.parquet-tmp123",
    }


def test_a_store_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Store(blocked / "store").save_pack("s", "p", [row("a")], [])


def test_a_uri_is_refused_in_one_line():
    with pytest.raises(StoreError, match="must be a local folder"):
        Store("s3://bucket/prefix")


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
