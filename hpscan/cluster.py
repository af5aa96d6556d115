"""A connection to Ray: one of our own on loopback, or a cluster that is there; what a pack takes of it.

With ``launch``, ``searcher``, ``worker`` and ``jobs`` the only door to Ray.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, TypeVar

# Ray reads these when it is imported or started.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# The switch is named after two systems, but on any it makes a local Ray listen on loopback alone.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves the machine unasked

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hpscan.errors import ClusterError
from hpscan.resources import PerPack, Resources
from hpscan.spec import SpecError

__all__ = [
    "Slots",
    "alive_nodes",
    "answers",
    "check_address",
    "connected",
    "is_client",
    "packs_at_once",
    "reason",
]


Answer = TypeVar("Answer")

PROBE_S = 10.0
"""How long a cluster's head may take to accept a connection."""
TRIES = 3
REFUSED = "it wants its token: RAY_AUTH_MODE=token and the same RAY_AUTH_TOKEN as its nodes"
ADDRESS = re.compile(r"(?P<client>ray://)?(?P<host>[^/]+):(?P<port>[0-9]+)")


@dataclass(frozen=True)
class Slots:
    """What of a cluster a sweep uses."""

    workers: int
    """Packs that can train at once on the nodes that are there now; 0 where none fits until a node joins."""
    most: int | None
    """Packs that may train at once however many nodes join; None for as many as fit."""
    per_pack: PerPack
    """What is reserved for a pack, ``gpus`` resolved."""


def check_address(address: str) -> None:
    """Raise SpecError for what cannot be the address of a cluster."""
    if address != "auto" and not ADDRESS.fullmatch(address):
        raise SpecError(f"--address {address}: must be `auto`, HOST:PORT or ray://HOST:PORT")


@contextmanager
def connected(resources: Resources, address: str | None, working_dir: str | None = None) -> Iterator[Slots]:
    """Connect to Ray, and disconnect at the end; a Ray of our own is stopped.

    Parameters
    ----------
    resources
        What the spec asks for.
    address
        ``auto``, ``HOST:PORT`` or, as a client, ``ray://HOST:PORT`` of a cluster; None for a Ray of our own, on loopback,
        whatever other Ray this machine runs.
    working_dir
        A folder of the user's code that workers on a cluster import from; it is copied there.

    Raises
    ------
    SpecError
        If that cannot be an address.
    ClusterError
        If there is no such cluster, it refuses us, a client's connection breaks, this machine cannot hold a pack, or this
        process has a connection of its own.
    """
    if ray.is_initialized():
        raise ClusterError("this process is connected to a Ray already; call ray.shutdown() first")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a lost pack is told in one line, not by its traceback
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    # what becomes of a client's connection is told in one line, too; this logger sets its own level
    logging.getLogger("ray.util.client").setLevel(logging.CRITICAL)
    logging.getLogger("ray.util.client.logsclient").disabled = True
    if address is None:
        options |= {"address": "local", "include_dashboard": False, **_of_this_machine(resources)}
    else:
        check_address(address)
        options |= {"address": address}
        # a job has its folder from who submitted it
        if working_dir and "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ:
            options |= {"runtime_env": {"working_dir": working_dir}}
    failure: ClusterError | None = None
    with _what_ray_writes() as written, _kept_sigterm(), _nothing_half_started():
        try:
            if address is not None and address != "auto":
                _probe(address)
            _init(options)
        except Exception as error:  # noqa: BLE001  (Ray raises what its layers raise: connection, version, resources)
            written.seek(0)
            why = REFUSED if "Unauthenticated" in written.read() else reason(error)
            where = "Ray did not start" if address is None else f"--address {address}: no Ray cluster could be joined"
            failure = ClusterError(f"{where}: {why}")
    if failure is not None:
        raise failure
    try:
        with _clients_errors(address):
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


@contextmanager
def _kept_sigterm() -> Iterator[None]:
    """Leave what SIGTERM does to whoever has said so: Ray takes it, prints a stack and ends the process with one code or another."""
    said = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as ended:
        if ended.code == signal.SIGTERM and callable(said):
            said(signal.SIGTERM, None)
        raise
    finally:
        if callable(said) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, said)


@contextmanager
def _nothing_half_started() -> Iterator[None]:
    """End the helpers of a raylet that is interrupted as it starts: left alone, they would wait a minute for it."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        import psutil  # type: ignore[import-untyped]  # which Ray brings along

        for raylet in [child for child in psutil.Process().children() if child.name() == "raylet"]:
            raylet.suspend()  # or it would start further ones
            for process in (*raylet.children(recursive=True), raylet):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        raise


def _probe(address: str) -> None:
    """Raise OSError unless a cluster listens at an address; Ray would wait for it for minutes."""
    parts = ADDRESS.fullmatch(address)
    assert parts is not None  # or it was refused
    socket.create_connection((parts["host"], int(parts["port"])), timeout=PROBE_S).close()
    if parts["client"]:
        _ping(address.removeprefix(parts["client"]))


def _init(options: dict[str, Any]) -> None:
    """Connect; again where a server died as it was started for us: gRPC does not survive every fork (ray issue 63202)."""
    for left in reversed(range(TRIES)):
        try:
            ray.init(**options)
        except ConnectionAbortedError as error:
            if not left or "Starting Ray client server failed" not in str(error):
                raise
        else:
            return


def _ping(place: str) -> None:
    """Raise ConnectionError unless Ray Client is served there, and to us; Ray would try again and not tell why."""
    import grpc  # type: ignore[import-untyped]
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import ray_client_pb2, ray_client_pb2_grpc

    messages: Any = ray_client_pb2
    services: Any = ray_client_pb2_grpc
    request = messages.ClusterInfoRequest(type=messages.ClusterInfoType.PING)
    with init_grpc_channel(place) as channel:
        try:
            services.RayletDriverStub(channel).ClusterInfo(request, timeout=PROBE_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise ConnectionError(REFUSED) from None
            raise ConnectionError("no Ray Client there; it has a port of its own, 10001 by default") from None


@contextmanager
def _clients_errors(address: str | None) -> Iterator[None]:
    """Tell in one line what only a client can meet; its connection may break at any time."""
    if not is_client():
        yield
        return
    import grpc
    from google.protobuf.message import EncodeError  # type: ignore[import-untyped]

    try:
        yield
    except BrokenPipeError:  # of our output
        raise
    except (ConnectionError, grpc.RpcError) as error:
        raise ClusterError(f"--address {address}: the connection was lost; what is trained is stored") from error
    except ImportError as error:
        raise ClusterError(f"--address {address}: hpscan must be installed on the cluster, too: {error}") from error
    except EncodeError as error:
        told = f"--address {address}: Ray Client sends no data set of more than 2 GB; hpscan submit needs to send none"
        raise ClusterError(told) from error


def is_client() -> bool:
    """Whether this process is no part of the cluster it is connected to (``ray://``)."""
    return bool(ray.util.client.ray.is_connected())  # type: ignore[no-untyped-call]


def _of_this_machine(resources: Resources) -> dict[str, Any]:
    """What a Ray of our own is told that there is: room for as many packs as are asked for, else the cores."""
    asked = resources.per_pack
    cpus = resources.workers * asked.cpus if resources.workers else resources.cores_here
    packs = resources.workers or int(cpus / asked.cpus)
    custom = {name: math.ceil(packs * amount) for name, amount in asked.custom.items()}  # Ray counts by whole ones
    return {"num_cpus": math.ceil(max(cpus, resources.gpus or 0)), "num_gpus": resources.gpus, "resources": custom}


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


def answers(question: Callable[..., Answer], *arguments: Any, timeout_s: float) -> list[tuple[str, Answer | Exception]]:
    """What each node that is there answers, by its name; an exception where it does not."""
    task: Any = ray.remote(num_cpus=0)(question)
    asked = []
    for node in alive_nodes():
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked.append((str(node["NodeName"]), task.options(scheduling_strategy=there).remote(*arguments)))
    found: list[tuple[str, Answer | Exception]] = []
    for name, answer in asked:
        try:
            found.append((name, ray.get(answer, timeout=timeout_s)))
        except Exception as error:  # noqa: BLE001  (Ray raises what its layers and the other node raise)
            found.append((name, error))
    return found


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


def reason(error: Exception) -> str:
    """What an error says at its beginning, where Ray's have the cause; all of it where that only announces the rest."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and lines[0].endswith(":"):
        return f"{lines[0]} {lines[-1]}" if any(line.startswith("Traceback") for line in lines) else " ".join(lines)
    return lines[0] if lines else type(error).__name__
