"""What the driver does besides scheduling; with real processes: tests/e2e."""

import pytest

from hpscan import cluster, launch
from hpscan.errors import ClusterError
from hpscan.resources import Resources
from hpscan.spec import SpecError


def test_the_commit_of_a_checkout_is_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch._git_commit() is None


def test_a_client_is_told_each_pack_once_in_order():
    tuning = launch._Tuning()
    tuning.summaries.extend(["first", "second"])
    assert tuning.news(False) == ["first", "second"]
    tuning.summaries.append("third")
    assert tuning.news(False) == ["third"]
    assert not tuning.told_to_stop
    assert tuning.news(True) == []
    assert tuning.news(False) == []
    assert tuning.told_to_stop


@pytest.mark.parametrize("address", ["http://head:10001", "ray://head", "ray://:10001", "head", "head:6379/x"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(SpecError, match="must be `auto`, HOST:PORT or ray://HOST:PORT"):
        cluster.check_address(address)


@pytest.mark.parametrize("address", ["auto", "head:6379", "ray://head:10001", "[::1]:6379"])
def test_an_address_is_accepted_in_each_of_its_forms(address):
    cluster.check_address(address)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("It is away.\nTraceback:\n  more\n", "It is away."),
        ("Version mismatch: it has:\n    Ray: 2\nThis has:\n    Ray: 1\n", "Version mismatch: it has: Ray: 2 This has: Ray: 1"),
        ("The server:\nTraceback (most recent call last):\n  File x\nOSError: full\n", "The server: OSError: full"),
        ("", "RuntimeError"),
    ],
)  # fmt: skip
def test_what_ray_says_is_one_line(said, told):
    assert cluster.reason(RuntimeError(said)) == told


def test_a_client_whose_server_died_when_it_was_started_tries_again(monkeypatch):
    answers = iter(["Starting Ray client server failed.", "Starting Ray client server failed.", "No room."])

    def init(**options):
        raise ConnectionAbortedError(next(answers))

    monkeypatch.setattr(cluster.ray, "init", init)
    with pytest.raises(ConnectionAbortedError, match="No room"):
        cluster._init({})


def test_a_process_that_is_connected_to_a_ray_of_its_own_is_told_to_leave_it(monkeypatch):
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: True)
    with pytest.raises(ClusterError, match=r"ray\.shutdown\(\) first"), cluster.connected(Resources(), None):
        pass
