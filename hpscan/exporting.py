"""A sweep for other tools: a CSV, an Optuna storage, and its best configurations."""

from __future__ import annotations

import math
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from hpscan.columns import METRIC, PLAIN
from hpscan.grid import Panel, panels
from hpscan.landscape import Best, Landscape
from hpscan.spec import Spec
from hpscan.sweep import Sweep
from hpscan.variants import VARIANTS, Decay

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["best_configs", "to_csv", "to_optuna", "torch_optimizer"]


def to_csv(sweep: Sweep, path: Path) -> None:
    """Write every run of the sweep that has ended; ``hpscan import csv`` reads the same numbers back."""
    sweep.runs().to_csv(path, index=False, lineterminator="\n")


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
    axes = {"lr": shape.lr, "wd": shape.wd}
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state={"failed": TrialState.FAIL, "stopped": TrialState.PRUNED}.get(state, TrialState.COMPLETE),
        value=None if state == "failed" else math.inf if state == "diverged" else known[metric],
        params={axis: known[axis] for axis in axes},
        distributions={
            axis: FloatDistribution(float(values.min()), float(values.max()), log=bool(values.min() > 0))
            for axis, values in axes.items()
        },
        user_attrs={
            name: value
            for name, value in known.items()
            if name not in axes and (name == "run_id" or name in PLAIN or METRIC.fullmatch(name))
        },
        system_attrs={},
        intermediate_values=curve,
        datetime_start=(ended - pd.Timedelta(milliseconds=round(1000 * known.get("wall_s", 0.0)))).to_pydatetime(),
        datetime_complete=ended.to_pydatetime(),
    )


def best_configs(sweep: Sweep) -> dict[str, Any]:
    """The best cell of every landscape, complete: what to train with, and what it gave. Plain values only."""
    spec = sweep.spec
    found = zip(panels(spec), sweep.landscapes(), strict=True)
    return {
        "sweep": sweep.name,
        "workload": spec.workload.identity(),
        "chosen_by": f"{spec.metric}, the least mean over seeds",
        "not_known": list(spec.unknown),
        "best": [_config(spec, panel, best) for panel, shape in found if (best := shape.best())],
    }


def _config(spec: Spec, panel: Panel, best: Best) -> dict[str, Any]:
    variant, recipe = VARIANTS[panel.variant], panel.recipe
    settings: dict[str, Any] = {} if "optimizer" in spec.unknown else dict(panel.settings)
    if settings and variant.optimizer == "sgd":
        settings["momentum_form"] = recipe.momentum_form

    def known(field: str, value: Any) -> Any:
        return None if field in spec.unknown else value

    metrics = {
        name: {"mean": mean, "standard_error": None if math.isnan(error := best.standard_errors[name]) else error}
        for name, mean in sorted(best.means.items())
        if math.isfinite(mean)
    }
    return {
        "variant": panel.variant,
        **dict(panel.at),
        "lr": best.lr,
        "wd": best.wd,
        "decay": str(variant.decay),
        "rule": variant.rule,
        "optimizer": {"name": variant.optimizer, **settings},
        "torch": torch_optimizer(panel, best.lr, best.wd) if settings else None,
        "decay_on": known("decay_on", recipe.decay_on),
        "steps": known("budget", recipe.steps),
        "batch_size": known("batch_size", recipe.batch_size),
        "schedule": known("schedule", recipe.schedule.model_dump(mode="json")),
        "training": spec.training.model_dump(mode="json", exclude_defaults=True),
        "metrics": metrics,
        "n_seeds": best.n_seeds,
        "on_edge": best.on_edge,
    }


TORCH_CLASSES = {"sgd": "SGD", "adam": "Adam", "amsgrad": "Adam", "nadam": "NAdam", "adagrad": "Adagrad"}


def torch_optimizer(panel: Panel, lr: float, wd: float) -> dict[str, Any] | None:
    """The class of ``torch.optim`` that takes the same steps, and its arguments; None where torch has none.

    Its decoupled decay is lr_t · weight_decay. The paper's η_t λ is that with weight_decay = λ/α, a normalised one with
    λ/(α √T), under any schedule that multiplies both.
    """
    variant, recipe = VARIANTS[panel.variant], panel.recipe
    decoupled = variant.decay is not Decay.L2
    if variant.optimizer not in TORCH_CLASSES or (decoupled and variant.optimizer in {"sgd", "adagrad"}):
        return None
    if variant.optimizer == "sgd" and recipe.momentum_form == "paper":
        return None
    if variant.decay is Decay.NORMALISED and len(recipe.restarts()) > 2:
        return None
    divisor = {Decay.PAPER: lr, Decay.NORMALISED: lr * math.sqrt(recipe.steps)}.get(variant.decay, 1.0)
    settings: dict[str, Any] = dict(panel.settings)
    if "beta1" in settings:
        settings = {"betas": [settings.pop("beta1"), settings.pop("beta2")], **settings}
    if "nesterov" in settings:
        settings["nesterov"] = bool(settings["nesterov"])
    if variant.optimizer == "amsgrad":
        settings["amsgrad"] = True
    if variant.optimizer == "nadam" and decoupled:
        settings["decoupled_weight_decay"] = True
    name = TORCH_CLASSES[variant.optimizer]
    return {
        "class": f"torch.optim.{'AdamW' if name == 'Adam' and decoupled else name}",
        "lr": lr,
        "weight_decay": wd / divisor,
        **settings,
    }
