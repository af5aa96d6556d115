"""What the driver does besides scheduling; with real processes: tests/e2e."""

import math
import os
import signal
import subprocess
import sys
from contextlib import nullcontext

import pytest

from hpscan import cluster, launch
from hpscan.course import Course
from hpscan.errors import ClusterError
from hpscan.grid import runs
from hpscan.resources import PerPack, Resources
from hpscan.rungs import next_round
from hpscan.spec import SpecError
from hpscan.store import Store
from tests.test_course import STEPS, launched


def test_the_commit_of_a_checkout_is_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch._git_commit() is None
    strange = os.fsdecode(b"b\xffd")  # git tells names as they are if it is told to
    (tmp_path / strange).write_text("as committed")
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    for words in (
        ["init", "-q"],
        ["config", "core.quotepath", "false"],
        ["add", "."],
        [*who, "commit", "-qm", "first"],
    ):
        subprocess.run(["git", *words], check=True)
    commit = launch._git_commit()
    assert len(commit) == 40
    (tmp_path / strange).write_text("changed")
    assert launch._git_commit() == f"{commit}+"


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


def test_what_sigterm_does_stays_what_was_said_of_it(monkeypatch):
    monkeypatch.setattr(cluster, "_init", lambda _: signal.signal(signal.SIGTERM, lambda *_: None))
    monkeypatch.setattr(cluster, "_slots", lambda *_, **__: None)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), cluster.connected(Resources(), None):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_sigterm_does_while_ray_connects_is_what_was_said_of_it(monkeypatch):
    def init(_):
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(number))  # as Ray does
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(cluster, "_init", init)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), cluster.connected(Resources(), None):
            pass
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("fields", "cpus"),
    [({"workers": 3, "per_pack": {"cpus": 0.5}}, 2), ({"workers": 1, "per_pack": {"cpus": 1.5}}, 2)],
)
def test_a_ray_of_our_own_has_whole_cores_and_whole_resources(fields, cpus):
    fields["per_pack"]["custom"] = {"big": 0.7}
    told = cluster._of_this_machine(Resources.model_validate(fields))
    assert (told["num_cpus"], told["resources"]) == (cpus, {"big": math.ceil(0.7 * fields["workers"])})


def test_of_a_halved_sweep_later_rounds_have_room_whatever_is_left_of_the_first(make_spec, tmp_path, monkeypatch):
    halving = {"name": "halving", "rungs": [0.25, 0.5]}
    spec = make_spec(variants=["sgd"], stop=halving, evaluations=8, budget={"steps": STEPS}, resources={"pack_size": 5})
    store, seen = Store(tmp_path), []
    store.save_spec(spec)
    packs = Course(spec, store.location, runs(spec), 2, next_round(spec, store)).packs()
    launched(spec, store, dies_after=len(packs) - 1)
    monkeypatch.setattr(launch, "connected", lambda *_: nullcontext(cluster.Slots(2, 2, PerPack(gpus=0.0))))
    monkeypatch.setattr(launch, "is_client", lambda: False)
    monkeypatch.setattr(launch.ray, "put", lambda assignment: assignment)
    monkeypatch.setattr(launch, "_tune", lambda trials, *_: seen.append(trials) or launch._Outcome(None, []))
    launch.launch(spec, store, next_round(spec, store), None, lambda _: None)
    assert len(seen[0].course.packs()) == 1
    assert (seen[0].at_once, seen[0].assignment.workers) == (2, 2)


@pytest.mark.parametrize(
    ("given", "packs"),
    [
        ({}, 4),
        ({"per_pack": {"cpus": 2}}, 2),
        ({"per_pack": {"cpus": 3}}, 1),
        ({"per_pack": {"cpus": 0.1}}, 40),
        ({"gpus": 0, "per_pack": {"gpus": 0}}, 4),
        ({"gpus": 2}, 2),
        ({"gpus": 2, "per_pack": {"gpus": 0.5}}, 4),
        ({"gpus": 2, "per_pack": {"gpus": 0}}, 4),
        ({"gpus": 2, "per_pack": {"cpus": 4}}, 1),
        ({"gpus": 8}, 8),
        ({"workers": 5, "per_pack": {"cpus": 2}}, 5),
        ({"workers": 5, "gpus": 2}, 5),
    ],
    ids=str,
)
def test_a_dry_run_knows_how_many_packs_a_ray_of_our_own_holds_at_once(monkeypatch, given, packs):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(4))
    resources = Resources.model_validate(given)
    here = cluster._of_this_machine(resources)
    node = {"CPU": here["num_cpus"], "GPU": here["num_gpus"] or 0, **here["resources"]}
    monkeypatch.setattr(cluster, "alive_nodes", lambda: [{"Resources": node}])
    assert cluster._slots(resources, local=True).workers == resources.workers_here == packs
