import http.server
import threading
import types

import pytest

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
