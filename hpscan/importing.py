"""Results of other tools as a sweep: columns found or mapped, floats made one grid, and nothing lost unsaid."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from hpscan.axes import FURTHER_AXES
from hpscan.columns import METRIC, RECIPE, TOLD, TOLERANCE, Column, canonical, columns_of
from hpscan.grid import Cell, Pack, Run, panels
from hpscan.sources import SOURCES, Trial
from hpscan.spec import Spec, SpecError, is_validation
from hpscan.spec_text import override_field
from hpscan.store import Store
from hpscan.variants import OPTIMIZER_SETTINGS, VARIANTS

__all__ = ["ImportSummary", "import_sweep"]

MOST_TOLD = 8
"""Values of a column that an error names."""

STATES = {
    "completed": "completed", "complete": "completed", "finished": "completed", "terminated": "completed", "": "completed",
    "diverged": "diverged", "stopped": "stopped", "pruned": "stopped", "failed": "failed", "fail": "failed", "error": "failed",
}  # fmt: skip
"""A source's words in ours. What else it says (running, crashed, killed) is of a run that did not end, and is missing."""

SETTABLE = ("notes", "metric", "budget", "batch_size", "schedule", "decay_on", "optimizer", "training")
"""Fields of the spec that can be told beside a source."""


@dataclass(frozen=True)
class ImportSummary:
    """What became of a source."""

    spec: Spec
    n_trials: int
    runs: dict[str, Counter[str]]
    """Runs by variant and state."""
    lost: Counter[str]
    """Trials that are no run of the sweep, by reason."""
    spellings: dict[str, tuple[int, int]]
    """Of lr and wd, how many values there were and how many they are."""
    seeds_counted: bool
    """Whether the source has no seeds, so that a cell's trials count as seeds 0, 1, …"""


@dataclass(frozen=True)
class _Found:
    """A trial that can be a run."""

    variant: str
    lr: float
    wd: float
    seed: int | None
    state: str
    settings: dict[str, float]
    recipe: dict[str, int]
    numbers: dict[str, float]
    error: str | None
    curve: tuple[dict[str, Any], ...]

    @property
    def cell(self) -> tuple[Any, ...]:
        return self.variant, self.lr, self.wd, *self.settings.items(), *self.recipe.items()


def import_sweep(
    store: Store,
    sweep: str,
    kind: str,
    source: str,
    *,
    columns: Mapping[str, str] | None = None,
    only: Iterable[str] = (),
    variants: Iterable[str] = (),
    overrides: Collection[str] = (),
    tolerance: float = TOLERANCE,
) -> ImportSummary:
    """Write what ``source`` holds as a sweep of the store.

    Parameters
    ----------
    store
        Where it goes; it must hold no sweep of this name.
    sweep
        The new sweep's name.
    kind
        ``ray``, ``optuna`` or ``csv``.
    source
        An experiment's folder, a storage, a file.
    columns
        Our column → the source's, or ``1-column``, ``0.01*column``; columns of the same name need none.
    only
        ``column=value`` of the source, by which its trials are chosen: those that have all of them.
    variants
        One variant for all trials, or ``name=variant`` for those that the source calls so.
    overrides
        ``dotted.key=value`` for fields of the spec that the source does not say.
    tolerance
        Relative difference up to which two values of lr, or of wd, are one.

    Raises
    ------
    SpecError
        In one line: the source cannot be read, lacks a column, or the sweep exists.
    """
    if sweep in store.sweeps():
        raise SpecError(f"--sweep {sweep}: the store has a sweep of this name; give another")
    trials = SOURCES[kind](source)
    if not trials:
        raise SpecError(f"{source}: holds no trials")
    trials = _chosen(trials, only, source)
    names = list(dict.fromkeys(name for trial in trials for name in trial.values))
    where = columns_of(source, names, columns or {})
    where = {
        name: column
        for name, column in where.items()
        if name not in {*RECIPE, "seed"} or any(column.number(trial.values) is not None for trial in trials)
    }  # a column of blanks says nothing
    metric = _metric(where, overrides)
    for_all, renamed = _variants(variants)
    if for_all is None and "variant" not in where:
        raise SpecError(
            f"{source}: has no column variant; say which all are, e.g. --variant adamw-torch (torch.optim.AdamW), or map one"
        )
    maximised = {name for trial in trials for name in trial.maximised}
    for name, column in where.items():
        if column.name in maximised and column.factor > 0:
            raise SpecError(
                f"--columns {name}={column.name}: is maximised by its study, and here less is better; "
                f"for an accuracy give val_error=1-{column.name}"
            )
    meaning, lost = _Meaning(where, for_all, renamed, metric), Counter[str]()
    found = [kept for trial in trials if (kept := _found(trial, meaning, lost))]
    if not found:
        raise SpecError(f"{source}: none of its {len(trials)} trials can be used: {_told(lost)}")
    found, spellings = _on_one_grid(found, tolerance)
    found = _one_a_run(found, lost)
    spec = _spec(sweep, {"kind": kind, "source": source}, found, metric, overrides)
    _save(store, spec, found)
    states = {name: Counter(each.state for each in found if each.variant == name) for name in spec.variants}
    return ImportSummary(spec, len(trials), states, lost, spellings, "seed" not in where)


def _metric(where: Mapping[str, Column], overrides: Collection[str]) -> str:
    """What the sweep compares cells by: as told, else the loss or the error, else the first there is."""
    told = [
        override.partition("=")[2].strip() for override in overrides if override.partition("=")[0].strip() == "metric"
    ]
    known = [name for name in where if is_validation(name)]
    if told and told[-1] not in known:
        raise SpecError(f"--set metric={told[-1]}: must be one of the validation metrics found, {', '.join(known)}")
    return next(name for name in (*told[-1:], "val_loss", "val_error", *known) if name in known)


def _chosen(trials: Sequence[Trial], only: Iterable[str], source: str) -> list[Trial]:
    """The trials that have every ``column=value``."""
    chosen = list(trials)
    for text in only:
        column, equals, value = text.partition("=")
        if not (column and equals):
            raise SpecError(f"--only: must be COLUMN=VALUE, as in study=mine; got {text!r}")
        if not any(column in trial.values for trial in trials):
            raise SpecError(f"--only {text}: {source} has no column {column!r}")
        held = list(dict.fromkeys(str(trial.values.get(column, "")) for trial in chosen))
        chosen = [trial for trial in chosen if str(trial.values.get(column, "")) == value]
        if not chosen:
            more = ", …" if len(held) > MOST_TOLD else ""
            raise SpecError(f"--only {text}: no trial has it; {column} is {', '.join(held[:MOST_TOLD])}{more}")
    return chosen


def _variants(given: Iterable[str]) -> tuple[str | None, dict[str, str]]:
    """A variant for all trials, if told, and what the source's names mean."""
    for_all, renamed = None, {}
    for text in given:
        theirs, equals, ours = text.rpartition("=")
        if ours not in VARIANTS:
            raise SpecError(f"--variant {text}: {ours!r} is no variant; known are {', '.join(VARIANTS)}")
        if equals:
            renamed[theirs] = ours
        else:
            for_all = ours
    return for_all, renamed


@dataclass(frozen=True)
class _Meaning:
    """How a source is read."""

    where: Mapping[str, Column]
    for_all: str | None
    """The variant of all trials, if told."""
    renamed: Mapping[str, str]
    metric: str

    def variant(self, named: str) -> str:
        """The variant that a trial's name for it means; raises SpecError if it is none."""
        meant = self.for_all or self.renamed.get(named, named)
        if meant and meant not in VARIANTS:
            raise SpecError(
                f"{self.where['variant'].name}: {meant!r} is no variant of hpscan; say which, e.g. --variant "
                f"{meant}=adamw-torch (torch.optim.AdamW); known are {', '.join(VARIANTS)}"
            )
        return meant


def _found(trial: Trial, meaning: _Meaning, lost: Counter[str]) -> _Found | None:
    """What of a trial makes a run; None, and why is counted, if it is none."""
    where, metric = meaning.where, meaning.metric
    values = trial.values

    def text(name: str) -> str:
        value = values.get(where[name].name) if name in where else None
        return "" if value is None else str(value).strip()

    def number(name: str) -> float | None:
        return where[name].number(values) if name in where else None

    def whole(name: str) -> int | None:
        if re.fullmatch(r"\d+", text(name)) and number(name) == float(text(name)):  # a float would round a long one
            return int(text(name))
        value = number(name)
        return int(value) if value is not None and value >= 0 and value.is_integer() else None

    named = meaning.variant(text("variant"))
    lr, wd, seed = number("lr"), number("wd"), whole("seed")
    state = STATES.get(text("state").lower())
    z = number(metric)
    if state in {"completed", "stopped"} and z is not None and not math.isfinite(z):
        state = "diverged"
    recipe = {name: size for name in RECIPE if name in where and (size := whole(name))}
    why = (
        "without a variant" if not named
        else "without lr" if not text("lr") else "lr is not a positive number" if lr is None or not 0 < lr < math.inf
        else "without wd" if not text("wd") else "wd is not a number of at least 0" if wd is None or not 0 <= wd < math.inf
        else "without a whole seed" if "seed" in where and seed is None
        else f"{text('state').lower()}, so not ended" if state is None
        else f"without {metric}" if state == "completed" and not text(metric)
        else f"{metric} is not a number" if state == "completed" and z is None
        else next((f"without {name}" for name in RECIPE if name in where and name not in recipe), None)
    )  # fmt: skip
    if why is not None or lr is None or wd is None or state is None:
        lost[str(why)] += 1
        return None
    own = OPTIMIZER_SETTINGS[VARIANTS[named].optimizer]
    for name in sorted(set().union(*OPTIMIZER_SETTINGS.values()) & where.keys() - own.keys()):
        if number(name) is not None:
            lost[f"values of {name}, which {named} does not have"] += 1
    numbers = {name: number(name) for name in where if name in TOLD or METRIC.fullmatch(name)}
    kept = TOLD if state in {"diverged", "failed"} else numbers
    return _Found(
        variant=named,
        lr=lr,
        wd=wd,
        seed=seed,
        state=state,
        settings={
            name: float(f"{value:.7g}") for name in own if (value := number(name)) is not None and math.isfinite(value)
        },
        recipe=recipe,
        numbers={name: value for name, value in numbers.items() if name in kept and value is not None},
        error=text("error") or ("failed elsewhere" if state == "failed" else None),
        curve=tuple(point for at in trial.curve if len(point := _point(at, where)) > 1),
    )


def _point(at: Mapping[str, Any], where: Mapping[str, Column]) -> dict[str, Any]:
    """The finite validation metrics at a step."""
    numbers = {name: column.number(at) for name, column in where.items() if is_validation(name)}
    return {
        "step": at["step"],
        **{name: value for name, value in numbers.items() if value is not None and math.isfinite(value)},
    }


def _on_one_grid(found: Sequence[_Found], tolerance: float) -> tuple[list[_Found], dict[str, tuple[int, int]]]:
    """The same trials, each lr and wd as it is meant."""
    lr = canonical((each.lr for each in found), tolerance)
    wd = canonical((each.wd for each in found), tolerance)
    moved = [replace(each, lr=lr[each.lr], wd=wd[each.wd]) for each in found]
    return moved, {name: (len(axis), len(set(axis.values()))) for name, axis in (("lr", lr), ("wd", wd))}


def _one_a_run(found: Sequence[_Found], lost: Counter[str]) -> list[_Found]:
    """One trial a cell and seed: an ended one before a failed one, then the later.

    Without seeds a cell's trials are seeds 0, 1, …, those alike to the last digit once, failed ones only where no other is.
    """
    cells: dict[tuple[Any, ...], list[_Found]] = {}
    for each in found:
        cells.setdefault((*each.cell, each.seed), []).append(each)
    kept = []
    for trials in cells.values():
        ended = [each for each in trials if each.state != "failed"]
        lost["failed, and there is another of the same"] += len(trials) - len(ended) if ended else 0
        if trials[0].seed is None:
            alike = {
                (each.state, *sorted(each.numbers.items())) if each.numbers else id(each): each
                for each in ended or trials
            }
            lost["the same again"] += len(ended or trials) - len(alike)
            kept += [replace(each, seed=seed) for seed, each in enumerate(alike.values())]
        else:
            lost["another of the same cell and seed came later"] += len(ended or trials) - 1
            kept.append((ended or trials)[-1])
    for why in [why for why, count in lost.items() if not count]:
        del lost[why]
    return kept


def _spec(
    sweep: str, origin: Mapping[str, str], found: Sequence[_Found], metric: str, overrides: Collection[str]
) -> Spec:
    """A spec whose grid is what was found; what the source does not say is a placeholder, and listed as unknown."""
    by_variant = {name: own for name in VARIANTS if (own := [each for each in found if each.variant == name])}
    recipe = {name: sorted({each.recipe[name] for each in found if name in each.recipe}) for name in RECIPE}
    raw: dict[str, Any] = {
        "name": sweep,
        "workload": {"name": "imported", **origin, "width": next(iter(recipe["width"]), None)},
        "variants": list(by_variant),
        "grid": {
            "variants": {variant: _axes(variant, trials) for variant, trials in by_variant.items()},
            **{name: values for name, values in recipe.items() if len(values) > 1},
        },
        "seeds": sorted({each.seed for each in found if each.seed is not None}),
        "metric": metric,
    }
    if recipe["steps"]:
        raw["budget"] = {"steps": recipe["steps"][0]}
    if recipe["batch_size"]:
        raw["batch_size"] = recipe["batch_size"][0]
    for override in overrides:
        if override.partition("=")[0].strip().partition(".")[0] not in SETTABLE:
            raise SpecError(f"--set {override}: only what a source does not say can be set: {', '.join(SETTABLE)}")
        override_field(raw, override)
    told = {*raw, *(["optimizer"] if any(each.settings for each in found) else [])}
    unknown = [
        name for name in ("budget", "batch_size", "schedule", "decay_on", "optimizer", "training") if name not in told
    ]
    raw["workload"] = {**raw["workload"], "unknown": unknown}
    return Spec.validated({"budget": {"steps": 1}, "batch_size": 1, **raw})


def _axes(variant: str, trials: Sequence[_Found]) -> dict[str, list[float]]:
    """The values of each axis; a setting is one where it is not the optimizer's default for all."""
    own = OPTIMIZER_SETTINGS[VARIANTS[variant].optimizer]
    axes = {"lr": sorted({each.lr for each in trials}), "wd": sorted({each.wd for each in trials})}
    for name, default in own.items():
        values = sorted({each.settings.get(name, default) for each in trials})
        if values != [default]:
            axes[name] = values
    return axes


def _save(store: Store, spec: Spec, found: Sequence[_Found]) -> None:
    """Write the runs, and then the spec that makes them a sweep."""
    by_place = {(panel.variant, panel.at): panel for panel in panels(spec)}
    axes = {panel.variant: [name for name, _ in panel.at] for panel in panels(spec)}
    columns = {"budget": ["steps"], "batch_size": ["batch_size"], "optimizer": FURTHER_AXES}
    blank = {name: None for field in spec.unknown for name in columns.get(field, ())}
    rows, curves, runs = [], [], []
    for each in found:
        assert each.seed is not None
        values = {**OPTIMIZER_SETTINGS[VARIANTS[each.variant].optimizer], **each.settings, **each.recipe}
        panel = by_place[each.variant, tuple((name, float(values[name])) for name in axes[each.variant])]
        run = Run(Cell(each.variant, each.lr, each.wd, panel.settings), each.seed, panel.recipe)
        runs.append(run)
        best = {f"best_{name}": min(at[name] for at in each.curve) for name in ("val_loss", "val_error")
                if each.curve and all(name in at for at in each.curve)}  # fmt: skip
        rows.append({**run.columns(), **blank, **best, **each.numbers, "state": each.state, "error": each.error})
        curves += [{"run_id": run.run_id, **point} for point in each.curve]
    pack_id = Pack(tuple(runs), len(runs)).pack_id
    provenance = {
        "pack_id": pack_id, "pack_runs": len(runs), "hpscan_version": version("hpscan"), "finished_at": datetime.now(UTC),
    }  # fmt: skip
    store.save_pack(spec.name, pack_id, [row | provenance for row in rows], curves)
    store.save_spec(spec)


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {why}" for why, count in counts.items())
