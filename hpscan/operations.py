"""What a call does, operation by operation, and how much of its time compiling it could save."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["GAIN", "LONG_S", "Operations", "operations"]

GAIN = 3.0
"""How many times faster compiled code is, about."""
UNGAINED = ("mm", "convolution", "attention", "max_pool2d_with_indices", "batch_norm_backward")
"""Parts of the names of operations that this does not hold for: a compiler leaves products as they are, and what it makes
of pooling and of the gradients of normalising batches is no faster than what torch has for them."""
LONG_S = 0.3
"""Seconds of timing that tell enough."""


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that are called, and times those that compiling makes no faster.

    On a GPU, where a call returns at once, next to no time is seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0
        self.ungained_s = 0.0
        self.whole_s = math.inf
        """Seconds that all of them take when nobody looks."""

    def at_best(self, seconds: float) -> float:
        """Seconds that are left of some, about, where all that gains from it is compiled."""
        fixed = min(1.0, self.ungained_s / self.whole_s)
        return seconds * (fixed + (1 - fixed) / GAIN)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch loads its compiler, a second or two, to keep out of here what is compiled nowhere near

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        start = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        if any(part in func.name() for part in UNGAINED):
            self.ungained_s += time.perf_counter() - start
        self.count += 1
        return result


def operations(call: Callable[[], object]) -> Operations:
    """What a call calls: of three times, fewer if they are long, the one in which what gains nothing took least.

    Both clocks run side by side: on a busy machine all takes longer, a share stays what it is.
    """
    seen: list[Operations] = []
    whole_s, began = math.inf, time.perf_counter()
    while len(seen) < 3 and not (seen and time.perf_counter() - began > LONG_S):
        start = time.perf_counter()
        call()
        whole_s = min(whole_s, time.perf_counter() - start)
        with Operations() as found:
            call()
        seen.append(found)
    least = min(seen, key=lambda each: each.ungained_s)
    least.whole_s = whole_s
    return least
