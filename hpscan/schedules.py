"""Schedule multipliers η_t: the factor in [0, 1] by which a schedule scales the learning rate at each step."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator

from hpscan._model import Model

__all__ = ["Constant", "Cosine", "Schedule", "Step"]


class Constant(Model):
    """η_t = 1."""

    name: Literal["constant"] = "constant"

    def multiplier(self, step: int, steps: int) -> float:
        """η_t at ``step`` of ``steps``, counted from 0."""
        return 1.0


class Cosine(Model):
    """η_t = (1 + cos(π t / T)) / 2 without restarts: SGDR (Loshchilov & Hutter 2017), equation 5 with η_min = 0."""

    name: Literal["cosine"] = "cosine"

    def multiplier(self, step: int, steps: int) -> float:
        """η_t at ``step`` of ``steps``, counted from 0."""
        return 0.5 * (1.0 + math.cos(math.pi * step / steps))


class Step(Model):
    """η_t = factor^(number of drops passed); the paper drops at epochs 30, 60 and 80 of 100."""

    name: Literal["step"] = "step"
    at: tuple[float, ...] = (0.3, 0.6, 0.8)
    """Fractions of the budget at which η drops."""
    factor: float = Field(default=0.1, gt=0, lt=1)

    @field_validator("at")
    @classmethod
    def _rising_fractions(cls, at: tuple[float, ...]) -> tuple[float, ...]:
        if not at or list(at) != sorted(set(at)) or not 0 < at[0] <= at[-1] < 1:
            raise ValueError("must be rising fractions of the budget, each above 0 and below 1")
        return at

    def multiplier(self, step: int, steps: int) -> float:
        """η_t at ``step`` of ``steps``, counted from 0."""
        return self.factor ** sum(step >= fraction * steps for fraction in self.at)


Schedule = Annotated[Constant | Cosine | Step, Field(discriminator="name")]
