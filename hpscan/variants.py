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

__all__ = ["OPTIMIZER_SETTINGS", "VARIANTS", "Decay", "Variant", "decay_coefficients", "known_variant"]

Number = TypeVar("Number", float, np.ndarray)

OPTIMIZER_SETTINGS: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.9, "nesterov": 0.0},
    "adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "amsgrad": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "nadam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "adagrad": {"eps": 1e-10},
    "lion": {"beta1": 0.9, "beta2": 0.99},
}
"""The settings that each optimizer reads, with its own defaults: those of ``torch.optim`` and of Lion's paper."""


class Decay(StrEnum):
    """Where λ enters one step of an optimizer with learning rate α and schedule multiplier η_t."""

    L2 = "l2"
    """In the gradient, g + λθ: what ``torch.optim.SGD`` and ``Adam`` do with ``weight_decay``."""
    PAPER = "paper"
    """θ shrinks by η_t λ, whatever α is: Loshchilov & Hutter 2019, Algorithms 1 and 2."""
    TORCH = "torch"
    """θ shrinks by η_t α λ: ``torch.optim.AdamW``, optax and Keras."""
    NORMALISED = "normalised"
    """As PAPER with λ = λ_norm √(b / (B T)): Loshchilov & Hutter 2019, appendix B.1. b/(BT) is one over the steps of
    the budget, or of the current restart where the schedule has restarts."""


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
        return self.decay in (Decay.L2, Decay.TORCH)


_ADAM, _AMSGRAD = "m̂/(√v̂+ε)", "m̂/(√max v̂+ε)"
_NADAM, _LION = "m̄/(√v̂+ε)", "sign(β₁m+(1−β₁)g)"

VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("sgd", "sgd", Decay.L2, "m = βm + g + λθ; θ −= η α m"),
        Variant("sgdw", "sgd", Decay.PAPER, "m = βm + g; θ −= η (α m + λθ)"),
        Variant("sgdw-torch", "sgd", Decay.TORCH, "m = βm + g; θ −= η α (m + λθ)"),
        Variant("sgdw-normalised", "sgd", Decay.NORMALISED, "m = βm + g; θ −= η (α m + λθ/√T)"),
        Variant("adam", "adam", Decay.L2, f"g += λθ; θ −= η α {_ADAM}"),
        Variant("adamw", "adam", Decay.PAPER, f"θ −= η (α {_ADAM} + λθ)"),
        Variant("adamw-torch", "adam", Decay.TORCH, f"θ −= η α ({_ADAM} + λθ)"),
        Variant("adamw-normalised", "adam", Decay.NORMALISED, f"θ −= η (α {_ADAM} + λθ/√T)"),
        Variant("amsgrad", "amsgrad", Decay.L2, f"g += λθ; θ −= η α {_AMSGRAD}"),
        Variant("amsgradw", "amsgrad", Decay.PAPER, f"θ −= η (α {_AMSGRAD} + λθ)"),
        Variant("nadam", "nadam", Decay.L2, f"g += λθ; θ −= η α {_NADAM}"),
        Variant("nadamw", "nadam", Decay.PAPER, f"θ −= η (α {_NADAM} + λθ)"),
        Variant("adagrad", "adagrad", Decay.L2, "g += λθ; s += g²; θ −= η α g/(√s+ε)"),
        Variant("lion", "lion", Decay.TORCH, f"θ −= η α ({_LION} + λθ)"),
        Variant("lion-l2", "lion", Decay.L2, f"g += λθ; θ −= η α {_LION}"),
    )
}


def known_variant(name: str) -> str:
    """Return ``name``; raises ValueError with the known ones where it is not a variant."""
    if name not in VARIANTS:
        raise ValueError(f"unknown variant {name!r}; known are {', '.join(VARIANTS)}")
    return name


def decay_coefficients(
    decay: Decay, lr: Number, wd: Number, eta: Number, period: Number | int = 1
) -> tuple[Number, Number]:
    """Return ``(l2, shrink)`` for a step g += l2·θ; θ −= η α · direction(g) + shrink·θ.

    ``lr``, ``wd``, ``eta`` (the schedule multiplier) and ``period`` (steps of the current restart, which normalised
    decay reads) are numbers or arrays that broadcast together.
    """
    zero = 0.0 * (eta * lr * wd)
    match decay:
        case Decay.L2:
            return wd + zero, zero
        case Decay.PAPER:
            return zero, eta * wd + zero
        case Decay.TORCH:
            return zero, eta * lr * wd
        case Decay.NORMALISED:
            return zero, eta * wd / np.sqrt(period) + zero
