"""Files that are broken, that change, and that go while they are read."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpscan.collector import Collector
from hpscan.files import Files
from hpscan.parts import as_table, to_parquet
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


@pytest.fixture
def reading(tmp_path):
    """Make a collector of a folder of three files, and note what it reads."""
    files = Files(tmp_path)
    for name in "abc":
        files.write(f"s/curves/pack-{name}.parquet", to_parquet(as_table("curves", [point(name, 1)]), "1"))

    def make(*, keeps):
        read = []

        def taken(file):
            (name,) = file.run_ids().to_pylist()
            read.append(name)
            return name

        return files, Collector(files, None, keeps=keeps), taken, read

    return make


def test_what_is_kept_is_read_again_only_where_a_file_has_changed(reading):
    files, collector, taken, read = reading(keeps=True)

    def take(keep_as="names"):
        del read[:]
        return sorted(collector.take("s", "curves", None, taken, keep_as=keep_as).values()), sorted(read)

    assert take() == (["a", "b", "c"], ["a", "b", "c"])
    assert take() == (["a", "b", "c"], [])
    assert take("other") == (["a", "b", "c"], ["a", "b", "c"])
    files.write("s/curves/pack-b.parquet", to_parquet(as_table("curves", [point("longer", 1)]), "1"))
    files.remove("s/curves/pack-c.parquet")
    assert take() == (["a", "longer"], ["longer"])
    assert take("other") == (["a", "longer"], ["longer"])
    files.write("s/curves/pack-c.parquet", to_parquet(as_table("curves", [point("c", 1)]), "1"))
    assert take() == (["a", "c", "longer"], ["c"])
    assert take("") == (["a", "c", "longer"], ["a", "c", "longer"])  # what has no name is not kept
    assert take("") == (["a", "c", "longer"], ["a", "c", "longer"])


def test_a_store_that_keeps_nothing_reads_all_again(reading):
    _, collector, taken, read = reading(keeps=False)
    for _ in range(2):
        collector.take("s", "curves", None, taken, keep_as="names")
    assert sorted(read) == ["a", "a", "b", "b", "c", "c"]


def test_of_files_asked_for_only_those_are_read_that_are_there(reading):
    _, collector, taken, read = reading(keeps=False)
    only = {"s/curves/pack-a.parquet", "s/curves/pack-gone.parquet"}
    assert collector.take("s", "curves", None, taken, only=only) == {"s/curves/pack-a.parquet": "a"}
    assert read == ["a"]
    assert collector.take("s", "curves", None, taken, only=set()) == {}
    assert collector.take("nowhere", "curves", None, taken) == {}


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_that_a_compaction_took_up_meanwhile_is_read_out_of_the_merged_one(reading, whole):
    files, collector, _, _ = reading(keeps=False)

    def taken(file):
        for name in "abc":  # as if another process had compacted after the first file was opened
            files.remove(f"s/curves/pack-{name}.parquet")
        merged = as_table("curves", [point(name, 1) for name in "abc"])
        files.write("s/curves/compact-x.parquet", to_parquet(merged, "1"))
        return file.run_ids().to_pylist()

    assert collector.take("s", "curves", None, taken, whole=whole) == {
        "s/curves/pack-a.parquet": ["a"], "s/curves/compact-x.parquet": ["a", "b", "c"],
    }  # fmt: skip


def test_whole_files_are_what_they_were_whatever_becomes_of_them(reading):
    files, collector, _, _ = reading(keeps=False)
    content = files.read("s/curves/pack-a.parquet")
    found = collector.take("s", "curves", None, lambda file: file, whole=True)
    for name in "abc":
        files.write(f"s/curves/pack-{name}.parquet", b"")
    assert bytes(found["s/curves/pack-a.parquet"].content()) == content
    assert [file.part().table["run_id"].to_pylist() for file in found.values()] == [["a"], ["b"], ["c"]]


def test_other_files_and_broken_ones_are_no_parts_and_whoever_asks_is_told_each_time(reading):
    files, collector, taken, _ = reading(keeps=True)
    files.write("s/curves/notes.txt", b"")
    files.write("s/curves/pack-b.parquet", b"")
    with pytest.raises(
        StoreError, match=r"pack-b\.parquet: not a parquet file of hpscan's .*; delete it and relaunch$"
    ):
        collector.take("s", "curves", None, taken, keep_as="names")
    told = []
    for _ in range(2):
        found = collector.take("s", "curves", told.append, taken, keep_as="names")
        assert sorted(found.values()) == ["a", "c"]
    assert len(told) == 2
    assert all(line.endswith("; its curves are left out") for line in told)
