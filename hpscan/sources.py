"""What other tools leave behind, read into one form: a table of trials, and what each reported on the way.

A Ray Tune experiment is read from its files: nothing of Ray's is imported, and nothing is unpickled.
"""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpscan.errors import first_line
from hpscan.spec import SpecError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

__all__ = ["SOURCES", "Trial"]


@dataclass(frozen=True)
class Trial:
    """One row of a source."""

    values: dict[str, Any]
    """Every column by name: text, numbers or None. ``state`` and ``error`` are among them if the source has such."""
    curve: tuple[dict[str, Any], ...] = ()
    """What was reported on the way, by the names of columns, each with a ``step``."""
    maximised: frozenset[str] = frozenset()
    """Columns of which its study wants more, not less."""


def read_csv(source: str) -> list[Trial]:
    """A table with a header; what a cell holds stays text, so that an empty one is told from NaN."""
    text = _text(source)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if source.endswith(".tsv") else ",")
    try:
        header = [name.strip() for name in next(rows, [])]
        repeated = sorted({name for name in header if header.count(name) > 1})
        if not header:
            raise SpecError(f"{source}: is empty; it must be a table whose first line names the columns")
        if repeated:
            raise SpecError(f"{source}: has two columns {repeated[0]!r}")
        if len(header) == 1 and ";" in header[0]:
            raise SpecError(f"{source}: has semicolons between its columns; must have commas, or tabs in a .tsv")
        trials = []
        for row in rows:
            if any(row[len(header) :]):  # a comma within a number, say, which has moved what follows
                raise SpecError(f"{source}: line {rows.line_num} has {len(row)} values for {len(header)} columns")
            if row:
                trials.append(Trial(dict.fromkeys(header, "") | dict(zip(header, row, strict=False))))
    except csv.Error as error:
        raise SpecError(f"{source}: not a CSV at line {rows.line_num}: {error}") from None
    return trials


def read_ray(source: str) -> list[Trial]:
    """The folder of a Ray Tune experiment: its last state for configs and outcomes, ``result.json`` for curves.

    A config's entries are columns by their own names (nested ones as ``optimizer/lr``) and with ``config/`` before
    them; where a result has the same name, the config's goes first. A trial that ended before the longest of them
    counts as stopped.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise SpecError(f"{source}: no such folder; give that of a Ray Tune experiment")
    states = sorted(folder.glob("experiment_state-*.json"), key=lambda path: path.name)
    if not states:
        raise SpecError(f"{source}: not a Ray Tune experiment: it holds no experiment_state-*.json")
    try:
        saved = [[json.loads(part) for part in pair] for pair in json.loads(states[-1].read_text())["trial_data"]]
        trials = [_ray_trial(folder, trial, metadata) for trial, metadata in saved]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(f"{states[-1]}: not a state of Ray Tune's that hpscan can read ({error!r:.200})") from None
    longest = max((trial.values.get("training_iteration") or 0 for trial in trials), default=0)
    for trial in trials:
        if trial.values["state"] == "completed" and (trial.values.get("training_iteration") or 0) < longest:
            trial.values["state"] = "stopped"
    return sorted(trials, key=lambda trial: str(trial.values.get("trial_id")))


def _ray_trial(folder: Path, trial: Mapping[str, Any], metadata: Mapping[str, Any]) -> Trial:
    own = folder / trial["relative_logdir"]
    config = _flat(trial["config"])

    results = [json.loads(line) for line in _lines(own / "result.json")]
    last = results[-1] if results else metadata.get("last_result") or {}
    errors = _lines(own / "error.txt")
    status = str(trial["status"])
    return Trial(
        {
            **_flat(last),
            **config,
            **{f"config/{name}": value for name, value in config.items()},
            "trial_id": trial["trial_id"],
            "state": {"TERMINATED": "completed", "ERROR": "failed"}.get(status, status.lower()),
            "error": _raised(errors),
        },
        tuple({**_flat(result), "step": result.get("training_iteration")} for result in results),
    )


def _raised(traceback: list[str]) -> str | None:
    """The error that a traceback ends with: the first line of its message, which may have many."""
    frames = [place for place, line in enumerate(traceback) if line.startswith('  File "')]
    rest = [line for line in traceback[max(frames, default=-1) + 1 :] if line.strip()]
    return next((line for line in rest if not line.startswith(" ")), rest[-1].strip() if rest else None)


def read_optuna(source: str) -> list[Trial]:
    """All studies of an Optuna storage: a database's file or URL, or a journal's file.

    Columns are parameters, user attributes of trials and of their study, ``value`` (or ``value_0`` …), and ``study``,
    its name.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = _optuna_storage(source)
    found = []
    names = optuna.get_all_study_names(storage)
    if not names:
        raise SpecError(f"{source}: not an Optuna storage, or one without a study")
    for name in names:
        study = optuna.load_study(study_name=name, storage=storage)
        shared = {**study.user_attrs, "study": name}
        directions = [direction.name for direction in study.directions]
        found += [_optuna_trial(trial, shared, directions) for trial in study.get_trials(deepcopy=False)]
    return found


def _optuna_trial(trial: FrozenTrial, shared: Mapping[str, Any], directions: Sequence[str]) -> Trial:
    values = trial.values or []
    if not values and trial.state.name == "PRUNED" and trial.intermediate_values:
        values = [trial.intermediate_values[max(trial.intermediate_values)]]
    names = ["value"] if len(directions) == 1 else [f"value_{index}" for index in range(len(directions))]
    state = {"COMPLETE": "completed", "PRUNED": "stopped", "FAIL": "failed"}.get(trial.state.name, "running")
    told = {**shared, "state": state, "error": trial.system_attrs.get("fail_reason"), "number": trial.number}
    columns = {**told, **dict(zip(names, values, strict=False)), **trial.user_attrs, **trial.params}
    return Trial(
        columns,
        tuple({"step": step, "value": at} for step, at in trial.intermediate_values.items()),
        frozenset(name for name, direction in zip(names, directions, strict=True) if direction == "MAXIMIZE"),
    )


def _optuna_storage(source: str) -> BaseStorage:
    """Open a storage that exists, and nothing else: Optuna would create what is absent, and its tables in what is not its own."""
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    none_of_its = f"{source}: not an Optuna storage"
    path = Path(source.removeprefix("sqlite:///")).expanduser()
    if "://" in source and not source.startswith("sqlite:///"):
        try:
            return RDBStorage(source, skip_table_creation=True)
        except Exception as error:  # noqa: BLE001  (whatever a database's driver raises)
            raise SpecError(f"{none_of_its} that can be opened: {first_line(error)}") from None
    if not path.is_file():
        raise SpecError(f"{source}: no such file; give an Optuna database (a file or URL) or journal")
    try:
        with path.open("rb") as file:
            is_database = file.read(16) == b"SQLite format 3\0"
        if not is_database:
            return JournalStorage(JournalFileBackend(str(path)))
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True) as database:
            tables = {name for (name,) in database.execute("select name from sqlite_master")}
        if not {"studies", "trials", "version_info"} <= tables:
            raise SpecError(f"{none_of_its}: a database without its tables")
        return RDBStorage(f"sqlite:///{path}", skip_table_creation=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, sqlite3.Error) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"{none_of_its} ({first_line(error, 'unreadable'):.200})") from None


SOURCES = {"ray": read_ray, "optuna": read_optuna, "csv": read_csv}


def _text(source: str) -> str:
    try:
        return Path(source).expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SpecError(f"{source}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{source}: cannot be read: not a text file") from None


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").strip().splitlines() if path.is_file() else []


def _flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    """``{"optimizer": {"lr": 0.1}}`` as ``{"optimizer/lr": 0.1}``."""

    def entries(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, Mapping):
            for name, below in value.items():
                yield from entries(f"{prefix}/{name}" if prefix else str(name), below)
        else:
            yield prefix, value

    return dict(entries("", nested))
