"""Schedule multipliers η_t: the factor in [0, 1] by which a schedule scales the learning rate at each step.

Lengths (``warmup``, ``first``, ``cycle``) are in the unit of the spec's budget, steps or epochs; the grid turns them
into steps (:meth:`_Schedule.in_steps`) before the engine asks for multipliers.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from hpscan._model import Fractions, Model

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Cyclic",
    "InverseSqrt",
    "Linear",
    "Schedule",
    "Step",
    "WarmupStableDecay",
]


class _Schedule(Model):
    """A schedule: η_t after the warmup, and what all have in common."""

    warmup: float = Field(default=0, ge=0)
    """Length of a linear warmup, (t + 1) / warmup, before the schedule proper, which gets the rest of the budget."""

    lengths: ClassVar[tuple[str, ...]] = ("warmup",)
    """Fields in the unit of the budget."""

    def multiplier(self, step: int, steps: int) -> float:
        """η_t at ``step`` of ``steps``, counted from 0."""
        if step < self.warmup:
            return min(1.0, (step + 1) / self.warmup)
        return self._proper(step - math.ceil(self.warmup), max(1, steps - math.ceil(self.warmup)))

    def _proper(self, step: int, steps: int) -> float:
        """η_t after the warmup; ``step`` and ``steps`` count from its end."""
        raise NotImplementedError

    def restarts(self, steps: int) -> list[int]:
        """The step at which each period of a budget begins: only 0 unless the schedule restarts."""
        return [0]

    def in_steps(self, steps_per_unit: float) -> Self:
        """The same schedule with its lengths in steps, which need not be whole."""
        return self.model_copy(update={name: getattr(self, name) * steps_per_unit for name in self.lengths})


class Constant(_Schedule):
    """η_t = 1."""

    name: Literal["constant"] = "constant"

    def _proper(self, step: int, steps: int) -> float:
        return 1.0


class Cosine(_Schedule):
    """η_t = (1 + cos(π t / T)) / 2 without restarts: SGDR (Loshchilov & Hutter 2017), equation 5 with η_min = 0."""

    name: Literal["cosine"] = "cosine"

    def _proper(self, step: int, steps: int) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * step / steps))


class CosineRestarts(_Schedule):
    """Cosine with warm restarts: SGDR (Loshchilov & Hutter 2017), equation 5 with η_min = 0.

    Under ``sgdw`` and ``adamw`` it makes them SGDWR and AdamWR; normalised decay follows the current restart's T.
    """

    name: Literal["cosine_restarts"] = "cosine_restarts"
    first: float = Field(gt=0)
    """T₀, the length of the first period."""
    mult: float = Field(default=2, ge=1)
    """T_mult, by which each period is longer than the one before."""

    lengths: ClassVar[tuple[str, ...]] = ("warmup", "first")

    def _proper(self, step: int, steps: int) -> float:
        start, length = self._period(step)
        return 0.5 * (1.0 + math.cos(math.pi * (step - start) / length))

    def _period(self, step: int) -> tuple[int, int]:
        """The first step and the length of the period that holds ``step``."""
        start, end, length = 0.0, max(1.0, self.first), max(1.0, self.first)
        while step >= round(end):  # ends are rounded, not lengths: a budget of whole periods ends with one
            length *= self.mult
            start, end = end, end + length
        return round(start), round(end) - round(start)

    def restarts(self, steps: int) -> list[int]:
        """The step at which each period begins; a warmup counts to the first."""
        offset = math.ceil(self.warmup)
        starts, step = [0], self._period(0)[1]
        while step + offset < steps:
            starts.append(step + offset)
            step += self._period(step)[1]
        return starts


class Cyclic(_Schedule):
    """Triangular cycles between ``low`` and 1: Smith 2017, *Cyclical Learning Rates*, the triangular policy."""

    name: Literal["cyclic"] = "cyclic"
    cycle: float = Field(gt=0)
    """Length of a cycle, up and down."""
    low: float = Field(default=0.1, ge=0, lt=1)

    lengths: ClassVar[tuple[str, ...]] = ("warmup", "cycle")

    def _proper(self, step: int, steps: int) -> float:
        phase = (step / max(1.0, self.cycle)) % 1.0
        return self.low + (1.0 - self.low) * (1.0 - abs(2.0 * phase - 1.0))


class Linear(_Schedule):
    """η_t = 1 − (1 − final) t / T."""

    name: Literal["linear"] = "linear"
    final: float = Field(default=0.0, ge=0, le=1)

    def _proper(self, step: int, steps: int) -> float:
        return 1.0 - (1.0 - self.final) * step / steps


class WarmupStableDecay(_Schedule):
    """1, then a linear fall to 0 over the last ``decay`` share of the budget: Hu et al. 2024, *MiniCPM*."""

    name: Literal["wsd"] = "wsd"
    decay: float = Field(default=0.2, gt=0, le=1)

    def _proper(self, step: int, steps: int) -> float:
        return min(1.0, (1.0 - step / steps) / self.decay)


class InverseSqrt(_Schedule):
    """min(t / W, √(W / t)) with t counted from 1 and W the warmup: Vaswani et al. 2017, equation 3, with its peak at 1."""

    name: Literal["inverse_sqrt"] = "inverse_sqrt"
    warmup: float = Field(gt=0)

    def _proper(self, step: int, steps: int) -> float:
        warmup = max(1, math.ceil(self.warmup))
        return math.sqrt(warmup / (warmup + step + 1))


class Step(_Schedule):
    """η_t = factor^(number of drops passed); the paper drops at epochs 30, 60 and 80 of 100."""

    name: Literal["step"] = "step"
    at: Fractions = (0.3, 0.6, 0.8)
    """Fractions of the budget, after any warmup, at which η drops."""
    factor: float = Field(default=0.1, gt=0, lt=1)

    def _proper(self, step: int, steps: int) -> float:
        return self.factor ** sum(step >= drop for drop in self.drops(steps))

    def drops(self, steps: int) -> list[int]:
        """The steps from which on η is lower."""
        return [math.ceil(round(fraction * steps, 6)) for fraction in self.at]  # 0.28 · 25 is 7.000000000000001


Schedule = Annotated[
    Constant | Cosine | CosineRestarts | Cyclic | Linear | WarmupStableDecay | InverseSqrt | Step,
    Field(discriminator="name"),
]
