"""Several parquet files as one table or one file: each run once, by the row that counts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hpscan.parts import RUNS, SCHEMAS, WRITTEN, File, Part

__all__ = ["Rows", "counting", "is_merged", "last_of_each", "merged", "merged_file", "ordered", "together"]

RUNS_A_GROUP = 16_384
"""Runs whose evaluations at one step are a row group of a merged file of curves, and rows of one of runs.

What is asked for is either a step of all runs or all steps of a few: with as many runs together as there are groups
of them times steps, either reads a small part of the file.
"""
ROWS_SORTED = 8_000_000
"""How many rows of curves are sorted together when files are merged."""


def is_merged(name: str) -> bool:
    """Whether a file of that name came of a compaction."""
    return name.rpartition("/")[2].startswith("compact-")


def ordered(parts: Mapping[str, Part | File]) -> list[str]:
    """The names from the earliest to the latest, which wins.

    Of files as old as one another a merged one comes first, its rows having been in a pack.
    """
    return sorted(parts, key=lambda name: (parts[name].written, not is_merged(name), name))


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
    written = {WRITTEN: max(file.written for file in files.values())}
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


def last_of_each(parts: Mapping[str, Part], later: Mapping[str, Part]) -> list[pa.Table]:
    """The rows of runs that no later file holds; ``later`` are the runs of each file but the earliest."""
    order = ordered(parts)
    if not later:
        return [parts[name].table for name in order]
    runs = pa.concat_arrays([later[name].table["run_id"].combine_chunks() for name in order[1:]])
    counts = pc.value_counts(runs)
    twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    last: dict[str, str] = {}
    for name in order[1:] if len(twice) else ():
        held = later[name].table["run_id"]
        last.update(dict.fromkeys(held.filter(pc.is_in(held, twice)).to_pylist(), name))
    found = []
    for name in order:
        gone = runs if name == order[0] else pa.array([run for run, of in last.items() if of != name], pa.string())
        table = parts[name].table
        found.append(table.filter(pc.invert(pc.is_in(table["run_id"], gone))) if len(gone) else table)
    return found


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
        """What failed runs raised, by run_id, the first to fail first."""
        failed = self._table.filter(pc.is_valid(self._table["error"])).select(["error", "finished_at", "run_id"])
        return failed.to_pandas().sort_values(["finished_at", "run_id"]).set_index("run_id")["error"]

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
