"""What opens the dashboard: tokens, who is signed in by one, and how often a wrong one may be tried."""

from __future__ import annotations

import hmac
import math
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from itsdangerous import BadSignature, TimestampSigner

__all__ = ["SESSION_S", "Attempts", "Clock", "Role", "Sessions", "Tokens"]

SESSION_S = 14 * 86400
MOST_ENDED = 10_000

Clock = Callable[[], float]


class Role(StrEnum):
    """What a viewer may do."""

    FULL = "full"
    READ = "read"


@dataclass(frozen=True)
class Tokens:
    """What opens the dashboard; without any it is open to whoever reaches it."""

    full: str | None = None
    read: str | None = None
    """May look, and neither launch nor cancel."""

    def __bool__(self) -> bool:
        return bool(self.full or self.read)

    def role(self, given: bytes) -> Role | None:
        """What a token allows, in a time that says nothing of it."""
        found = None
        for role, token in ((Role.READ, self.read), (Role.FULL, self.full)):
            # digests, since the comparison's time depends on the length
            same = hmac.compare_digest(_digest(given), _digest((token or "").encode()))
            found = role if same and token else found
        return found


class Attempts:
    """Wrong tokens of the last minute, by client and in all."""

    WINDOW_S = 60.0
    MOST_OF_CLIENT = 10
    MOST_IN_ALL = 100
    MOST_CLIENTS = 10_000

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._all: deque[float] = deque(maxlen=self.MOST_IN_ALL)
        self._by_client: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, client: str, *, of_all: bool = True) -> int:
        """Seconds until this client may try again; 0 if now. ``of_all``: whether what others try counts, too."""
        waits = [self._wait(self._by_client.get(client, deque()), self.MOST_OF_CLIENT)]
        waits += [self._wait(self._all, self.MOST_IN_ALL)] if of_all else []
        return math.ceil(max(waits))

    def failed(self, client: str, *, of_all: bool = True) -> None:
        """Remember a wrong token. ``of_all``: whether others may have to wait for it, too."""
        now = self._clock()
        own = self._by_client.setdefault(client, deque(maxlen=self.MOST_OF_CLIENT))
        self._by_client.move_to_end(client)
        own.append(now)
        if of_all:
            self._all.append(now)
        while len(self._by_client) > self.MOST_CLIENTS:
            self._by_client.popitem(last=False)

    def _wait(self, times: deque[float], most: int) -> float:
        return max(0.0, times[-most] + self.WINDOW_S - self._clock()) if len(times) >= most else 0.0


@dataclass
class Sessions:
    """Who is signed in: a signed cookie says it, and those who signed out are remembered."""

    signer: TimestampSigner = field(default_factory=lambda: TimestampSigner(secrets.token_bytes(32), salt="hpscan"))
    ended: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def begin(self, role: Role) -> str:
        """The cookie of who signs in."""
        return self.signer.sign(f"{role}.{secrets.token_urlsafe(9)}").decode()

    def role(self, cookie: str | None) -> Role | None:
        """What a cookie allows; None if it is not ours, too old, or was signed out with."""
        said = self._said(cookie)
        return Role(said.partition(".")[0]) if said and said not in self.ended else None

    def end(self, cookie: str | None) -> None:
        """Sign out: this cookie opens nothing any more."""
        said = self._said(cookie)
        if said:
            self.ended[said] = None
            while len(self.ended) > MOST_ENDED:
                self.ended.popitem(last=False)

    def _said(self, cookie: str | None) -> str | None:
        """What was signed; the same signature can be spelt in several ways."""
        try:
            return self.signer.unsign(cookie or "", max_age=SESSION_S).decode()
        except BadSignature:
            return None


def _digest(token: bytes) -> bytes:
    return hmac.digest(_PEPPER, token, "sha256")


_PEPPER = secrets.token_bytes(32)
