"""Sweeps as jobs of a Ray cluster: submitted from anywhere, they outlive the terminal."""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hpscan.cluster  # noqa: F401  (what Ray reads when it is imported)

# isort: split
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from hpscan.cluster import reason
from hpscan.errors import ClusterError, UnknownJobError
from hpscan.spec import SpecError

__all__ = ["Job", "cancel", "follow", "latest", "submit"]

SWEEP = "hpscan_sweep"
"""Key of a job's metadata that names its sweep."""
AGENT_S = 60.0
"""How long to wait for an agent: a cluster that has just come up answers before it has one to run jobs."""


@dataclass(frozen=True)
class Job:
    """The last job of a sweep on a cluster."""

    job_id: str
    sweep: str
    status: str
    """Ray's word: PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    started_at: float | None
    """Seconds since 1970."""
    message: str

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return JobStatus(self.status).is_terminal()


def submit(address: str, sweep: str, source: str, options: Sequence[str], folder: Path) -> Job:
    """Start ``hpscan launch`` on a cluster.

    Parameters
    ----------
    address
        Of the cluster's job server, ``http://HEAD:8265``.
    sweep
        The sweep's name; one job of a name at a time.
    source
        The spec, a path below ``folder`` or the name of a shipped one.
    options
        Further arguments of ``hpscan launch``.
    folder
        The working directory: copied to the cluster.

    Raises
    ------
    SpecError
        If ``address`` is no URL.
    ClusterError
        If the job server cannot be reached or refuses, or the sweep has a job already.
    """
    client = _client(address)
    running = _of_sweep(client, sweep)
    if running is not None and not running.ended:
        raise ClusterError(f"{sweep}: job {running.job_id} is {running.status} already; hpscan cancel {sweep} ends it")
    command = shlex.join(["hpscan", "launch", source, "--address", "auto", *options])
    environment = {"working_dir": str(folder), "excludes": [".git", ".venv", "results"]}
    job_id = _asked(client.submit_job, entrypoint=command, runtime_env=environment, metadata={SWEEP: sweep})
    found = _of_sweep(client, sweep)
    return found or Job(job_id, sweep, "PENDING", None, "")


def latest(address: str, sweep: str) -> Job:
    """The last job of a sweep; raises UnknownJobError if there is none."""
    found = _of_sweep(_client(address), sweep)
    if found is None:
        raise UnknownJobError(f"{sweep}: the cluster at {address} has no job of that sweep")
    return found


def follow(address: str, job: Job, write: Callable[[str], Any]) -> Job:
    """Write the logs of a job as they come, from its beginning to its end; returns how it ended."""
    client = _client(address)

    async def tail() -> None:
        async for lines in client.tail_job_logs(job.job_id):
            write(lines)

    _asked(asyncio.run, tail())
    return latest(address, job.sweep)


def logs(address: str, job: Job) -> str:
    """What a job has printed so far."""
    return str(_asked(_client(address).get_job_logs, job.job_id))


def cancel(address: str, sweep: str) -> Job:
    """Ask the job of a sweep to stop; what it has stored stays. Raises ClusterError if none is running."""
    job = latest(address, sweep)
    if job.ended:
        raise ClusterError(f"{sweep}: its job {job.job_id} has ended ({job.status})")
    _asked(_client(address).stop_job, job.job_id)
    return job


def _client(address: str) -> JobSubmissionClient:
    if not address.startswith(("http://", "https://")):
        raise SpecError(f"--address {address}: must be the job server's URL, such as http://HEAD:8265")
    client: JobSubmissionClient = _asked(JobSubmissionClient, address)
    return client


def _asked(call: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call the job server; whatever goes wrong with it is told in one line."""
    until = time.monotonic() + AGENT_S
    while True:
        try:
            return call(*args, **options)
        except Exception as error:  # noqa: BLE001  (HTTP, token and version errors, RuntimeError for what it refuses)
            told = reason(error)
        if "No available agent" not in told or time.monotonic() > until:
            raise ClusterError(f"the cluster's job server: {told}")
        time.sleep(1.0)


def _of_sweep(client: JobSubmissionClient, sweep: str) -> Job | None:
    jobs: list[JobDetails] = [
        job for job in _asked(client.list_jobs) if job.submission_id and (job.metadata or {}).get(SWEEP) == sweep
    ]
    if not jobs:
        return None
    last = max(jobs, key=lambda job: job.start_time or 0)
    started = last.start_time / 1000 if last.start_time else None
    return Job(str(last.submission_id), sweep, str(last.status.value), started, last.message or "")
