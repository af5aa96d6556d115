"""The store: one folder a sweep, one immutable parquet file a pack.

    STORE/SWEEP/spec.yaml                     the spec as launched; earlier revisions beside it as spec-HASH.yaml
    STORE/SWEEP/runs/pack-HASH.parquet        one row a run
    STORE/SWEEP/curves/pack-HASH.parquet      one row a run and evaluation

A pack's files are named by a hash of its run_ids and written to a temporary sibling, fsynced and renamed: a retry
overwrites its own file, and a reader sees a whole file or none. Everything else in a sweep's folder is derived.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hpscan.axes import FURTHER_AXES
from hpscan.spec import Spec, SpecError

__all__ = ["CURVES", "METRICS", "RUNS", "Store", "StoreError", "ended"]

METRICS = ("train_loss", "train_error", "val_loss", "val_error", "test_loss", "test_error")

RUNS = pa.schema(
    [
        # what was trained
        ("run_id", pa.string()),
        ("variant", pa.string()),
        ("lr", pa.float64()),
        ("wd", pa.float64()),
        ("seed", pa.int64()),
        *((setting, pa.float64()) for setting in FURTHER_AXES),  # null where the optimizer has none
        ("config", pa.string()),  # the complete canonical config, JSON
        # what came of it
        ("state", pa.string()),
        ("error", pa.string()),  # of a failed run
        ("steps", pa.int64()),
        ("steps_done", pa.int64()),
        *((metric, pa.float64()) for metric in METRICS),
        # further metrics of the workload, and those of snapshots' averaged predictions, have columns at the end
        ("best_val_loss", pa.float64()),  # over the curve
        ("best_val_error", pa.float64()),
        ("wall_s", pa.float64()),
        ("device_s", pa.float64()),
        ("compile_s", pa.float64()),  # of the whole pack
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
    ]
)


ESSENTIAL = {
    "runs": {"run_id", "variant", "lr", "wd", "seed", "config", "state", "finished_at"},
    "curves": {"run_id", "step", "val_loss"},
}
"""Columns without which a file is none of ours."""


class StoreError(Exception):
    """The store cannot be read or written; the message is one line that names the path.

    ``bad_input`` says that what was asked for is wrong (no such sweep) rather than the store itself.
    """

    def __init__(self, message: str, *, bad_input: bool = False) -> None:
        super().__init__(message)
        self.bad_input = bad_input


class Store:
    """A folder of sweeps.

    Parameters
    ----------
    root
        A local path; it need not exist before the first write.
    """

    def __init__(self, root: str | Path) -> None:
        if "://" in str(root):
            raise StoreError(
                f"--store {str(root)!r}: must be a local folder; URIs are not supported yet", bad_input=True
            )
        self.root = Path(root).absolute()

    def sweeps(self) -> list[str]:
        """Names of the sweeps, in alphabetical order."""
        return sorted(path.parent.name for path in self.root.glob("*/spec.yaml"))

    def folder(self, sweep: str) -> Path:
        """The folder of a sweep, for what is derived from it."""
        return self.root / sweep

    def spec(self, sweep: str) -> Spec:
        """The spec of a sweep as last launched; raises StoreError if there is none of that name."""
        path = self.folder(sweep) / "spec.yaml"
        if sweep not in self.sweeps():
            known = ", ".join(self.sweeps()) or "it holds none"
            raise StoreError(
                f"sweep {sweep!r}: not in the store {self.root} ({known}); launch it first", bad_input=True
            )
        try:
            return Spec.load(str(path))
        except SpecError as error:
            raise StoreError(f"{path}: {error}") from None

    def save_spec(self, spec: Spec) -> bool:
        """Write the spec; an earlier one that differs is kept beside it. Returns whether there was such a one."""
        path = self.folder(spec.name) / "spec.yaml"
        text = spec.to_yaml()
        with _writing(path):
            earlier = path.read_text(encoding="utf-8") if path.exists() else text
            if earlier != text:
                revision = hashlib.sha256(earlier.encode()).hexdigest()[:8]
                _write_atomically(path.with_name(f"spec-{revision}.yaml"), earlier.encode())
            _write_atomically(path, text.encode())
        return earlier != text

    def save_pack(
        self, sweep: str, pack_id: str, runs: Sequence[Mapping[str, Any]], curves: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write the rows of a pack, curves first: a run whose row can be read has its curve.

        What a row holds beyond the schema is a further metric, a number.
        """
        for kind, schema, rows in (("curves", CURVES, curves), ("runs", RUNS, runs)):
            path = self.folder(sweep) / kind / f"pack-{pack_id}.parquet"
            with _writing(path):
                further = sorted({name for row in rows for name in row} - set(schema.names))
                wide = pa.schema([*schema, *((name, pa.float64()) for name in further)])
                buffer = pa.BufferOutputStream()
                pq.write_table(pa.Table.from_pylist(list(rows), schema=wide), buffer, compression="zstd")
                _write_atomically(path, buffer.getvalue().to_pybytes())

    def runs(self, sweep: str) -> pd.DataFrame:
        """One row a run, the columns of :data:`RUNS`; also of runs that the present spec no longer asks for.

        A run that was trained in two packs appears once, with the row of the pack that finished last.
        """
        table = self._read(sweep, "runs", RUNS)
        return table.sort_values("finished_at").drop_duplicates("run_id", keep="last").reset_index(drop=True)

    def curves(self, sweep: str) -> pd.DataFrame:
        """One row a run and evaluation, the columns of :data:`CURVES`."""
        return self._read(sweep, "curves", CURVES).drop_duplicates(["run_id", "step"]).reset_index(drop=True)

    def errors(self, sweep: str) -> dict[str, int]:
        """What the failed runs of a sweep raised, with how many raised it."""
        runs = self.runs(sweep)
        return {str(text): int(count) for text, count in runs["error"].dropna().value_counts().items()}

    def _read(self, sweep: str, kind: str, schema: pa.Schema) -> pd.DataFrame:
        tables = [schema.empty_table()]
        for path in sorted((self.folder(sweep) / kind).glob("*.parquet")):
            try:
                table = pq.read_table(path, partitioning=None)
                absent = ESSENTIAL[kind] - set(table.column_names)
                if absent:
                    raise pa.ArrowInvalid(f"it has no column {min(absent)}")
                wide = pa.schema([
                    schema.field(name) if name in schema.names else (name, pa.float64()) for name in table.column_names
                ])  # fmt: skip
                tables.append(table.cast(wide))  # columns of a later version are null in the files of an earlier one
            except PermissionError as error:
                raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
            except (OSError, pa.ArrowException, ValueError) as error:
                reason = str(error).splitlines()[0]
                raise StoreError(f"{path}: not a parquet file of hpscan's ({reason}); delete it and relaunch") from None
        return pa.concat_tables(tables, promote_options="default").to_pandas()


def ended(runs: pd.DataFrame, *, retry_failed: bool = False) -> set[str]:
    """The run_ids of rows that a launch need not train; failed runs count as ended unless they are to be retried."""
    return set(runs.loc[runs["state"] != "failed", "run_id"] if retry_failed else runs["run_id"])


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Make the parent folder; turn what the file system says into one line."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from error


def _write_atomically(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)  # temporary files are private by default
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
