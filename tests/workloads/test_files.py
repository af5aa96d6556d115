"""Where data sets lie: which file is taken, and what of a download is left."""

import hashlib
from pathlib import Path

import pytest

from hpscan.workloads import DataAbsentError, WorkloadError
from hpscan.workloads.files import data_home, find_file, md5


@pytest.fixture
def folders(tmp_path):
    made = [tmp_path / "own", tmp_path / "system"]
    for folder in made:
        folder.mkdir()
    return made


@pytest.fixture
def published(tmp_path):
    """Where a download comes from."""
    (tmp_path / "web").mkdir()
    path = tmp_path / "web" / "data"
    path.write_bytes(b"published")
    return path


def find(folders, published, *, checksums=(), fetch=False):
    return find_file("data", folders, checksums, published.as_uri(), fetch=fetch)


def test_the_first_folder_that_has_it_is_taken(folders, published):
    (folders[1] / "data").write_bytes(b"system's")
    assert find(folders, published) == folders[1] / "data"
    (folders[0] / "data").write_bytes(b"own")
    assert find(folders, published) == folders[0] / "data"


def test_any_of_the_right_checksums_will_do_and_no_other(folders, published):
    (folders[0] / "data").write_bytes(b"own")
    right = hashlib.md5(b"own").hexdigest()
    assert md5(folders[0] / "data") == right
    assert find(folders, published, checksums=["0" * 32, right]) == folders[0] / "data"
    with pytest.raises(WorkloadError, match=f"MD5 is {right}, should be {'0' * 32}; delete it and get it again"):
        find(folders, published, checksums=["0" * 32, "1" * 32])


def test_what_is_nowhere_is_named_with_where_to_get_it(folders, published):
    absent = f"{folders[0] / 'data'}: not there; get it from {published.as_uri()}"
    with pytest.raises(DataAbsentError) as told:
        find(folders, published)
    assert str(told.value) == f"{absent}, its publisher gives no checksum"
    with pytest.raises(DataAbsentError) as told:
        find(folders, published, checksums=["0" * 32, "1" * 32])
    assert str(told.value) == f"{absent}, MD5 {'0' * 32}"


def test_a_download_goes_into_the_first_folder_which_it_makes(folders, published):
    folders[0].rmdir()
    assert find(folders, published, checksums=[md5(published)], fetch=True) == folders[0] / "data"
    assert (folders[0] / "data").read_bytes() == b"published"
    published.unlink()
    assert find(folders, published, fetch=True) == folders[0] / "data"  # once is enough


def test_of_a_download_that_breaks_nothing_is_left(folders, published, monkeypatch):
    class Broken:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def __init__(self):
            self.blocks = [b"half"]

        def read(self, _):
            if not self.blocks:
                raise ConnectionResetError("reset by peer")
            return self.blocks.pop()

    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Broken())
    with pytest.raises(DataAbsentError, match=r"not there \(download failed: reset by peer\); get it from"):
        find(folders, published, fetch=True)
    assert list(folders[0].iterdir()) == []


def test_of_a_download_that_ends_early_nothing_is_left(folders, published):
    whole = hashlib.md5(b"published, and more").hexdigest()
    with pytest.raises(
        DataAbsentError, match=rf"\(download failed: MD5 is {md5(published)}, should be {whole}\); get it"
    ):
        find(folders, published, checksums=[whole], fetch=True)
    assert list(folders[0].iterdir()) == []
    published.write_bytes(b"published, and more")
    assert find(folders, published, checksums=[whole], fetch=True).read_bytes() == b"published, and more"


def test_the_data_are_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("HPSCAN_DATA", str(tmp_path))
    assert data_home() == tmp_path
    monkeypatch.setenv("HPSCAN_DATA", "")
    assert data_home() == Path.home() / ".cache" / "hpscan"
