"""What pages and API read of a store; each answer is kept until a file of its sweep changes."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from hpscan.analysis import Analysis, VariantAnalysis, analyze, status
from hpscan.conventions import partner, redrawn
from hpscan.evolution import evolution
from hpscan.grid import Panel, panels
from hpscan.landscape import Landscape, landscapes, recorded, shown_by
from hpscan.rounds import belief_of
from hpscan.spec import Spec, SpecError
from hpscan.store import RUNS, Store
from hpscan.variants import Decay

__all__ = ["CONVENTIONS", "Cached", "Pace", "Reader", "UnknownError"]

T = TypeVar("T")

CONVENTIONS = {"paper": Decay.PAPER, "torch": Decay.TORCH}
"""The units a decoupled landscape can be drawn in."""
LOOK_S = 1.0
"""How long a listing of a sweep's files is good for: many viewers ask for it at once."""
MOST_KEPT = 256
LATE_S = 900.0
"""What "of late" means where a sweep's pace is told."""


class UnknownError(LookupError):
    """There is no such sweep, panel or run; its text is one line for the user."""


@dataclass(frozen=True)
class Cached:
    """What keeping answers has spared."""

    kept: int
    hits: int
    misses: int


class _Cache:
    """Answers by key, each made once however many ask at the same time; the longest unused are dropped."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, tuple[Hashable, Any]] = OrderedDict()
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
            made = make()
            with self._lock:
                self._misses += 1
                self._kept[key] = version, made
                while len(self._kept) > self._most:
                    dropped, _ = self._kept.popitem(last=False)
                    self._makers.pop(dropped, None)
            return made

    def _found(self, key: Hashable, version: Hashable) -> tuple[Any] | None:
        with self._lock:
            if key in self._kept and self._kept[key][0] == version:
                self._kept.move_to_end(key)
                self._hits += 1
                return (self._kept[key][1],)
            return None


@dataclass(frozen=True)
class Pace:
    """How fast a sweep goes on."""

    last: datetime | None
    """When its last run ended."""
    is_running: bool
    """Whether there is more to come and something came of late: nobody tells a store that its sweep was given up."""
    eta_s: float | None
    """Seconds until the last run, by the pace of late; None while it is not running."""

    @classmethod
    def of(cls, ends: pd.Series[Any], missing: int, now: datetime) -> Pace:
        """The pace at ``now`` of runs that ended at these times, ``missing`` of them to go."""
        ends = ends.dropna()
        if ends.empty:
            return cls(None, is_running=False, eta_s=None)
        last = ends.max().to_pydatetime()
        late = ends[ends >= pd.Timestamp(now) - pd.Timedelta(seconds=LATE_S)]
        if not missing or late.empty:
            return cls(last, is_running=False, eta_s=None)
        seconds = max((now - late.min().to_pydatetime()).total_seconds(), 1.0)
        return cls(last, is_running=True, eta_s=missing * seconds / len(late))


@dataclass(eq=False)
class Reader:
    """A store as the dashboard reads it; safe to use from several threads.

    Every method raises :class:`UnknownError` where there is no such sweep or panel, and StoreError where the store
    cannot be read.
    """

    store: Store
    _cache: _Cache = field(default_factory=lambda: _Cache(MOST_KEPT))
    _broken: dict[str, list[str]] = field(default_factory=dict)
    _looked: dict[str, tuple[float, str, datetime]] = field(default_factory=dict)

    def cached(self) -> Cached:
        """How the cache does."""
        return self._cache.counts()

    def sweeps(self) -> list[str]:
        """Names, in alphabetical order."""
        return self.store.sweeps()

    def version(self, sweep: str) -> str:
        """Changes whenever a file of the sweep does."""
        return self._look(sweep)[0]

    def read_at(self, sweep: str) -> datetime:
        """When the store was last looked at for this sweep."""
        return self._look(sweep)[1]

    def problems(self, sweep: str) -> list[str]:
        """One line for each file of the sweep that is broken and left out."""
        self._rows(sweep)
        return list(self._broken.get(sweep, ()))

    def spec(self, sweep: str) -> Spec:
        """The spec as last launched."""
        return self.kept(sweep, "spec", lambda: self.store.spec(sweep))

    def panels(self, sweep: str) -> list[Panel]:
        """What the sweep has a landscape of, in the order of its variants."""
        return self.kept(sweep, "panels", lambda: panels(self.spec(sweep)))

    def panel(self, sweep: str, name: str) -> Panel:
        """One of :meth:`panels`, by name."""
        found = {panel.name: panel for panel in self.panels(sweep)}
        if name not in found:
            raise UnknownError(f"panel {name!r}: {sweep} has {', '.join(found)}")
        return found[name]

    def metrics(self, sweep: str) -> list[str]:
        """What can be shown: the sweep's own metric first."""
        own = self.spec(sweep).metric
        rows = self._rows(sweep)
        known = [name for name in recorded(rows) if rows[name].notna().any()]
        return [own, *(name for name in known if name != own)]

    def status(self, sweep: str) -> dict[str, Any]:
        """How far it is (:func:`hpscan.analysis.status`)."""
        return self.kept(sweep, "status", lambda: status(self.store, sweep))

    def shapes(self, sweep: str, metric: str | None = None) -> list[Landscape]:
        """A landscape for each panel; raises SpecError if the metric was not recorded."""

        def read() -> list[Landscape]:
            spec, rows = self.spec(sweep), self._rows(sweep)
            spec = spec if metric in {None, spec.metric} else shown_by(spec, rows, str(metric))
            return landscapes(spec, rows)

        return self.kept(sweep, ("shapes", metric), read)

    def shape(
        self,
        sweep: str,
        panel: str,
        metric: str | None = None,
        *,
        step: int | None = None,
        convention: str | None = None,
    ) -> Landscape:
        """One landscape, as it is or was at an evaluation, in its own units or in a convention's.

        A landscape that does not exist in the convention (a coupled one) is given as it is. Raises SpecError if the metric
        was not recorded or the convention is not one of :data:`CONVENTIONS`.
        """
        self.panel(sweep, panel)
        found = next(shape for shape in self.shapes(sweep, metric) if shape.name == panel)
        if step is not None:
            at = self.kept(sweep, ("steps", panel, metric), lambda: dict(evolution(found, self._curves(sweep), metric)))
            if step not in at:
                raise SpecError(
                    f"step: must be one of {', '.join(map(str, at)) or 'none, no run has a curve'}; got {step}"
                )
            found = at[step]
        if convention is not None:
            if convention not in CONVENTIONS:
                raise SpecError(f"convention: must be one of {', '.join(CONVENTIONS)}; got {convention!r}")
            if partner(found.variant, CONVENTIONS[convention]) not in {None, found.variant}:
                return redrawn(found, CONVENTIONS[convention])
        return found

    def steps(self, sweep: str) -> list[int]:
        """The steps at which curves were recorded."""
        return self.kept(sweep, "all steps", lambda: sorted(map(int, self._curves(sweep)["step"].unique())))

    def numbers(
        self, sweep: str, panel: str, metric: str | None = None, convention: str | None = None
    ) -> VariantAnalysis:
        """The statistics of one landscape; of a large one they take seconds, once."""
        return self.kept(
            sweep,
            ("numbers", panel, metric, convention),
            lambda: VariantAnalysis.of(self.shape(sweep, panel, metric, convention=convention)),
        )

    def predicted(self, sweep: str, panel: str) -> np.ndarray | None:
        """Cells of an adaptive sweep that were not trained, shape (lrs, wds); None where the sweep is not adaptive."""
        adaptive = self.spec(sweep).adaptive
        if adaptive is None:
            return None
        missing = (self.shape(sweep, panel).states == "missing").all(axis=0)
        return (
            missing
            if self.kept(sweep, ("belief", panel), lambda: belief_of(self.shape(sweep, panel), adaptive.tolerance))
            else None
        )

    def analysis(self, sweep: str, metric: str | None = None) -> Analysis:
        """Everything that ``hpscan analyze`` and the report say."""
        return self.kept(sweep, ("analysis", metric), lambda: analyze(self.store, sweep, metric=metric))

    def runs(self, sweep: str, run_ids: Sequence[str]) -> pd.DataFrame:
        """The rows of some runs with all columns of the store; those that have not been trained have none."""
        rows = self.kept(sweep, "all rows", lambda: self.store.runs(sweep).set_index("run_id", drop=False))
        return rows.loc[rows.index.intersection(list(run_ids))].reset_index(drop=True)

    def curves(self, sweep: str, run_ids: Sequence[str]) -> pd.DataFrame:
        """The evaluations of some runs."""
        rows = self._curves(sweep)
        return rows[rows["run_id"].isin(list(run_ids))]

    def _rows(self, sweep: str) -> pd.DataFrame:
        """What landscapes need of every run."""
        where_it_ran = RUNS.names[RUNS.names.index("wall_s") : RUNS.names.index("finished_at")]

        def read() -> pd.DataFrame:
            broken: list[str] = []
            rows = self.store.runs(sweep, broken.append, without=["config", "error", *where_it_ran])
            self._broken[sweep] = broken
            return rows

        return self.kept(sweep, "rows", read)

    def _curves(self, sweep: str) -> pd.DataFrame:
        return self.kept(sweep, "curves", lambda: self.store.curves(sweep))

    def pace(self, sweep: str) -> Pace:
        """When its last run ended, and how long the rest will take."""
        ends = self.kept(sweep, "ends", lambda: self._rows(sweep)["finished_at"])
        return Pace.of(ends, self.status(sweep)["states"]["missing"], datetime.now(UTC))

    def kept(self, sweep: str, what: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` makes of the sweep, made anew only after a file of it changed."""
        return self._cache.get((sweep, what), self.version(sweep), make)

    def _look(self, sweep: str) -> tuple[str, datetime]:
        at, version, told = self._looked.get(sweep, (-LOOK_S, "", datetime.now(UTC)))
        if time.monotonic() - at >= LOOK_S:
            version, told = self.store.version(sweep), datetime.now(UTC)
            if not version:
                raise UnknownError(f"sweep {sweep!r}: not in the store {self.store.location}")
            self._looked[sweep] = time.monotonic(), version, told
        return version, told
