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

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hpscan.axes import FURTHER_AXES
from hpscan.files import Files, StoreError, digest
from hpscan.spec import Spec, SpecError, parse_yaml

__all__ = ["CURVES", "DIAGNOSTICS", "METRICS", "RUNS", "Compacted", "Store", "StoreError", "ended"]

METRICS = ("train_loss", "train_error", "val_loss", "val_error", "test_loss", "test_error")
DIAGNOSTICS = ("weight_norm", "grad_norm", "update_ratio", "rotation", "gap")
"""What is measured beside the metrics: in the curves at each evaluation; of a run, what ``RunResult.diagnostics`` makes of it."""

RUNS = pa.schema(
    [
        # what was trained
        ("run_id", pa.string()),
        ("variant", pa.string()),
        ("lr", pa.float64()),
        ("wd", pa.float64()),
        ("seed", pa.int64()),
        *((setting, pa.float64()) for setting in FURTHER_AXES),  # null where the optimizer has none
        ("batch_size", pa.int64()),
        ("width", pa.int64()),  # of the model's first layer; null where the model has none to set
        ("config", pa.string()),  # the complete canonical config, JSON
        # what came of it
        ("state", pa.string()),
        ("error", pa.string()),  # of a failed run
        ("steps", pa.int64()),
        ("steps_done", pa.int64()),
        *((metric, pa.float64()) for metric in METRICS),
        *((name, pa.float64()) for name in (*DIAGNOSTICS, "sharpness")),  # null in what an earlier version trained
        # further metrics of the workload, and those of snapshots' averaged predictions, have columns at the end
        ("best_val_loss", pa.float64()),  # over the curve
        ("best_val_error", pa.float64()),
        ("wall_s", pa.float64()),
        ("device_s", pa.float64()),
        ("compile_s", pa.float64()),  # of the whole pack
        ("flop_per_step", pa.float64()),  # of the one run, forward and backward; null where it cannot be counted
        # where it ran
        ("pack_id", pa.string()),
        ("pack_runs", pa.int64()),
        ("strategy", pa.string()),
        ("strategy_reason", pa.string()),
        ("choice_s", pa.float64()),  # what trying strategies and compiling took the worker, once for all its packs
        ("compiled", pa.bool_()),
        ("device", pa.string()),
        ("device_name", pa.string()),
        ("gpu", pa.string()),  # which one Ray gave the worker
        ("host", pa.string()),
        ("threads", pa.int64()),
        ("matmul_mode", pa.string()),
        ("malloc_tuned", pa.bool_()),
        ("hpscan_version", pa.string()),
        ("torch_version", pa.string()),
        ("ray_version", pa.string()),
        ("python_version", pa.string()),
        ("git_commit", pa.string()),  # of the folder hpscan was launched in
        ("finished_at", pa.timestamp("ms", tz="UTC")),
    ]
)

CURVES = pa.schema(
    [
        ("run_id", pa.string()),
        ("step", pa.int64()),
        ("batch_loss", pa.float64()),
        ("val_loss", pa.float64()),
        ("val_error", pa.float64()),
        ("snapshot", pa.bool_()),  # a period of the schedule ends here
        *((name, pa.float64()) for name in DIAGNOSTICS),
    ]
)


SCHEMAS = {"runs": RUNS, "curves": CURVES, "rungs": RUNS}

ESSENTIAL = {
    "runs": {"run_id", "variant", "lr", "wd", "seed", "config", "state", "finished_at"},
    "rungs": {"run_id", "state", "steps_done", "finished_at"},
    "curves": {"run_id", "step", "val_loss"},
}
"""Columns without which a file is none of ours."""


OnBroken = Callable[[str], None]
"""Is told, in one line, of a file that is left out because it cannot be read as one of ours."""

_WRITTEN = b"hpscan.written"  # key of a file's metadata: a UTC time, since a row of a curve has none of its own


@dataclass(frozen=True)
class Compacted:
    """What a compaction did: parquet files of the sweep before and after, and the rows in those that it wrote."""

    files_before: int
    files_after: int
    rows: int


@dataclass(frozen=True, eq=False)
class _Part:
    """One parquet file as read."""

    table: pa.Table
    written: str
    digest: str


class Store:
    """A folder of sweeps.

    Parameters
    ----------
    root
        A path, or a URI that ``pyarrow.fs`` knows, such as ``s3://bucket/prefix`` (credentials and endpoint from the
        AWS_* environment); it need not exist before the first write, a bucket must.
    on_broken
        For reads that are not given their own: called with one line for each truncated or foreign file, once.

    Raises
    ------
    StoreError
        Every method raises it where a file cannot be read or written; here, if a URI is not one we can use.
    """

    def __init__(self, root: str | Path, on_broken: OnBroken | None = None) -> None:
        self.files = Files(root)
        self._on_broken = on_broken
        self._told: set[str] = set()

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
                f"sweep {sweep!r}: not in the store {self.files.shown()} ({', '.join(known) or 'it holds none'}); launch it first",
                bad_input=True,
            )
        path = self.files.shown(name)
        try:
            return Spec.validated(parse_yaml(content.decode(), path))
        except UnicodeDecodeError:
            raise StoreError(f"{path}: cannot be read: not a text file") from None
        except SpecError as error:
            raise StoreError(f"{path}: {error}") from None

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

        What a row holds beyond the schema is a further metric, a number.
        """
        for kind, rows in (("curves", curves), ("runs", runs)):
            if rows or kind == "curves":  # of a pack that has come to a rung no run may have ended
                self._write_pack(sweep, kind, pack_id, _table(kind, rows))

    def save_rung(self, sweep: str, pack_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of runs that have come to a rung: what their rows will be if they stop there.

        ``pack_id`` of a row names the checkpoint that holds the run.
        """
        self._write_pack(sweep, "rungs", pack_id, _table("rungs", rows))

    def rungs(self, sweep: str) -> pd.DataFrame:
        """One row a run that has come to a rung: as of the last one it came to."""
        return _frame(_merged("rungs", self._parts(sweep, "rungs", None, ["config"]), ["config"]))

    def stop(self, sweep: str, run_ids: Collection[str]) -> None:
        """Make the last rung that these runs have come to their end."""
        table = _merged("rungs", self._parts(sweep, "rungs", None))
        rows = table.filter(pc.is_in(table["run_id"], pa.array(sorted(run_ids), pa.string())))
        self._write_pack(sweep, "runs", digest("".join(rows["run_id"].to_pylist()).encode()), rows)

    def _write_pack(self, sweep: str, kind: str, pack_id: str, table: pa.Table) -> None:
        written = datetime.now(UTC).isoformat(timespec="microseconds")
        with self.files.locked(f"{sweep}/{kind}", shared=True):  # or a compaction might delete it for its older self
            self.files.write(f"{sweep}/{kind}/pack-{pack_id}.parquet", _to_parquet(table, written))

    def runs(self, sweep: str, on_broken: OnBroken | None = None, *, without: Collection[str] = ()) -> pd.DataFrame:
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

        Raises
        ------
        StoreError
            If a file cannot be read, or is broken and there is no ``on_broken``.
        """
        return _frame(_merged("runs", self._parts(sweep, "runs", on_broken, without), without))

    @staticmethod
    def give_back() -> None:
        """Return to the system what pyarrow keeps of memory that was freed: after a large sweep, as much as it took."""
        pa.default_memory_pool().release_unused()

    def curves(self, sweep: str, on_broken: OnBroken | None = None) -> pd.DataFrame:
        """One row a run and evaluation, the columns of :data:`CURVES`; parameters and errors as those of :meth:`runs`.

        The curve of a run that was trained in several packs is that of the latest.
        """
        return _frame(_merged("curves", self._parts(sweep, "curves", on_broken)))

    def compact(self, sweep: str, on_broken: OnBroken | None = None) -> Compacted:
        """Merge the files of a sweep's runs, and those of its curves, into one each.

        The merged file is written first, then those that went into it are deleted: whoever reads or is killed between
        finds a run's rows twice, which count once. Only what was read is deleted, so that a pack written meanwhile
        stays. Broken files are left alone; ``on_broken`` and errors are as for :meth:`runs`.
        """
        before = after = rows = 0
        for kind in ("curves", "runs"):
            parts = self._parts(sweep, kind, on_broken)
            names = self._names(sweep, kind)
            before += len(names)
            after += len(names)
            if len(parts) < 2:
                continue
            table = _merged(kind, parts).combine_chunks()
            content = _to_parquet(table, max(part.written for part in parts.values()))
            target = f"{sweep}/{kind}/compact-{digest(content)}.parquet"
            self.files.write(target, content)
            removed = self.files.supersede(target, {name: part.digest for name, part in parts.items()})
            after += (target not in names) - removed
            rows += table.num_rows
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

    def keep_checkpoints(self, sweep: str, pack_ids: Collection[str]) -> None:
        """Delete all checkpoints but these; only while nobody trains the sweep."""
        wanted = {_checkpoint(sweep, pack_id) for pack_id in pack_ids}
        for name in self.files.names(f"{sweep}/checkpoints"):
            if name not in wanted:
                self.files.remove(name)

    def tidy(self, sweep: str, *, complete: bool) -> None:
        """Delete what killed writers left behind, and, once a sweep is ``complete``, what it would have gone on from.

        Only for who holds the sweep's lease while nobody trains it.
        """
        for kind in (*SCHEMAS, "checkpoints"):
            self.files.remove_temporaries(f"{sweep}/{kind}")
        for kind in ("checkpoints", "rungs") if complete else ():
            for name in self.files.names(f"{sweep}/{kind}"):
                self.files.remove(name)

    def _names(self, sweep: str, kind: str) -> list[str]:
        return [name for name in self.files.names(f"{sweep}/{kind}") if name.endswith(".parquet")]

    def _parts(
        self, sweep: str, kind: str, on_broken: OnBroken | None, without: Collection[str] = ()
    ) -> dict[str, _Part]:
        """The files of a folder, by name; what is broken is told once and left out."""
        parts: dict[str, _Part | None] = {}
        names = self._names(sweep, kind)
        while True:
            vanished = False
            for name in names:
                if name in parts:
                    continue
                content = self.files.read(name)
                if content is None:
                    vanished = True
                else:
                    parts[name] = self._part(name, kind, content, on_broken, without)
            # A compaction beside us may delete a file that we have yet to read, or have yet to list, after we missed
            # the one that replaces it: we are done when no merged file is there that we have not read.
            names = self._names(sweep, kind)
            if not vanished and not any(_is_merged(name) and name not in parts for name in names):
                return {name: part for name, part in parts.items() if part is not None}

    def _part(
        self, name: str, kind: str, content: bytes, on_broken: OnBroken | None, without: Collection[str]
    ) -> _Part | None:
        try:
            return _from_parquet(content, kind, without)
        except (OSError, pa.ArrowException, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            line = f"{self.files.shown(name)}: not a parquet file of hpscan's ({reason})"
            tell = on_broken or self._on_broken
            if tell is None:
                raise StoreError(f"{line}; delete it and relaunch") from None
            line += (
                "; its curves are left out" if kind == "curves" else "; its runs count as missing and are trained again"
            )
            if on_broken or line not in self._told:
                tell(line)
            self._told.add(line)
            return None


def ended(runs: pd.DataFrame, *, retry_failed: bool = False) -> set[str]:
    """The run_ids of rows that a launch need not train; failed runs count as ended unless they are to be retried."""
    return set(runs.loc[runs["state"] != "failed", "run_id"] if retry_failed else runs["run_id"])


def _table(kind: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table of the kind's schema, what is beyond it as further numbers."""
    schema = SCHEMAS[kind]
    further = sorted({name for row in rows for name in row} - set(schema.names))
    wide = pa.schema([*schema, *((name, pa.float64()) for name in further)])
    return pa.Table.from_pylist(list(rows), schema=wide)


def _frame(table: pa.Table) -> pd.DataFrame:
    """The table as pandas has it, column by column, so that a large one is not held twice."""
    frame = table.to_pandas(split_blocks=True, self_destruct=True)
    pa.default_memory_pool().release_unused()
    return frame


def _checkpoint(sweep: str, pack_id: str) -> str:
    return f"{sweep}/checkpoints/pack-{pack_id}.pt"


def _is_merged(name: str) -> bool:
    return name.rpartition("/")[2].startswith("compact-")


def _to_parquet(table: pa.Table, written: str) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({_WRITTEN: written}), buffer, compression="zstd")
    return buffer.getvalue().to_pybytes()


def _from_parquet(content: bytes, kind: str, without: Collection[str]) -> _Part:
    file = pq.ParquetFile(pa.BufferReader(content))
    absent = ESSENTIAL[kind] - set(file.schema_arrow.names)
    if absent:
        raise pa.ArrowInvalid(f"it has no column {min(absent)}")
    schema, names = SCHEMAS[kind], [name for name in file.schema_arrow.names if name not in without]
    table = file.read(columns=names)
    written = (table.schema.metadata or {}).get(_WRITTEN, b"").decode()
    wide = pa.schema([schema.field(name) if name in schema.names else (name, pa.float64()) for name in names])
    return _Part(table.cast(wide), written, digest(content))


def _merged(kind: str, parts: Mapping[str, _Part], without: Collection[str] = ()) -> pa.Table:
    """All rows of a kind, what several files hold once; the same table for the same rows, however they were stored."""
    schema = SCHEMAS[kind]
    # The later comes last and wins; of files as old as one another a merged one comes first, its rows having been in a pack.
    order = sorted(parts, key=lambda name: (parts[name].written, not _is_merged(name), name))
    # columns of a later version, and further metrics, are null in the files that lack them
    table = pa.concat_tables([schema.empty_table(), *(parts[name].table for name in order)], promote_options="default")
    wanted = [*schema.names, *sorted(set(table.column_names) - set(schema.names))]
    table = table.select([name for name in wanted if name not in without])
    rows = table.select(["run_id", "step"] if kind == "curves" else ["run_id", "state", "steps_done", "finished_at"])
    rows = rows.to_pandas()
    if kind != "curves":
        rows["ended"] = rows["state"].isin(["completed", "diverged"]) if kind == "runs" else rows["steps_done"]
        rows = rows.sort_values(["ended", "finished_at"], kind="stable", na_position="first")
        rows = rows.drop_duplicates("run_id", keep="last").sort_values(["finished_at", "run_id"])
    else:
        rows["file"] = [place for place, name in enumerate(order) for _ in range(parts[name].table.num_rows)]
        rows = rows[rows["file"] == rows.groupby("run_id")["file"].transform("max")]
        rows = rows.drop_duplicates(["run_id", "step"], keep="last").sort_values(["run_id", "step"])
    return table.take(pa.array(rows.index, type=pa.int64()))
