"""Rules by which runs stop before the end of their budget."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field

from hpscan._model import Fractions, Model

__all__ = ["Diverged", "Halving", "Stop"]


class Diverged(Model):
    """A run stops where its loss is no longer finite, and nowhere else."""

    name: Literal["diverged"] = "diverged"

    def steps(self, steps: int, evaluations: int) -> tuple[int, ...]:
        """The steps of a budget at which runs are compared."""
        return ()

    def kept(self, n_cells: int) -> int:
        """How many of so many cells of a landscape go on."""
        return n_cells


class Halving(Model):
    """Successive halving (Jamieson & Talwalkar 2016): at each rung the best cells of a landscape go on, the others stop."""

    name: Literal["halving"] = "halving"
    rungs: Fractions = (0.5,)
    """Fractions of the budget, each at an evaluation. Early ones mislead where the learning rate is still high."""
    reduction: float = Field(default=2.0, gt=1)
    """At a rung the best 1/reduction of the cells go on."""

    def steps(self, steps: int, evaluations: int) -> tuple[int, ...]:
        """The steps of a budget at which runs are compared; raises ValueError where a rung is at no evaluation."""
        numbers = [rung * evaluations for rung in self.rungs]
        for rung, number in zip(self.rungs, numbers, strict=True):
            if abs(number - round(number)) > 1e-6:
                raise ValueError(
                    f"stop.rungs: must be at evaluations, multiples of 1/{evaluations} (`evaluations`); got {rung:g}"
                )
        found = tuple(round(steps * round(number) / evaluations) for number in numbers)
        if len({0, *found, steps}) < len(found) + 2:
            raise ValueError(f"stop.rungs: must be different steps within the budget, {steps}; they are at {found}")
        return found

    def kept(self, n_cells: int) -> int:
        """How many of so many cells of a landscape go on."""
        return math.ceil(n_cells / self.reduction - 1e-9)  # a third of 9 is 3


Stop = Annotated[Diverged | Halving, Field(discriminator="name")]
