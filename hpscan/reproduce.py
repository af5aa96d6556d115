"""One stored run trained once more, in this process: whether its numbers come back. Nothing is stored."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from platform import python_version
from typing import Any

import pandas as pd
import torch
from pydantic import TypeAdapter, ValidationError

from hpscan.choice import Choice
from hpscan.engine import train_pack
from hpscan.errors import told
from hpscan.grid import Cell, Pack, Recipe, Run
from hpscan.hardware import prepare_worker
from hpscan.schedules import Schedule
from hpscan.session import RunResult
from hpscan.spec import Spec, SpecError, Training
from hpscan.store import METRICS, RUNS, Store
from hpscan.trainable import train_one_by_one
from hpscan.workloads import Data, PackedWorkload, Workload

__all__ = ["TOLERANCE", "Compared", "Reproduction", "StoredRun", "find_run", "reproduce"]

TOLERANCE = 1e-4
"""Relative difference of a loss that counts as rounding.

A run that is compiled, or trained in a loop, has the same bits in every pack, on the same processor with the same
torch; of uncompiled fused gradients, in the same pack. Other packs, the other strategy and other processors round float32, 6e-8, differently, and
training amplifies that: over 100 steps to less than 1e-4, the bound to which ``tests/test_engine.py`` holds strategies
and packs. Where training is chaotic a run may part company further than that, and is then said not to have come back.
"""
DIVERGED_WITHIN = 0.1
"""Share of the budget by which rounding may move the step of a divergence, beside one step."""
PLACE = (
    "host", "device", "device_name", "threads", "matmul_mode", "strategy", "compiled", "torch_version",
    "python_version", "hpscan_version",
)  # fmt: skip
"""Columns of a run that say where and how it was trained, and can change its rounding."""


@dataclass(frozen=True)
class StoredRun:
    """A run as the store has it."""

    sweep: str
    run: Run
    row: Mapping[str, Any]
    """Its row, without what is null."""
    metrics: Mapping[str, float]
    """What is to come back: its final metrics; of a stopped run the validation metrics of its last evaluation."""
    together: tuple[Run, ...]
    """The runs that it was trained with, itself among them, where its rounding goes by them and the store has all; else itself."""

    @property
    def until(self) -> int | None:
        """The rung at which it was stopped; None if it was not."""
        return int(self.row["steps_done"]) if self.row["state"] == "stopped" else None


@dataclass(frozen=True)
class Compared:
    """A metric as stored and as it is now."""

    metric: str
    stored: float
    now: float | None
    examples: int | None
    """Of an error rate, the number of examples it is a share of."""

    @property
    def difference(self) -> float | None:
        """Now less then."""
        return None if self.now is None else 0.0 if self.now == self.stored else self.now - self.stored

    @property
    def relative(self) -> float:
        """The difference as a share of what is stored; infinite if there is nothing now."""
        if not self.difference:
            return math.inf if self.difference is None else 0.0
        return abs(self.difference / self.stored) if self.stored else math.inf

    @property
    def came_back(self) -> bool:
        """Whether the difference is rounding: of a rate, one example and those whose outputs tie up to rounding."""
        if self.examples is None or self.difference is None:
            return self.relative <= TOLERANCE
        return abs(self.difference) <= TOLERANCE + 1 / self.examples


@dataclass(frozen=True)
class Reproduction:
    """What became of a run the second time."""

    stored: StoredRun
    result: RunResult
    metrics: tuple[Compared, ...]
    differs: Mapping[str, tuple[Any, Any]]
    """Of where and how it was trained: column → (stored, now)."""

    @property
    def state(self) -> str:
        """The stored state."""
        return str(self.stored.row["state"])

    @property
    def steps_done(self) -> int:
        """Steps with a finite loss, as stored; 0 of a run that failed before there were any."""
        return int(self.stored.row.get("steps_done", 0))

    @property
    def error(self) -> str | None:
        """What is stored of a failed run."""
        return self.stored.row.get("error")

    @property
    def came_back(self) -> bool:
        """Whether the run ended as it is stored, up to rounding; one that failed has to fail, with whatever error."""
        if self.result.state != self.state:
            return False
        moved = abs(self.result.steps_done - self.steps_done)
        if self.state == "diverged":
            return moved <= 1 + DIVERGED_WITHIN * self.stored.run.recipe.steps
        return all(metric.came_back for metric in self.metrics)

    @property
    def exact(self) -> bool:
        """Whether all that is stored of its end came back to the bit."""
        same = (self.result.state, self.result.error) == (self.state, self.error)
        steps = self.state == "failed" or self.result.steps_done == self.steps_done
        return same and steps and all(metric.difference == 0 for metric in self.metrics)

    def verdict(self) -> str:
        """In a sentence."""
        if not self.came_back:
            return f"did not come back: {self._departure()}"
        if self.state == "failed":
            return f"came back: it fails again, with {'the same' if self.exact else 'another'} error"
        if self.state == "diverged":
            steps = f"diverged after {self.result.steps_done} steps"
            return f"came back: it {steps} again" if self.exact else f"came back: it {steps}, not {self.steps_done}"
        how = "to the last digit" if self.exact else f"within rounding ({self._rounding()})"
        return f"came back {how}" + (f", up to step {self.stored.until}" if self.stored.until else "")

    def _rounding(self) -> str:
        losses = [metric for metric in self.metrics if metric.examples is None]
        worst = max(losses, key=lambda metric: metric.relative)
        rates = max((abs(m.difference or 0.0) for m in self.metrics if m.examples is not None), default=0.0)
        spread = f"largest relative difference {worst.relative:.0e}, of {worst.metric}"
        return f"{spread}; error rates differ by at most {rates:.2g}" if rates else spread

    def _departure(self) -> str:
        if self.result.state != self.state or self.state == "diverged":
            now = _ended(self.result.state, self.result.steps_done)
            return f"it {now}, and is stored as {_ended(self.state, self.steps_done)}"
        worst = max((m for m in self.metrics if not m.came_back), key=lambda metric: metric.relative)
        if worst.now is None:
            return f"{worst.metric} is not among what it reports now"
        if worst.examples is not None:
            limit = f"more than one example of {worst.examples}"
        else:
            limit = f"a relative difference of {worst.relative:.0e}, and rounding is up to {TOLERANCE:.0e}"
        return f"{worst.metric} is {worst.now:.6g}, and {worst.stored:.6g} in the store; {limit}"

    def summary(self) -> dict[str, Any]:
        """All of it as plain JSON values; a number that is not finite is null."""

        def pair(stored: Any, now: Any) -> dict[str, Any]:
            return {"stored": _plain(stored), "now": _plain(now)}

        return {
            "sweep": self.stored.sweep,
            "run_id": self.stored.run.run_id,
            "came_back": self.came_back,
            "exact": self.exact,
            "verdict": self.verdict(),
            "state": pair(self.state, self.result.state),
            "steps_done": pair(self.steps_done, self.result.steps_done),
            "error": pair(self.error, self.result.error),
            "metrics": {
                each.metric: {**pair(each.stored, each.now), "difference": _plain(each.difference)}
                for each in self.metrics
            },
            "differs": {name: pair(*values) for name, values in self.differs.items()},
        }


def find_run(store: Store, run_id: str, sweep: str | None = None) -> StoredRun:
    """Look a run up and rebuild what it trained.

    Parameters
    ----------
    store
        Where to look.
    run_id
        The run's id, or at least its first four digits.
    sweep
        Look in this sweep only.

    Raises
    ------
    SpecError
        If no row, or more than one, has such an id, or what it trained cannot be rebuilt.
    StoreError
        If there is no such sweep, or a file cannot be read.
    WorkloadError
        If its workload cannot be trained here.
    """
    if not re.fullmatch(r"[0-9a-f]{4,16}", run_id):
        raise SpecError(f"run {run_id!r}: must be a run_id, 16 hexadecimal digits, or at least its first 4")
    if sweep is not None:
        store.spec(sweep)
    names = store.sweeps() if sweep is None else [sweep]
    unread = set(RUNS.names) - {"run_id", "state", "steps_done", "finished_at"}
    matches = [
        (found, name)
        for name in names
        for found in store.runs(name, without=unread)["run_id"]
        if found.startswith(run_id)
    ]
    if not matches:
        where = f"sweep {sweep!r}" if sweep is not None else f"the store {store.files.shown()}"
        raise SpecError(f"run {run_id}: not in {where}; `hpscan export SWEEP --format csv` lists run_ids")
    if len(matches) > 1:
        some = ", ".join(f"{found} of {name}" for found, name in matches[:3])
        more = f" or {len(matches) - 3} more" if len(matches) > 3 else ""
        raise SpecError(f"run {run_id}: may be {some}{more}; give more digits, or --sweep")
    ((found, name),) = matches
    rows = store.runs(name)
    spec = store.spec(name)
    row = _row_of(rows, found)
    run = _rebuilt(row, spec)
    measured = [column for column in row if column in METRICS or column not in RUNS.names]
    metrics = {column: float(row[column]) for column in measured}
    if row["state"] == "stopped":
        metrics = _last_evaluation(store, name, row)
    return StoredRun(name, run, row, metrics, _together(rows, row, run, spec))


def _row_of(rows: pd.DataFrame, run_id: str) -> dict[str, Any]:
    values = rows[rows["run_id"] == run_id].iloc[0]
    return {str(column): value for column, value in values.items() if pd.notna(value)}


def _together(rows: pd.DataFrame, row: Mapping[str, Any], run: Run, spec: Spec) -> tuple[Run, ...]:
    """Uncompiled, sums over a batch round by the number of rows beside, which changes as runs diverge."""
    if _sums_go_by_pack(row) and spec.stop.name == "diverged":  # halving trains a run in several packs
        members = rows.loc[rows["pack_id"] == row["pack_id"], "run_id"]
        if len(members) == row["pack_runs"]:
            return tuple(_rebuilt(_row_of(rows, member), spec) for member in members)
    return (run,)


def _sums_go_by_pack(way: Mapping[str, Any]) -> bool:
    return (way.get("strategy"), way.get("compiled")) == ("fused", False)


def _rebuilt(row: Mapping[str, Any], spec: Spec) -> Run:
    """The run of a row, which need not be one of the spec's as it is now; raises SpecError if it cannot be told."""
    try:
        config = json.loads(row["config"])
        workload = config["workload"]
        if workload["name"] == spec.workload.name:  # where a user's code or text lies is no part of a config
            workload = {**spec.workload.model_dump(mode="json"), **workload}
        optimizer = config["optimizer"]
        recipe = Recipe(
            # the text that lies there now has to be the one that was read
            workload=TypeAdapter[Any](Workload).validate_python(workload).resolved(),
            batch_size=config["batch_size"],
            steps=config["steps"],
            schedule=TypeAdapter[Any](Schedule).validate_python(config["schedule"]),
            decay_on=config["decay_on"],
            evaluations=config["evaluations"],
            momentum_form=optimizer.get("momentum_form", "torch"),
            training=Training.model_validate({name: config[name] for name in Training.model_fields if name in config}),
        )
        settings = {name: float(value) for name, value in optimizer.items() if name not in {"name", "momentum_form"}}
        cell = Cell(row["variant"], float(config["lr"]), float(config["wd"]), tuple(settings.items()))
        run = Run(cell, config["seed"], recipe)
        rebuilt = run.run_id == row["run_id"]
    except (KeyError, TypeError, json.JSONDecodeError, ValidationError):
        rebuilt = False
    if not rebuilt:
        raise SpecError(
            f"run {row['run_id']}: cannot be rebuilt from its stored config: this version of hpscan "
            f"({version('hpscan')}; the run's: {row.get('hpscan_version', 'unknown')}) would train another run, or what it "
            "was trained on has changed"
        )
    return run


def _last_evaluation(store: Store, sweep: str, row: Mapping[str, Any]) -> dict[str, float]:
    curves = store.curves(sweep)
    last = curves[(curves["run_id"] == row["run_id"]) & (curves["step"] == row["steps_done"])]
    if last.empty:
        raise SpecError(f"run {row['run_id']}: was stopped, and its curve is not stored: there is nothing to compare")
    return {name: float(last.iloc[0][name]) for name in ("val_loss", "val_error") if pd.notna(last.iloc[0][name])}


EVER = 1e12
"""Run-steps for which anything is worth compiling: what was compiled is compiled again."""


def reproduce(stored: StoredRun) -> Reproduction:
    """Train a run in this process, as nearly in the way it was trained as this machine can.

    Raises
    ------
    WorkloadError
        If its data cannot be read.
    """
    row, run = stored.row, stored.run
    training, workload = run.recipe.training, run.recipe.workload
    hardware = prepare_worker(
        training.precision, gpu=row.get("device", "cpu") != "cpu", threads=int(row.get("threads", 1))
    )
    data = workload.load() if isinstance(workload, PackedWorkload) else None
    pack = Pack(stored.together, len(stored.together), until=stored.until)
    same = Choice("fused", False, len(pack.runs), "as it was") if len(pack.runs) > 1 else None
    chosen: list[Choice] = []
    try:
        if data is None:
            ((result,),) = train_one_by_one(pack)
        else:
            results = train_pack(
                pack,
                data,
                strategy=row.get("strategy", "auto"),
                compile=bool(row.get("compiled", True)),
                device=hardware.device,
                steps_to_come=EVER,
                chosen=same,
                on_choice=chosen.append,
            )
            result = next(result for result in results if result.run.run_id == run.run_id)
    except OSError:  # the machine's fault, as for a worker
        raise
    except Exception as error:  # noqa: BLE001  (a model or loss may raise anything: that is what is asked)
        result = RunResult(run, "failed", error=told(error))
    now = {
        **asdict(hardware),
        "torch_version": torch.__version__,
        "python_version": python_version(),
        "hpscan_version": version("hpscan"),
        **{name: getattr(choice, name) for choice in chosen for name in ("strategy", "compiled")},
    }
    differs = {name: (row[name], now[name]) for name in PLACE if name in row and name in now and row[name] != now[name]}
    if _sums_go_by_pack(now) and row.get("pack_runs", 1) != len(pack.runs):
        differs["pack_runs"] = row["pack_runs"], len(pack.runs)
    return Reproduction(stored, result, _compared(stored, result, data), differs)


def _compared(stored: StoredRun, result: RunResult, data: Data | None) -> tuple[Compared, ...]:
    metrics: Mapping[str, Any] = result.metrics
    if result.state == "stopped" and result.curve:
        metrics = vars(result.curve[-1])
    examples: dict[str, int] = {}
    if data is not None:
        splits = {"train": data.train, "val": data.validation, "test": data.test}
        examples = {f"{name}_": split.targets.size for name, split in splits.items()}

    def rate_of(metric: str) -> int | None:
        own = [n for prefix, n in examples.items() if metric.removeprefix("ensemble_").startswith(prefix)]
        return own[0] if own and metric.endswith("_error") else None

    order = [*METRICS, *sorted(set(stored.metrics) - set(METRICS))]
    return tuple(
        Compared(name, stored.metrics[name], metrics.get(name), rate_of(name))
        for name in order
        if name in stored.metrics
    )


def _ended(state: str, steps: int) -> str:
    return state if state == "failed" else f"{state} after {steps} steps"


def _plain(value: Any) -> Any:
    """A value as JSON has it, numpy's included."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
