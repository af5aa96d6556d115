import http.server
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import types
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpscan.store import CURVES, METRICS, RUNS, Compacted, Store, StoreError, ended

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def row(run_id, state="completed", minutes=0, **values):
    return {"run_id": run_id, "variant": "sgd", "lr": 0.1, "wd": 0.0, "seed": 0, "state": state,
            "finished_at": NOW + timedelta(minutes=minutes), **values}  # fmt: skip


def point(run_id, step):
    return {"run_id": run_id, "step": step, "batch_loss": 1.0, "val_loss": 1.0, "val_error": 0.5}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def s3(bucket):
    """A store in an empty bucket, its endpoint from the environment."""
    return Store(f"{bucket}/some/prefix")


@pytest.fixture(params=["local", "s3"])
def anywhere(request):
    return request.getfixturevalue("store" if request.param == "local" else "s3")


def same(left, right):
    pd.testing.assert_frame_equal(left, right)
    return True


def parquet_in(store, sweep="s"):
    return [name for kind in ("runs", "curves") for name in store.files.names(f"{sweep}/{kind}")]


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


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("foo://x", "Unrecognized filesystem type"),
        ("s3:/bucket", "Missing bucket name"),
        ("s3://", "names no bucket"),
        ("s3://bucket/p?bogus=1", "Unexpected query parameter"),
        ("file://host/x", "Unsupported hostname"),
    ],
)
def test_a_uri_that_cannot_be_is_bad_input_in_one_line(uri, reason):
    with pytest.raises(StoreError, match=reason) as error:
        Store(uri)
    assert error.value.bad_input
    assert "\n" not in str(error.value)


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


def test_a_store_says_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Store("here").location == str(tmp_path / "here")
    uri = Store(f"file://{tmp_path}/there")
    assert (uri.location, uri.is_local, uri.folder("s")) == (f"file://{tmp_path}/there", True, tmp_path / "there" / "s")
    uri.save_pack("s", "p", [row("a")], [])
    assert len(Store(uri.location).runs("s")) == len(Store(tmp_path / "there").runs("s")) == 1


def test_a_pyarrow_without_the_client_says_so(monkeypatch):
    def unsupported(uri):
        raise NotImplementedError(f"Got {uri} but Arrow compiled without S3 support")

    monkeypatch.setattr("hpscan.files.fs.FileSystem", types.SimpleNamespace(from_uri=unsupported))
    with pytest.raises(StoreError, match=r"pip install --force-reinstall pyarrow$") as error:
        Store("s3://bucket/p")
    assert error.value.bad_input


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


def test_the_endpoint_can_be_part_of_the_uri_and_is_not_in_messages(s3, s3_port, monkeypatch):
    s3.save_pack("s", "p", [row("a")], [])
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    store = Store(f"s3://bucket/some/prefix?endpoint_override=127.0.0.1:{s3_port}&scheme=http")
    assert len(store.runs("s")) == 1
    assert store.files.shown("s") == "s3://bucket/some/prefix/s"
    assert str(s3_port) in store.location


def test_an_object_store_has_no_folder_and_says_what_to_do(s3):
    with pytest.raises(StoreError, match=r"^s3://bucket/some/prefix: .*give --out$") as error:
        s3.folder("s")
    assert error.value.bad_input
    assert not s3.is_local


def test_a_missing_bucket_is_named(s3):
    store = Store("s3://nowhere/p")
    for use in (store.sweeps, lambda: store.runs("s"), lambda: store.save_pack("s", "p", [row("a")], [])):
        with pytest.raises(
            StoreError, match=r"s3://nowhere/p.*(no bucket nowhere|NO_SUCH_BUCKET|No such file)"
        ) as error:
            use()
        assert "\n" not in str(error.value)


def test_credentials_that_are_refused_are_told_in_one_line(aws):
    class Refuses(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b"" if self.command == "HEAD" else b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_POST = do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        store = Store(f"s3://bucket/p?endpoint_override=127.0.0.1:{server.server_port}&scheme=http")
        with pytest.raises(StoreError, match=r"^s3://bucket/p: cannot be read \(AWS Error ACCESS_DENIED"):
            store.sweeps()
        with pytest.raises(StoreError, match=r"^s3://bucket/p/s/checkpoints/pack-p.pt: cannot be written \(AWS"):
            store.save_checkpoint("s", "p", b"x")
        with pytest.raises(StoreError, match=r"^s3://bucket/p/s/checkpoints/pack-p.pt: cannot be read \(AWS"):
            store.checkpoint("s", "p")
        server.shutdown()


def foreign_parquet():
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": [1]}), buffer)
    return buffer.getvalue().to_pybytes()


def whole_parquet(store):
    store.save_pack("other", "p", [row("b")], [])
    return store.files.read("other/runs/pack-p.parquet")


@pytest.mark.parametrize("content", ["empty", "truncated", "foreign", "bit"])
def test_a_broken_file_is_told_and_left_out(anywhere, content):
    whole = whole_parquet(anywhere)
    content = {
        "empty": b"",
        "truncated": whole[: len(whole) // 2],
        "foreign": foreign_parquet(),
        "bit": whole[:-9] + b"\xff" + whole[-8:],
    }[content]
    anywhere.save_pack("s", "p", [row("a")], [point("a", 1)])
    anywhere.files.write("s/runs/pack-q.parquet", content)
    told = []
    assert anywhere.runs("s", told.append)["run_id"].tolist() == ["a"]
    (line,) = told
    assert line.startswith(f"{anywhere.files.shown('s/runs/pack-q.parquet')}: not a parquet file of hpscan's (")
    assert line.endswith("; its runs count as missing and are trained again")
    assert "\n" not in line
    assert anywhere.compact("s", told.append).rows == 0
    assert anywhere.files.read("s/runs/pack-q.parquet") == content


def test_a_store_may_tell_of_broken_files_once_for_all_reads(store):
    store.files.write("s/curves/pack-q.parquet", b"")
    told = []
    telling = Store(store.root, told.append)
    assert telling.curves("s").empty
    assert telling.curves("s").empty
    assert len(told) == 1
    assert told[0].endswith("its curves are left out")
    with pytest.raises(StoreError):
        store.curves("s")


def test_a_file_that_cannot_be_read_is_an_error_even_where_broken_ones_are_not(store):
    (store.root / "s" / "runs" / "pack-p.parquet").mkdir(parents=True)
    assert store.runs("s").empty  # a folder is no file
    (store.root / "s" / "curves").write_text("in the way")
    with pytest.raises(StoreError, match=r"s/curves: cannot be read \("):
        store.curves("s", pytest.fail)


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


WRITER = """
import sys
from datetime import UTC, datetime
from hpscan.store import Store
store = Store(sys.argv[1])
for number in range(int(sys.argv[2])):
    run = {"run_id": f"{number:04}", "variant": "sgd", "state": "completed", "finished_at": datetime.now(UTC)}
    store.save_pack("s", f"{number:04}", [run], [{"run_id": f"{number:04}", "step": 1}])
"""
COMPACTER = """
import sys
from hpscan.store import Store
store = Store(sys.argv[1])
print("ready", flush=True)
while True:
    store.compact("s")
"""


def start(script, *arguments):
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE)


@pytest.mark.parametrize("compacters", [1, 2])
def test_whoever_reads_beside_writers_and_compactions_sees_each_stored_run_once(store, compacters):
    started = [start(COMPACTER, store.root) for _ in range(compacters)]
    try:
        assert all(process.stdout.readline() == b"ready\n" for process in started)
        writer = start(WRITER, store.root, 150)
        started.append(writer)
        seen = 0
        while writer.poll() is None:
            runs = store.runs("s")
            assert runs["run_id"].is_unique
            assert len(runs) >= seen
            seen = len(runs)
            assert set(runs["run_id"][:seen]) <= set(store.curves("s")["run_id"])
        assert writer.returncode == 0
        assert all(process.poll() is None for process in started[:-1])
        assert len(store.runs("s")) == len(store.curves("s")) == 150
    finally:
        for process in started:
            process.kill()
            process.wait()
            process.stdout.close()


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
