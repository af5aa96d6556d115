"""What makes the runs of one spec others than those of another."""

from __future__ import annotations

from typing import Any

import pandas as pd

from hpscan.grid import Recipe, runs
from hpscan.spec import Spec
from hpscan.store import Store

__all__ = ["differences", "objection"]


def objection(spec: Spec, store: Store, rows: pd.DataFrame) -> str | None:
    """Why a launch does not go on under this name unless it is meant to; ``rows`` are those of :meth:`Store.runs`.

    It would make every run of a variant another one than those stored. A spec of which some are stored was launched before.
    """
    if rows.empty or spec.name not in store.sweeps():  # an import that was killed leaves runs without a spec
        return None
    changed = differences(store.spec(spec.name), spec)
    if not changed:
        return None
    stored = set(rows["run_id"])
    counting = {run.cell.variant for run in runs(spec) if run.run_id in stored}
    lost = [name for name in spec.variants if name not in counting and name in set(rows["variant"])]
    if not lost:
        return None
    field, (earlier, now) = next(iter(changed.items()))
    more = f" (and {', '.join(list(changed)[1:])})" if len(changed) > 1 else ""
    which = "" if len(lost) == len(spec.variants) else f" of {', '.join(lost)}"
    return (
        f"{spec.name}: {field} is {earlier!r} in the store and {now!r} in this spec{more}: every run{which} would be "
        f"another one, and none of the {rows['variant'].isin(lost).sum()} stored would count. Give it another name "
        "(--set name=…), or go on under this one with --revise; the stored runs stay"
    )


def differences(earlier: Spec, spec: Spec) -> dict[str, tuple[Any, Any]]:
    """What makes every run of ``spec`` another one than the ``earlier`` spec's: field → (earlier, now).

    Grids, variants, seeds and resources are not among it: they add runs or leave some out, and change none.
    """
    before, now = _shared(earlier), _shared(spec)
    axes = _axes_of_recipe(earlier) | _axes_of_recipe(spec)
    shared = set(earlier.variants) & set(spec.variants)
    for variant in shared:
        further = set(earlier.grid.further(variant)) | set(spec.grid.further(variant))
        for config, of in ((before, earlier), (now, spec)):
            settings = of.optimizer.settings(variant)
            config |= {f"optimizer.{name}": value for name, value in settings.items() if name not in further}
    fields = [field for field in {**before, **now} if field not in axes]
    return {field: (before.get(field), now.get(field)) for field in fields if before.get(field) != now.get(field)}


def _axes_of_recipe(spec: Spec) -> set[str]:
    """The fields of the recipe, with dotted names, that are axes of a spec's grid or follow from one."""
    own = {
        "steps": "steps",
        "epochs": "steps",
        "batch_size": "batch_size",
        "width": ".".join(["workload", *spec.workload.width_path]),
    }
    points = [_shared(spec), *(_shared(spec.at(point)) for point in spec.points())]
    return {own[axis] for axis in spec.grid.recipe()} | {
        field for point in points for field in point if point[field] != points[0].get(field)
    }


def _shared(spec: Spec) -> dict[str, Any]:
    """The recipe with dotted names."""
    recipe = Recipe.of(spec)
    flat: dict[str, Any] = {"optimizer.momentum_form": recipe.momentum_form}
    queue: list[tuple[str, Any]] = list(recipe.config().items())
    while queue:
        name, value = queue.pop(0)
        if isinstance(value, dict):
            queue = [(f"{name}.{key}", entry) for key, entry in value.items()] + queue
        else:
            flat[name] = value
    return flat
