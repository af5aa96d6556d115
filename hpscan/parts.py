"""The parquet files of a store: what a row of each kind is, and one file written, and read whole or in part."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hpscan.axes import FURTHER_AXES

__all__ = [
    "CURVES", "DIAGNOSTICS", "IN_THE_SPEC", "METRICS", "RUNS", "SCHEMAS", "WHERE_IT_RAN", "WRITTEN", "File", "Part",
    "as_frame", "as_table", "to_parquet",
]  # fmt: skip

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

WHERE_IT_RAN = tuple(RUNS.names[RUNS.names.index("wall_s") : RUNS.names.index("finished_at")])
"""Columns that no landscape shows: with the config and errors most of the memory of 100,000 runs."""
IN_THE_SPEC = ("variant", "lr", "wd", "seed", *FURTHER_AXES, "batch_size", "width", "config", "steps")
"""Columns that say of a run what its run_id does: what was trained."""

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

WRITTEN = b"hpscan.written"
"""Key of a file's metadata: a UTC time, since a row of a curve has none of its own."""
ROWS_AT_ONCE = 4_000_000
"""How much of a file is held decoded while the rows that are wanted are looked for."""


@dataclass(frozen=True, eq=False)
class Part:
    """Rows of one file, and when it was written."""

    table: pa.Table
    written: str


class File:
    """An open parquet file of one kind; nothing but its footer has been read.

    Raises
    ------
    OSError, pa.ArrowException, ValueError
        If it cannot be read as one of ours; so do all methods.
    """

    def __init__(self, source: pa.NativeFile, kind: str) -> None:
        self.source, self._kind = source, kind
        self._footer = pq.read_metadata(source)
        schema = self._footer.schema.to_arrow_schema()
        absent = ESSENTIAL[kind] - set(schema.names)
        if absent:
            raise pa.ArrowInvalid(f"it has no column {min(absent)}")
        self.names: list[str] = schema.names
        self.rows: int = self._footer.num_rows
        self.written = (schema.metadata or {}).get(WRITTEN, b"").decode()
        # run_ids that are written as numbers of words are read so; where each row has its own that would take longer
        repeated = ["run_id"] if kind == "curves" and self._has_dictionary(self.names.index("run_id")) else []
        self._file = pq.ParquetFile(source, metadata=self._footer, read_dictionary=repeated, pre_buffer=True)

    def content(self) -> memoryview:
        """All its bytes."""
        self.source.seek(0)
        return memoryview(self.source.read_buffer())

    def part(self, without: Collection[str] = ()) -> Part:
        """All its rows, without some columns."""
        names = [name for name in self.names if name not in without]
        return Part(self._typed(self._file.read(columns=names)), self.written)

    def select(
        self, column: str, values: pa.Array, names: Collection[str] | None = None, *, without: Collection[str] = ()
    ) -> Part:
        """The rows that have one of the values in a column, with some columns or all.

        Row groups that cannot have such rows are not read; of those that may, that column first, unless the footer
        leaves so few that they will have some.
        """
        names = [name for name in self.names if (names is None or name in names) and name not in without]
        found = [self._typed(self._file.schema_arrow.empty_table().select(names))]
        chosen = self._with(column, values)
        if 4 * len(chosen) > self._footer.num_row_groups:
            chosen = [
                group
                for groups in self._batches(chosen)
                for group, has in zip(groups, self._have(groups, column, values), strict=True)
                if has
            ]
        for groups in self._batches(chosen):
            rows = self._file.read_row_groups(groups, columns=list(dict.fromkeys([*names, column])))
            found.append(self._typed(rows.filter(pc.is_in(rows[column], values)).select(names)))
        return Part(pa.concat_tables(found), self.written)

    def run_ids(self) -> pa.Array:
        """The runs that it has rows of, each once."""
        every = self._batches(range(self._footer.num_row_groups))
        found = [pc.unique(self._file.read_row_groups(groups, columns=["run_id"])["run_id"]) for groups in every]
        return pc.unique(pa.concat_arrays([pa.array([], pa.string()), *(ids.cast(pa.string()) for ids in found)]))

    def steps(self) -> set[int]:
        """The steps at which its runs were evaluated."""
        place, found, unknown = self.names.index("step"), set[int](), []
        for group in range(self._footer.num_row_groups):
            told = self._footer.row_group(group).column(place).statistics
            if told is not None and told.has_min_max and told.min == told.max:
                found.add(told.min)
            else:
                unknown.append(group)
        for groups in self._batches(unknown):
            found.update(pc.unique(self._file.read_row_groups(groups, columns=["step"])["step"]).to_pylist())
        return found

    def check(self) -> None:
        """Read all that it has, a part at a time, and keep nothing."""
        for groups in self._batches(range(self._footer.num_row_groups)):
            self._typed(self._file.read_row_groups(groups))

    def _typed(self, table: pa.Table) -> pa.Table:
        """As the schema of its kind has it; other columns are further metrics."""
        schema = SCHEMAS[self._kind]
        return table.cast(
            pa.schema(
                [schema.field(name) if name in schema.names else (name, pa.float64()) for name in table.column_names]
            )
        )

    def _has_dictionary(self, column: int) -> bool:
        return self._footer.num_row_groups > 0 and self._footer.row_group(0).column(column).has_dictionary_page

    def _with(self, column: str, values: pa.Array) -> list[int]:
        """The row groups that may have one of the values, by what the footer says of each."""
        wanted, place, found = np.sort(values.to_numpy(zero_copy_only=False)), self.names.index(column), []
        for group in range(self._footer.num_row_groups):
            if not self._footer.row_group(group).num_rows:
                continue
            told = self._footer.row_group(group).column(place).statistics
            if told is not None and told.has_min_max:
                first = np.searchsorted(wanted, told.min)
                if first == len(wanted) or wanted[first] > told.max:
                    continue
            found.append(group)
        return found

    def _have(self, groups: Sequence[int], column: str, values: pa.Array) -> list[bool]:
        """Whether each row group has one of the values."""
        keys = self._file.read_row_groups(groups, columns=[column])[column]
        begins = np.cumsum([0, *(self._footer.row_group(group).num_rows for group in groups[:-1])])
        return np.logical_or.reduceat(pc.is_in(keys, values).to_numpy(), begins).tolist()

    def _batches(self, groups: Iterable[int]) -> Iterator[list[int]]:
        """The groups in their order, as many together as are held at once."""
        batch, rows = list[int](), 0
        for group in groups:
            batch.append(group)
            rows += self._footer.row_group(group).num_rows
            if rows >= ROWS_AT_ONCE:
                yield batch
                batch, rows = [], 0
        if batch:
            yield batch


def as_table(kind: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table of the kind's schema, what is beyond it as further numbers."""
    schema = SCHEMAS[kind]
    further = sorted({name for row in rows for name in row} - set(schema.names))
    wide = pa.schema([*schema, *((name, pa.float64()) for name in further)])
    return pa.Table.from_pylist(list(rows), schema=wide)


def as_frame(table: pa.Table) -> pd.DataFrame:
    """The table as pandas has it, column by column, so that a large one is not held twice."""
    frame = table.to_pandas(split_blocks=True, self_destruct=True)
    pa.default_memory_pool().release_unused()
    return frame


def to_parquet(table: pa.Table, written: str) -> bytes:
    """The content of a pack's file."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({WRITTEN: written}), buffer, compression="zstd")
    return buffer.getvalue().to_pybytes()
