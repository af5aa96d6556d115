import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from hpscan.store import RUNS, Compacted, Store, StoreError, ended
from tests.stored import NOW, parquet_in, point, row, same


def test_a_pack_comes_back_as_it_was_written(store):
    store.save_pack("s", "p", [row("a", val_loss=0.25, lr=2.0**-7)], [point("a", 5), point("a", 10)])
    runs, curves = store.runs("s"), store.curves("s")
    assert runs.loc[0, ["run_id", "lr", "val_loss", "state"]].tolist() == ["a", 2.0**-7, 0.25, "completed"]
    assert curves["step"].tolist() == [5, 10]
    assert pd.isna(runs.loc[0, "test_loss"])


def test_a_retry_overwrites_its_own_pack(store):
    for value in (1.0, 2.0):
        store.save_pack("s", "p", [row("a", val_loss=value)], [])
    assert store.runs("s")["val_loss"].tolist() == [2.0]


def test_a_run_that_fails_keeps_the_curve_it_had(anywhere):
    """At a rung it is compared by that, whatever becomes of it later."""
    anywhere.save_pack("s", "p", [], [point("a", 5), point("b", 5)])
    anywhere.save_pack("s", "p", [row("a", "failed"), row("b")], [point("b", 5), point("b", 10)])
    curves = anywhere.curves("s")
    assert list(zip(curves["run_id"], curves["step"], strict=True)) == [("a", 5), ("b", 5), ("b", 10)]
    anywhere.save_pack("s", "p", [row("a", "failed"), row("b", "failed")], [])
    assert same(anywhere.curves("s"), curves)
    anywhere.save_pack("s", "p", [row("a"), row("b")], [point("a", 10), point("b", 10)])
    assert anywhere.curves("s")["step"].tolist() == [10, 10]


def test_failed_runs_have_ended_unless_they_are_to_be_retried(store):
    store.save_pack("s", "p", [row("a", "failed", error="RuntimeError: boom"), row("b"), row("c", "diverged")], [])
    assert ended(store.runs("s")) == {"a", "b", "c"}
    assert ended(store.runs("s"), retry_failed=True) == {"b", "c"}


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
    assert "seeds: [0, 1]\n" in earlier[0].read_text()


def test_an_unknown_sweep_is_bad_input_and_names_what_there_is(store, make_spec):
    store.save_spec(make_spec())
    with pytest.raises(StoreError, match=r"sweep 'other': not in the store .* \(tiny\); launch it first") as error:
        store.spec("other")
    assert error.value.bad_input


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("mni-1", r"\(mni_1, (mni_\d+, ){3}mni_\d+ and 26 more\)"),
        ("xyz", r"\(mni_0, mni_1, mni_10, mni_11, mni_12 and 26 more\)"),
    ],
)
def test_of_many_sweeps_those_are_named_that_could_be_meant(store, make_spec, asked, told):
    for index in range(31):
        store.save_spec(make_spec(name=f"mni_{index}"))
    with pytest.raises(StoreError, match=rf"not in the store .* {told}; launch it first"):
        store.spec(asked)


def test_an_object_store_holds_what_a_folder_does(s3, make_spec):
    assert s3.sweeps() == []
    assert s3.runs("tiny").empty
    assert s3.save_spec(make_spec()) is False
    assert s3.save_spec(make_spec(seeds=[7])) is True
    s3.save_pack("tiny", "p", [row("a", val_loss=0.25)], [point("a", 5)])
    again = Store(s3.location)
    assert (again.sweeps(), again.spec("tiny").seeds) == (["tiny"], (7,))
    assert again.runs("tiny").loc[0, "val_loss"] == 0.25
    assert again.curves("tiny")["step"].tolist() == [5]
    assert len([name for name in again.files.names("tiny") if name.startswith("tiny/spec-")]) == 1
    with pytest.raises(StoreError, match=r"not in the store s3://bucket/some/prefix \(tiny\)"):
        again.spec("other")


def test_an_object_store_has_no_folder_and_says_what_to_do(s3):
    with pytest.raises(StoreError, match=r"^s3://bucket/some/prefix: .*give --out$") as error:
        s3.folder("s")
    assert error.value.bad_input
    assert not s3.is_local


def test_compaction_leaves_one_file_of_each_kind_and_says_what_it_did(anywhere):
    for name in "abc":
        anywhere.save_pack("s", name, [row(name)], [point(name, 1), point(name, 2)])
    runs, curves = anywhere.runs("s"), anywhere.curves("s")
    assert anywhere.compact("s") == Compacted(files_before=6, files_after=2, rows=9)
    files = parquet_in(anywhere)
    assert [Path(name).name.split("-")[0] for name in files] == ["compact", "compact"]
    assert same(anywhere.runs("s"), runs)
    assert same(anywhere.curves("s"), curves)
    assert anywhere.compact("s") == Compacted(2, 2, 0)
    assert parquet_in(anywhere) == files
    anywhere.save_pack("s", "a", [row("a", minutes=9, val_loss=0.125)], [])
    assert anywhere.runs("s").set_index("run_id").loc["a", "val_loss"] == 0.125


def test_a_pack_written_while_compaction_works_stays(store, monkeypatch):
    for name in "ab":
        store.save_pack("s", name, [row(name, "failed")], [])
    write = store.files.write

    def and_meanwhile(name, content):
        write(name, content)
        if "runs/compact-" in name:
            Store(store.root).save_pack("s", "a", [row("a", minutes=5)], [])  # a retry of the same pack
            Store(store.root).save_pack("s", "c", [row("c")], [])

    monkeypatch.setattr(store.files, "write", and_meanwhile)
    store.compact("s")
    assert Store(store.root).runs("s").set_index("run_id")["state"].to_dict() == {
        "a": "completed", "b": "failed", "c": "completed",
    }  # fmt: skip
    assert (store.root / "s/runs/pack-a.parquet").exists()
    assert not (store.root / "s/runs/pack-b.parquet").exists()


def test_a_compaction_whose_file_was_taken_up_by_another_deletes_nothing(store, monkeypatch):
    for name in "ab":
        store.save_pack("s", name, [row(name)], [])
    write = store.files.write

    def and_then_it_goes(name, content):
        write(name, content)
        store.files.remove(name)

    monkeypatch.setattr(store.files, "write", and_then_it_goes)
    store.compact("s")
    assert len(Store(store.root).runs("s")) == 2


KILLED_AT = """
import os, signal, sys
from hpscan.store import Store
store = Store(sys.argv[1])
left = int(sys.argv[2])
def step(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
def between(function):
    return lambda *given: (step(), function(*given), step())
store.files.remove = between(store.files.remove)
os.fsync = between(os.fsync)
sys.addaudithook(lambda event, _: step() if event == "os.rename" else None)
store.compact("s")
"""


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6, 8, 9, 12, 13, 17, 18])
def test_a_compaction_killed_anywhere_loses_nothing(store, step):
    for name in "abc":
        store.save_pack("s", name, [row(name)], [point(name, 1)])
    runs, curves = store.runs("s"), store.curves("s")
    killed = subprocess.run([sys.executable, "-c", KILLED_AT, str(store.root), str(step)], check=False)
    assert killed.returncode == -signal.SIGKILL
    for _ in range(2):
        assert same(store.runs("s"), runs)
        assert same(store.curves("s"), curves)
        store.compact("s")
    assert len(parquet_in(store)) == 2


def test_checkpoints_are_kept_replaced_and_dropped(anywhere):
    assert anywhere.checkpoint("s", "p") is None
    anywhere.drop_checkpoint("s", "p")
    for content in (b"one", b"two" * 1_000_000):
        anywhere.save_checkpoint("s", "p", content)
        assert anywhere.checkpoint("s", "p") == content
    assert anywhere.files.names("s/checkpoints") == ["s/checkpoints/pack-p.pt"]
    anywhere.drop_checkpoint("s", "p")
    assert anywhere.checkpoint("s", "p") is None


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(store, monkeypatch):
    store.save_checkpoint("s", "p", b"one")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StoreError, match="No space left"):
        store.save_checkpoint("s", "p", b"two")
    assert store.checkpoint("s", "p") == b"one"
    assert [path.name for path in (store.root / "s" / "checkpoints").iterdir()] == ["pack-p.pt"]


def test_tidying_leaves_results_and_what_can_still_be_gone_on_from(tmp_path, make_spec):
    store = Store(tmp_path)
    store.save_spec(make_spec())
    store.save_pack("tiny", "a", [row("a")], [])
    store.save_rung("tiny", "b", [row("b", "stopped", steps_done=3)])
    store.save_checkpoint("tiny", "b", b"state")
    left_behind = tmp_path / "tiny" / "checkpoints" / ".pack-c.pt-x1y2"
    left_behind.write_bytes(b"half")
    store.tidy("tiny", complete=False)
    assert not left_behind.exists()
    assert store.checkpoint("tiny", "b") == b"state"
    assert store.rungs("tiny")["run_id"].tolist() == ["b"]
    store.tidy("tiny", complete=True)
    assert store.checkpoint("tiny", "b") is None
    assert store.rungs("tiny").empty
    assert (tmp_path / "tiny" / "runs" / "pack-a.parquet").exists()


def test_a_run_is_stopped_at_the_last_rung_it_came_to_until_it_is_trained_on(tmp_path, make_spec):
    store = Store(tmp_path)
    store.save_spec(make_spec())
    store.save_rung("tiny", "p", [row("a", "stopped", steps_done=3), row("b", "stopped", steps_done=3)])
    store.save_rung("tiny", "q", [row("a", "stopped", minutes=1, steps_done=6)])
    store.stop("tiny", {"a", "b"})
    assert store.runs("tiny").set_index("run_id")["steps_done"].to_dict() == {"a": 6, "b": 3}
    store.save_pack("tiny", "r", [row("a", minutes=-5, steps_done=12), row("b", "failed", minutes=5)], [])
    assert store.runs("tiny").set_index("run_id")["state"].to_dict() == {"a": "completed", "b": "failed"}


def test_a_run_that_failed_beyond_its_rung_is_stopped_there_until_it_fails_again(store):
    store.save_rung("s", "p", [row("a", "stopped", steps_done=3), row("b", "stopped", steps_done=3)])
    store.save_pack("s", "q", [row("a", "failed", minutes=1)], [])
    store.stop("s", {"a", "b"})
    rows = store.runs("s").set_index("run_id")
    assert rows["state"].to_dict() == {"a": "stopped", "b": "stopped"}
    assert rows.loc["b", "finished_at"] == NOW  # when it was trained: paces and costs are told by that
    store.save_pack("s", "r", [{**row("a", "failed"), "finished_at": datetime.now(UTC) + timedelta(minutes=1)}], [])
    assert store.runs("s").set_index("run_id").loc["a", "state"] == "failed"


def test_a_file_damaged_below_its_footer_is_left_out_of_an_evaluation(tmp_path):
    told = []
    store = Store(tmp_path, on_broken=told.append)
    for number, step in ((1, 100), (2, 200)):
        store.save_pack("s", f"p{number}", [], [point(f"{number}{k}", step) for k in range(5)])
    path = next((tmp_path / "s" / "curves").glob("*p2*"))
    column = pq.read_metadata(path).row_group(0).column(0)
    start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)
    assert len(store.curves_at("s", 100, "val_loss")) == 5
    assert store.curves_at("s", 200, "val_loss").empty
    assert any("p2" in line for line in told)
