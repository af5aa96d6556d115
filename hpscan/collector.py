"""What is taken of all parquet files of a folder, beside writers and compactions: read again only where a file has changed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa

from hpscan.errors import first_line
from hpscan.files import Files, Stamp, StoreError, in_memory
from hpscan.merging import is_merged
from hpscan.parts import File

__all__ = ["Collector", "OnBroken"]

T = TypeVar("T")

OnBroken = Callable[[str], None]
"""Is told, in one line, of a file that is left out because it cannot be read as one of ours."""


class Collector:
    """Reads the parquet files of a store, a folder for each sweep and kind; parameters as those of the store."""

    def __init__(self, files: Files, on_broken: OnBroken | None, *, keeps: bool) -> None:
        self.on_broken = on_broken
        self._files = files
        self._told: set[str] = set()
        self._keeps = keeps
        self._kept: dict[str, tuple[Stamp, dict[str, Any]]] = {}

    def stamps(self, sweep: str, kind: str) -> dict[str, Stamp]:
        """Size and time of each file."""
        found = self._files.stamps(f"{sweep}/{kind}")
        return {name: stamp for name, stamp in found.items() if name.endswith(".parquet")}

    def take(
        self,
        sweep: str,
        kind: str,
        on_broken: OnBroken | None,
        taken: Callable[[File], T],
        *,
        keep_as: str = "",
        only: Collection[str] | None = None,
        whole: bool = False,
    ) -> dict[str, T]:
        """What is taken of the files of a folder, or of some, by name; what is broken is told once and left out.

        It is kept as ``keep_as``, if named and things are kept at all. ``whole`` files are in memory, and are what
        they were whatever becomes of them in the store.
        """
        found: dict[str, T | _Broken] = {}
        stamps = self.stamps(sweep, kind)
        while True:
            vanished = False
            for name, stamp in stamps.items():
                if name in found or (only is not None and name not in only):
                    continue
                kept = self._kept_of(name, stamp)
                if keep_as not in kept:
                    taken_now = self._taken(name, kind, taken, whole=whole)
                    if taken_now is None:
                        vanished = True
                        continue
                    kept[keep_as] = taken_now
                found[name] = kept[keep_as] if keep_as else kept.pop(keep_as)
            # A compaction beside us may delete a file that we have yet to read, or have yet to list, after we missed
            # the one that replaces it: we are done when no merged file is there that we have not read.
            stamps = self.stamps(sweep, kind)
            if only is not None or (not vanished and not any(is_merged(name) and name not in found for name in stamps)):
                break
        for name in [name for name in list(self._kept) if name.startswith(f"{sweep}/{kind}/") and name not in stamps]:
            self._kept.pop(name, None)
        for broken in found.values():
            if isinstance(broken, _Broken):
                self._tell(broken, on_broken)
        return {name: part for name, part in found.items() if not isinstance(part, _Broken)}

    def _kept_of(self, name: str, stamp: Stamp) -> dict[str, Any]:
        """What is kept of a file as it is now."""
        if not self._keeps:
            return {}
        of, kept = self._kept.get(name, (stamp, {}))
        if of != stamp:
            kept = {}
        self._kept[name] = stamp, kept
        return kept

    def _taken(self, name: str, kind: str, taken: Callable[[File], T], *, whole: bool) -> T | _Broken | None:
        """What is taken of a file; None if there is none of that name any more."""
        source = self._files.open(name)
        if source is None:
            return None
        try:
            return taken(File(in_memory(source) if whole else source, kind))
        except (OSError, pa.ArrowException, ValueError) as error:
            refused = self._files.refused(name, error)
            if refused is None:
                return _Broken(f"{self._files.shown(name)}: not a parquet file of hpscan's ({first_line(error)})", kind)
            if name not in self.stamps(name.split("/", maxsplit=1)[0], kind):
                return None
            raise refused from error

    def _tell(self, broken: _Broken, on_broken: OnBroken | None) -> None:
        tell = on_broken or self.on_broken
        if tell is None:
            raise StoreError(f"{broken.line}; delete it and relaunch")
        is_curves = broken.kind == "curves"
        line = f"{broken.line}; its " + (
            "curves are left out" if is_curves else "runs count as missing and are trained again"
        )
        if on_broken or line not in self._told:
            tell(line)
        self._told.add(line)


@dataclass(frozen=True)
class _Broken:
    """In place of what would have been taken of a file."""

    line: str
    kind: str
