"""A sweep for other tools: a CSV, or an Optuna storage."""

from __future__ import annotations

import math
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hpscan.columns import METRIC, PLAIN
from hpscan.files import write_whole
from hpscan.grid import panels
from hpscan.landscape import Landscape
from hpscan.sweep import Sweep

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["to_csv", "to_optuna"]


def to_csv(sweep: Sweep, path: Path) -> None:
    """Write every run of the sweep that has ended; ``hpscan import csv`` reads the same numbers back."""
    write_whole(path, sweep.runs().to_csv(index=False, lineterminator="\n").encode())


def to_optuna(sweep: Sweep, path: Path) -> None:
    """Write an Optuna journal with a study for each landscape and a trial for each run; an existing file is replaced.

    A run's metric is its trial's value, infinite where it diverged, as Optuna has it; all its other numbers, the seed and
    the state are user attributes, its curve the intermediate values. Failed runs are failed trials.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    spec = sweep.spec
    rows = {str(row["run_id"]): row for row in sweep.runs().to_dict("records")}
    curves: dict[str, dict[int, float]] = {}
    for point in sweep.curves().to_dict("records"):
        if math.isfinite(at := point.get(spec.metric, math.nan)):
            curves.setdefault(str(point["run_id"]), {})[int(point["step"])] = float(at)
    unwritten = path.with_name(f".{path.name}.partial")
    unwritten.unlink(missing_ok=True)
    storage = JournalStorage(JournalFileBackend(str(unwritten)))
    for panel, shape in zip(panels(spec), sweep.landscapes(), strict=True):
        study = optuna.create_study(storage=storage, study_name=f"{sweep.name} {panel.name}", direction="minimize")
        for name, value in {
            "sweep": sweep.name,
            "metric": spec.metric,
            "variant": panel.variant,
            **dict(panel.at),
        }.items():
            study.set_user_attr(name, value)
        ended = [rows[run_id] for run_id in shape.run_ids.ravel() if run_id in rows]
        study.add_trials([_trial(row, spec.metric, shape, curves.get(str(row["run_id"]), {})) for row in ended])
    unwritten.replace(path)


def _trial(row: dict[Hashable, Any], metric: str, shape: Landscape, curve: dict[int, float]) -> FrozenTrial:
    from optuna.distributions import FloatDistribution
    from optuna.trial import FrozenTrial, TrialState

    known = {str(name): value for name, value in row.items() if not pd.isna(value)}
    state, ended = known["state"], known["finished_at"].tz_convert(None)
    value = math.inf if state == "diverged" else known.get(metric)  # one that failed or was stopped has none
    axes = {"lr": shape.lr, "wd": shape.wd}
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state={"failed": TrialState.FAIL, "stopped": TrialState.PRUNED}.get(state, TrialState.COMPLETE),
        value=value,
        params={axis: known[axis] for axis in axes},
        distributions={
            axis: FloatDistribution(float(values.min()), float(values.max()), log=bool(values.min() > 0))
            for axis, values in axes.items()
        },
        user_attrs={
            metric: value,  # or a sweep without a completed run would not say what its value is
            **{
                name: told
                for name, told in known.items()
                if name not in axes and (name == "run_id" or name in PLAIN or METRIC.fullmatch(name))
            },
        },
        system_attrs={},
        intermediate_values=curve,
        datetime_start=(ended - pd.Timedelta(milliseconds=round(1000 * known.get("wall_s", 0.0)))).to_pydatetime(),
        datetime_complete=ended.to_pydatetime(),
    )
