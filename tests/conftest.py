"""Specs and landscapes that every test file can ask for."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
from hypothesis import settings

from hpscan.landscape import Landscape
from hpscan.spec import Spec

settings.register_profile("hpscan", deadline=None)  # a busy machine is no failure
settings.load_profile("hpscan")

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
