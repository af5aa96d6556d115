"""From a spec to cells, runs and packs, in an order that shows the whole map early."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from hpscan.schedules import Schedule
from hpscan.spec import Spec, Training
from hpscan.variants import VARIANTS, Variant
from hpscan.workloads import Workload, width_of

__all__ = ["Cell", "Leg", "Pack", "Panel", "Recipe", "Run", "packs", "panels", "runs"]

IDENTITY = "hpscan-run/2"
"""Version of what a run is; changed whenever the same config would train differently."""
_BLANK = "hpscan 5b1c6f0e blank"
"""What stands in a template for a number; no workload has such an argument."""

Settings = tuple[tuple[str, float], ...]
"""Every setting that an optimizer reads, by name, in the order of the catalogue."""


@dataclass(frozen=True)
class Recipe:
    """What determines the results of runs beside their cell and seed: one for a spec, or one for each of its points."""

    workload: Workload
    batch_size: int
    steps: int
    schedule: Schedule
    """Its lengths in steps."""
    decay_on: str
    evaluations: int
    momentum_form: str
    training: Training

    @classmethod
    def of(cls, spec: Spec) -> Recipe:
        """The recipe of a spec; where the grid has axes of the recipe, of one of its points (:meth:`Spec.at`)."""
        return cls(
            workload=spec.workload,
            batch_size=spec.batch_size,
            steps=spec.steps,
            schedule=spec.schedule_in_steps,
            decay_on=spec.decay_on,
            evaluations=spec.evaluations,
            momentum_form=spec.optimizer.momentum_form,
            training=spec.training,
        )

    def config(self) -> dict[str, Any]:
        """The recipe as plain JSON values, complete with defaults; what is switched off is left out."""
        return {
            "workload": self.workload.identity(),
            "batch_size": self.batch_size,
            "steps": self.steps,
            "schedule": self.schedule.model_dump(mode="json"),
            "decay_on": self.decay_on,
            "evaluations": self.evaluations,
            **self.training.model_dump(mode="json", exclude_defaults=True),
        }

    @cached_property
    def identity(self) -> str:
        """What tells one recipe from another, as text."""
        return json.dumps([self.config(), self.momentum_form], sort_keys=True)

    @cached_property
    def templates(self) -> dict[tuple[str, Settings], list[str]]:
        """Canonical configs cut where lr, seed and wd belong, by variant and settings; filled by :attr:`Run.template`."""
        return {}

    def restarts(self) -> list[int]:
        """The step at which each period of the schedule begins, and the end of the budget."""
        return [*self.schedule.restarts(self.steps), self.steps]


@dataclass(frozen=True)
class Cell:
    """One point of the grid."""

    variant: str
    lr: float
    wd: float
    settings: Settings


@dataclass(frozen=True)
class Panel:
    """What makes one landscape: a variant, at one value of each further axis and of each axis of the recipe."""

    name: str
    """The variant, and the values of such axes if there are any: ``sgd steps=400 momentum=0.9``."""
    variant: str
    settings: Settings
    recipe: Recipe
    at: Settings
    """Its value on each further axis and each axis of the recipe."""
    lr: tuple[float, ...]
    wd: tuple[float, ...]

    def run_ids(self, seeds: Iterable[int]) -> np.ndarray:
        """The run_id of each of its runs, shape (seeds, lrs, wds)."""
        template = Run(Cell(self.variant, self.lr[0], self.wd[0], self.settings), 0, self.recipe).template
        before, between, amid, after = template
        ends = [f"{amid}{float.__repr__(wd)}{after}".encode() for wd in self.wd]
        found: list[str] = []
        for seed, lr in product(seeds, self.lr):
            begun = hashlib.sha256(f"{before}{float.__repr__(lr)}{between}{seed}".encode())  # what a row shares, once
            for end in ends:
                whole = begun.copy()
                whole.update(end)
                found.append(whole.hexdigest()[:16])
        return np.array(found, dtype=object).reshape(-1, len(self.lr), len(self.wd))


@dataclass(frozen=True)
class Run:
    """One training: a cell with one seed, under a recipe."""

    cell: Cell
    seed: int
    recipe: Recipe

    @property
    def variant(self) -> Variant:
        """The cell's variant."""
        return VARIANTS[self.cell.variant]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The complete canonical config: all that determines the result, and nothing of where it ran.

        A variant is spelt out as optimizer, decay convention and the settings that this optimizer reads, so that a
        change of Adam's betas leaves the runs of SGD what they were.
        """
        optimizer: dict[str, Any] = {"name": self.variant.optimizer, **dict(self.cell.settings)}
        if self.variant.optimizer == "sgd" and self.recipe.momentum_form == "paper":
            optimizer["momentum_form"] = "paper"
        return {
            **self.recipe.config(),
            "optimizer": optimizer,
            "decay": str(self.variant.decay),
            "lr": self.cell.lr,
            "wd": self.cell.wd,
            "seed": self.seed,
        }

    def columns(self) -> dict[str, Any]:
        """What a row of the store says of the run itself."""
        return {
            "run_id": self.run_id,
            "variant": self.cell.variant,
            "lr": self.cell.lr,
            "wd": self.cell.wd,
            "seed": self.seed,
            **dict(self.cell.settings),
            "steps": self.recipe.steps,
            "batch_size": self.recipe.batch_size,
            "width": width_of(self.recipe.workload),
            "config": json.dumps(self.config, sort_keys=True),
        }

    @cached_property
    def run_id(self) -> str:
        """64 bits of SHA-256 over the canonical config, as 16 hexadecimal digits."""
        before, between, amid, after = self.template
        lr, wd = (float.__repr__(value) for value in (self.cell.lr, self.cell.wd))  # as JSON has them
        return hashlib.sha256(f"{before}{lr}{between}{self.seed}{amid}{wd}{after}".encode()).hexdigest()[:16]

    @property
    def template(self) -> list[str]:
        """The canonical config cut where lr, seed and wd belong: encoding that of each of 10⁵ runs would take long."""
        key = self.cell.variant, self.cell.settings
        parts = self.recipe.templates.get(key)
        if parts is None:
            blank = self.config | dict.fromkeys(("lr", "seed", "wd"), _BLANK)
            text = json.dumps([IDENTITY, blank], sort_keys=True, separators=(",", ":"), allow_nan=False)
            parts = self.recipe.templates[key] = text.split(f'"{_BLANK}"')
        return parts


@dataclass(frozen=True)
class Leg:
    """A stretch of a run's training: what of it is done in one pack."""

    until: int
    """The step it ends at: a rung, or the end of the budget."""
    since: int = 0
    """The step it begins at."""
    way: tuple[str, bool] | None = None
    """(strategy, compiled) of the training before, which the rest has to be like."""
    source: str | None = field(default=None, compare=False)
    """The name of the checkpoint that holds the run at ``since``."""


@dataclass(frozen=True)
class Pack:
    """Runs that train together in one process: same optimizer, same recipe, same leg."""

    runs: tuple[Run, ...]
    capacity: int
    """Rows that the pack's tensors have: one number for a whole sweep, so that its packs share compiled code."""
    since: int = 0
    """The step its leg begins at."""
    until: int | None = None
    """The step it is trained to; None for the end of the budget."""
    sources: tuple[str, ...] = ()
    """Names of checkpoints that hold its runs where the leg begins."""
    rest_of: str | None = None
    """The name of a pack that these runs are left of and that has a checkpoint."""
    first_look: bool = False
    """Whether it holds the coarsest cells of a variant and recipe, which somebody waits to see."""

    @property
    def name(self) -> str:
        """What its checkpoint is called."""
        return self.rest_of or self.pack_id

    @cached_property
    def pack_id(self) -> str:
        """A hash of the pack's run_ids: the name of its files."""
        return hashlib.sha256("".join(sorted(run.run_id for run in self.runs)).encode()).hexdigest()[:16]

    @property
    def end(self) -> int:
        """The step it is trained to."""
        return self.until or self.runs[0].recipe.steps

    @property
    def run_steps(self) -> int:
        """Steps of all its runs together."""
        return len(self.runs) * (self.end - self.since)


def _levels(points: int) -> list[int]:
    """The level of each index of an axis when it is halved again and again: the ends are 0, the middle is 1."""
    levels = [0] * points
    intervals = [(0, points - 1)]
    level = 0
    while intervals:
        level += 1
        below: list[tuple[int, int]] = []
        for low, high in intervals:
            if high - low > 1:
                middle = (low + high) // 2
                levels[middle] = level
                below += [(low, middle), (middle, high)]
        intervals = below
    return levels


def panels(spec: Spec) -> list[Panel]:
    """The landscapes that a spec asks for, in the order of its variants."""
    found = []
    recipes = [(point, Recipe.of(spec.at(point))) for point in spec.points()]  # shared, and with them their templates
    for variant in spec.variants:
        settings = spec.optimizer.settings(variant)
        further = spec.grid.further(variant)
        lr, wd = spec.grid.axes(variant)
        for (point, recipe), values in product(recipes, product(*further.values())):
            chosen = dict(zip(further, values, strict=True))
            at = {**point, **chosen}
            name = " ".join([variant, *(f"{axis}={_setting(axis, value)}" for axis, value in at.items())])
            all_settings = tuple({**settings, **chosen}.items())
            found.append(Panel(name, variant, all_settings, recipe, tuple(at.items()), lr, wd))
    return found


def _setting(axis: str, value: float) -> str:
    return ("on" if value else "off") if axis == "nesterov" else f"{value:.12g}"


def runs(spec: Spec) -> list[Run]:
    """Every run of a spec, coarse to fine: first each panel's corners for all seeds, then the middles, and so on.

    Within a level all cells get their first seed before any gets its second, so that an interrupted sweep shows a
    whole map. Of several budgets or batch sizes the long runs come first, so that no worker is left with one at the
    end. The order is a function of the spec alone.
    """
    ranked: list[tuple[tuple[int, int, int, int, int], Run]] = []
    long_first = sorted(panels(spec), key=lambda panel: -panel.recipe.steps * panel.recipe.batch_size)
    for panel_rank, panel in enumerate(long_first):
        lr_levels, wd_levels = _levels(len(panel.lr)), _levels(len(panel.wd))
        for i, lr in enumerate(panel.lr):
            for j, wd in enumerate(panel.wd):
                cell = Cell(panel.variant, lr, wd, panel.settings)
                for seed_rank, seed in enumerate(spec.seeds):
                    rank = (max(lr_levels[i], wd_levels[j]), seed_rank, panel_rank, i, j)
                    ranked.append((rank, Run(cell, seed, panel.recipe)))
    return [run for _, run in sorted(ranked, key=lambda pair: pair[0])]


def packs(
    every: Sequence[Run],
    most_runs: int,
    done: Iterable[str] = (),
    workers: int = 1,
    legs: Mapping[str, Leg] | None = None,
    *,
    checkpoints: Collection[str] = (),
) -> list[Pack]:
    """Pack those of a spec's runs whose run_id is not in ``done``, coarse cells first, at most ``most_runs`` together.

    A pack holds runs of one variant and one recipe. Its capacity follows from the whole spec and not from what is left, so that a
    relaunch finds the code compiled. Packs are cut for ``workers`` to end together: none is left with a whole pack
    in the last round while the others have nothing to do. The first of each variant and recipe is a first look. Where ``legs`` are given, by run_id, only runs that have one
    are packed, with those that have the same. What is left of a pack stays together if the pack is one of those whose
    ``checkpoints`` are there.
    """
    done = frozenset(done)
    sizes: dict[tuple[str, str], int] = defaultdict(int)
    alike: dict[tuple[str, str, Leg | None], list[tuple[int, Run]]] = defaultdict(list)
    coarsest: set[int] = set()
    """The rank of the first run of each variant and recipe."""
    for rank, run in enumerate(every):
        kind = run.cell.variant, run.recipe.identity
        if kind not in sizes:
            coarsest.add(rank)
        sizes[kind] += 1
        if legs is None or run.run_id in legs:
            alike[*kind, legs[run.run_id] if legs is not None else None].append((rank, run))
    rounds = math.ceil(len(every) / (workers * most_runs))
    most = math.ceil(len(every) / (workers * rounds))
    capacity = _even_size(max(sizes.values()), most)
    ranked_packs: list[tuple[int, Pack]] = []
    for (_, _, leg), ranked in alike.items():
        stay: list[tuple[list[tuple[int, Run]], str | None, bool]] = []
        rest: list[tuple[int, Run]] = []
        for part in _cut(ranked, capacity):
            left = [pair for pair in part if pair[1].run_id not in done]
            touched = 0 < len(left) < len(part)
            name = Pack(tuple(run for _, run in part), capacity).pack_id if touched else None
            first_look = legs is None and part[0][0] in coarsest
            if left and (first_look or name in checkpoints or not touched):  # its checkpoint may come to be there
                stay.append((left, name if name in checkpoints else None, first_look))
            else:
                rest += left
        for part, rest_of, first_look in [*stay, *((part, None, False) for part in _cut(rest, capacity))]:
            members = tuple(run for _, run in part)
            sources = {legs[run.run_id].source for run in members} if legs is not None else set()
            named = tuple(sorted(source for source in sources if source is not None))
            whole = leg or Leg(members[0].recipe.steps)
            pack = Pack(members, capacity, whole.since, whole.until, named, rest_of, first_look)
            ranked_packs.append((part[0][0], pack))
    return [pack for _, pack in sorted(ranked_packs, key=lambda pair: pair[0])]


def _cut(ranked: list[tuple[int, Run]], most: int) -> list[list[tuple[int, Run]]]:
    """Equal parts of at most ``most``."""
    size = _even_size(len(ranked), most) if ranked else 1
    return [ranked[start : start + size] for start in range(0, len(ranked), size)]


def _even_size(n: int, most: int) -> int:
    """The size of equal packs of at most ``most`` that together hold ``n``."""
    return math.ceil(n / math.ceil(n / most))
