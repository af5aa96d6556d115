"""What takes longer than a request may: the last that was made is there at once, and a newer one follows."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from hpscan.files import StoreError

__all__ = ["BeingMadeError", "Made", "Making"]

T = TypeVar("T")

MOST_KEPT = 64
RETRY_S = 30.0
"""How long it is believed that a store cannot be read."""


class BeingMadeError(Exception):
    """What is asked for is being made; its text is one line for the user."""


@dataclass(eq=False)
class Made(Generic[T]):
    """What was made of a sweep as it was, or will be."""

    version: str
    """Of the sweep's files."""
    outcome: Future[T] = field(default_factory=Future)
    read_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def is_due_again(self) -> bool:
        """Whether the store could not be read, and a while ago."""
        is_old = (datetime.now(UTC) - self.read_at).total_seconds() > RETRY_S
        return is_old and isinstance(self.outcome.exception(), StoreError)


class Making:
    """Makes things in threads, each by its key one at a time; safe to use from several threads.

    What changes while something is made of it is made once more when next asked for, however often it changed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: OrderedDict[Hashable, Made[Any]] = OrderedDict()
        self._begun: dict[Hashable, Made[Any]] = {}

    def of(self, key: Hashable, version: str, make: Callable[[], T], *, wait_s: float = 0.0) -> Made[T] | None:
        """The last that has ended, well or not; None before the first has. If it is of another version, the next begins.

        What has begun is waited for, for so many seconds.
        """
        ended = self._asked(key, version, make)
        begun = self._begun.get(key)
        if not wait_s or begun is None:
            return ended
        wait([begun.outcome], wait_s)
        return self._asked(key, version, make)

    def _asked(self, key: Hashable, version: str, make: Callable[[], Any]) -> Made[Any] | None:
        with self._lock:
            ended = self._ended.get(key)
            if key not in self._begun and (ended is None or ended.version != version or ended.is_due_again()):
                self._begun[key] = Made(version)
                threading.Thread(target=self._work, args=(key, make), name=f"making {key}", daemon=True).start()
            return ended

    def _work(self, key: Hashable, make: Callable[[], Any]) -> None:
        made = self._begun[key]
        try:
            settle = functools.partial(made.outcome.set_result, make())
        except Exception as error:  # noqa: BLE001  # told to who asks
            settle = functools.partial(made.outcome.set_exception, error)
        with self._lock:  # whoever has waited finds it among what has ended
            settle()
            self._ended[key] = self._begun.pop(key)
            self._ended.move_to_end(key)
            while len(self._ended) > MOST_KEPT:
                self._ended.popitem(last=False)
