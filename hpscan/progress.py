"""What a launch shows while it runs: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

__all__ = ["PackSummary", "Progress", "shown"]

LINE_EVERY_S = 5.0


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


@dataclass(frozen=True)
class PackSummary:
    """What the driver learns of a finished pack."""

    pack_id: str
    variant: str
    states: dict[str, int]
    best: tuple[float, float, float] | None
    """(metric, lr, wd) of the pack's best run, infinite where the metric is undefined; None if none completed."""
    compile_s: float = 0.0
    """Seconds that its worker spent on compiling for it."""
    run_steps: int = 0
    """Steps that its runs took, all together."""
    first: int = 0
    """Where in the pack they begin, if it is stored in parts."""


@dataclass
class Progress:
    """Counts runs as packs finish. A context manager: the display lives inside the ``with``."""

    console: Console
    sweep: str
    metric: str
    variants: Sequence[str]
    total: int
    before: Mapping[str, int]
    """How many runs in each state the store held when the launch began."""
    run_steps: float
    """Steps that all runs will take in this launch, about."""
    packs: dict[str, dict[int, PackSummary]] = field(default_factory=dict)
    """The parts of each pack, by where they begin: one that is retried counts once."""
    best: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._last_line, self._said = time.monotonic(), ""
        self._first: tuple[float, int] | None = None  # when, and the run-steps by then
        self._is_live = self.console.is_terminal and not self.console.is_jupyter  # a notebook's would need widgets
        self._live = Live(get_renderable=self._table, console=self.console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        if self._is_live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_live:
            self._live.stop()
        self._say(self.line())

    def _say(self, line: str) -> None:
        """Print a line, unless it is what was said last."""
        if line != self._said:
            self.console.print(line, highlight=False, soft_wrap=True)
        self._said = line

    def _parts(self) -> Iterator[PackSummary]:
        return chain.from_iterable(parts.values() for parts in self.packs.values())

    @property
    def ended(self) -> int:
        """Runs that ended in this launch, in whatever state."""
        return sum(sum(pack.states.values()) for pack in self._parts())

    def count(self, state: str) -> int:
        """Runs that ended in one state, in this launch or before."""
        return self.before.get(state, 0) + sum(pack.states.get(state, 0) for pack in self._parts())

    @property
    def steps_taken(self) -> int:
        """Run-steps of this launch so far."""
        return sum(pack.run_steps for pack in self._parts())

    @property
    def done_before(self) -> int:
        """Runs that the store held when the launch began."""
        return sum(self.before.values())

    @property
    def missing(self) -> int:
        """Runs still to train."""
        return self.total - self.done_before - self.ended

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the rate since the first pack, which alone pays for starting and compiling."""
        if self._first is None:
            return None
        at, before = self._first
        seconds, taken = time.monotonic() - at, self.steps_taken
        left = max(self.run_steps - taken, 0.0)
        return seconds / (taken - before) * left if seconds > 1.0 and taken > before else None

    def add(self, pack: PackSummary) -> None:
        """Count a finished pack and show it."""
        parts = self.packs.setdefault(pack.pack_id, {})
        for first in [first for first in parts if first >= pack.first]:  # of an earlier try, cut otherwise perhaps
            del parts[first]
        parts[pack.first] = pack
        self._first = self._first or (time.monotonic(), self.steps_taken)
        if pack.best is not None and math.isfinite(pack.best[0]):
            self.best[pack.variant] = min(pack.best, self.best.get(pack.variant, pack.best))
        now = time.monotonic()
        if not self._is_live and now - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            self._say(self.line())

    def line(self) -> str:
        """The state of the sweep in one line."""
        eta = f", {self._to_go(self.eta_s)}" if self.eta_s is not None and self.missing else ""
        compile_s = sum(pack.compile_s for pack in self._parts())
        compiling = f", {compile_s:.0f} s of all workers' time spent on compiling" if compile_s >= 1 else ""
        best = ", ".join(f"{variant} {metric:.4g}" for variant, (metric, _, _) in self.best.items())
        return f"{self._counts()} of {self.total} runs{eta}{compiling}{f'; best {self.metric}: {best}' if best else ''}"

    @staticmethod
    def _to_go(eta_s: float) -> str:
        from hpscan.numerals import duration  # not in the workers, which need a pack's summary only

        return f"about {duration(eta_s, 0)} to go"

    def _counts(self) -> str:
        ended = self.done_before + self.ended
        stopped = f"{self.count('stopped')} stopped, " if self.count("stopped") else ""
        return (
            f"{self.sweep}: {ended} done, {self.count('diverged')} diverged, {stopped}"
            f"{self.count('failed')} failed, {self.missing} missing"
        )

    def _table(self) -> Group:
        table = Table(box=None, padding=(0, 2), show_edge=False)
        for title, justify in (("variant", "left"), (f"best {self.metric}", "right"), ("lr", "right"), ("wd", "right")):
            table.add_column(title, justify=justify)  # type: ignore[arg-type]
        for variant in self.variants:
            metric, lr, wd = self.best.get(variant, (None, None, None))
            table.add_row(variant, *("…" if value is None else f"{value:.4g}" for value in (metric, lr, wd)))
        eta = "starting workers and compiling" if self.eta_s is None else self._to_go(self.eta_s)
        bar = Table.grid()  # a bar alone does not end its line
        bar.add_row(ProgressBar(total=self.total, completed=self.done_before + self.ended, width=40))
        return Group(f"{self._counts()} of {self.total} runs · {eta}", bar, table)
