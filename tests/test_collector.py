import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpscan.store import Store, StoreError
from tests.stored import point, row


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
