"""What tests of several files ask for: specs, landscapes, stores, command lines, workers, and others' results."""

from __future__ import annotations

import copy
import getpass
import json
import math
import os
import tempfile
import urllib.request
import warnings
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import settings

from hpscan import cli
from hpscan.grid import runs
from hpscan.landscape import Landscape
from hpscan.spec import Spec
from hpscan.store import METRICS, Store

settings.register_profile("hpscan", deadline=None)  # a busy machine is no failure
settings.load_profile("hpscan")


@pytest.fixture(scope="session", autouse=True)
def _own_temporary_folder(tmp_path_factory):
    """What browsers, clusters and servers leave in the temporary folder goes; what was compiled is there next time."""
    tmp_path_factory.getbasetemp()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_{getpass.getuser()}")
    with (
        tempfile.TemporaryDirectory(prefix="hpscan-", ignore_cleanup_errors=True) as folder,
        pytest.MonkeyPatch.context() as patched,
    ):
        patched.setenv("TMPDIR", folder)
        patched.setattr(tempfile, "tempdir", None)
        yield


TINY = {
    "name": "tiny",
    "workload": {"name": "digits", "model": {"name": "normalised_mlp", "hidden": [8]}, "train": 200},
    "variants": ["sgd", "sgdw", "adamw"],
    "grid": {"lr": {"log2": [-6, -2], "points": 3}, "wd": {"log2": [-8, -2], "points": 4}},
    "seeds": [0, 1],
    "budget": {"steps": 12},
    "batch_size": 16,
    "evaluations": 2,
}


@pytest.fixture
def tiny_raw():
    return copy.deepcopy(TINY)


@pytest.fixture
def make_spec(tiny_raw):
    """Build a small spec with some fields replaced."""

    def make(**changes):
        return Spec.validated({**tiny_raw, **changes})

    return make


def landscape_of(z, *, variant="sgdw", wd_first_exponent=-8):
    """Wrap an array of shape (seeds, lrs, wds) as a landscape on an octave grid: inf is diverged, nan is missing."""
    z = np.asarray(z, dtype=np.float64)
    n_seeds, n_lr, n_wd = z.shape
    states = np.where(np.isnan(z), "missing", np.where(np.isinf(z), "diverged", "completed")).astype(object)
    metrics = ("train_loss", "train_error", "val_loss", "val_error", "test_loss", "test_error")
    return Landscape(
        name=variant,
        variant=variant,
        metric="val_loss",
        lr=2.0 ** np.arange(-6, -6 + n_lr),
        wd=2.0 ** np.arange(wd_first_exponent, wd_first_exponent + n_wd),
        seeds=tuple(range(n_seeds)),
        run_ids=np.full(z.shape, "", dtype=object),
        states=states,
        values=dict.fromkeys(metrics, z),
    )


@pytest.fixture
def make_landscape():
    """:func:`landscape_of`."""
    return landscape_of


@pytest.fixture
def filled(tmp_path, make_spec):
    """A store with a sweep whose landscape is known: a bowl for sgdw, a diagonal valley for sgd, half of adamw."""
    spec = make_spec(
        grid={"lr": {"log2": [-6, -2], "points": 5}, "wd": {"log2": [-8, -4], "points": 5}}, seeds=[0, 1, 2]
    )
    store = Store(tmp_path)
    store.save_spec(spec)
    store.save_pack(spec.name, "p", [row for run in runs(spec) if (row := result_of(run))], [])
    return store


def result_of(run):
    """A row of that landscape; None of what is missing."""
    x, y = math.log2(run.cell.lr) + 4, math.log2(run.cell.wd) + 6
    if run.cell.variant == "adamw" and run.seed == 2:
        return None
    height = (x + y) ** 2 if run.cell.variant == "sgd" else x**2 + y**2
    diverged = run.cell.variant == "sgd" and x + y == 4
    value = 1 + 0.1 * height + 0.01 * run.seed
    identity = {
        "run_id": run.run_id,
        "variant": run.cell.variant,
        "lr": run.cell.lr,
        "wd": run.cell.wd,
        "seed": run.seed,
    }
    finals = {} if diverged else {**dict.fromkeys(METRICS, value), "test_error": 0.1}
    return {**identity, "state": "diverged" if diverged else "completed", **finals, "device_s": 1.0,
            "finished_at": datetime.now(UTC)}  # fmt: skip


@pytest.fixture
def hpscan(capsys, monkeypatch, tmp_path):
    """Run a command line in an empty folder; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HPSCAN_STORE", raising=False)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["hpscan", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            cli.main()
        out, err = capsys.readouterr()
        return done.value.code or 0, out, err

    return run


def assert_refused(result, message):
    """A command line has ended as one does that is at fault: in one line, and with nothing done."""
    code, out, err = result
    assert code == 2
    assert out == ""
    assert err.startswith("hpscan: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.fixture
def make_worker(tmp_path, make_spec, monkeypatch):
    """Make a trainable in this process, ready for its first pack."""
    from hpscan.grid import packs
    from hpscan.resources import PerPack
    from hpscan.rungs import next_round
    from hpscan.worker import Assignment, PackTrainable, order  # which import Ray, as most tests need not
    from hpscan.workloads import PackedWorkload

    monkeypatch.setattr("hpscan.worker._packs_on_this_node", lambda _: 1)

    def make(*, sweep="tiny", **changes):
        spec = make_spec(**{"resources": {"compile": False, "pack_size": 9, "strategy": "fused"}, **changes})
        Store(tmp_path).save_spec(spec)
        every = runs(spec)
        assignment = Assignment(
            sweep=sweep, metric="val_loss", store=str(tmp_path), resources=spec.resources, workers=1,
            per_pack=PerPack(), runs=every,
            run_steps=next_round(spec, Store(tmp_path)).run_steps,
            data=spec.workload.load() if isinstance(spec.workload, PackedWorkload) else None,
            provenance={"hpscan_version": "1", "git_commit": None},
        )  # fmt: skip
        trainable = object.__new__(PackTrainable)
        places = {run.run_id: place for place, run in enumerate(every)}
        trainable.spec = spec
        trainable.packs = packs(every, spec.resources.most_runs)
        trainable.orders = [order(pack, places) for pack in trainable.packs]
        trainable.config = trainable.orders[0]
        trainable.setup({}, assignment)
        return trainable

    return make


def ray_trial(folder, number, config, results, status="TERMINATED", error=None):
    """A trial as Ray 2.60 leaves it: a folder, and a pair of JSON texts in the experiment's state."""
    name = f"train_{number:05d}"
    (folder / name).mkdir(parents=True)
    if results:
        (folder / name / "result.json").write_text("".join(json.dumps(result) + "\n" for result in results))
    if error:
        (folder / name / "error.txt").write_text(
            f'Traceback (most recent call last):\n  File "train.py", line 3, in train\n    step()\n{error}\n'
        )
    trial = {"trial_id": f"x_{number:05d}", "config": config, "status": status, "relative_logdir": name}
    return [json.dumps(trial), json.dumps({"last_result": results[-1] if results else {}})]


@pytest.fixture
def experiment(tmp_path):
    """The folder of an experiment of Ray Tune's, its trials ended in every way."""

    def results(*losses):
        return [
            {"val_loss": loss, "lr": 0.0, "nested": {"acc": 0.5}, "training_iteration": step, "config": {}}
            for step, loss in enumerate(losses, 1)
        ]

    config = {"lr": 0.1, "optimizer": {"wd": 0.01}, "seed": 3}
    trials = [
        ray_trial(tmp_path, 0, config, results(0.9, 0.5, 0.4)),
        ray_trial(tmp_path, 1, config, results(0.8)),
        ray_trial(tmp_path, 2, config, [], "ERROR", "RuntimeError: boom"),
        ray_trial(tmp_path, 3, config, results(0.7), "RUNNING"),
        ray_trial(tmp_path, 4, config, results(0.9, float("nan"), float("nan"))),
    ]
    (tmp_path / "experiment_state-2026-01-01_00-00-00.json").write_text("{}")
    (tmp_path / "experiment_state-2026-01-02_00-00-00.json").write_text(json.dumps({"trial_data": trials}))
    return tmp_path


@pytest.fixture(scope="module")
def s3_port():
    """The port of a server of buckets, gone when the module's tests have ended."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # boto's and moto's own use of Python
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def aws(monkeypatch):
    """Credentials that such a server takes."""
    for name, value in {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def bucket(s3_port, aws, monkeypatch):
    """The URI of an empty bucket, which the environment says where to find."""
    endpoint = f"http://127.0.0.1:{s3_port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for method, path in (("POST", "moto-api/reset"), ("PUT", "bucket")):
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{path}", method=method)).close()
    return "s3://bucket"


@pytest.fixture
def store(tmp_path):
    """An empty store in a folder."""
    return Store(tmp_path / "store")


@pytest.fixture
def s3(bucket):
    """A store in an empty bucket, its endpoint from the environment."""
    return Store(f"{bucket}/some/prefix")


@pytest.fixture(params=["local", "s3"])
def anywhere(request):
    """An empty store of either kind."""
    return request.getfixturevalue("store" if request.param == "local" else "s3")
