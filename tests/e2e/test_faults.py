"""What a sweep survives on one machine: killed drivers and workers, a full, vanished or damaged store, no memory."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from hpscan.store import Store
from tests.e2e.conftest import assert_same, outcome, stored_packs
from tests.processes import HPSCAN, end, hpscan, session, started, wait_for

pytestmark = pytest.mark.timeout(600)


def workers(launch):
    return [pid for pid, line in session(launch.pid).items() if "Trainable" in line]


def launch_and_kill(spec, cwd, after_s):
    """Kill a driver so long after its workers have started, and wait until its Ray has noticed and trains no more.

    Two of Ray's agents take another minute to notice; they hold nothing.
    """
    launch = started("launch", spec, cwd=cwd)
    wait_for(lambda: workers(launch) or launch.poll() is not None, what="workers")
    time.sleep(after_s)  # the moment is what is random
    launch.kill()
    launch.wait()
    wait_for(lambda: all("Agent" in line for line in session(launch.pid).values()), what="Ray to notice")
    end(launch)


@pytest.mark.parametrize("kills", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_a_driver_killed_at_random_loses_nothing(kills, spec_file, tmp_path, whole):
    spec, store, rng = spec_file(), tmp_path / "results", random.Random(kills)
    for _ in range(kills):
        if stored_packs(store) == 10:
            shutil.rmtree(store)  # all done before the last kill: once more
        launch_and_kill(spec, tmp_path, after_s=rng.uniform(0, 3))
    done = hpscan("launch", spec, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same(outcome(store), whole)
    assert not list((store / "sweep" / "checkpoints").glob("*"))


def test_workers_killed_at_random_go_on_from_their_checkpoints(spec_file, tmp_path, whole):
    launch = started("launch", spec_file(), cwd=tmp_path)
    checkpoints = tmp_path / "results" / "sweep" / "checkpoints"
    for _ in range(4):
        wait_for(lambda: (list(checkpoints.glob("*.pt")) and workers(launch)) or launch.poll() is not None)
        for pid in workers(launch)[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: pid not in session(launch.pid), what="the end of a worker")
    assert launch.wait(timeout=200) == 0, (tmp_path / "out.log").read_text()
    assert_same(outcome(tmp_path / "results"), whole)
    reasons = Store(tmp_path / "results").runs("sweep")["strategy_reason"]
    assert reasons.str.contains("checkpoint").any()


DIES_BETWEEN_PACKS = """\
import os, pathlib
import numpy as np
import torch
from hpscan import Data, Split, UserWorkload, classification
from hpscan.worker import PackTrainable

def die_once(self, new_config):
    try:
        (pathlib.Path(__file__).with_name("died")).touch(exist_ok=False)
    except FileExistsError:
        return True
    os._exit(1)

PackTrainable.reset_config = die_once

def make():
    rng = np.random.default_rng(0)
    split = Split(rng.normal(size=(64, 4)).astype(np.float32), rng.integers(0, 2, 64))
    return UserWorkload(load=lambda: Data(split, split, split), task=classification(lambda: torch.nn.Linear(4, 2)))
"""


def test_a_worker_that_dies_between_two_packs_loses_neither(spec_file, tmp_path):
    """Tune gives up a trial whose worker dies while being handed over to it, however many failures are allowed."""
    (tmp_path / "dies.py").write_text(DIES_BETWEEN_PACKS, encoding="utf-8")
    resources = {"workers": 1, "pack_size": 10, "compile": False}
    spec = spec_file(workload={"factory": "dies:make"}, budget={"steps": 20}, resources=resources)
    done = hpscan("launch", spec, cwd=tmp_path)
    assert (tmp_path / "died").exists()
    assert done.returncode == 0, done.stderr
    assert len(Store(tmp_path / "results").runs("sweep")) == 100


def test_a_second_launch_says_who_holds_the_sweep(spec_file, tmp_path):
    launch = started("launch", spec_file(budget={"steps": 100_000}), cwd=tmp_path)
    wait_for(lambda: workers(launch), what="workers")
    second = hpscan("launch", spec_file(), "--revise", cwd=tmp_path)
    assert second.returncode == 2
    assert f"process {launch.pid}" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    end(launch)
    third = hpscan("launch", spec_file(), "--revise", cwd=tmp_path)  # a dead process holds nothing
    assert third.returncode == 0, third.stderr


def test_another_budget_wants_a_name_or_a_word(spec_file, tmp_path):
    small = {"grid": {"lr": [0.1, 0.2], "wd": [0.01, 0.1]}}
    assert hpscan("launch", spec_file(**small), cwd=tmp_path).returncode == 0
    longer = spec_file(**small, budget={"steps": 210})
    refused = hpscan("launch", longer, cwd=tmp_path)
    assert refused.returncode == 2
    assert "steps is 200 in the store and 210 in this spec" in refused.stderr
    assert "--revise" in refused.stderr
    assert hpscan("launch", longer, "--revise", cwd=tmp_path).returncode == 0
    assert Store(tmp_path / "results").runs("sweep")["steps"].value_counts().to_dict() == {200: 16, 210: 16}


def test_damaged_files_are_named_and_their_runs_trained_again(spec_file, tmp_path, whole):
    assert hpscan("launch", spec_file(), cwd=tmp_path).returncode == 0
    folder = tmp_path / "results" / "sweep" / "runs"
    truncated, *others = sorted(folder.glob("pack-*.parquet"))
    truncated.write_bytes(truncated.read_bytes()[:200])
    foreign = folder / "notes.parquet"
    foreign.write_text("not parquet at all", encoding="utf-8")
    untouched = {path: path.stat().st_mtime_ns for path in others}
    again = hpscan("launch", spec_file(), cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert str(truncated) in again.stderr
    assert str(foreign) in again.stderr
    assert "10 to train" in again.stdout
    foreign.unlink()
    assert_same(outcome(tmp_path / "results"), whole)
    assert untouched == {path: path.stat().st_mtime_ns for path in others}


@pytest.mark.slow
def test_a_store_that_vanishes_ends_the_sweep_in_one_line(spec_file, tmp_path):
    launch = started("launch", spec_file(), cwd=tmp_path)
    wait_for(lambda: stored_packs(tmp_path / "results") >= 1, what="a pack")
    (tmp_path / "results").rename(tmp_path / "gone")
    assert launch.wait(timeout=60) == 1
    last = (tmp_path / "out.log").read_text().splitlines()[-1]
    assert last.startswith("hpscan: ")
    assert "results" in last
    assert not (tmp_path / "results" / "sweep" / "runs").exists()  # nothing was written where the store used to be
    (tmp_path / "gone").rename(tmp_path / "results")
    assert hpscan("launch", spec_file(), cwd=tmp_path).returncode == 0


@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")
def test_a_full_disk_ends_the_sweep_in_one_line_and_leaves_whole_files(spec_file, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", small], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not let us mount")
    try:
        full = hpscan("launch", spec_file(), "--store", small, cwd=tmp_path)
        assert full.returncode == 1
        assert "No space left" in full.stderr.splitlines()[-1]
        assert len(full.stderr.splitlines()) == 1
        rows = Store(small).runs("sweep")
        assert rows["run_id"].is_unique
        assert set(rows["state"]) <= {"completed", "diverged"}
        subprocess.run(["mount", "-o", "remount,size=20m", small], check=True)
        more = hpscan("launch", spec_file(), "--store", small, cwd=tmp_path)
        assert more.returncode == 0, more.stderr
        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        read_only = hpscan("launch", spec_file(seeds=[0, 1, 2]), "--store", small, cwd=tmp_path)
        assert read_only.returncode == 1
        assert "Read-only" in read_only.stderr
        assert len(read_only.stderr.splitlines()) == 1
    finally:
        subprocess.run(["umount", "-l", small], check=True)


OUT_OF_MEMORY = """\
import torch
from hpscan import Data, Split, UserWorkload, classification
import numpy as np

class Hungry(torch.nn.Linear):
    def forward(self, x):
        if torch.compiler.is_compiling() is False and x.dim() == 2 and _many():
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(x)

def _many():
    import inspect
    for frame in inspect.stack():
        session = frame.frame.f_locals.get("self")
        if type(session).__name__ == "Session":
            return len(session.results) > 3
    return False

def make():
    rng = np.random.default_rng(0)
    split = Split(rng.normal(size=(64, 4)).astype(np.float32), rng.integers(0, 2, 64))
    return UserWorkload(load=lambda: Data(split, split, split), task=classification(lambda: Hungry(4, 2)))
"""


def test_a_pack_that_runs_out_of_memory_is_halved_until_it_fits(spec_file, tmp_path):
    (tmp_path / "hungry.py").write_text(OUT_OF_MEMORY, encoding="utf-8")
    spec = spec_file(workload={"factory": "hungry:make"}, budget={"steps": 20}, seeds=[0], variants=["sgd"])
    done = hpscan("launch", spec, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Store(tmp_path / "results").runs("sweep")["state"].eq("completed").sum() == 25


def test_ctrl_c_twice_stops_at_once_and_leaves_nothing_behind(spec_file, tmp_path):
    launch = started("launch", spec_file(budget={"steps": 20_000}), cwd=tmp_path, command=HPSCAN)
    wait_for(lambda: workers(launch), what="workers")
    os.kill(launch.pid, signal.SIGINT)
    time.sleep(0.3)  # a person's second press
    with contextlib.suppress(ProcessLookupError):
        os.kill(launch.pid, signal.SIGINT)
    assert launch.wait(timeout=10) == 130
    wait_for(lambda: all("Agent" in line for line in session(launch.pid).values()), what="the end of Ray")
    end(launch)
    text = (tmp_path / "out.log").read_text()
    assert "Traceback" not in text
    assert "hpscan: stopped" in text
    assert hpscan("launch", spec_file(budget={"steps": 20}), "--revise", cwd=tmp_path).returncode == 0


def test_a_launch_that_a_scheduler_ends_stops_as_by_ctrl_c(spec_file, tmp_path):
    launch = started("launch", spec_file(budget={"steps": 20_000}), cwd=tmp_path, command=HPSCAN)
    wait_for(lambda: workers(launch), what="workers")
    os.kill(launch.pid, signal.SIGTERM)
    assert launch.wait(timeout=20) == 130
    end(launch)
    text = (tmp_path / "out.log").read_text()
    assert "SIGTERM" not in text  # nor Ray's stack
    assert "hpscan: stopped; what is trained is stored" in text


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_launch_that_is_ended_while_ray_starts_leaves_nothing_behind(spec_file, tmp_path, how):
    launch = started("launch", spec_file(), cwd=tmp_path, command=HPSCAN)
    wait_for(lambda: any("raylet/raylet" in line for line in session(launch.pid).values()), what="a raylet")
    os.kill(launch.pid, how)
    try:
        assert launch.wait(timeout=60) == 130
        assert not session(launch.pid)
    finally:
        end(launch)
    assert "hpscan: stopped; what is trained is stored" in (tmp_path / "out.log").read_text()


@pytest.mark.slow
def test_a_sweep_in_a_bucket_is_the_same_sweep(bucket, spec_file, tmp_path, whole):
    store = f"{bucket}/results"
    done = hpscan("launch", spec_file(), "--store", store, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "100 to train" in done.stdout
    assert " 100 " in hpscan("status", "sweep", "--store", store, cwd=tmp_path).stdout
    compacted = hpscan("compact", "sweep", "--store", store, cwd=tmp_path)
    assert compacted.stdout == "sweep: 20 files, now 2\n"
    again = hpscan("launch", spec_file(), "--store", store, cwd=tmp_path)
    assert "0 to train" in again.stdout
    nowhere = hpscan("report", "sweep", "--store", store, cwd=tmp_path)
    assert (nowhere.returncode, "--out" in nowhere.stderr) == (2, True)
    report = hpscan("report", "sweep", "--store", store, "--out", "here", cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert (tmp_path / "here" / "report.html").stat().st_size > 10_000
    assert_same(outcome(store), whole)
