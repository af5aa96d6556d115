"""What pages and API read of a store; each answer is kept until a file of its sweep changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from hpscan.analysis import Analysis, analyze, status_of
from hpscan.conventions import partner, redrawn
from hpscan.evolution import evolution
from hpscan.grid import Panel, panels
from hpscan.landscape import Best, Landscape, arranged, metrics_among, showing
from hpscan.rounds import belief_of, to_train
from hpscan.spec import Spec, SpecError
from hpscan.store import Rows, Store
from hpscan.variants import Decay

from .cache import Cache, Cached
from .leases import Leases
from .making import BeingMadeError, Made, Making
from .numbers import Known, Numbers

__all__ = ["CONVENTIONS", "Pace", "Reader", "UnknownError"]

T = TypeVar("T")

CONVENTIONS = {"paper": Decay.PAPER, "torch": Decay.TORCH}
"""The units a decoupled landscape can be drawn in."""
LOOK_S = 1.0
"""How long a listing of a sweep's files is good for: many viewers ask for it at once."""
WAIT_S = 20.0
"""How long a request waits for each thing that is being made."""
LATE_S = 900.0
"""What "of late" means where a sweep's pace is told."""


class UnknownError(LookupError):
    """There is no such sweep, panel or run; its text is one line for the user."""


@dataclass(frozen=True)
class Pace:
    """How fast a sweep goes on."""

    last: datetime | None
    """When its last run ended."""
    is_running: bool
    """Whether there is more to come and a launch of it lives."""
    eta_s: float | None
    """Seconds until the last run, by the pace of late; None while it is not running, or nothing came of late."""
    left_out: int = 0
    """Runs that an adaptive sweep will not train, at least: its cells are more than it may, or it is settled."""

    @classmethod
    def of(cls, ends: pd.Series[Any], missing: int, now: datetime, *, launched: bool) -> Pace:
        """The pace at ``now`` of runs that ended at these times, in order, ``missing`` runs to go, in a launch or not."""
        is_running = launched and missing > 0
        if ends.empty:
            return cls(None, is_running=is_running, eta_s=None)
        last = ends.iloc[-1].to_pydatetime()
        since = (pd.Timestamp(now) - pd.Timedelta(seconds=LATE_S)).as_unit(ends.dt.unit)
        late = ends.iloc[int(ends.searchsorted(since)) :]
        if not is_running or late.empty:
            return cls(last, is_running=is_running, eta_s=None)
        seconds = max((now - late.iloc[0].to_pydatetime()).total_seconds(), 1.0)
        return cls(last, is_running=True, eta_s=missing * seconds / len(late))


@dataclass(frozen=True)
class _Look:
    """What a listing of a sweep's files has found."""

    begun: float
    ended: float
    """Both in seconds of the monotonic clock."""
    version: str
    at: datetime
    launched: bool


@dataclass(eq=False)
class Reader:
    """A store as the dashboard reads it; safe to use from several threads.

    Every method raises :class:`UnknownError` where there is no such sweep or panel, and StoreError where the store
    cannot be read.
    """

    store: Store
    numbers: Numbers = field(default_factory=Numbers)
    _cache: Cache = field(default_factory=Cache)
    _broken: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _looked: dict[str, _Look] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._files = self.store.keeping()
        self._leases = Leases(self.store.files)
        self._making = Making()

    def close(self) -> None:
        """End what is computed beside."""
        self.numbers.close()

    def cached(self) -> Cached:
        """How the cache does."""
        return self._cache.counts()

    def sweeps(self) -> list[str]:
        """Names, in alphabetical order."""
        return self.store.sweeps()

    def version(self, sweep: str) -> str:
        """Changes whenever a file of the sweep does."""
        return self._look(sweep).version

    def read_at(self, sweep: str) -> datetime:
        """When the store was last looked at for this sweep."""
        return self._look(sweep).at

    def launched(self, sweep: str) -> bool:
        """Whether a launch of the sweep lives, from wherever."""
        return self._look(sweep).launched

    def problems(self, sweep: str) -> list[str]:
        """One line for each file of the sweep that is broken and left out."""
        self._rows(sweep)
        self.steps(sweep)
        return [line for kind in ("runs", "curves") for line in self._broken.get((sweep, kind), ())]

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
        return [own, *(name for name in self._known(sweep) if name != own)]

    def status(self, sweep: str) -> dict[str, Any]:
        """How far it is (:func:`hpscan.analysis.status`)."""
        return self.kept(sweep, "status", lambda: status_of(sweep, self.shapes(sweep), self._rows(sweep).errors))

    def pace(self, sweep: str) -> Pace:
        """When its last run ended, and how long the rest will take."""
        ends = self.kept(sweep, "ends", lambda: self._rows(sweep).ends.dropna().sort_values())
        left_out = self.kept(sweep, "left out", lambda: self._left_out(sweep))
        missing = self.status(sweep)["states"]["missing"] - left_out
        pace = Pace.of(ends, missing, datetime.now(UTC), launched=self.launched(sweep))
        return replace(pace, left_out=left_out)

    def _left_out(self, sweep: str) -> int:
        spec, shapes = self.spec(sweep), self.shapes(sweep)
        if spec.adaptive is None:
            return 0
        waiting, done = (
            [run_id for shape in shapes for run_id in shape.run_ids[(shape.states == "missing") == is_missing]]
            for is_missing in (True, False)
        )
        return len(waiting) - len(to_train(spec, self.store.location, done, waiting))

    def shapes(self, sweep: str, metric: str | None = None) -> list[Landscape]:
        """A landscape for each panel; raises SpecError if the metric was not recorded."""
        return [self.shape(sweep, panel.name, metric) for panel in self.panels(sweep)]

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
        found = self._shape(sweep, self.panel(sweep, panel))
        if metric not in {None, found.metric}:
            found = replace(found, metric=showing(self.spec(sweep), self._known(sweep), str(metric)).metric)
        if step is not None:
            found = self._shape_at(sweep, found, step)
        if convention is not None:
            if convention not in CONVENTIONS:
                raise SpecError(f"convention: must be one of {', '.join(CONVENTIONS)}; got {convention!r}")
            if partner(found.variant, CONVENTIONS[convention]) not in {None, found.variant}:
                own = found
                return self.kept(
                    sweep,
                    ("redrawn", panel, found.metric, step, convention),
                    lambda: redrawn(own, CONVENTIONS[convention]),
                )
        return found

    def best(self, sweep: str) -> tuple[Landscape, Best] | None:
        """The best cell of all panels so far and its landscape; None if no cell has a result to compare."""

        def least() -> tuple[Landscape, Best] | None:
            found = [(shape, cell) for shape in self.shapes(sweep) if (cell := shape.best())]
            return min(found, key=lambda each: each[1].means[each[0].metric], default=None)

        return self.kept(sweep, "best", least)

    def steps(self, sweep: str, metric: str | None = None) -> list[int]:
        """The steps at which curves were recorded; none of a metric that they do not have."""
        if metric is not None and metric not in self.curves(sweep, []):
            return []
        return self.kept(sweep, "steps", lambda: self._files.steps(sweep, self._on_broken(sweep, "curves")))

    def numbers_of(
        self, sweep: str, panel: str, metric: str | None = None, convention: str | None = None
    ) -> tuple[Known | None, bool]:
        """The last statistics of one landscape, and whether they are those of what is stored now; if not, these follow."""
        version = self.version(sweep)
        known = self.numbers.of(
            (sweep, panel, metric, convention), version, lambda: self.shape(sweep, panel, metric, convention=convention)
        )
        return known, known is not None and known.version == version

    def predicts(self, sweep: str, panel: str) -> bool:
        """Whether a sweep is adaptive, and enough of a landscape was trained to predict its other cells."""
        adaptive = self.spec(sweep).adaptive
        if adaptive is None:
            return False
        tolerance = adaptive.tolerance
        belief = self.kept(sweep, ("belief", panel), lambda: belief_of(self.shape(sweep, panel), tolerance))
        return belief is not None

    def analysis(
        self, sweep: str, metric: str | None = None, *, wait_s: float = 0.0
    ) -> tuple[Made[Analysis] | None, bool]:
        """All that ``hpscan analyze`` and the report say, as last made, and whether it is of what is stored now.

        If not, a newer one follows; what is being made is waited for, for so many seconds.
        """
        version = self.version(sweep)
        made = self._making.of(
            (sweep, metric), version, lambda: analyze(self.store, sweep, metric=metric), wait_s=wait_s
        )
        return made, made is not None and made.version == version

    def analysed(self, sweep: str, metric: str | None = None) -> Made[Analysis]:
        """The same for who asks once: it has ended well, and is of what is stored now unless the sweep is being launched.

        Raises BeingMadeError while it takes longer than a request may.
        """
        made, is_current = self.analysis(sweep, metric, wait_s=WAIT_S)
        if made is None or not (is_current or self.launched(sweep)):
            raise BeingMadeError(f"{sweep}: is being analysed")
        made.outcome.result()
        return made

    def made_of(self, analysed: Made[Analysis], sweep: str, name: str, make: Callable[[Analysis], T]) -> T:
        """What ``make`` makes of an analysis, kept by its name; raises BeingMadeError while that takes too long."""
        key, version = (sweep, "made", name), analysed.version

        def kept() -> T:
            return self._cache.get(key, version, lambda: make(analysed.outcome.result()))

        made = self._making.of(key, version, lambda: bool(kept()), wait_s=WAIT_S)
        if made is None or made.version != version:
            raise BeingMadeError(f"{sweep}: {name} is being made")
        made.outcome.result()
        return kept()

    def runs(self, sweep: str, run_ids: Sequence[str]) -> pd.DataFrame:
        """The rows of some runs with all columns of the store; those that have not been trained have none."""
        key = "runs of", tuple(sorted(run_ids))
        return self.kept(sweep, key, lambda: self._files.runs(sweep, self._on_broken(sweep, "runs"), of=list(run_ids)))

    def curves(self, sweep: str, run_ids: Sequence[str]) -> pd.DataFrame:
        """The evaluations of some runs."""
        key = "curves", tuple(sorted(run_ids))
        return self.kept(
            sweep, key, lambda: self._files.curves(sweep, self._on_broken(sweep, "curves"), of=list(run_ids))
        )

    def _shape(self, sweep: str, panel: Panel) -> Landscape:
        """A landscape of the sweep's own metric, with the others beside it."""

        def read() -> Landscape:
            spec = self.spec(sweep)
            with ThreadPoolExecutor(1) as beside:  # files are read while run_ids are hashed
                reading = beside.submit(self._rows, sweep)
                run_ids = self._run_ids(spec, panel)
                rows = reading.result()
            return arranged(spec, panel, run_ids, rows.of(run_ids.ravel(), metrics_among(rows.names, rows.has)))

        return self.kept(sweep, ("shape", panel.name), read)

    def _shape_at(self, sweep: str, shape: Landscape, step: int) -> Landscape:
        """A landscape at an evaluation."""

        def read() -> Landscape | None:
            told = self._on_broken(sweep, "curves")
            key = "evaluations", shape.metric, step
            at = self.kept(sweep, key, lambda: self._files.curves_at(sweep, step, shape.metric, told))
            begun = next((found for _, found in evolution(shape, at)), None)
            return begun if begun is not None or at.empty else _not_begun(shape)

        found = self.kept(sweep, ("at", shape.name, shape.metric, step), read)
        if found is None:
            known = ", ".join(str(each) for each in self.steps(sweep) if each != step)
            raise SpecError(f"step: must be one of {known or 'none, no run has a curve'}; got {step}")
        return found

    def _run_ids(self, spec: Spec, panel: Panel) -> np.ndarray:
        """They depend on the spec alone, and are kept as long as that is what it was."""
        return self._cache.get((spec.name, "run_ids", panel.name), spec, lambda: panel.run_ids(spec.seeds))

    def _rows(self, sweep: str) -> Rows:
        """What landscapes need of every run."""
        return self.kept(sweep, "rows", lambda: self._files.rows(sweep, self._on_broken(sweep, "runs")))

    def _known(self, sweep: str) -> list[str]:
        """The metrics that any run has."""
        rows = self._rows(sweep)
        return [name for name in metrics_among(rows.names, rows.has) if rows.has(name)]

    def _on_broken(self, sweep: str, kind: str) -> Callable[[str], None]:
        """What is told of a sweep's files replaces what was told of them before."""
        told = self._broken[sweep, kind] = []
        return told.append

    def kept(self, sweep: str, what: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` makes of the sweep, made anew only after a file of it changed."""
        return self.kept_of([sweep], what, make)

    def kept_of(self, sweeps: Sequence[str], what: Hashable, make: Callable[[], T]) -> T:
        """The same of what is made of several sweeps."""
        return self._cache.get((*sweeps, what), tuple(map(self.version, sweeps)), make)

    def _look(self, sweep: str) -> _Look:
        last, begun = self._looked.get(sweep), time.monotonic()
        if last is not None and begun - last.ended < LOOK_S:
            return last
        version = self.store.version(sweep)
        if not version:
            raise UnknownError(f"sweep {sweep!r}: not in the store {self.store.files.shown()}")
        launched = self._leases.held(sweep)
        own = _Look(begun, time.monotonic(), version, datetime.now(UTC), launched)
        with self._lock:  # who began earlier may end later, and has seen less
            self._looked[sweep] = max(own, self._looked.get(sweep, own), key=lambda look: look.begun)
            return self._looked[sweep]


def _not_begun(shape: Landscape) -> Landscape:
    """A landscape at an evaluation that runs of other panels have come to, and none of its own."""
    states = np.where(shape.states == "completed", "missing", shape.states).astype(object)
    return replace(shape, states=states, values={shape.metric: np.where(shape.states == "diverged", np.inf, np.nan)})
