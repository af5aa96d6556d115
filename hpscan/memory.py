"""How many rows fit in a device's memory: two trials of different size, extrapolated."""

from __future__ import annotations

import ctypes
import math
import platform
from collections.abc import Callable
from pathlib import Path

import torch

from hpscan.hardware import free_memory

__all__ = ["is_out_of_memory", "peak_bytes", "rows_that_fit"]

USABLE = 0.8
"""Share of the free memory that a pack may take."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on a CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def rows_that_fit(trial: Callable[[int], None], device: torch.device, *, most: int, share: float = 1.0) -> int:
    """Return how many rows fit, at least 1 and at most ``most``.

    Parameters
    ----------
    trial
        Trains so many rows for a step.
    device
        Where it does.
    most
        Rows wanted.
    share
        Of the device's free memory that is this process's to use.
    """
    few, more = 1, min(2, most)
    if more == few:
        return 1
    trial(few)  # libraries load and workspaces are allocated in the first call of everything
    small, large = peak_bytes(lambda: trial(few), device), peak_bytes(lambda: trial(more), device)
    per_row = (large - small) / (more - few)
    if per_row <= 0:  # too small to be seen
        return most
    budget = USABLE * share * free_memory(device)
    return max(1, min(most, math.floor((budget - small) / per_row) + few))


def peak_bytes(work: Callable[[], None], device: torch.device) -> int:
    """Return the most memory that ``work`` holds at once, beyond what was held before; 0 where that cannot be told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        work()
        return 0
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # or the work would be done in memory that was freed and kept
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM, the high-water mark, starts anew
    except OSError:
        work()
        return 0
    before = _status("VmRSS")
    work()
    return max(0, _status("VmHWM") - before)


def _status(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    with Path("/proc/self/status").open(encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
