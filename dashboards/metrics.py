"""What Prometheus reads: runs by sweep and state, requests, and how the cache does."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hpscan.files import StoreError

from .launching import Launcher
from .reading import Reader, UnknownError

__all__ = ["Counted", "Metrics"]

METHODS = {"GET", "HEAD", "POST"}
GROUPS = {"/api/": "api", "/_dash-update-component": "callback", "/_dash-": "dash", "/assets/": "asset", "/metrics": "metrics"}  # fmt: skip


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self, reader: Reader, launcher: Launcher) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "hpscan_http_requests", "Requests answered", ["method", "group", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "hpscan_http_request_seconds", "Seconds to the end of an answer", ["group"], registry=self.registry,
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60),
        )  # fmt: skip
        self.registry.register(_OfStore(reader, launcher))

    def text(self) -> bytes:
        """All of them as Prometheus has them."""
        return generate_latest(self.registry)


class _OfStore(Collector):
    """What is read of the store when Prometheus asks."""

    def __init__(self, reader: Reader, launcher: Launcher) -> None:
        self._reader, self._launcher = reader, launcher

    def collect(self) -> Iterable[Metric]:
        """Gauges of every sweep that can be read."""
        runs = GaugeMetricFamily("hpscan_runs", "Runs by sweep and state", labels=["sweep", "state"])
        readable = GaugeMetricFamily("hpscan_store_readable", "Whether the store can be read")
        try:
            names = self._reader.sweeps()
            readable.add_metric([], 1)
        except StoreError:
            names = []
            readable.add_metric([], 0)
        for name in names:
            try:
                states = self._reader.status(name)["states"]
            except (StoreError, UnknownError):  # broken, or removed meanwhile
                continue
            for state, count in states.items():
                runs.add_metric([name, state], count)
        cached = self._reader.cached()
        kept = GaugeMetricFamily("hpscan_cache_answers", "Answers that are kept", value=cached.kept)
        asked = CounterMetricFamily("hpscan_cache_requests", "Answers asked for", labels=["found"])
        asked.add_metric(["yes"], cached.hits)
        asked.add_metric(["no"], cached.misses)
        launches = GaugeMetricFamily("hpscan_launches_running", "Launches of this server that run")
        launches.add_metric([], len(self._launcher.running()))
        return [readable, runs, kept, asked, launches]


class Counted:
    """Counts and times the requests of an app."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and remember how it went."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 500, time.perf_counter()

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        group = next((name for start, name in GROUPS.items() if scope["path"].startswith(start)), "page")
        try:
            await self._app(scope, receive, seen)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests.labels(method, group, str(status)).inc()
            self._metrics.seconds.labels(group).observe(time.perf_counter() - began)
