import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import pytest

from hpscan import lease as lease_module
from hpscan.lease import EXPIRES_S, held
from hpscan.store import Store, StoreError

HOLDER = """
import sys
from hpscan.lease import held
from hpscan.store import Store, StoreError
store = Store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    with held(store, "s"):
        print("held", flush=True)
        sys.stdin.readline()
except StoreError as error:
    print(error, flush=True)
    sys.stdin.readline()
"""
WAIT_S = 60


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def s3(bucket, monkeypatch):
    """A store in an empty bucket of a server that does not take long."""
    monkeypatch.setattr(lease_module, "SETTLE_S", 0.5)
    return Store(f"{bucket}/prefix")


@pytest.fixture(params=["local", "s3"])
def anywhere(request):
    return request.getfixturevalue("store" if request.param == "local" else "s3")


@pytest.fixture
def start():
    """Start processes that are ready to take the lease when they are sent a line, and end when sent another."""
    started = []

    def start(store):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, store.location], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def on_disk(store):
    content = store.files.read("s/lease.json")
    return None if content is None else json.loads(content)


def forge(store, **changes):
    """A lease like the one this process would write, but for the changes."""
    with held(store, "s"):
        raw = on_disk(store)
    store.files.write("s/lease.json", json.dumps({**raw, "token": "another's", **changes}).encode())


def ago(seconds):
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


def until(condition):
    """Wait for a condition that another thread will bring about."""
    waiting, ticks = threading.Event(), 0
    while not condition():
        ticks += 1
        assert ticks < WAIT_S * 100, "never came about"
        waiting.wait(0.01)


def test_a_lease_says_who_and_since_when_and_is_gone_afterwards(anywhere):
    with held(anywhere, "s") as lease:
        raw = on_disk(anywhere)
        assert (raw["host"], raw["pid"]) == (socket.gethostname(), os.getpid())
        assert datetime.fromisoformat(raw["since"]).utcoffset() == timedelta(0)
        assert not lease.lost
    assert on_disk(anywhere) is None
    with held(anywhere, "s"):
        pass


def test_a_second_launcher_is_told_who_holds_it(anywhere, start):
    holder = start(anywhere)
    go(holder)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StoreError) as error, held(anywhere, "s"):
        pass
    assert error.value.bad_input
    assert re.fullmatch(
        rf"s: is being launched by {re.escape(socket.gethostname())}, process {holder.pid}, since \d{{4}}-\d\d-\d\d \d\d:\d\d UTC; "
        r"wait, or stop that one \(a dead one's lease expires after 60 s\)",
        str(error.value),
    )
    with held(anywhere, "another sweep"):
        pass
    go(holder)
    assert holder.wait(WAIT_S) == 0
    with held(anywhere, "s"):
        pass


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_holder_frees_it_at_once(anywhere, start, reaped):
    holder = start(anywhere)
    go(holder)
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    if reaped:
        holder.wait(WAIT_S)
    else:
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # a zombie, as under a parent that does not look
    assert on_disk(anywhere)["pid"] == holder.pid
    with held(anywhere, "s"):
        assert on_disk(anywhere)["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({}, False),
        ({"host": "elsewhere", "pid": 2**22 + 1}, False),
        ({"host": "elsewhere", "renewed": EXPIRES_S - 30}, False),
        ({"host": "elsewhere", "renewed": EXPIRES_S + 1}, True),
        ({"pid": 2**22 + 1}, True),
        ({"started": "1"}, True),
        ({"machine": "an earlier boot, or a container of this host's name", "pid": 2**22 + 1}, False),
        ({"renewed": "yesterday"}, True),
        ({"renewed": "2026-01-01"}, True),
    ],
    ids=["ours", "other-host", "renewed", "expired", "dead", "pid-reused", "other-machine", "garbled", "no-zone"],
)
def test_a_lease_is_free_once_its_holder_is_dead_or_silent(store, changes, free):
    if isinstance(changes.get("renewed"), float):
        changes = {**changes, "renewed": ago(changes["renewed"])}
    forge(store, **changes)
    if free:
        with held(store, "s"):
            assert on_disk(store)["token"] != "another's"
    else:
        with pytest.raises(StoreError, match="is being launched by"), held(store, "s"):
            pass
        assert on_disk(store)["token"] == "another's"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"host": 1}'])
def test_what_is_no_lease_holds_nobody_off(store, content):
    store.files.write("s/lease.json", content)
    with held(store, "s"):
        pass


@pytest.mark.parametrize("before", ["none", "expired"])
def test_of_two_processes_that_race_exactly_one_wins(anywhere, start, before):
    if before == "expired":
        forge(anywhere, host="elsewhere", renewed=ago(EXPIRES_S + 1))
    racers = [start(anywhere) for _ in range(2)]
    for racer in racers:
        go(racer)
    said = sorted(racer.stdout.readline() for racer in racers)
    assert said[0] == "held\n"
    assert said[1].startswith("s: is being launched by")


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no-locks"])
def test_of_many_threads_that_find_an_expired_lease_exactly_one_wins(store, monkeypatch, locks):
    if not locks:  # as on network file systems that do not lock folders

        def refuses(*_):
            raise OSError(9, "Bad file descriptor")

        monkeypatch.setattr("fcntl.flock", refuses)
        monkeypatch.setattr(lease_module, "SETTLE_S", 0.5)
    for _ in range(20 if locks else 4):
        forge(store, host="elsewhere", renewed=ago(EXPIRES_S + 1))
        barrier, wins = threading.Barrier(6), []

        def race(barrier=barrier, wins=wins):
            barrier.wait(WAIT_S)
            try:
                with held(Store(store.root), "s"):
                    wins.append(True)
                    barrier.wait(WAIT_S)
            except StoreError:
                barrier.wait(WAIT_S)

        threads = [threading.Thread(target=race) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert wins == [True]
        assert on_disk(store) is None


def test_a_lease_is_renewed(anywhere, monkeypatch):
    monkeypatch.setattr(lease_module, "RENEW_S", 0.02)
    with held(anywhere, "s") as lease:
        first = on_disk(anywhere)
        until(lambda: on_disk(anywhere)["renewed"] > first["renewed"])
        assert {**on_disk(anywhere), "renewed": ""} == {**first, "renewed": ""}
        assert not lease.lost


def test_a_lease_that_another_took_is_lost_and_stays_the_others(anywhere, monkeypatch):
    monkeypatch.setattr(lease_module, "RENEW_S", 0.02)
    with held(anywhere, "s") as lease:
        raw = on_disk(anywhere)
        lease_of_another = json.dumps({**raw, "token": "another's"}).encode()

        def is_lost():  # a renewal under way may overwrite it once
            if not lease.lost:
                anywhere.files.write("s/lease.json", lease_of_another)
            return lease.lost

        until(is_lost)
        anywhere.files.write("s/lease.json", lease_of_another)
    assert on_disk(anywhere)["token"] == "another's"


def test_a_store_that_goes_away_while_renewing_crashes_nothing(store, monkeypatch):
    monkeypatch.setattr(lease_module, "RENEW_S", 0.02)
    away = store.root.with_name("away")
    with held(store, "s") as lease:
        failed, moving, renew = threading.Event(), threading.Lock(), lease.renew

        def watched():
            try:
                with moving:
                    renew()
            except StoreError:
                failed.set()
                raise

        lease.renew = watched
        until(lambda: on_disk(store)["renewed"] > on_disk(store)["since"])
        with moving:
            store.root.rename(away)
            store.root.write_text("in the way")
        assert failed.wait(WAIT_S)
        with moving:
            store.root.unlink()
            away.rename(store.root)
        renewed = on_disk(store)["renewed"]
        until(lambda: on_disk(store)["renewed"] > renewed)
        with moving:
            store.root.rename(away)
            store.root.write_text("in the way")
        assert not lease.lost


def test_a_store_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/store/s.*: cannot be (read|written) \(Not a directory\)") as error:
        with held(Store(tmp_path / "file" / "store"), "s"):
            pass
    assert not error.value.bad_input


def test_a_lease_loads_neither_torch_nor_ray():
    script = "import sys, hpscan.lease; print({'torch', 'ray'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_store_that_is_gone_is_not_made_anew(store, monkeypatch):
    monkeypatch.setattr(lease_module, "RENEW_S", 0.01)
    with held(store, "s") as lease:
        shutil.rmtree(store.root)
        lease.renew()
    assert not store.root.exists()
