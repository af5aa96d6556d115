"""What Prometheus reads, parsed as it does, against the store's own files."""

import asyncio

import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hpscan.dashboards.launching import Launcher
from hpscan.dashboards.metrics import Counted, Metrics


@pytest.fixture
def metrics(reader, store):
    return Metrics(reader, Launcher(store))


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_requests_and_the_cache(client):
    client.get("/api/v1/sweeps")
    client.get("/api/v1/sweeps/none")
    client.request("BREW", "/pot")
    text = client.get("/metrics")
    assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(text.text)
    assert found["hpscan_http_requests_total", "200", "GET", "api"] == 1
    assert found["hpscan_http_requests_total", "404", "GET", "api"] == 1
    assert found["hpscan_http_requests_total", "405", "other", "page"] == 1
    assert found["hpscan_cache_answers",] > 0
    assert found["hpscan_cache_requests_total", "yes"] > 0
    assert found["hpscan_store_readable",] == 1
    assert found["hpscan_launches_running",] == 0


def test_runs_are_counted_by_sweep_and_state(metrics, store):
    found = samples(metrics.text().decode())
    (path,) = (store.root / "tiny" / "runs").glob("*.parquet")
    for state, count in pd.read_parquet(path)["state"].value_counts().items():
        assert found["hpscan_runs", state, "tiny"] == count
    assert sum(value for (name, *_), value in found.items() if name == "hpscan_runs") == 72


def test_a_sweep_that_cannot_be_read_hides_none_of_the_others(metrics, store):
    (store.root / "broken").mkdir()
    (store.root / "broken" / "spec.yaml").write_text("name: [", encoding="utf-8")
    found = samples(metrics.text().decode())
    assert found["hpscan_runs", "completed", "tiny"] == 55
    assert not any("broken" in labels for labels in found)
    assert found["hpscan_store_readable",] == 1


def test_a_name_of_a_folder_cannot_add_a_line(metrics, store):
    name = 'x"} 1\nhpscan_forged 1\\'
    (store.root / "tiny").rename(store.root / name)
    found = samples(metrics.text().decode())
    assert found["hpscan_runs", *sorted([name, "missing"])] == 12
    assert not any(key[0] == "hpscan_forged" for key in found)


async def answered(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def mistaken(scope, receive, send):
    raise ZeroDivisionError


async def ignored(*_):
    return None


@pytest.mark.parametrize(
    ("path", "group"),
    [("/api/v1/sweeps", "api"), ("/_dash-update-component", "callback"), ("/_dash-layout", "dash"), ("/metrics", "metrics"),
     ("/assets/style.css", "asset"), ("/", "page"), ("/sweeps/api/", "page")],
)  # fmt: skip
def test_a_request_is_counted_and_timed_once_in_its_group(metrics, path, group):
    scope = {"type": "http", "method": "GET", "path": path}
    asyncio.run(Counted(answered, metrics)(scope, ignored, ignored))
    found = samples(metrics.text().decode())
    counted = {key[1:]: value for key, value in found.items() if key[0] == "hpscan_http_requests_total"}
    assert counted == {tuple(sorted(["GET", group, "204"])): 1}
    assert found["hpscan_http_request_seconds_count", group] == 1


def test_a_mistake_counts_as_one_and_goes_on(metrics):
    with pytest.raises(ZeroDivisionError):
        asyncio.run(Counted(mistaken, metrics)({"type": "http", "method": "GET", "path": "/"}, ignored, ignored))
    assert samples(metrics.text().decode())["hpscan_http_requests_total", "500", "GET", "page"] == 1


def test_what_is_no_request_is_passed_on_uncounted(metrics):
    asyncio.run(Counted(answered, metrics)({"type": "lifespan"}, ignored, ignored))
    assert not any(key[0] == "hpscan_http_requests_total" for key in samples(metrics.text().decode()))
