"""Answers that are kept until what they were read from changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from hpscan.landscape import Landscape

__all__ = ["Cache", "Cached"]

T = TypeVar("T")

MOST_KEPT = 256
MOST_BYTES = 1_000_000_000
"""Of answers that are kept, about: those of a million runs take 10 to 100 MB each."""


@dataclass(frozen=True)
class Cached:
    """What keeping answers has spared."""

    kept: int
    hits: int
    misses: int


class Cache:
    """Answers by key, each made once however many ask at the same time; the longest unused are dropped."""

    def __init__(self, most: int = MOST_KEPT, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._kept: OrderedDict[Hashable, tuple[Hashable, Any, int]] = OrderedDict()
        self._lock = threading.Lock()
        self._makers: dict[Hashable, threading.Lock] = {}
        self._hits = self._misses = 0

    def counts(self) -> Cached:
        """Answers that are kept; how often one was there, and how often it was made."""
        with self._lock:
            return Cached(len(self._kept), self._hits, self._misses)

    def get(self, key: Hashable, version: Hashable, make: Callable[[], T]) -> T:
        """The answer made at this ``version`` of what it was read from, made now if there is none."""
        found = self._found(key, version)
        if found:
            return found[0]
        with self._lock:
            maker = self._makers.setdefault(key, threading.Lock())
        with maker:
            found = self._found(key, version)
            if found:
                return found[0]
            try:
                made = make()
            except BaseException:
                with self._lock:
                    if key not in self._kept:
                        self._makers.pop(key, None)
                raise
            with self._lock:
                self._misses += 1
                self._kept[key] = version, made, _bytes_of(made)
                self._kept.move_to_end(key)
                while len(self._kept) > 1 and not self._fits():
                    dropped, _ = self._kept.popitem(last=False)
                    self._makers.pop(dropped, None)
            return made

    def _fits(self) -> bool:
        return len(self._kept) <= self._most and sum(kept[2] for kept in self._kept.values()) <= self._most_bytes

    def _found(self, key: Hashable, version: Hashable) -> tuple[Any] | None:
        with self._lock:
            if key in self._kept and self._kept[key][0] == version:
                self._kept.move_to_end(key)
                self._hits += 1
                return (self._kept[key][1],)
            return None


def _bytes_of(made: Any) -> int:
    """About the memory that an answer takes, but for run_ids, which landscapes share."""
    if isinstance(made, Landscape):
        return sum(array.nbytes for array in (made.states, *made.values.values()))
    if hasattr(made, "nbytes"):
        # of words an array knows its pointers alone
        return made.size * 73 if isinstance(made, np.ndarray) and made.dtype == object else int(made.nbytes)
    if isinstance(made, pd.DataFrame | pd.Series):
        return int(np.sum(made.memory_usage()))
    if isinstance(made, list | tuple):
        return sum(map(_bytes_of, made))
    if isinstance(made, dict):
        return 200 * len(made)
    return len(made) if isinstance(made, str | bytes) else 1_000
