"""Optimizers as directions on stacked tensors, for K runs at once.

A step of every variant is ``g += l2·θ; θ −= α_t · direction(g) + shrink·θ`` (:func:`apply_step`); an optimizer is the
direction, a few element-wise lines. Every per-run number arrives as a vector of length K.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["OPTIMIZERS", "Optimizer", "StepNumbers", "apply_step"]

Stacked = Float[Tensor, "runs ..."]
PerRun = Float[Tensor, " runs"]


class StepNumbers(NamedTuple):
    """The per-run numbers of one step, each of shape (K,)."""

    lr: PerRun
    """η_t · α."""
    l2: PerRun
    """Decay inside the gradient."""
    shrink: PerRun
    """Decay outside it: the share of θ removed."""
    beta1: PerRun
    """Decay rate of the first moment; the momentum β of SGD."""
    beta2: PerRun
    complement1: PerRun
    """1 − β₁. Complements and corrections are computed in float64: float32's 1 − 0.999 is off by 5e-5."""
    complement2: PerRun
    correction1: PerRun
    """1 − β₁^(t+1)."""
    correction2: PerRun
    eps: PerRun

    def like(self, stacked: Stacked) -> StepNumbers:
        """The same numbers with trailing axes of length 1, to broadcast against ``stacked``."""
        shape = (-1,) + (1,) * (stacked.dim() - 1)
        return StepNumbers(*(number.view(shape) for number in self))


Direction = Callable[[Stacked, Sequence[Stacked], StepNumbers], Stacked]


@dataclass(frozen=True)
class Optimizer:
    """A direction rule, and how many moments of θ's shape it keeps."""

    direction: Direction
    n_moments: int


OPTIMIZERS: dict[str, Optimizer] = {}


def optimizer(name: str, *, n_moments: int) -> Callable[[Direction], Direction]:
    """Register a direction rule."""

    def register(direction: Direction) -> Direction:
        OPTIMIZERS[name] = Optimizer(direction, n_moments)
        return direction

    return register


@optimizer("sgd", n_moments=1)
def sgd(grad: Stacked, moments: Sequence[Stacked], at: StepNumbers) -> Stacked:
    """Heavy-ball momentum with the learning rate outside the buffer, as in ``torch.optim.SGD``.

    m ← β m + g; direction m. The paper's Algorithm 1 has the learning rate inside the buffer; the two differ only
    under a schedule, and the authors' code has it outside.
    """
    (momentum,) = moments
    momentum.mul_(at.beta1).add_(grad)
    return momentum


@optimizer("adam", n_moments=2)
def adam(grad: Stacked, moments: Sequence[Stacked], at: StepNumbers) -> Stacked:
    """Adam, Kingma & Ba 2015, Algorithm 1: direction m̂ / (√v̂ + ε)."""
    mu, nu = moments
    mu.mul_(at.beta1).add_(at.complement1 * grad)
    nu.mul_(at.beta2).add_(at.complement2 * grad * grad)
    return (mu / at.correction1) / ((nu / at.correction2).sqrt() + at.eps)


def apply_step(  # noqa: PLR0917  (torch.compile takes positional arguments best)
    direction: Direction,
    thetas: Sequence[Stacked],
    grads: Sequence[Stacked],
    moments: Sequence[Sequence[Stacked]],
    decays: Sequence[bool],
    at: StepNumbers,
) -> None:
    """Update every parameter and its moments in place; ``decays`` says which parameters are decayed."""
    with torch.no_grad():
        for theta, grad, own_moments, decay in zip(thetas, grads, moments, decays, strict=True):
            now = at.like(theta)
            step = now.lr * direction(grad + now.l2 * theta if decay else grad, own_moments, now)
            theta.sub_(step + now.shrink * theta if decay else step)
