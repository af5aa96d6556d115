"""The statistics of landscapes, computed beside the server: of a large one they take a minute, and no map waits for them."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from hpscan.analysis import VariantAnalysis
from hpscan.landscape import Landscape

__all__ = ["Known", "Numbers", "Subject"]

MOST_POINTS = 100
"""Along an axis of which statistics are computed: those of 500 × 500 cells take ten minutes and 7 GB."""
MOST_KEPT = 128
MOST_BYTES = 200_000_000
NICENESS = 10
_LOG = logging.getLogger(__name__)

Subject = tuple[str, str, str | None, str | None]
"""Sweep, panel, metric and units."""


@dataclass(frozen=True, eq=False)
class Known:
    """The numbers of a landscape as it was."""

    version: str
    """Of the sweep's files."""
    read_at: datetime
    analysis: VariantAnalysis | None
    """None if they cannot be computed; else of its metric alone and without run_ids."""
    every: int = 1
    """The statistics are of each n-th value of the axes; the best cell is that of all."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes, about."""
        return 2 * self.analysis.landscape.z.nbytes if self.analysis else 0


class Numbers:
    """The last numbers of each subject are there at once; newer ones are computed after they were asked for.

    One process computes, one landscape after another, at a lower priority; it starts when something is asked for. A
    landscape that changes while it is computed is computed once more when next asked for, however often it changed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Subject, Known] = OrderedDict()
        self._wanted: OrderedDict[Subject, tuple[str, Callable[[], Landscape]]] = OrderedDict()
        self._ended: Counter[str] = Counter()
        self._thread: threading.Thread | None = None
        self._process: tuple[SpawnProcess, Connection] | None = None

    def of(self, subject: Subject, version: str, read: Callable[[], Landscape]) -> Known | None:
        """The last numbers that are known; if they are of another version, those of what is then ``read`` follow."""
        with self._lock:
            known = self._known.get(subject)
            if known is not None:
                self._known.move_to_end(subject)
            if (known is None or known.version != version) and subject not in self._wanted:
                self._wanted[subject] = version, read
                if self._thread is None:
                    self._thread = threading.Thread(target=self._work, name="numbers", daemon=True)
                    self._thread.start()
            return known

    def ended(self, sweep: str) -> int:
        """How many computations for a sweep have ended: when that changes there is something new."""
        with self._lock:
            return self._ended[sweep]

    def close(self) -> None:
        """End what is computed."""
        with self._lock:
            self._wanted.clear()
            process, self._process = self._process, None
        if process is not None:
            process[0].kill()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._thread = None
                    return
                subject, (version, read) = next(iter(self._wanted.items()))
            read_at = datetime.now(UTC)
            known = Known(version, read_at, *self._computed(subject, read))
            with self._lock:
                self._wanted.pop(subject, None)
                self._ended[subject[0]] += 1
                self._known[subject] = known
                self._known.move_to_end(subject)
                while len(self._known) > 1 and not self._fits():
                    self._known.popitem(last=False)

    def _fits(self) -> bool:
        return len(self._known) <= MOST_KEPT and sum(known.nbytes for known in self._known.values()) <= MOST_BYTES

    def _computed(self, subject: Subject, read: Callable[[], Landscape]) -> tuple[VariantAnalysis | None, int]:
        """The numbers, and the n of which n-th values of the axes they are."""
        try:
            shape = read().of_known_seeds()  # now: without run_ids no seeds can be taken of it
            shape = replace(shape, run_ids=shape.run_ids[:0], values={shape.metric: shape.z})
            every = -(-max(shape.z.shape[1:]) // MOST_POINTS)
            pipe = self._pipe()
            pipe.send(_thinned(shape, every))
            answer = pipe.recv()
        except (OSError, EOFError):  # the process was ended, as for want of memory
            with self._lock:
                self._process = None
            answer = "the process that computes them ended"
        except Exception as error:  # noqa: BLE001  # the map says what is wrong with what cannot be read
            answer = error
        if isinstance(answer, VariantAnalysis):
            return replace(answer, landscape=shape, best=shape.best()), every
        _LOG.warning("the numbers of %s cannot be computed: %s", "/".join(subject[:2]), answer)
        return None, 1

    def _pipe(self) -> Connection:
        with self._lock:
            if self._process is None:
                start = multiprocessing.get_context("spawn")
                pipe, theirs = start.Pipe()
                process = start.Process(target=_compute, args=(theirs,), name="numbers", daemon=True)
                process.start()
                theirs.close()  # so that the pipe ends with the process
                self._process = process, pipe
            return self._process[1]


def _thinned(shape: Landscape, every: int) -> Landscape:
    return replace(
        shape,
        lr=shape.lr[::every],
        wd=shape.wd[::every],
        states=shape.states[:, ::every, ::every],
        values={metric: values[:, ::every, ::every] for metric, values in shape.values.items()},
    )


def _compute(pipe: Connection) -> None:
    """Compute the numbers of each landscape that comes, until the server is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is the server's
    os.nice(NICENESS)
    with contextlib.suppress(OSError):  # Linux alone has it: should memory run out, this is what can be spared
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            shape = pipe.recv()
            try:
                pipe.send(VariantAnalysis.of(shape))
            except (ArithmeticError, LookupError, MemoryError, TypeError, ValueError) as error:
                pipe.send(f"{type(error).__name__}: {error}")
