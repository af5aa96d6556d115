"""Which sweeps are being launched, from wherever, as their leases tell who only watches."""

from __future__ import annotations

import time

from hpscan.files import Files
from hpscan.lease import EXPIRES_S, seen

from .tokens import Clock

__all__ = ["Leases"]

SKEW_S = 900.0
"""How far the clock of who launches may be behind ours at most: who only looks need not be of the cluster."""


class Leases:
    """The leases of a store, watched; a launch lives while it goes on renewing its own."""

    def __init__(self, files: Files, clock: Clock = time.monotonic) -> None:
        self._files, self._clock = files, clock
        self._last: dict[str, tuple[bytes | None, float]] = {}

    def held(self, sweep: str) -> bool:
        """Whether a launch of the sweep lives; of one that was killed on another machine this is known after a minute."""
        now, content = self._clock(), seen(self._files, sweep, SKEW_S)
        last, since = self._last.get(sweep, (None, now))
        if content != last:
            since = now
        self._last[sweep] = content, since
        return content is not None and now - since < EXPIRES_S
