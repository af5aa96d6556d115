"""What of a sweep is shown, and how: every view is a URL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode

__all__ = ["MOST_TOLERANCE", "SCALES", "SHOWN", "View"]

SCALES = ("log", "linear", "rank")
SHOWN = {"mean": "mean over seeds", "se": "standard error", "n": "seeds known"}
"""What a cell may show of its seeds; or one seed, by its number."""
MOST_TOLERANCE = 25.0
"""Percent of the best cell at which a basin still is one; the slider's end."""
MOST_DIGITS = 20
"""Of a seed's number: more than any seed has."""


@dataclass(frozen=True)
class View:
    """How landscapes are drawn; the defaults are what a URL without a query shows."""

    maps: tuple[str, ...] = ()
    """Panels that are drawn, ``SWEEP/PANEL``; all if empty."""
    metric: str = ""
    """The sweep's own if empty."""
    shows: str = "mean"
    """One of :data:`SHOWN`, or a seed."""
    scale: str = "log"
    clip: float = 80.0
    """The quantile of the finite cells at which colours end, in percent."""
    step: int | None = None
    """An evaluation; the end of training if None."""
    units: str = ""
    """A convention that decoupled landscapes are drawn in; their own if empty."""
    tolerance: float = 5.0
    """How much worse than the best cell a cell of the outlined basin is at most, in percent; no outline at 0."""
    iso: bool = False
    """Whether lines of constant lr·wd are drawn."""

    @classmethod
    def from_query(cls, query: str | None) -> Self:
        """The view of a URL's query; what it has no field for, or a value that makes no sense, is left at its default."""
        given = parse_qsl((query or "").removeprefix("?"))
        read: dict[str, Any] = {"maps": tuple(value for key, value in given if key == "map")}
        plain = dict(given)
        for key in ("metric", "shows", "scale", "units"):
            if key in plain:
                read[key] = plain[key]
        for key, kind in (("clip", float), ("tolerance", float), ("step", int)):
            try:
                read[key] = kind(plain[key])
            except (KeyError, ValueError):
                continue
        if plain.get("iso") == "1":
            read["iso"] = True
        return cls(**read).sane()

    @classmethod
    def from_data(cls, data: dict[str, Any] | None) -> Self:
        """The view that a page keeps in the browser."""
        data = dict(data or {})
        return cls(**{**data, "maps": tuple(data.get("maps", ()))}).sane()

    def to_data(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def to_query(self, sweeps: Sequence[str] = ()) -> str:
        """The query of its URL, with its question mark; only what differs from the default is in it."""
        own, plain = asdict(self), asdict(type(self)())
        pairs: list[tuple[str, Any]] = [("sweep", sweep) for sweep in sweeps]
        pairs += [("map", name) for name in self.maps]
        for key, value in own.items():
            if key != "maps" and value != plain[key]:
                pairs.append((key, f"{value:g}" if isinstance(value, float) else int(value) if key == "iso" else value))
        return f"?{urlencode(pairs)}" if pairs else ""

    def sane(self) -> Self:
        """The same within what can be drawn."""
        plain = type(self)()
        return replace(
            self,
            scale=self.scale if self.scale in SCALES else plain.scale,
            clip=plain.clip if math.isnan(self.clip) else min(max(self.clip, 5.0), 100.0),
            tolerance=plain.tolerance if math.isnan(self.tolerance) else min(max(self.tolerance, 0.0), MOST_TOLERANCE),
            step=self.step if self.step is None or 0 <= self.step < 2**63 else plain.step,
            shows=self.shows if self.shows in SHOWN or self.seed is not None else plain.shows,
            units=self.units if self.units in {"paper", "torch"} else "",
        )

    @property
    def seed(self) -> int | None:
        """The one seed that is shown, if it is one."""
        return int(self.shows) if self.shows.isdecimal() and len(self.shows) <= MOST_DIGITS else None
