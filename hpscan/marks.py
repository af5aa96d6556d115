"""Files beside the compiler's cache that tell what it holds: to the compiler itself, asking is as good as compiling."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch

__all__ = ["compiled_before", "note_compiled"]


def compiled_before(*what: str | int) -> bool:
    """Whether something was compiled on this machine, by the same versions."""
    with suppress(OSError):
        return _mark_of(*what).exists()
    return False


def note_compiled(*what: str | int) -> None:
    """Note that it was, for the next process."""
    with suppress(OSError):  # a cache that others filled
        mark = _mark_of(*what)
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def _mark_of(*what: str | int) -> Path:
    from torch._inductor.runtime.cache_dir_utils import cache_dir  # slow to import

    named = json.dumps([*what, torch.__version__, version("hpscan")])
    return Path(cache_dir(), "hpscan", hashlib.sha256(named.encode()).hexdigest())
