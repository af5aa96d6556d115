"""The lease: a sweep is launched by one process at a time.

STORE/SWEEP/lease.json says who launches the sweep. It is renewed by a thread while that process lives and expires when
it has not been for a minute; on the machine that wrote it a dead process's lease is free at once. Locally it is taken
under a lock. Where there is none (on an object store, for which pyarrow has no conditional upload, and on some network
file systems) it is written and read back after a while: should two writes be further apart than that, both go on until
the one that was overwritten renews and finds it out.
Expiry compares clocks, which hosts of one cluster are taken to agree on to within some seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from hpscan.files import Files
from hpscan.store import Store, StoreError

__all__ = ["EXPIRES_S", "Lease", "held", "seen"]

RENEW_S = 10.0
EXPIRES_S = 60.0
SETTLE_S = 2.0  # where nothing locks: between writing a lease and reading whose it became
TRIES = 10  # each is lost only to someone who took or left the lease in that instant


class Lease:
    """A lease that this process holds; see :func:`held`."""

    def __init__(self, files: Files, sweep: str) -> None:
        self._files, self._sweep, self._name = files, sweep, _name(sweep)
        self._holder = _Holder.this_process()
        self._released = threading.Event()
        self._lost = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name=f"lease of {sweep}", daemon=True)

    @property
    def lost(self) -> bool:
        """Whether another process has the lease now, ours having expired unrenewed (say, while the machine slept)."""
        return self._lost.is_set()

    def take(self) -> None:
        """Have the lease from now on, renewed by a thread; raises StoreError if another process has it."""
        for _ in range(TRIES):
            with self._files.locked(self._sweep) as alone:
                expired = self._expired()
                content = self._holder.to_json()
                if alone and not expired:
                    taken = self._files.create(self._name, content)  # a lock may hold for one host of several only
                else:
                    self._files.write(self._name, content)
                    taken = alone or self._is_ours_still()
            if taken:
                self._keeper.start()
                return
        raise StoreError(f"{self._files.shown(self._name)}: changes hands all the time; try again")

    def _expired(self) -> bool:
        """Whether there is a lease that has expired; raises StoreError if there is one that has not."""
        content = self._files.read(self._name)
        holder = None if content is None else _Holder.from_json(content)
        if holder is not None and holder.is_alive():
            since = datetime.fromisoformat(holder.since)
            raise StoreError(
                f"{self._sweep}: is being launched by {holder.host}, process {holder.pid}, since {since:%Y-%m-%d %H:%M} UTC; "
                f"wait, or stop that one (a dead one's lease expires after {EXPIRES_S:.0f} s)",
                bad_input=True,
            )
        return content is not None

    def _is_ours_still(self) -> bool:
        time.sleep(SETTLE_S)
        return self._is_ours(self._files.read(self._name))

    def _is_ours(self, content: bytes | None) -> bool:
        holder = None if content is None else _Holder.from_json(content)
        return holder is not None and holder.token == self._holder.token

    def renew(self) -> None:
        """Write the lease anew, unless it is another's by now: then it is lost. A store that is away is not made anew."""
        if self._files.is_gone(self._sweep):
            return
        with self._files.locked(self._sweep):
            content = self._files.read(self._name)
            if content is not None and not self._is_ours(content):
                self._lost.set()
                return
            self._holder = self._holder.renewed_now()
            self._files.write(self._name, self._holder.to_json())

    def release(self) -> None:
        """Give the lease back if it is still ours; a store that is gone by now is fine."""
        self._released.set()
        self._keeper.join()
        if self._files.is_gone(self._sweep):
            return
        with contextlib.suppress(StoreError), self._files.locked(self._sweep):
            if self._is_ours(self._files.read(self._name)):
                self._files.remove(self._name)

    def _keep(self) -> None:
        while not self.lost and not self._released.wait(RENEW_S):
            with contextlib.suppress(StoreError):  # a store that is away for a while: try again
                self.renew()


@contextlib.contextmanager
def held(store: Store, sweep: str) -> Iterator[Lease]:
    """Hold the lease of a sweep.

    Raises
    ------
    StoreError
        With ``bad_input`` if another process holds it: who, and since when. Else if the store cannot be written.
    """
    lease = Lease(store.files, sweep)
    lease.take()
    try:
        yield lease
    finally:
        lease.release()


def seen(files: Files, sweep: str, expires_s: float = EXPIRES_S) -> bytes | None:
    """The lease of a sweep as it stands, which every renewal changes; None without one whose holder may be alive."""
    content = files.read(_name(sweep))
    holder = None if content is None else _Holder.from_json(content)
    return content if holder is not None and holder.is_alive(expires_s) else None


def _name(sweep: str) -> str:
    return f"{sweep}/lease.json"


@dataclass(frozen=True)
class _Holder:
    """What lease.json says."""

    host: str
    pid: int
    since: str
    token: str
    renewed: str
    machine: str  # boot and pid namespace: containers may share a host's name, and pids start again at a boot
    started: str  # in clock ticks since the boot: a pid may be another process's by now

    @classmethod
    def this_process(cls) -> _Holder:
        now = datetime.now(UTC).isoformat()
        pid = os.getpid()
        return cls(socket.gethostname(), pid, now, secrets.token_hex(16), now, _machine(), _started(pid) or "")

    @classmethod
    def from_json(cls, content: bytes) -> _Holder | None:
        """The holder, or None where the content is no lease."""
        try:
            raw = json.loads(content)
            holder = cls(**raw)
            datetime.fromisoformat(holder.since)
            holder.age_s()
        except (ValueError, TypeError):
            return None
        return holder

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=2).encode()

    def renewed_now(self) -> _Holder:
        return _Holder(**{**asdict(self), "renewed": datetime.now(UTC).isoformat()})

    def age_s(self) -> float:
        return (datetime.now(UTC) - datetime.fromisoformat(self.renewed)).total_seconds()

    def is_alive(self, expires_s: float = EXPIRES_S) -> bool:
        here = self.host == socket.gethostname() and self.machine == _machine() != ""
        if here and _started(self.pid) != self.started:
            return False
        return self.age_s() < expires_s


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process of this machine started, in clock ticks since the boot; None if there is none, or it has ended."""
    try:
        # the name, in parentheses, may hold anything; after it come state and, as the 20th, the start
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
