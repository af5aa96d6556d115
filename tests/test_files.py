"""Whole files in a folder or a bucket."""

import concurrent.futures
import fcntl
import http.server
import os
import tempfile
import threading
import types

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpscan.files import Files, digest, write_whole
from hpscan.store import Store, StoreError
from tests.stored import row


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


def test_a_file_beside_the_store_is_written_whole_or_stays_what_it_was(tmp_path, monkeypatch):
    path = tmp_path / "new" / "runs.csv"
    write_whole(path, b"whole")
    with monkeypatch.context() as full:
        full.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StoreError, match=r"new/runs\.csv: cannot be written \(No space left on device\)"):
            write_whole(path, b"another")
    assert [path] == list(path.parent.iterdir())
    assert path.read_bytes() == b"whole"


def test_a_link_or_a_pipe_is_written_through_and_stays(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_whole(tmp_path / "link", b"1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"1"
    os.mkfifo(tmp_path / "pipe")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        read = pool.submit((tmp_path / "pipe").read_bytes)
        write_whole(tmp_path / "pipe", b"2")
        assert read.result() == b"2"
    assert (tmp_path / "pipe").is_fifo()


def test_what_has_no_name_in_unicode_is_not_ours(tmp_path):
    files = Files(tmp_path)
    files.write("s/spec.yaml", b"1")
    (tmp_path / os.fsdecode(b"r\xe9sultats")).mkdir()  # a folder from a Latin-1 machine
    (tmp_path / os.fsdecode(b"s/\xe9")).write_bytes(b"2")
    assert files.folders_with("spec.yaml") == ["s"]
    assert set(files.stamps("s")) == {"s/spec.yaml"}


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


def test_a_path_that_is_no_text_is_bad_input_in_one_line(tmp_path, monkeypatch):
    strange = os.fsdecode(b"b\xffd")
    (tmp_path / strange).mkdir()
    for folder, store in ((tmp_path, strange), (tmp_path / strange, "results")):
        monkeypatch.chdir(folder)
        with pytest.raises(StoreError, match=r"^--store '.*': pyarrow opens only what is named in UTF-8$") as error:
            Store(store)
        assert error.value.bad_input


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


def test_the_endpoint_can_be_part_of_the_uri_and_is_not_in_messages(s3, s3_port, monkeypatch):
    s3.save_pack("s", "p", [row("a")], [])
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    store = Store(f"s3://bucket/some/prefix?endpoint_override=127.0.0.1:{s3_port}&scheme=http")
    assert len(store.runs("s")) == 1
    assert store.files.shown("s") == "s3://bucket/some/prefix/s"
    assert str(s3_port) in store.location


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


NAMES = st.sampled_from(["a", "b", "folder/a", "folder/deeper/a"])


@pytest.fixture(params=["local", "s3"])
def files(request, tmp_path):
    """Files of a folder, or of a bucket."""
    return Files(tmp_path / "root" if request.param == "local" else f"{request.getfixturevalue('bucket')}/root")


@given(st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=20)), max_size=12))
def test_files_are_what_a_dictionary_of_them_would_be(changes):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr("os.fsync", lambda _: None)  # there is nothing to outlive
        files, expected = Files(folder), {}
        for name, content in changes:
            if content is None:
                files.remove(name)
                expected.pop(name, None)
            else:
                files.write(name, content)
                expected[name] = content
            assert files.read(name) == content
        for name in ("a", "b", "folder/a", "folder/deeper/a", "never"):
            assert files.read(name) == expected.get(name)
        for inside in ("", "folder", "folder/deeper", "nowhere"):
            there = sorted(name for name in expected if name.rpartition("/")[0] == inside)
            assert files.names(inside) == there
            assert {name: size for name, (size, _) in files.stamps(inside).items()} == {
                name: len(expected[name]) for name in there
            }
        assert files.folders_with("a") == [name for name in ("folder",) if "folder/a" in expected]


def test_a_folder_and_a_bucket_are_read_listed_and_told_apart_alike(files):
    assert (files.read("x/a"), files.open("x/a"), files.names("x"), files.version("x/a", "x")) == (None, None, [], "")
    files.remove("x/a")
    versions = {""}
    for name, content in [("x/a", b"1"), ("x/b", b"22"), ("x/b", b"333"), ("y/a", b""), ("x/.hidden", b"4")]:
        files.write(name, content)
        versions.add(files.version("x/a", "x"))
    assert len(versions) == 4  # none, and one for each of the first three
    assert files.names("x") == ["x/a", "x/b"]
    assert files.folders_with("b") == ["x"]
    assert files.folders_with("a") == ["x", "y"]
    with files.open("x/b") as file:
        file.seek(1)
        assert file.read() == b"33"
    files.remove("x/b")
    assert files.names("x") == ["x/a"]


def test_of_several_who_create_a_file_one_does(tmp_path):
    files, start = Files(tmp_path), threading.Barrier(8)

    def create(who):
        start.wait()
        return files.create("s/lease", b"%d" % who * 1000)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        created = list(pool.map(create, range(8)))
    assert sum(created) == 1
    assert files.read("s/lease") == b"%d" % created.index(True) * 1000
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["lease"]


def test_without_hard_links_a_file_is_created_once_too(tmp_path, monkeypatch):
    def unsupported(*_):
        raise PermissionError(1, "Operation not permitted")  # as on a FAT file system

    monkeypatch.setattr("os.link", unsupported)
    files = Files(tmp_path)
    assert [files.create("lease", content) for content in (b"one", b"two")] == [True, False]
    assert files.read("lease") == b"one"
    assert files.names() == ["lease"]


def test_superseded_are_those_that_are_still_what_was_taken_up(files):
    contents = {"s/a": b"a", "s/b": b"b", "s/c": b"c", "s/all": b"abc"}
    for name, content in contents.items():
        files.write(name, content)
    digests = {name: digest(content) for name, content in contents.items()}
    files.write("s/b", b"newer")
    files.remove("s/c")
    assert files.supersede("s/gone", digests) == 0
    assert files.names("s") == ["s/a", "s/all", "s/b"]
    assert files.supersede("s/all", digests) == 1
    assert files.names("s") == ["s/all", "s/b"]


def free(path, how):
    """Whether somebody else could lock a folder now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_a_locked_folder_is_nobody_elses_or_of_those_who_share_it(tmp_path):
    files = Files(tmp_path)
    with files.locked("s") as alone:
        assert alone
        assert not free(tmp_path / "s", fcntl.LOCK_SH)
    with files.locked("s", shared=True):
        assert free(tmp_path / "s", fcntl.LOCK_SH)
        assert not free(tmp_path / "s", fcntl.LOCK_EX)
    with pytest.raises(ZeroDivisionError), files.locked("s"):
        raise ZeroDivisionError
    assert free(tmp_path / "s", fcntl.LOCK_EX)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"/file: cannot be written \(File exists\)$"), files.locked("file"):
        pass


def test_only_what_killed_writers_left_is_swept_up(tmp_path):
    files = Files(tmp_path)
    files.write("s/pack-a.pt", b"1")
    for name in (".pack-a.pt-x1", ".pack-b.parquet-zz", ".hidden"):
        (tmp_path / "s" / name).touch()
    files.remove_temporaries("s")
    files.remove_temporaries("nowhere")
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [".hidden", "pack-a.pt"]


def test_a_folder_is_gone_only_where_nothing_is(tmp_path):
    files = Files(tmp_path)
    (tmp_path / "s").mkdir()
    (tmp_path / "file").touch()
    assert [files.is_gone(name) for name in ("s", "file", "nowhere", "file/below")] == [False, False, True, False]


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), OSError("When reading: AWS Error SLOW_DOWN: wait")]
)
def test_what_the_file_system_says_is_told_from_what_is_in_a_file(tmp_path, error):
    files = Files(tmp_path)
    assert str(files.refused("s/a", error)).startswith(f"{tmp_path}/s/a: cannot be read (")
    for other in (OSError("Couldn't deserialize thrift"), ValueError("no such column"), pa.ArrowInvalid("not parquet")):
        assert files.refused("s/a", other) is None
