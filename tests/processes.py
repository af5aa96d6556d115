"""Real processes: the command line, clusters of raylets on loopback, and the means to kill any of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

BIN = Path(sys.executable).parent
HPSCAN = str(BIN / "hpscan")


def hpscan(*arguments, cwd, env=None, timeout=300):
    """Run the command line to its end."""
    return subprocess.run(
        [HPSCAN, *map(str, arguments)], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip


def started(*arguments, cwd, env=None, command=HPSCAN, log="out.log"):
    """Start a command in a session of its own, which :func:`session` and :func:`end` know it by."""
    with Path(cwd, log).open("ab") as out:
        return subprocess.Popen(
            [command, *map(str, arguments)], cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip


def session(sid):
    """Process ids of a session with their command lines."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(entry.name)) == sid and "\nState:\tZ" not in (entry / "status").read_text():
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
    return found


def end(process, how=signal.SIGKILL):
    """Kill everything in a process's session, and wait until it is gone."""
    for pid in session(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=20)
    wait_for(lambda: not session(process.pid), what=f"the end of session {process.pid}")


def wait_for(done, *, timeout=120, what="it"):
    """Wait until ``done()`` is true; its value."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if value := done():
            return value
        time.sleep(0.05)
    raise TimeoutError(f"waited {timeout} s for {what}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    """Whether something listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Cluster:
    """Raylets on loopback that want a token; each node is a session of processes."""

    folder: Path
    port: int = field(default_factory=free_port)
    jobs_port: int = field(default_factory=free_port)
    client_port: int = field(default_factory=free_port)
    token: str = field(default_factory=lambda: secrets.token_hex(32))
    nodes: list[subprocess.Popen] = field(default_factory=list)
    temporary: list[str] = field(default_factory=list)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def client(self):
        return f"ray://127.0.0.1:{self.client_port}"

    @property
    def jobs(self):
        return f"http://127.0.0.1:{self.jobs_port}"

    @property
    def env(self):
        return {
            "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # importing hpscan.cluster in these tests has said otherwise
            "GRPC_ENABLE_FORK_SUPPORT": "0",  # else the head crashes, now and then, as it starts to serve a client
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }  # fmt: skip

    def add(self, *, cpus=1, gpus=0, jobs=False):
        """Start a node, the first one as head."""
        place = ["--address", self.address]
        if not self.nodes:
            place = ["--head", "--port", self.port, f"--include-dashboard={jobs}"]
            place += [
                "--dashboard-host",
                "127.0.0.1",
                "--dashboard-port",
                self.jobs_port,
                "--ray-client-server-port",
                self.client_port,
            ]
        # each node its own, or the second unpacks a job's folder over the first's; in /tmp since sockets' paths are short
        self.temporary.append(tempfile.mkdtemp(prefix="hp", dir="/tmp"))
        node = started(
            "start", *place, "--temp-dir", self.temporary[-1], "--block", "--node-ip-address", "127.0.0.1", "--num-cpus", cpus, "--num-gpus", gpus,
            "--disable-usage-stats", "--object-store-memory", 200_000_000,
            command=str(BIN / "ray"), cwd=self.folder, env=self.env, log=f"node-{len(self.nodes)}.log",
        )  # fmt: skip
        self.nodes.append(node)
        log = self.folder / f"node-{len(self.nodes) - 1}.log"
        wait_for(lambda: node.poll() is not None or "Ray runtime started" in log.read_text(), what=f"a node ({log})")
        assert node.poll() is None, log.read_text()
        if jobs:
            wait_for(lambda: answers(self.jobs_port), what="the job server")
        return node

    def end(self):
        """Kill every node and forget what it kept."""
        for node in reversed(self.nodes):
            end(node)
        for folder in self.temporary:
            shutil.rmtree(folder, ignore_errors=True)
