"""What a command takes, all of its processes together; and what it was measured on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from tests.processes import end

EVERY_S = 0.25
OF_CONTENDERS = {
    "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AIR_NEW_OUTPUT": "0", "OMP_NUM_THREADS": "1",
}  # fmt: skip
"""Environment of what hpscan is compared with: Ray reports to nobody, and every process has one thread."""
MEMORY_EVERY = 8
"""Samples of which one looks at memory: adding up a process's pages takes milliseconds."""


@dataclass(frozen=True)
class Taken:
    """What a command took."""

    wall_s: float
    cpu_seconds: list[tuple[float, float]]
    """(seconds since the start, CPU-seconds of all processes until then)."""
    memory_mb: float
    """Of all processes at the same time, at the most; pages that several share are counted once."""
    driver_mb: float
    """Of the first process, at the most."""
    files: int
    kilobytes: float
    """Below the folder that it writes to."""


def metered(command: list[str], *, cwd: Path, written: Path | None = None, env: dict[str, str] | None = None) -> Taken:
    """Run a command to its end and leave nothing of it behind; stop this process with what it printed if it fails."""
    start = time.perf_counter()
    cpu_of: dict[tuple[int, float], float] = {}
    cpu, memory, driver, sample = [(0.0, 0.0)], 0.0, 0.0, 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
        child = subprocess.Popen(
            command, cwd=cwd, env={**os.environ, **(env or {})}, stdout=printed, stderr=printed, start_new_session=True
        )
        own = psutil.Process(child.pid)
        while child.poll() is None:
            now = 0.0
            for process in [own, *own.children(recursive=True)]:
                try:
                    with process.oneshot():
                        times = process.cpu_times()
                        cpu_of[process.pid, process.create_time()] = times.user + times.system
                    if sample % MEMORY_EVERY == 0:
                        now += process.memory_full_info().pss
                except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
                    continue
            memory = max(memory, now)
            cpu.append((time.perf_counter() - start, sum(cpu_of.values())))
            driver = max(driver, megabytes(child.pid, "VmHWM"))
            sample += 1
            time.sleep(EVERY_S)
        wall_s = time.perf_counter() - start
        end(child)
        if child.returncode != 0:
            printed.seek(0)
            sys.exit(printed.read())
    sizes = [path.stat().st_size for path in (written.rglob("*") if written else ()) if path.is_file()]
    return Taken(wall_s, cpu, memory / 2**20, driver, len(sizes), sum(sizes) / 1e3)


def megabytes(pid: int, what: str) -> float:
    """Memory of one process, ``VmRSS`` now or ``VmHWM`` at the most; 0 once it has ended."""
    try:
        told = re.search(rf"{what}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    except OSError:
        return 0.0
    return int(told[1]) / 1024 if told else 0.0


def header(command: str, packages: Sequence[str] = ("hpscan", "torch", "ray", "optuna", "joblib")) -> str:
    """Machine, versions and the command, as a line."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    name = cpu[1] if cpu else platform.machine()
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}; `{command}`."
