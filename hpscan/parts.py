"""The parquet files of a store: what a row of each kind is, one file read whole or in part, and several as one table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hpscan.axes import FURTHER_AXES

__all__ = [
    "CURVES", "DIAGNOSTICS", "IN_THE_SPEC", "METRICS", "RUNS", "SCHEMAS", "WHERE_IT_RAN", "File", "Part", "Rows", "as_frame",
    "as_table", "counting", "is_merged", "merged", "merged_file", "ordered", "to_parquet", "together",
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

_WRITTEN = b"hpscan.written"  # key of a file's metadata: a UTC time, since a row of a curve has none of its own
RUNS_A_GROUP = 16_384
"""Runs whose evaluations at one step are a row group of a merged file of curves, and rows of one of runs.

What is asked for is either a step of all runs or all steps of a few: with as many runs together as there are groups
of them times steps, either reads a small part of the file.
"""
ROWS_AT_ONCE = 4_000_000
"""How much of a file is held decoded while the rows that are wanted are looked for."""
ROWS_SORTED = 8_000_000
"""How many rows of curves are sorted together when files are merged."""


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
        self.written = (schema.metadata or {}).get(_WRITTEN, b"").decode()
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


def is_merged(name: str) -> bool:
    """Whether a file of that name came of a compaction."""
    return name.rpartition("/")[2].startswith("compact-")


def ordered(parts: Mapping[str, Part | File]) -> list[str]:
    """The names from the earliest to the latest, which wins.

    Of files as old as one another a merged one comes first, its rows having been in a pack.
    """
    return sorted(parts, key=lambda name: (parts[name].written, not is_merged(name), name))


def to_parquet(table: pa.Table, written: str) -> bytes:
    """The content of a pack's file."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({_WRITTEN: written}), buffer, compression="zstd")
    return buffer.getvalue().to_pybytes()


def merged_file(kind: str, files: Mapping[str, File]) -> tuple[memoryview, int]:
    """The content of a file that holds what these do, and its rows."""
    if kind == "curves":
        tables: Iterator[pa.Table] = _groups_of_curves(files)
        # each run has one row in a row group, so a dictionary of run_ids would hold every row's
        how = {"use_dictionary": ["snapshot"], "write_statistics": ["run_id", "step"]}
    else:
        tables = iter([merged(kind, {name: file.part() for name, file in files.items()})])
        how = {"use_dictionary": [name for name in RUNS.names if name not in {"run_id", "config"}]}
    first, buffer = next(tables), pa.BufferOutputStream()
    rows = 0
    written = {_WRITTEN: max(file.written for file in files.values())}
    with pq.ParquetWriter(buffer, first.schema.with_metadata(written), compression="zstd", **how) as writer:
        for table in chain([first], tables):
            writer.write_table(table, row_group_size=RUNS_A_GROUP)
            rows += table.num_rows
    return memoryview(buffer.getvalue()), rows


def _groups_of_curves(files: Mapping[str, File]) -> Iterator[pa.Table]:
    """The rows of several files that count, as the row groups of one: a step, or a few, of up to ``RUNS_A_GROUP`` runs.

    No more than ``ROWS_SORTED`` are held at once, or about so.
    """
    order = ordered(files)
    known = [files[name].run_ids() for name in order]
    of_file = pd.DataFrame(
        {
            "run_id": pa.chunked_array(known, pa.string()).to_pandas(),
            "file": np.repeat(range(len(known)), [*map(len, known)]),
        }
    )
    of_file = of_file.drop_duplicates("run_id", keep="last").sort_values("run_id")
    runs, owners = pa.array(of_file["run_id"].to_numpy(object), pa.string()), of_file["file"].to_numpy()
    rows_a_run = max(1, sum(file.rows for file in files.values()) // max(1, len(runs)))
    at_once = RUNS_A_GROUP * max(1, ROWS_SORTED // (rows_a_run * RUNS_A_GROUP))
    for start in range(0, max(1, len(runs)), at_once):
        some, owner = runs.slice(start, at_once), owners[start : start + at_once]
        parts = {
            name: files[name].select("run_id", some.filter(pa.array(owner == place)))
            for place, name in enumerate(order)
        }
        table = together("curves", parts).combine_chunks()
        rank = pc.index_in(table["run_id"], some).to_numpy()
        _, step = np.unique(table["step"].to_numpy(), return_inverse=True)
        group = (rank // RUNS_A_GROUP) * (step.max(initial=0) + 1) + step
        key = group * RUNS_A_GROUP + rank % RUNS_A_GROUP
        by_key = np.argsort(key, kind="stable")
        by_key = by_key[np.append(key[by_key][1:] != key[by_key][:-1], True)[: len(key)]]  # of the same twice the last
        table, group, range_of_runs = table.take(pa.array(by_key)), group[by_key], rank[by_key] // RUNS_A_GROUP
        begins = np.flatnonzero(np.append(True, group[1:] != group[:-1])[: max(1, len(group))])
        begun = 0
        for begin, end in pairwise([*begins.tolist(), len(group)]):
            ends = end == len(group) or range_of_runs[end] != range_of_runs[begin]
            if ends or end - begun >= RUNS_A_GROUP // 2:
                yield table.slice(begun, end - begun)
                begun = end


def together(kind: str, parts: Mapping[str, Part], without: Collection[str] = ()) -> pa.Table:
    """The rows of several files, which were read ``without`` some columns, the latest last; what a file lacks is null."""
    schema = SCHEMAS[kind]
    named = [name for name in schema.names if name not in without]
    # columns of a later version, and further metrics, are null in the files that lack them
    tables = [schema.empty_table().select(named), *(parts[name].table for name in ordered(parts))]
    table = pa.concat_tables(tables, promote_options="default")
    return table.select([*named, *sorted(set(table.column_names) - set(schema.names))])


def merged(kind: str, parts: Mapping[str, Part], without: Collection[str] = ()) -> pa.Table:
    """All rows of a kind, what several files hold once; the same table for the same rows, however they were stored."""
    table = together(kind, parts, without)
    if kind != "curves":
        table = counting(kind, table)
        rows = table.select(["finished_at", "run_id"]).to_pandas().sort_values(["finished_at", "run_id"])
    else:
        rows = table.select(["run_id", "step"]).to_pandas()
        rows["file"] = [place for place, name in enumerate(ordered(parts)) for _ in range(parts[name].table.num_rows)]
        rows = rows[rows["file"] == rows.groupby("run_id")["file"].transform("max")]
        rows = rows.drop_duplicates(["run_id", "step"], keep="last").sort_values(["run_id", "step"])
    return table.take(pa.array(rows.index, type=pa.int64()))


def counting(kind: str, table: pa.Table) -> pa.Table:
    """Of each run in rows of runs or rungs the one that counts, in no order."""
    keys = _keys(table["run_id"]).to_numpy(zero_copy_only=False)
    if keys.dtype == np.uint64 and (np.diff(np.sort(keys)) > 0).all():
        return table
    rows = table.select(["run_id", "state", "steps_done", "finished_at"]).to_pandas()
    rows["ended"] = rows["state"].isin(["completed", "diverged"]) if kind == "runs" else rows["steps_done"]
    rows = rows.sort_values(["ended", "finished_at"], kind="stable", na_position="first")
    return table.take(pa.array(rows.drop_duplicates("run_id", keep="last").index, type=pa.int64()))


class Rows:
    """The rows of a sweep's runs, each run once, by column and to be looked up by run_id."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._has: dict[str, bool] = {}

    def has(self, name: str) -> bool:
        """Whether any run has that number."""
        if name not in self._has:
            self._has[name] = not np.isnan(self._numbers(name)).all()
        return self._has[name]

    @property
    def names(self) -> list[str]:
        """All columns."""
        return self._table.column_names

    @property
    def nbytes(self) -> int:
        """Bytes of memory that it takes."""
        return self._table.nbytes

    @property
    def ends(self) -> pd.Series:
        """When each run ended."""
        return self._table["finished_at"].to_pandas()

    @property
    def errors(self) -> pd.Series:
        """What failed runs raised, the first to fail first."""
        failed = self._table.filter(pc.is_valid(self._table["error"])).select(["error", "finished_at", "run_id"])
        return failed.to_pandas().sort_values(["finished_at", "run_id"])["error"]

    def of(self, run_ids: np.ndarray, numbers: Sequence[str]) -> dict[str, np.ndarray]:
        """The state of each of some runs, and numbers of it: None, and nan, of one that has no row."""
        wanted, known = _keys(pa.chunked_array([pa.array(run_ids, pa.string())])), self._keys
        if wanted.type != known.type:
            wanted, known = pa.array(run_ids, pa.string()), self._table["run_id"]
        place = pc.index_in(known, wanted).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(~np.isnan(place))
        place = place[rows].astype(np.int64)

        def arranged(values: np.ndarray, blank: float | None) -> np.ndarray:
            found = np.full(len(run_ids), blank, dtype=values.dtype)
            found[place] = values[rows]
            return found

        return {
            "state": arranged(self._states, None),
            **{name: arranged(self._numbers(name), np.nan) for name in numbers},
        }

    @cached_property
    def _keys(self) -> pa.Array:
        return _keys(self._table["run_id"])

    @cached_property
    def _states(self) -> np.ndarray:
        states = self._table["state"].combine_chunks().dictionary_encode()
        words = np.array([*states.dictionary.to_pylist(), None], dtype=object)
        return words[states.indices.fill_null(len(words) - 1).to_numpy()]

    def _numbers(self, name: str) -> np.ndarray:
        return self._table[name].to_numpy()


def _keys(run_ids: pa.ChunkedArray) -> pa.Array:
    """The run_ids as numbers, which are compared ten times as fast; as they are if any is not of 16 hexadecimal digits."""
    words = run_ids.combine_chunks()
    if not len(words) or words.null_count:
        return words
    ends = np.frombuffer(words.buffers()[1], np.int32)[words.offset : words.offset + len(words) + 1]
    digits = str(memoryview(words.buffers()[2])[ends[0] : ends[-1]], "latin-1")
    try:
        numbers = bytes.fromhex(digits)
    except ValueError:
        return words
    if (np.diff(ends) != 16).any() or numbers.hex() != digits:
        return words
    return pa.array(np.frombuffer(numbers, ">u8").astype(np.uint64))
