"""A connection to Ray: one of our own on loopback, or a cluster that is there; what a pack takes of it.

With ``launch``, ``worker`` and ``jobs`` the only door to Ray.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

# Ray reads these when it is imported or started.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# The switch is named after two systems, but on any it makes a local Ray listen on loopback alone.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine unasked
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # a pool of compilers a worker costs more than it saves

import ray

from hpscan.resources import PerPack, Resources

__all__ = ["ClusterError", "Slots", "alive_nodes", "connected", "first_line", "packs_at_once"]


PROBE_S = 10.0
"""How long a cluster's head may take to accept a connection."""


class ClusterError(Exception):
    """Ray could not be started or reached, or cannot hold a pack; the message is one line."""


@dataclass(frozen=True)
class Slots:
    """What of a cluster a sweep uses."""

    workers: int
    """Packs that can train at once on the nodes that are there now; 0 where none fits until a node joins."""
    most: int | None
    """Packs that may train at once however many nodes join; None for as many as fit."""
    per_pack: PerPack
    """What is reserved for a pack, ``gpus`` resolved."""


@contextmanager
def connected(resources: Resources, address: str | None, working_dir: str | None = None) -> Iterator[Slots]:
    """Connect to Ray, and disconnect at the end; a Ray of our own is stopped.

    Parameters
    ----------
    resources
        What the spec asks for.
    address
        ``auto`` or ``HOST:PORT`` of a cluster; None for a Ray of our own, on loopback, whatever other Ray this machine
        runs.
    working_dir
        A folder of the user's code that workers on a cluster import from; it is copied there.

    Raises
    ------
    ClusterError
        If there is no such cluster, it refuses us, or this machine cannot hold a pack.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a lost pack is told in one line, not by its traceback
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"address": "local", "include_dashboard": False, **_of_this_machine(resources)}
    else:
        options |= {"address": address}
        # a job has its folder from who submitted it
        if working_dir and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
            options |= {"runtime_env": {"working_dir": working_dir}}
    failure: ClusterError | None = None
    with _what_ray_writes() as written:
        try:
            if address is not None and address != "auto":
                _probe(address)
            ray.init(**options)
        except Exception as error:  # noqa: BLE001  (Ray raises what its layers raise: connection, version, resources)
            written.seek(0)
            reason = "it wants another RAY_AUTH_TOKEN" if "Unauthenticated" in written.read() else first_line(error)
            where = "Ray did not start" if address is None else f"--address {address}: no Ray cluster could be joined"
            failure = ClusterError(f"{where}: {reason}")
    if failure is not None:
        raise failure
    try:
        yield _slots(resources, local=address is None)
    finally:
        ray.shutdown()


@contextmanager
def _what_ray_writes() -> Iterator[IO[str]]:
    """Keep from the terminal what Ray's C++ writes there while it connects: what matters is raised, too."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as written:
        os.dup2(written.fileno(), 2)
        try:
            yield written
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _probe(address: str) -> None:
    """Raise OSError or ValueError unless something listens at HOST:PORT; Ray would wait for it for minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ValueError("must be `auto` or HOST:PORT; from outside a cluster, hpscan submit")
    socket.create_connection((host, int(port)), timeout=PROBE_S).close()


def _of_this_machine(resources: Resources) -> dict[str, Any]:
    """What a Ray of our own is told that there is: room for as many packs as are asked for, else the cores."""
    asked = resources.per_pack
    cpus = resources.workers * asked.cpus if resources.workers else resources.workers_here
    packs = resources.workers or int(cpus / asked.cpus)
    custom = {name: packs * amount for name, amount in asked.custom.items()}
    return {"num_cpus": max(cpus, resources.gpus or 0), "num_gpus": resources.gpus, "resources": custom}


def _slots(resources: Resources, *, local: bool) -> Slots:
    """Count the packs that fit on the nodes that are there."""
    nodes = [node["Resources"] for node in alive_nodes()]
    n_gpus = sum(node.get("GPU", 0) for node in nodes)
    asked = resources.per_pack
    if local and asked.gpus is None and n_gpus:
        # more workers than GPUs share them
        workers = resources.workers or int(n_gpus)
        asked = asked.model_copy(update={"gpus": min(1.0, n_gpus / workers)})
    elif asked.gpus is None:
        asked = asked.model_copy(update={"gpus": 1.0 if n_gpus else 0.0})
    there = sum(packs_at_once(node, asked) for node in nodes)
    if local and not there:
        raise ClusterError(f"resources.per_pack: this machine does not have {asked.told()}")
    return Slots(min(there, resources.workers or there), resources.workers or (there if local else None), asked)


def alive_nodes() -> list[dict[str, Any]]:
    """What Ray knows of the nodes that are there."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def packs_at_once(node: Mapping[str, float], per_pack: PerPack) -> int:
    """How many packs a node with these resources holds at once."""
    wanted = {
        "CPU": per_pack.cpus,
        "GPU": per_pack.gpus,
        "memory": (per_pack.memory_gb or 0) * 2**30,
        **per_pack.custom,
    }
    # shares such as 0.1 do not add up to whole numbers exactly
    return min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in wanted.items() if amount)


def first_line(error: Exception) -> str:
    """What an error says at its beginning, where Ray's have the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
