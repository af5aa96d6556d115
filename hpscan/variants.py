"""The catalogue of variants: which optimizer, and where weight decay enters its step.

A variant is an optimizer with a decay convention. The direction of a step belongs to the optimizer
(:mod:`hpscan.optimizers`); the convention decides two numbers a step only, the coefficient inside the gradient and
the factor by which the weights shrink (:func:`decay_coefficients`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

__all__ = ["VARIANTS", "Decay", "Variant", "decay_coefficients", "known_variant"]

Number = TypeVar("Number", float, np.ndarray)


class Decay(StrEnum):
    """Where λ enters one step of an optimizer with learning rate α and schedule multiplier η_t."""

    L2 = "l2"
    """In the gradient, g + λθ: what ``torch.optim.SGD`` and ``Adam`` do with ``weight_decay``."""
    PAPER = "paper"
    """θ shrinks by η_t λ, whatever α is: Loshchilov & Hutter 2019, Algorithms 1 and 2."""
    TORCH = "torch"
    """θ shrinks by η_t α λ: ``torch.optim.AdamW``, optax and Keras."""


@dataclass(frozen=True)
class Variant:
    """An optimizer with a decay convention."""

    name: str
    optimizer: str
    decay: Decay
    rule: str
    """The update in one line, for people."""

    @property
    def coupled(self) -> bool:
        """Whether the shrink of θ depends on the learning rate, so that lr and wd are tied together."""
        return self.decay is not Decay.PAPER


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("sgd", "sgd", Decay.L2, "m = βm + g + λθ; θ −= η α m"),
        Variant("sgdw", "sgd", Decay.PAPER, "m = βm + g; θ −= η (α m + λθ)"),
        Variant("adam", "adam", Decay.L2, "g += λθ; θ −= η α m̂/(√v̂+ε)"),
        Variant("adamw", "adam", Decay.PAPER, "θ −= η (α m̂/(√v̂+ε) + λθ)"),
        Variant("adamw-torch", "adam", Decay.TORCH, "θ −= η α (m̂/(√v̂+ε) + λθ)"),
    )
}


def known_variant(name: str) -> str:
    """Return ``name``; raises ValueError with the known ones where it is not a variant."""
    if name not in VARIANTS:
        raise ValueError(f"unknown variant {name!r}; known are {', '.join(VARIANTS)}")
    return name


def decay_coefficients(decay: Decay, lr: Number, wd: Number, eta: Number) -> tuple[Number, Number]:
    """Return ``(l2, shrink)`` for a step g += l2·θ; θ −= η α · direction(g) + shrink·θ.

    ``lr``, ``wd`` and ``eta`` (the schedule multiplier) are numbers or arrays that broadcast together.
    """
    zero = 0.0 * (eta * lr * wd)
    match decay:
        case Decay.L2:
            return wd + zero, zero
        case Decay.PAPER:
            return zero, eta * wd + zero
        case Decay.TORCH:
            return zero, eta * lr * wd
