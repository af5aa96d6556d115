"""What takes longer than a request may: the last that was made is there at once, and a newer one follows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, TypeVar

__all__ = ["Made", "Making"]

T = TypeVar("T")


@dataclass(eq=False)
class Made(Generic[T]):
    """What was made of a sweep as it was, or will be."""

    version: str
    """Of the sweep's files."""
    outcome: Future[T] = field(default_factory=Future)
    read_at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Making(Generic[T]):
    """Makes something of sweeps, one thing of each at a time; safe to use from several threads.

    What changes while something is made of it is made once more when next asked for, however often it changed.
    """

    def __init__(self, make: Callable[[str], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._ended: dict[str, Made[T]] = {}
        self._begun: dict[str, Made[T]] = {}

    def of(self, sweep: str, version: str) -> Made[T] | None:
        """The last that has ended, well or not; None before the first has. If it is of another version, the next begins."""
        with self._lock:
            ended = self._ended.get(sweep)
            if sweep not in self._begun and (ended is None or ended.version != version):
                self._begun[sweep] = Made(version)
                threading.Thread(target=self._work, args=(sweep,), name=f"making of {sweep}", daemon=True).start()
            return ended

    def _work(self, sweep: str) -> None:
        made = self._begun[sweep]
        try:
            made.outcome.set_result(self._make(sweep))
        except Exception as error:  # noqa: BLE001  # told to who asks
            made.outcome.set_exception(error)
        with self._lock:
            self._ended[sweep] = self._begun.pop(sweep)
