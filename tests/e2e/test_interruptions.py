"""What a sweep survives: Ctrl-C at a terminal, and a killed worker. Real processes, the real command line."""

import contextlib
import os
import pty
import re
import select
import signal
import sys
import time
from pathlib import Path

import pytest

from hpscan.store import Store

HPSCAN = str(Path(sys.executable).with_name("hpscan"))
SWEEP = ["launch", "quickstart", "--set", "variants=[sgdw]", "--set", "seeds=[0, 1]", "--set", "resources.pack_size=16"]

pytestmark = pytest.mark.timeout(300)


def start_at_a_terminal(cwd):
    """Start the sweep as the foreground job of a terminal of its own; returns its pid and the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execv(HPSCAN, [HPSCAN, *SWEEP])
    return pid, terminal


def read_until(terminal, pid, done, timeout=120):
    """Collect what the terminal shows until ``done()`` or the process ends; returns (text, exit code or None)."""
    shown, deadline = b"", time.monotonic() + timeout
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            with contextlib.suppress(OSError):  # the other side of a closed terminal
                shown += os.read(terminal, 65536)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return shown.decode(errors="replace"), os.waitstatus_to_exitcode(status)
        if done():
            return shown.decode(errors="replace"), None
    raise TimeoutError(shown.decode(errors="replace"))


def stored(cwd):
    """How many packs have landed."""
    return len(list(Path(cwd, "results", "quickstart", "runs").glob("*.parquet")))


def workers_of(pid):
    """Process ids of the Ray workers in a launch's session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(entry.name)) == os.getsid(pid) and "ResourceTrainable" in (entry / "cmdline").read_text():
                found.append(int(entry.name))
    return found


def test_ctrl_c_at_a_terminal_stops_within_seconds_and_says_how_to_go_on(tmp_path):
    pid, terminal = start_at_a_terminal(tmp_path)
    before, code = read_until(terminal, pid, lambda: stored(tmp_path) >= 1)
    assert code is None, before
    os.write(terminal, b"\x03")
    pressed = time.monotonic()
    after, code = read_until(terminal, pid, lambda: False, timeout=30)
    assert code == 130
    assert time.monotonic() - pressed < 10
    live = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", before).split())  # without colours and line breaks
    assert "missing of 242 runs ·" in live
    assert "hpscan: stopped; what is trained is stored." in after
    assert "Traceback" not in before + after
    assert Store(tmp_path / "results").runs("quickstart")["run_id"].is_unique


@pytest.mark.slow
def test_a_killed_worker_costs_only_what_it_was_doing(tmp_path):
    pid, terminal = start_at_a_terminal(tmp_path)
    shown, code = read_until(terminal, pid, lambda: stored(tmp_path) >= 1)
    assert code is None, shown
    workers = workers_of(pid)
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    shown, code = read_until(terminal, pid, lambda: False)
    assert code == 0, shown
    rows = Store(tmp_path / "results").runs("quickstart")
    assert len(rows) == 242
    assert rows["state"].eq("completed").all()
