"""The store: one folder a sweep, one immutable parquet file a pack.

    STORE/SWEEP/spec.yaml                     the spec as launched; earlier revisions beside it as spec-HASH.yaml
    STORE/SWEEP/runs/pack-HASH.parquet        one row a run
    STORE/SWEEP/curves/pack-HASH.parquet      one row a run and evaluation
    STORE/SWEEP/rungs/pack-HASH.parquet       one row a run that has come to a rung, as if it were stopped there
    STORE/SWEEP/checkpoints/pack-HASH.pt      a pack in training, or runs at a rung
    STORE/SWEEP/lease.json                    who is launching it

A pack's files are named by a hash of its run_ids and replaced in one step: a retry overwrites its own file, and a
reader sees a whole file or none. Compaction merges them into ``compact-HASH.parquet``. Everything else in a sweep's
folder is derived.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hpscan.collector import Collector, OnBroken
from hpscan.files import Files, StoreError, digest
from hpscan.merging import Rows, counting, last_of_each, merged, merged_file, ordered, together
from hpscan.parts import (
    CURVES,
    DIAGNOSTICS,
    IN_THE_SPEC,
    METRICS,
    RUNS,
    SCHEMAS,
    WHERE_IT_RAN,
    File,
    Part,
    as_frame,
    as_table,
    to_parquet,
)
from hpscan.spec import Spec, SpecError
from hpscan.spec_text import parse_yaml

__all__ = ["CURVES", "DIAGNOSTICS", "METRICS", "RUNS", "Compacted", "Rows", "Store", "StoreError", "ended"]

MOST_NAMED = 5
"""Sweeps that are named where one is not found."""


@dataclass(frozen=True)
class Compacted:
    """What a compaction did: parquet files of the sweep before and after, and the rows in those that it wrote."""

    files_before: int
    files_after: int
    rows: int


class Store:
    """A folder of sweeps.

    Parameters
    ----------
    root
        A path, or a URI that ``pyarrow.fs`` knows, such as ``s3://bucket/prefix`` (credentials and endpoint from the
        AWS_* environment); it need not exist before the first write, a bucket must.
    on_broken
        For reads that are not given their own: called with one line for each truncated or foreign file, once.
    keeps
        Whether to keep what is read of files until they change, as size and time tell, for who reads again and again:
        what :meth:`rows` reads, and which runs and steps a file has.

    Raises
    ------
    StoreError
        Every method raises it where a file cannot be read or written; here, if a URI is not one we can use.
    """

    def __init__(self, root: str | Path, on_broken: OnBroken | None = None, *, keeps: bool = False) -> None:
        self.files = Files(root)
        self._parts = Collector(self.files, on_broken, keeps=keeps)

    def keeping(self) -> Store:
        """The same store, but one that keeps what it reads."""
        return Store(self.location, self._parts.on_broken, keeps=True)

    @property
    def location(self) -> str:
        """The store as another process is told of it: an absolute path, or the URI as given."""
        return self.files.location

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder of this machine."""
        return self.files.is_local

    @property
    def root(self) -> Path:
        """The folder of a local store; raises StoreError if it is none."""
        if not self.is_local:
            raise StoreError(
                f"{self.files.shown()}: not a local folder, and what is derived from it is written to one; give --out",
                bad_input=True,
            )
        return Path(self.files.shown())

    def sweeps(self) -> list[str]:
        """Names of the sweeps, in alphabetical order."""
        return self.files.folders_with("spec.yaml")

    def folder(self, sweep: str) -> Path:
        """The folder of a sweep, for what is derived from it; raises StoreError if the store is not local."""
        return self.root / sweep

    def spec(self, sweep: str) -> Spec:
        """The spec of a sweep as last launched; raises StoreError if there is none of that name."""
        known = self.sweeps()
        name = f"{sweep}/spec.yaml"
        content = self.files.read(name) if sweep in known else None
        if content is None:
            raise StoreError(
                f"sweep {sweep!r}: not in the store {self.files.shown()} ({_could_be(sweep, known)}); launch it first",
                bad_input=True,
            )
        path = self.files.shown(name)
        try:
            return Spec.validated(parse_yaml(content.decode(), path))
        except UnicodeDecodeError:
            raise StoreError(f"{path}: cannot be read: not a text file") from None
        except SpecError as error:
            raise StoreError(f"{path}: {str(error).removeprefix(f'spec {path!r}: ')}") from None

    def version(self, sweep: str) -> str:
        """Changes whenever the spec or a file of runs or curves does; empty if there is no such sweep."""
        return self.files.version(f"{sweep}/spec.yaml", f"{sweep}/runs", f"{sweep}/curves")

    def save_spec(self, spec: Spec) -> bool:
        """Write the spec; an earlier one that differs is kept beside it. Returns whether there was such a one."""
        name = f"{spec.name}/spec.yaml"
        content = spec.to_yaml().encode()
        earlier = self.files.read(name)
        if earlier is not None and earlier != content:
            self.files.write(f"{spec.name}/spec-{digest(earlier)[:8]}.yaml", earlier)
        self.files.write(name, content)
        return earlier not in {None, content}

    def save_pack(
        self, sweep: str, pack_id: str, runs: Sequence[Mapping[str, Any]], curves: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write the rows of a pack, curves first: a run whose row can be read has its curve.

        What a row holds beyond the schema is a further metric, a number. A run without a curve, because it failed, keeps
        the one that the pack's file holds of it: at a rung it is compared by that.
        """
        without = {run["run_id"] for run in runs} - {point["run_id"] for point in curves}
        table = as_table("curves", curves)
        if without:
            wanted, own = pa.array(sorted(without), pa.string()), {f"{sweep}/curves/pack-{pack_id}.parquet"}
            earlier = self._parts.take(
                sweep, "curves", lambda _: None, lambda file: file.select("run_id", wanted), only=own
            )
            table = pa.concat_tables([table, *(part.table for part in earlier.values())], promote_options="default")
        self._write_pack(sweep, "curves", pack_id, table)
        if runs:  # of a pack that has come to a rung none may have ended
            self._write_pack(sweep, "runs", pack_id, as_table("runs", runs))

    def save_rung(self, sweep: str, pack_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of runs that have come to a rung: what their rows will be if they stop there.

        ``pack_id`` of a row names the checkpoint that holds the run.
        """
        self._write_pack(sweep, "rungs", pack_id, as_table("rungs", rows))

    def rungs(self, sweep: str) -> pd.DataFrame:
        """One row a run that has come to a rung: as of the last one it came to."""
        return as_frame(
            merged("rungs", self._parts.take(sweep, "rungs", None, lambda file: file.part(["config"])), ["config"])
        )

    def stop(self, sweep: str, run_ids: Collection[str]) -> None:
        """Make the last rung that these runs have come to their end: as of then, or of now if they have failed since."""
        table = merged("rungs", self._parts.take(sweep, "rungs", None, File.part))
        rows = table.filter(pc.is_in(table["run_id"], pa.array(sorted(run_ids), pa.string())))
        stored, ends = self.runs(sweep, without=["config"], of=run_ids), rows["finished_at"]
        failed = pa.array(stored.loc[stored["state"] == "failed", "run_id"], pa.string())
        now = pa.scalar(datetime.now(UTC), ends.type)  # the latest row is the one that counts
        ends = pc.if_else(pc.is_in(rows["run_id"], failed), now, ends)
        rows = rows.set_column(rows.column_names.index("finished_at"), "finished_at", ends)
        self._write_pack(sweep, "runs", digest("".join(rows["run_id"].to_pylist()).encode()), rows)

    def _write_pack(self, sweep: str, kind: str, pack_id: str, table: pa.Table) -> None:
        written = datetime.now(UTC).isoformat(timespec="microseconds")
        with self.files.locked(f"{sweep}/{kind}", shared=True):  # or a compaction might delete it for its older self
            self.files.write(f"{sweep}/{kind}/pack-{pack_id}.parquet", to_parquet(table, written))

    def runs(
        self,
        sweep: str,
        on_broken: OnBroken | None = None,
        *,
        without: Collection[str] = (),
        of: Collection[str] | None = None,
    ) -> pd.DataFrame:
        """One row a run, the columns of :data:`RUNS`; also of runs that the present spec no longer asks for.

        A run that was trained in several packs appears once: completed or diverged before stopped or failed, then the latest.

        Parameters
        ----------
        sweep
            The sweep's name.
        on_broken
            Called with one line for each file that is truncated or foreign, which is then left out; by default the
            store's own.
        without
            Columns that need not be read; ``config`` is most of a sweep's memory.
        of
            The run_ids of those that are wanted, if not of all; of a large sweep that reads little.

        Raises
        ------
        StoreError
            If a file cannot be read, or is broken and there is no ``on_broken``.
        """
        return as_frame(merged("runs", self._of_runs(sweep, "runs", on_broken, without, of), without))

    def rows(self, sweep: str, on_broken: OnBroken | None = None) -> Rows:
        """What landscapes show of every run, to be looked up by run_id; parameters and errors as those of :meth:`runs`."""
        without = [*IN_THE_SPEC, "best_val_loss", "best_val_error", *WHERE_IT_RAN]
        parts = self._parts.take(sweep, "runs", on_broken, lambda file: file.part(without), keep_as="rows")
        return Rows(counting("runs", together("runs", parts, without)))

    @staticmethod
    def give_back() -> None:
        """Return to the system what pyarrow keeps of memory that was freed: after a large sweep, as much as it took."""
        pa.default_memory_pool().release_unused()

    def curves(
        self, sweep: str, on_broken: OnBroken | None = None, *, of: Collection[str] | None = None
    ) -> pd.DataFrame:
        """One row a run and evaluation, the columns of :data:`CURVES`; parameters and errors as those of :meth:`runs`.

        The curve of a run that was trained in several packs is that of the latest.
        """
        return as_frame(merged("curves", self._of_runs(sweep, "curves", on_broken, (), of)))

    def curves_at(self, sweep: str, step: int, metric: str, on_broken: OnBroken | None = None) -> pd.DataFrame:
        """The rows of :meth:`curves` at one step, in no order: ``run_id``, ``step`` and a metric.

        If no file has the metric there are no rows, and all columns that files have.
        """
        names = ["run_id", "step", metric]
        while True:
            parts = self._parts.take(
                sweep, "curves", on_broken, lambda file: file.select("step", pa.array([step], pa.int64()), names)
            )
            later = self._parts.take(
                sweep, "curves", on_broken, _runs_of, keep_as="runs", only=frozenset(ordered(parts)[1:])
            )
            unread = set(ordered(parts)[1:]) - later.keys()
            if not unread:
                break
            broken = unread & self._parts.stamps(sweep, "curves").keys()
            parts = {name: part for name, part in parts.items() if name not in broken}
            if unread == broken:  # or a compaction beside us has taken some away
                break
        table = pa.concat_tables(
            [CURVES.empty_table().select(names[:2]), *last_of_each(parts, later)], promote_options="default"
        )
        if metric not in table.column_names:
            parts = self._parts.take(
                sweep, "curves", on_broken, lambda file: file.select("step", pa.array([], pa.int64()))
            )
            return as_frame(together("curves", parts))
        return as_frame(table)

    def steps(self, sweep: str, on_broken: OnBroken | None = None) -> list[int]:
        """The steps at which any run was evaluated, in their order; parameters and errors as those of :meth:`runs`."""
        found = self._parts.take(sweep, "curves", on_broken, File.steps, keep_as="steps")
        return sorted(set[int]().union(*found.values()))

    def compact(self, sweep: str, on_broken: OnBroken | None = None) -> Compacted:
        """Merge the files of a sweep's runs, and those of its curves, into one each.

        The merged file is written first, then those that went into it are deleted: whoever reads or is killed between
        finds a run's rows twice, which count once. Only what was read is deleted, so that a pack written meanwhile
        stays. Broken files are left alone; ``on_broken`` and errors are as for :meth:`runs`.
        """
        before = after = rows = 0
        for kind in ("curves", "runs"):
            files = self._parts.take(sweep, kind, on_broken, _sound, whole=True)
            names = self._parts.stamps(sweep, kind)
            before += len(names)
            after += len(names)
            if len(files) < 2:
                continue
            content, n_rows = merged_file(kind, files)
            target = f"{sweep}/{kind}/compact-{digest(content)}.parquet"
            self.files.write(target, content)
            removed = self.files.supersede(target, {name: digest(file.content()) for name, file in files.items()})
            after += (target not in names) - removed
            rows += n_rows
        return Compacted(before, after, rows)

    def save_checkpoint(self, sweep: str, pack_id: str, content: bytes) -> None:
        """Keep the state of a pack in training; it replaces the one before in one step."""
        self.files.write(_checkpoint(sweep, pack_id), content)

    def checkpoint(self, sweep: str, pack_id: str) -> bytes | None:
        """The state of a pack in training as last saved, or None."""
        return self.files.read(_checkpoint(sweep, pack_id))

    def drop_checkpoint(self, sweep: str, pack_id: str) -> None:
        """Delete the state of a pack in training; an absent one is fine."""
        self.files.remove(_checkpoint(sweep, pack_id))

    def checkpoints(self, sweep: str) -> set[str]:
        """The ids of packs whose state is kept."""
        names = self.files.names(f"{sweep}/checkpoints")
        return {PurePosixPath(name).stem.removeprefix("pack-") for name in names}

    def keep_checkpoints(self, sweep: str, pack_ids: Collection[str]) -> None:
        """Delete all checkpoints but these; only while nobody trains the sweep."""
        for pack_id in self.checkpoints(sweep).difference(pack_ids):
            self.drop_checkpoint(sweep, pack_id)

    def tidy(self, sweep: str, *, complete: bool) -> None:
        """Delete what killed writers left behind, and, once a sweep is ``complete``, what it would have gone on from.

        Only for who holds the sweep's lease while nobody trains it.
        """
        for kind in (*SCHEMAS, "checkpoints"):
            self.files.remove_temporaries(f"{sweep}/{kind}")
        for kind in ("checkpoints", "rungs") if complete else ():
            for name in self.files.names(f"{sweep}/{kind}"):
                self.files.remove(name)

    def _of_runs(
        self,
        sweep: str,
        kind: str,
        on_broken: OnBroken | None,
        without: Collection[str],
        of: Collection[str] | None,
    ) -> dict[str, Part]:
        """The rows of some runs or of all, by file."""
        if of is None:
            return self._parts.take(sweep, kind, on_broken, lambda file: file.part(without))
        wanted = pa.array(sorted(of), pa.string())
        return self._parts.take(sweep, kind, on_broken, lambda file: file.select("run_id", wanted, without=without))


def _could_be(name: str, known: Sequence[str]) -> str:
    """The sweeps that could be meant by a name that none has, a few of them, and how many more there are."""
    few = known if len(known) <= MOST_NAMED else get_close_matches(name, known, MOST_NAMED) or known[:MOST_NAMED]
    more = f" and {len(known) - len(few)} more" if len(few) < len(known) else ""
    return f"{', '.join(few)}{more}" or "it holds none"


def _sound(file: File) -> File:
    """The file, once all its rows could be read."""
    file.check()
    return file


def _runs_of(file: File) -> Part:
    return Part(pa.table({"run_id": file.run_ids()}), file.written)


def ended(runs: pd.DataFrame, *, retry_failed: bool = False) -> set[str]:
    """The run_ids of rows that a launch need not train; failed runs count as ended unless they are to be retried."""
    return set(runs.loc[runs["state"] != "failed", "run_id"] if retry_failed else runs["run_id"])


def _checkpoint(sweep: str, pack_id: str) -> str:
    return f"{sweep}/checkpoints/pack-{pack_id}.pt"
