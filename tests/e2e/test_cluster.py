"""Sweeps on clusters: real raylets on loopback, with token authentication, and what they survive."""

import json
import os
import signal
import subprocess

import pytest

from hpscan.store import Store
from tests.e2e.conftest import assert_same, outcome, stored_packs
from tests.processes import end, hpscan, session, started, wait_for

pytestmark = pytest.mark.timeout(400)


def test_a_sweep_survives_the_death_of_a_node(cluster, spec_file, tmp_path, whole):
    spec = spec_file(resources={"pack_size": 10, "strategy": "fused", "compile": False, "checkpoint_s": 0.2})
    cluster.add()
    victim = cluster.add()
    launch = started(
        "launch", spec, "--store", tmp_path / "killed", "--address", cluster.address, cwd=tmp_path, env=cluster.env
    )

    def trains_there():
        return [line for line in session(victim.pid).values() if "Trainable" in line]

    wait_for(
        lambda: launch.poll() is not None or (stored_packs(tmp_path / "killed") >= 2 and len(trains_there()) == 1),
        what=f"two packs, and one worker on the victim ({tmp_path}/out.log)",
    )
    assert launch.poll() is None, (tmp_path / "out.log").read_text()
    for pid in session(victim.pid):
        os.kill(pid, signal.SIGKILL)
    assert launch.wait(timeout=200) == 0, (tmp_path / "out.log").read_text()
    assert_same(outcome(tmp_path / "killed"), whole)


@pytest.mark.slow
def test_a_node_that_joins_is_used(cluster, spec_file, tmp_path):
    """The head has no CPU at all: nothing can train before a node joins."""
    spec = spec_file(resources={"pack_size": 25, "compile": False}, budget={"steps": 60})
    cluster.add(cpus=0)
    launch = started("launch", spec, "--store", "s", "--address", cluster.address, cwd=tmp_path, env=cluster.env)
    log = tmp_path / "out.log"
    wait_for(lambda: "none yet: no node has 1 CPU" in log.read_text() or launch.poll() is not None, what="the note")
    cluster.add(cpus=2)
    assert launch.wait(timeout=120) == 0, log.read_text()
    assert len(Store(tmp_path / "s").runs("sweep")) == 100


def test_the_doctor_asks_every_node(cluster, tmp_path):
    cluster.add()
    cluster.add()
    store = ["--store", tmp_path / "store"]
    done = hpscan("doctor", "--json", *store, "--address", cluster.address, cwd=tmp_path, env=cluster.env)
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    nodes = [check for check in told["checks"] if check["name"].startswith("node ")]
    assert len(nodes) == 2
    assert all(check["found"].startswith("the same versions; ") for check in nodes)
    done = hpscan(
        "doctor", "--json", "--store", "/proc/none", "--address", cluster.address, cwd=tmp_path, env=cluster.env
    )
    assert done.returncode == 1
    nodes = [check for check in json.loads(done.stdout)["checks"] if check["name"].startswith("node ")]
    assert [check["state"] for check in nodes] == ["fail", "fail"]


@pytest.mark.slow
def test_four_gpus_train_four_packs_at_once_each_on_its_own(cluster, spec_file, tmp_path):
    """Logical GPUs: what Ray places and what each worker may see; the training itself is on the CPU."""
    spec = spec_file(resources={"pack_size": 10, "compile": False, "per_pack": {"cpus": 0.25}})
    cluster.add(cpus=1, gpus=4)
    done = hpscan("launch", spec, "--store", "s", "--address", cluster.address, cwd=tmp_path, env=cluster.env)
    assert done.returncode == 0, done.stderr
    assert "4 at once" in done.stdout
    rows = Store(tmp_path / "s").runs("sweep")
    assert set(rows["gpu"]) == {"0", "1", "2", "3"}


def test_without_the_token_nobody_gets_in(cluster, spec_file, tmp_path):
    cluster.add()
    for address in (cluster.address, cluster.client):
        refused = hpscan(
            "launch", spec_file(), "--store", "s", "--address", address, cwd=tmp_path,
            env={**cluster.env, "RAY_AUTH_TOKEN": "0" * 64},
        )  # fmt: skip
        assert refused.returncode == 1
        assert refused.stderr == (
            f"hpscan: --address {address}: no Ray cluster could be joined: it wants its token: "
            "RAY_AUTH_MODE=token and the same RAY_AUTH_TOKEN as its nodes\n"
        )


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9"])
def test_no_cluster_at_the_address_is_one_line(address, spec_file, tmp_path):
    nowhere = hpscan("launch", spec_file(), "--store", "s", "--address", address, cwd=tmp_path)
    assert nowhere.returncode == 1
    assert len(nowhere.stderr.splitlines()) == 1
    assert f"--address {address}: " in nowhere.stderr
    assert "Connection refused" in nowhere.stderr


OWN = """\
def train(config):
    if config["lr"] > 0.9 and config["wd"] < 0.005:
        raise ValueError("no such luck")
    for step in range(1, 4):
        yield {"step": step, "val_loss": config["wd"] / step, "val_error": 0.5}
"""


def test_a_client_takes_its_folder_along_and_hears_of_every_pack(cluster, spec_file, tmp_path):
    cluster.add(cpus=2)
    folder = tmp_path / "mine"  # not where the cluster was started
    folder.mkdir()
    (folder / "mine.py").write_text(OWN, encoding="utf-8")
    for command in ("init -q", "add mine.py", "-c user.name=x -c user.email=x commit -qm mine"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    spec = spec_file(
        workload={"trainable": "mine:train"}, variants=["sgd"], grid={"lr": [0.1, 1.0], "wd": [0.001, 0.01]}, seeds=[0],
        resources={"pack_size": 2},
    )  # fmt: skip
    done = hpscan("launch", spec, "--store", tmp_path / "s", "--address", cluster.client, cwd=folder, env=cluster.env)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "1 run failed; see hpscan status" in done.stderr
    assert "2 packs, 2 at once" in done.stdout
    assert "sweep: 4 done, 0 diverged, 1 failed, 0 missing of 4 runs" in done.stdout
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert set(Store(tmp_path / "s").runs("sweep")["git_commit"]) == {commit.strip()}


@pytest.mark.slow
def test_a_client_may_leave_or_lose_the_cluster(cluster, spec_file, tmp_path, whole):
    cluster.add(cpus=2)
    spec, store, log = spec_file(), tmp_path / "s", tmp_path / "out.log"
    command = ("launch", spec, "--store", store, "--address", cluster.client)
    env = {**cluster.env, "RAY_CLIENT_RECONNECT_GRACE_PERIOD": "1"}

    def launched_until(n_packs):
        launch = started(*command, cwd=tmp_path, env=env)
        wait_for(lambda: launch.poll() is not None or stored_packs(store) >= n_packs, what=f"{n_packs} packs ({log})")
        assert launch.poll() is None, log.read_text()
        return launch

    launch = launched_until(2)
    launch.send_signal(signal.SIGINT)
    assert launch.wait(timeout=60) == 130
    busy = ("Trainable", "Tuning")
    wait_for(lambda: not [line for line in session(cluster.nodes[0].pid).values() if any(b in line for b in busy)])
    launch = launched_until(stored_packs(store) + 1)
    end(cluster.nodes[0])
    assert launch.wait(timeout=60) == 1
    *_, last = log.read_text().splitlines()
    assert last == f"hpscan: --address {cluster.client}: the connection was lost; what is trained is stored"
    assert "Traceback" not in log.read_text()
    assert hpscan("launch", spec, "--store", store, cwd=tmp_path).returncode == 0
    assert_same(outcome(store), whole)


def test_a_submitted_sweep_takes_its_folder_along_and_can_be_watched_and_cancelled(cluster, spec_file, tmp_path):
    cluster.add(cpus=2, jobs=True)
    (tmp_path / "mine.py").write_text(OWN, encoding="utf-8")
    spec = spec_file(
        name="own.yaml",
        workload={"trainable": "mine:train"},
        variants=["sgd"],
        grid={"lr": [0.1, 0.3, 0.5, 1.0], "wd": [0.001, 0.002, 0.004, 0.01, 0.02]},
        seeds=[0],
        resources={"pack_size": 7},
    )
    store = tmp_path / "shared"
    common = {"cwd": tmp_path, "env": cluster.env}
    done = hpscan("submit", spec.name, "--store", store, "--address", cluster.jobs, **common)
    assert "3 runs failed" in done.stdout
    assert done.returncode == 1  # as launch itself
    rows = Store(store).runs("sweep")
    assert rows["state"].value_counts().to_dict() == {"completed": 17, "failed": 3}
    assert rows["error"].dropna().str.contains("no such luck").all()
    told = hpscan("status", "sweep", "--store", store, "--address", cluster.jobs, **common)
    assert "failed, 3 runs" in told.stdout
    assert ": failed" in told.stdout
    logs = hpscan("logs", "sweep", "--address", cluster.jobs, **common)
    assert "20 runs, 0 in" in logs.stdout

    # a longer one is cancelled while it trains
    spec_file(name="long.yaml", budget={"steps": 200_000})
    hpscan(
        "submit", "long.yaml", "--set", "name=long", "--store", store, "--address", cluster.jobs, "--no-wait", **common
    )
    twice = hpscan("submit", "long.yaml", "--set", "name=long", "--store", store, "--address", cluster.jobs, **common)
    assert twice.returncode == 1
    assert "already" in twice.stderr
    wait_for(lambda: "at once" in hpscan("logs", "long", "--no-follow", "--address", cluster.jobs, **common).stdout)
    assert hpscan("cancel", "long", "--address", cluster.jobs, **common).returncode == 0
    wait_for(
        lambda: ": stopped" in hpscan("status", "long", "--store", store, "--address", cluster.jobs, **common).stdout,
        what="the end of the job",
    )
    again = hpscan("cancel", "long", "--address", cluster.jobs, **common)
    assert again.returncode == 1
    assert "has ended" in again.stderr


@pytest.mark.parametrize("command", ["submit", "logs", "cancel"])
def test_no_job_server_is_one_line(command, spec_file, tmp_path):
    source = spec_file().name if command == "submit" else "sweep"
    extra = ["--store", tmp_path / "s"] if command == "submit" else []
    answer = hpscan(command, source, *extra, "--address", "http://127.0.0.1:9", cwd=tmp_path)
    assert answer.returncode == 1
    assert len(answer.stderr.splitlines()) == 1
    assert "job server" in answer.stderr


def test_a_relative_store_is_refused_for_a_job(spec_file, tmp_path):
    answer = hpscan("submit", spec_file().name, "--store", "results", cwd=tmp_path)
    assert answer.returncode == 2
    assert "--store results" in answer.stderr
