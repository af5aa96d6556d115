"""Launches that a browser or the API asks for, and the processes or jobs that they became."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from hpscan.errors import ClusterError, UnknownJobError
from hpscan.grid import panels
from hpscan.spec import Spec
from hpscan.store import Store, ended
from hpscan.workloads import Factory, Trainable

from .admission import LaunchError, admitted

__all__ = [
    "BusyError",
    "Checked",
    "IdleError",
    "JobServerError",
    "Launcher",
    "NotAllowedError",
    "Started",
    "viewer_may_launch",
]

T = TypeVar("T")

SHOWN_LOG = 64 * 1024
ESTIMATE_S = 45.0
END_S = 10.0
"""How long an interrupted launch may take to store what it has."""
SECRETS = ("HPSCAN_TOKEN", "HPSCAN_READ_TOKEN")

viewer_may_launch: ContextVar[bool] = ContextVar("viewer_may_launch", default=True)
"""Whether who asks may start and end launches: not with a read-only token."""


class NotAllowedError(LaunchError):
    """Launching is off, or not for this viewer."""


class BusyError(LaunchError):
    """The sweep is being launched already."""


class IdleError(LaunchError):
    """The sweep is not being launched from here, or its cluster has forgotten that."""


class JobServerError(LaunchError):
    """The cluster's job server does not answer, or refuses."""


@dataclass(frozen=True)
class Checked:
    """A spec that could be launched."""

    spec: Spec
    runs: int
    """All runs of its grid: of an adaptive sweep the most that it can come to."""
    to_train: int
    """Those that the store lacks."""
    cost: str
    """What training them would take, in words."""

    @property
    def sweep(self) -> str:
        """The sweep's name."""
        return self.spec.name


@dataclass(frozen=True)
class Started:
    """The last launch of a sweep from here."""

    sweep: str
    status: str
    """``running``, ``succeeded``, ``failed`` or ``cancelled``; of a job of a cluster also ``submitted``."""
    how: str
    """The process or the job."""
    started_at: datetime
    exit_code: int | None = None
    """Of a process that has ended."""
    cancelled: bool = False
    """Whether a process was told to end, which takes it a while."""

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended."""
        return self.status in {"running", "submitted"}


@dataclass(eq=False)
class _Process:
    """A launch on this machine, or from it on a cluster."""

    sweep: str
    process: subprocess.Popen[bytes]
    output: Path
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    cancelled_at: float | None = None
    """In seconds of the monotonic clock."""

    def __post_init__(self) -> None:
        # reaped as soon as it ends, whoever asks for it or not
        threading.Thread(target=self.process.wait, name=f"launch of {self.sweep}", daemon=True).start()

    def told(self) -> Started:
        code = self.process.poll()
        cancelled = self.cancelled_at is not None
        status = "running" if code is None else "cancelled" if cancelled else "failed" if code else "succeeded"
        return Started(self.sweep, status, f"process {self.process.pid}", self.started_at, code, cancelled)

    def log(self) -> str:
        with self.output.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - SHOWN_LOG))
            return file.read().decode(errors="replace")

    def cancel(self) -> None:
        now = time.monotonic()
        if self.cancelled_at is not None and now - self.cancelled_at < END_S:
            return  # a second interrupt would end what the first began: storing, and Ray's own end
        self.cancelled_at = now
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)


@dataclass(eq=False)
class _Job:
    """A launch as a job of a cluster."""

    sweep: str
    address: str
    job_id: str
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def told(self) -> Started:
        words = {"SUCCEEDED": "succeeded", "FAILED": "failed", "STOPPED": "cancelled", "RUNNING": "running"}
        try:
            job = _asked(lambda jobs: jobs.latest(self.address, self.sweep))
            status = words.get(job.status, "submitted")
        except JobServerError:
            status = "running"  # for all that is known
        except IdleError:
            status = "failed"  # its cluster has started again, and knows nothing of it
        return Started(self.sweep, status, f"job {self.job_id}", self.started_at)

    def log(self) -> str:
        return str(_asked(lambda jobs: jobs.logs(self.address, jobs.latest(self.address, self.sweep))))[-SHOWN_LOG:]

    def cancel(self) -> None:
        _asked(lambda jobs: jobs.cancel(self.address, self.sweep))


class Launcher:
    """Starts, watches and ends launches; safe to use from several threads.

    Parameters
    ----------
    store
        Where results go.
    allowed
        Whether anything may be launched; if not, specs can still be checked.
    address
        None for a Ray of the launch's own, ``auto``, ``HOST:PORT`` or ``ray://…`` for a cluster that it joins, or the
        ``http://…`` of a job server that it is submitted to.
    allow
        User code that specs may name, ``module:function``, imported from the folder that the server runs in; and paths
        of texts for ``charlm``.
    """

    def __init__(
        self, store: Store, *, allowed: bool = False, address: str | None = None, allow: tuple[str, ...] = ()
    ) -> None:
        self.store, self.allowed, self.address, self.allow = store, allowed, address, allow
        self._folder = tempfile.TemporaryDirectory(prefix="hpscan-launches-")
        self._lock = threading.Lock()
        self._last: dict[str, _Process | _Job] = {}
        self._estimating = threading.Lock()
        self._estimates: dict[tuple[str, str], str] = {}

    @property
    def may_launch(self) -> bool:
        """Whether who asks may launch and cancel."""
        return self.allowed and viewer_may_launch.get()

    def check(self, text: str, *, cost: bool = True) -> Checked:
        """Validate a spec's YAML, and say what launching it would mean.

        Without ``cost`` nothing is estimated, which takes a process of its own and some seconds the first time.

        Raises
        ------
        SpecError
            If it is no valid spec.
        RefusedError
            If it names code or files that are not allowed.
        StoreError
            If the store cannot be read.
        """
        spec = admitted(text, self.allow, submits=self._submits)
        runs, to_train = self._counts(spec)
        return Checked(spec, runs, to_train, self._cost(text, spec) if cost else "")

    def launch(self, text: str) -> Started:
        """Launch a spec.

        Raises
        ------
        NotAllowedError
            If launching is off.
        BusyError
            If the sweep is being launched from here already; should it be from elsewhere, the log will say so.
        JobServerError
            If the job server that it goes to does not take it.
        SpecError, RefusedError, StoreError
            As for :meth:`check`.
        """
        self._refuse_viewers()
        spec = admitted(text, self.allow, submits=self._submits)
        with self._lock:
            last = self._last.get(spec.name)
            if last is not None and last.told().goes_on:
                raise BusyError(f"{spec.name}: is being launched; cancel that launch, or wait for its end")
            folder = Path(tempfile.mkdtemp(dir=self._folder.name))
            (folder / "spec.yaml").write_text(text, encoding="utf-8")
            start = self._submitted if self._submits else self._process
            self._last[spec.name] = start(spec, folder)
            return self._last[spec.name].told()

    def launches(self) -> list[Started]:
        """The last launch of every sweep that was launched from here, newest first."""
        return sorted(
            (each.told() for each in list(self._last.values())), key=lambda each: each.started_at, reverse=True
        )

    def running(self) -> list[str]:
        """Sweeps that are being launched from here."""
        return [each.sweep for each in self.launches() if each.goes_on]

    def last(self, sweep: str) -> Started:
        """The last launch of a sweep; raises IdleError if it was never launched from here."""
        return self._of(sweep).told()

    def log(self, sweep: str) -> str:
        """The end of what the last launch of a sweep printed; raises IdleError, JobServerError."""
        return self._of(sweep).log()

    def cancel(self, sweep: str) -> Started:
        """Have a launch store what it has, and end.

        Raises
        ------
        NotAllowedError
            If launching is off.
        IdleError
            If the sweep is not being launched from here.
        JobServerError
            If the job server does not take it.
        """
        self._refuse_viewers()
        found = self._of(sweep)
        if not found.told().goes_on:
            raise IdleError(f"{sweep}: its launch has ended")
        found.cancel()
        return found.told()

    def close(self) -> None:
        """Interrupt every process that was started, and wait for their ends; jobs of a cluster go on.

        Nobody could see a launch whose server is gone, and nothing of it is lost: the same launch goes on from what is stored.
        """
        running = [each for each in self._last.values() if isinstance(each, _Process) and each.process.poll() is None]
        for each in running:
            each.cancel()
        for each in running:
            try:
                each.process.wait(END_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(each.process.pid, signal.SIGKILL)
        self._folder.cleanup()

    @property
    def _submits(self) -> bool:
        return self.address is not None and self.address.startswith(("http://", "https://"))

    def _refuse_viewers(self) -> None:
        if not self.allowed:
            raise NotAllowedError("launching is off; start the dashboard with --allow-launch")
        if not viewer_may_launch.get():
            raise NotAllowedError("this token may look, and neither launch nor cancel")

    def _of(self, sweep: str) -> _Process | _Job:
        if sweep not in self._last:
            raise IdleError(f"{sweep}: was not launched from here")
        return self._last[sweep]

    def _counts(self, spec: Spec) -> tuple[int, int]:
        """All runs of a spec, and those that the store lacks."""
        if spec.name not in self.store.sweeps() or isinstance(spec.workload, Factory | Trainable):
            return spec.n_runs, spec.n_runs  # the identity of a user's runs is known once their code was called
        stored = ended(self.store.runs(spec.name, without=["config"]))
        here = sum(run_id in stored for panel in panels(spec) for run_id in panel.run_ids(spec.seeds).flat)
        return spec.n_runs, spec.n_runs - here

    def _cost(self, text: str, spec: Spec) -> str:
        """What ``hpscan launch --dry-run`` says, kept until the store changes; it needs torch, which this process does without."""
        if not viewer_may_launch.get():
            return "not estimated for a read-only token"
        key = text, self.store.version(spec.name)
        with self._estimating:
            if key not in self._estimates:
                while len(self._estimates) >= 64:
                    del self._estimates[next(iter(self._estimates))]
                self._estimates[key] = self._estimated(text)
            return self._estimates[key]

    def _estimated(self, text: str) -> str:
        with tempfile.TemporaryDirectory(dir=self._folder.name) as folder:
            path = Path(folder, "spec.yaml")
            path.write_text(text, encoding="utf-8")
            try:
                done = subprocess.run(
                    [*_hpscan("launch", str(path), "--dry-run", "--store", self.store.location)],
                    env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ESTIMATE_S, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired:
                return f"unknown: estimating it took longer than {ESTIMATE_S:.0f} s"
        lines = [line for line in done.stdout.splitlines() if line != "nothing was written"]
        if done.returncode:
            lines = done.stderr.strip().splitlines()[-1:]
            return f"unknown: {lines[0].removeprefix('hpscan: ')}" if lines else "unknown"
        cost = [line.removeprefix("cost: ") for line in lines if line.startswith("cost: ")]
        return cost[0] if cost else "nothing, all of it is stored"

    def _process(self, spec: Spec, folder: Path) -> _Process:
        words = ["launch", str(folder / "spec.yaml"), "--store", self.store.location]
        words += [] if self.address is None else ["--address", self.address]
        with (folder / "log").open("wb") as out:
            process = subprocess.Popen(
                _hpscan(*words), env=_environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,  # a Ctrl-C at the server's terminal is the server's
            )  # fmt: skip
        return _Process(spec.name, process, folder / "log")

    def _submitted(self, spec: Spec, folder: Path) -> _Job:
        options = ["--store", self.store.location]
        address = str(self.address)
        job = _asked(lambda jobs: jobs.submit(address, spec.name, "spec.yaml", options, folder))
        return _Job(spec.name, address, job.job_id)


def _hpscan(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "hpscan", *words]


def _environment() -> dict[str, str]:
    """Ours, without what a spec's code need not know."""
    return {name: value for name, value in os.environ.items() if name not in SECRETS}


def _asked(ask: Callable[[Any], T]) -> T:
    """Ask the job server; Ray is imported for nothing else here."""
    from hpscan import jobs

    try:
        return ask(jobs)
    except UnknownJobError as error:
        raise IdleError(str(error)) from None
    except ClusterError as error:
        raise JobServerError(str(error)) from None
