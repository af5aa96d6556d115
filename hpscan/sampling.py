"""Which cells of a grid are trained: the part of a spec that leaves cells out and changes no run."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hpscan._model import Model

__all__ = ["Adaptive", "AdaptiveOption"]


class Adaptive(Model):
    """A coarse grid first, then the cells that tell most of the best one and of the basin's boundary."""

    most_cells: float = Field(default=0.5, gt=0, le=1)
    """The share of each landscape's cells that are trained at most; fewer where fewer settle it."""
    tolerance: float = Field(default=0.05, gt=0)
    """A cell is in the basin if its metric is above the best by at most this share of it."""


def _switch(value: Any) -> Any:
    """Read ``true`` as all defaults and ``false`` as none."""
    return ({} if value else None) if isinstance(value, bool) else value


AdaptiveOption = Annotated[Adaptive | None, BeforeValidator(_switch)]
