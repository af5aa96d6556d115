"""The width of a workload's model: which field holds it, and the same workload at another."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpscan.workloads import Imported, PackedWorkload, Trainable

__all__ = ["at_width", "width_of"]


def width_of(workload: PackedWorkload | Trainable | Imported) -> int | None:
    """The width of the model's first layer; None for a model that has none to set."""
    if not workload.width_path:
        return None
    value: Any = reduce(_entry, workload.width_path, workload)
    return int(value[0] if isinstance(value, Sequence) else value)


def at_width(workload: PackedWorkload | Trainable | Imported, width: int) -> PackedWorkload | Trainable | Imported:
    """The same workload with another width; further layers keep their proportion to the first.

    Raises
    ------
    ValueError
        If its model has no width, or cannot have this one.
    """
    if not workload.width_path:
        raise ValueError(f"{_model(workload)} has no width to set")
    raw = workload.model_dump()
    *parents, last = workload.width_path
    holder = reduce(_entry, parents, raw)
    holder[last] = _scaled(holder[last], width, f"{_model(workload)}: {last}")
    fields = type(workload).model_fields
    kept = {name: getattr(workload, name) for name, field in fields.items() if field.exclude}
    return type(workload).model_validate({**raw, **kept})


def _scaled(value: Any, width: int, what: str) -> Any:
    if not isinstance(value, Sequence):
        return width
    scaled = [layer * width / value[0] for layer in value]
    if not all(layer.is_integer() for layer in scaled):
        raise ValueError(f"{what} of {list(value)} cannot keep its proportions at width {width}")
    return [int(layer) for layer in scaled]


def _entry(holder: Any, name: str) -> Any:
    return holder[name] if isinstance(holder, dict) else getattr(holder, name)


def _model(workload: PackedWorkload | Trainable | Imported) -> str:
    return str(getattr(getattr(workload, "model", workload), "name", workload.name))
