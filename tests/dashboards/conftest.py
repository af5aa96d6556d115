"""A store with results that are known, and servers of it without pages."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest
from starlette.testclient import TestClient

from hpscan.dashboards.launching import Launcher
from hpscan.dashboards.reading import Reader
from hpscan.dashboards.server import make_app
from hpscan.grid import runs
from hpscan.store import METRICS, Store
from tests.conftest import landscape_of

ENDED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def result_of(run):
    """A bowl with its middle at lr 2⁻⁴, wd 2⁻⁶; of sgd the corner diverges, of adamw the second seed is missing."""
    x, y = math.log2(run.cell.lr) + 4, math.log2(run.cell.wd) + 6
    if run.cell.variant == "adamw" and run.seed == 1:
        return None
    lost = run.cell.variant == "sgd" and x > 0 and y > 0
    value = 1 + 0.1 * (x**2 + y**2) + 0.01 * run.seed
    return {
        "run_id": run.run_id, "variant": run.cell.variant, "lr": run.cell.lr, "wd": run.cell.wd, "seed": run.seed,
        "state": "diverged" if lost else "completed", **({} if lost else dict.fromkeys(METRICS, value)), "steps": 12, "steps_done": 6 if lost else 12,
        "config": '{"lr": 1}', "wall_s": 1.5, "device_s": 1.0, "finished_at": ENDED,
    }  # fmt: skip


def curve_of(row):
    last = row.get("val_loss")
    ends = {6: 2.0, 12: math.nan if last is None else last}
    return [
        {"run_id": row["run_id"], "step": step, "val_loss": loss, "val_error": loss / 4} for step, loss in ends.items()
    ]


@pytest.fixture
def store(tmp_path, make_spec):
    """The sweep `tiny`: 3 variants on 3 × 4 cells with 2 seeds, a failed run among them."""
    spec = make_spec()
    made = Store(tmp_path / "results")
    made.save_spec(spec)
    rows = [row for run in runs(spec) if (row := result_of(run))]
    rows[0] = {**rows[0], "state": "failed", "error": "RuntimeError: <b>boom</b>"} | dict.fromkeys(METRICS)
    made.save_pack("tiny", "p", rows, [point for row in rows for point in curve_of(row)])
    return made


def no_pages(server, reader, launcher, *, signed_in):
    """In place of the pages."""

    @server.get("/{path:path}")
    def page(path: str):
        return "a page"

    return ()


@pytest.fixture
def serve(store):
    """A client of a server of the store."""
    clients = []

    def make(*, of=None, allowed=False, allow=(), **options):
        source = of or store
        launcher = Launcher(source, allowed=allowed, allow=allow)
        app = make_app(Reader(source), launcher, pages=no_pages, **options)
        client = TestClient(app, base_url="http://localhost", follow_redirects=False)
        clients.append(client.__enter__())
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve):
    return serve()


def bearer(token):
    """The header of a request that has a token."""
    return {"authorization": f"Bearer {token}"}


def is_problem(answer, status):
    """An answer says what is wrong, as RFC 9457 has it; what it says."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert set(told) == {"type", "title", "status", "detail"}
    assert told["status"] == status
    return told["detail"]


class Clock:
    """Seconds that pass when a test says so."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def text_of(component):
    """All that a component and what is in it say."""
    if component is None or isinstance(component, str | int | float):
        return "" if component is None else str(component)
    if isinstance(component, list | tuple):
        return " ".join(text_of(each) for each in component)
    return text_of(getattr(component, "children", None))


def parts_of(component, kind):
    """The components of a kind in one."""
    if isinstance(component, list | tuple):
        return [part for each in component for part in parts_of(each, kind)]
    if component is None or isinstance(component, str | int | float):
        return []
    own = [component] if type(component).__name__ == kind else []
    return own + parts_of(getattr(component, "children", None), kind)


def called(client, output, values, *, trigger=None):
    """What a callback of the pages that has an output answers to a browser with these values."""

    def wired(wires):
        names = [(wire["id"], wire["property"], f"{wire['id']}.{wire['property']}") for wire in wires]
        return [{"id": one, "property": what, "value": values.get(name)} for one, what, name in names]

    callbacks = client.get("/_dash-dependencies").json()
    (found,) = (each for each in callbacks if output in each["output"].strip(".").split("..."))
    outputs = [
        dict(zip(("id", "property"), name.rsplit(".", 1), strict=True))
        for name in found["output"].strip(".").split("...")
    ]
    body = {
        "output": found["output"], "outputs": outputs if found["output"].startswith("..") else outputs[0],
        "inputs": wired(found["inputs"]), "state": wired(found["state"]), "changedPropIds": [trigger or next(iter(values), "")],
    }  # fmt: skip
    answer = client.post("/_dash-update-component", json=body, headers={"origin": str(client.base_url)})
    assert answer.status_code in {200, 204}, answer.text
    return answer.json()["response"] if answer.content else {}


@pytest.fixture
def shape():
    """A landscape of two seeds with a cell that diverged, one whose seeds are not there, and one of a single seed."""
    z = np.random.default_rng(0).uniform(0.2, 2.0, (2, 4, 5))
    z[:, 3, 4], z[1, 0, 0], z[:, 0, 1] = np.inf, np.nan, np.nan
    return landscape_of(z)


@pytest.fixture
def reader(store):
    return Reader(store)
