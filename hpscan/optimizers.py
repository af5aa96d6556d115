"""Optimizers as directions on stacked tensors, for K runs at once.

A step of every variant is ``g += l2·θ; θ −= α_t · direction(g) + shrink·θ`` (:func:`apply_step`); an optimizer is the
direction, a few element-wise lines. Every per-run number is a vector of length K (:class:`StepNumbers`), computed in
float64 by :func:`step_numbers`; those of a step travel as one table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hpscan.variants import Variant, decay_coefficients

__all__ = ["OPTIMIZERS", "Optimizer", "StepNumbers", "apply_average", "apply_step", "step_numbers"]

Stacked = Float[Tensor, "runs ..."]
PerRun = Float[Tensor, " runs"]
Numbers = Float[Tensor, "numbers runs"]
"""The rows of a step's :class:`StepNumbers`, in their order."""


class StepNumbers(NamedTuple):
    """The per-run numbers of one step, each of shape (K,)."""

    lr: PerRun
    """The rate that multiplies the direction: η_t · α, over Adam's 1 − β₁^(t+1); 1 where the paper's momentum has it
    inside the buffer."""
    l2: PerRun
    """Decay inside the gradient."""
    shrink: PerRun
    """Decay outside it: the share of θ removed."""
    beta1: PerRun
    """Decay rate of the first moment; the momentum β of SGD."""
    beta2: PerRun
    complement1: PerRun
    """Weight of the gradient in the first moment: 1 − β₁, for SGD 1. Complements and corrections are computed in
    float64: float32's 1 − 0.999 is off by 5e-5."""
    complement2: PerRun
    correction2: PerRun
    """1 / √(1 − β₂^(t+1)), by which √v is multiplied. Both bias corrections are folded into per-run numbers: a division
    an element costs as much as the rest of the step."""
    eps: PerRun
    momentum_gain: PerRun
    """Weight of the first moment in the direction, where Nesterov's look-ahead makes it one of two terms."""
    grad_gain: PerRun
    """Weight of the gradient beside it."""

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
    """Momentum: m ← β m + c g; direction m, or c g + β m with Nesterov's look-ahead.

    c = 1 is the form of ``torch.optim.SGD``, the learning rate outside the buffer. c = η_t α, with an outer rate of 1,
    is Loshchilov & Hutter 2019, Algorithm 1. The two differ only under a schedule; the authors' code has the former.
    """
    (momentum,) = moments
    momentum.mul_(at.beta1).add_(at.complement1 * grad)
    return at.momentum_gain * momentum + at.grad_gain * grad


@optimizer("adam", n_moments=2)
def adam(grad: Stacked, moments: Sequence[Stacked], at: StepNumbers) -> Stacked:
    """Adam, Kingma & Ba 2015, Algorithm 1: direction m̂ / (√v̂ + ε); m's bias correction is in the rate."""
    mu, nu = moments
    mu.mul_(at.beta1).add_(at.complement1 * grad)
    nu.mul_(at.beta2).add_(at.complement2 * grad * grad)
    return mu / (nu.sqrt() * at.correction2 + at.eps)


@optimizer("amsgrad", n_moments=3)
def amsgrad(grad: Stacked, moments: Sequence[Stacked], at: StepNumbers) -> Stacked:
    """AMSGrad, Reddi et al. 2018, Algorithm 2, with Adam's bias corrections as in ``torch.optim.Adam(amsgrad=True)``.

    The denominator is the largest second moment so far.
    """
    mu, nu, largest = moments
    mu.mul_(at.beta1).add_(at.complement1 * grad)
    nu.mul_(at.beta2).add_(at.complement2 * grad * grad)
    largest.copy_(torch.maximum(largest, nu))
    return mu / (largest.sqrt() * at.correction2 + at.eps)


@optimizer("nadam", n_moments=2)
def nadam(grad: Stacked, moments: Sequence[Stacked], at: StepNumbers) -> Stacked:
    """NAdam, Dozat 2016: Adam with Nesterov's look-ahead and a warming momentum, as in ``torch.optim.NAdam``."""
    mu, nu = moments
    mu.mul_(at.beta1).add_(at.complement1 * grad)
    nu.mul_(at.beta2).add_(at.complement2 * grad * grad)
    return (at.momentum_gain * mu + at.grad_gain * grad) / (nu.sqrt() * at.correction2 + at.eps)


@optimizer("adagrad", n_moments=1)
def adagrad(grad: Stacked, moments: Sequence[Stacked], at: StepNumbers) -> Stacked:
    """AdaGrad, Duchi et al. 2011, diagonal form: direction g / (√Σg² + ε)."""
    (total,) = moments
    total.add_(grad * grad)
    return grad / (total.sqrt() + at.eps)


@optimizer("lion", n_moments=1)
def lion(grad: Stacked, moments: Sequence[Stacked], at: StepNumbers) -> Stacked:
    """Lion, Chen et al. 2023, Algorithm 2: direction sign(β₁ m + (1 − β₁) g), then m ← β₂ m + (1 − β₂) g."""
    (mu,) = moments
    direction = torch.sign(at.beta1 * mu + at.complement1 * grad)
    mu.mul_(at.beta2).add_(at.complement2 * grad)
    return direction


def _real(stacked: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones, as ``torch.optim`` has them: in the same memory, with an axis more."""
    return torch.view_as_real(stacked.resolve_conj()) if stacked.is_complex() else stacked


def apply_step(  # noqa: PLR0917  (what is compiled takes positional arguments)
    direction: Direction,
    thetas: Sequence[Stacked],
    grads: Sequence[Stacked],
    moments: Sequence[Sequence[Stacked]],
    decays: Sequence[bool],
    numbers: Numbers,
    clip: float | None = None,
) -> None:
    """Update every parameter and its moments in place.

    ``decays`` says which parameters are decayed. ``clip`` bounds the norm of each run's whole gradient before
    anything else, as ``torch.nn.utils.clip_grad_norm_`` does.
    """
    at = StepNumbers(*numbers.unbind(0))
    with torch.no_grad():
        thetas, grads, *moments = ([_real(part) for part in parts] for parts in (thetas, grads, *moments))
        if clip is not None:
            # a run's in one row: sums down columns round by how many columns there are
            squares = torch.stack([grad.reshape(len(grad), -1).square().sum(1) for grad in grads], dim=1)
            scale = (clip / (squares.sum(1).sqrt() + 1e-6)).clamp(max=1.0)
            grads = [grad * scale.view((-1,) + (1,) * (grad.dim() - 1)) for grad in grads]
        for theta, grad, own_moments, decay in zip(thetas, grads, moments, decays, strict=True):
            now = at.like(theta)
            step = now.lr * direction(grad + now.l2 * theta if decay else grad, own_moments, now)
            theta.sub_(step + now.shrink * theta if decay else step)


def apply_average(averages: Sequence[Tensor], values: Sequence[Tensor], decay: float) -> None:
    """Move exponential moving averages in place: a ← decay · a + (1 − decay) · value."""
    with torch.no_grad():
        for average, value in zip(averages, values, strict=True):
            average.mul_(decay).add_(value, alpha=1.0 - decay)


NADAM_WARMING = 4e-3
"""ψ of NAdam's momentum β₁ (1 − ½ · 0.96^(tψ)): ``momentum_decay`` of ``torch.optim.NAdam``."""


def step_numbers(
    variant: Variant,
    settings: Mapping[str, Float[np.ndarray, " runs"]],
    lr: Float[np.ndarray, " runs"],
    wd: Float[np.ndarray, " runs"],
    eta: Float[np.ndarray, " steps"],
    *,
    start: int = 0,
    period: Float[np.ndarray, " steps"] | None = None,
    paper_momentum: bool = False,
    device: torch.device | None = None,
) -> Float[Tensor, "steps numbers runs"]:
    """Compute the per-run numbers of consecutive steps in float64 and round them to float32.

    Parameters
    ----------
    variant
        Which optimizer and decay convention.
    settings
        The optimizer's settings (:data:`hpscan.variants.OPTIMIZER_SETTINGS`), one number a run.
    lr, wd
        α and λ of each run.
    eta
        η_t of each step.
    start
        The number of the first step, from 0.
    period
        Steps of the restart that each step belongs to, for normalised decay.
    paper_momentum
        Whether SGD's learning rate is inside the momentum buffer.
    """
    rate = eta[:, None] * lr
    l2, shrink = decay_coefficients(variant.decay, lr, wd, eta[:, None], 1 if period is None else period[:, None])
    count = np.arange(start + 1, start + len(eta) + 1)[:, None]
    beta1, beta2 = (settings.get(name, np.zeros_like(lr)) for name in ("beta1", "beta2"))
    numbers = {
        "lr": rate,
        "l2": l2,
        "shrink": shrink,
        "beta1": beta1,
        "beta2": beta2,
        "complement1": 1.0 - beta1,
        "complement2": 1.0 - beta2,
        "correction2": 1.0 / np.sqrt(1.0 - beta2**count),
        "eps": settings.get("eps", np.zeros_like(lr)),
        "momentum_gain": np.ones_like(rate),
        "grad_gain": np.zeros_like(rate),
    }
    if variant.optimizer == "sgd":
        momentum, nesterov = settings["momentum"], settings["nesterov"]
        inner = rate if paper_momentum else np.ones_like(rate)
        numbers |= {
            "lr": np.ones_like(rate) if paper_momentum else rate,
            "beta1": momentum,
            "complement1": inner,
            "momentum_gain": np.where(nesterov, momentum, 1.0),
            "grad_gain": nesterov * inner,
        }
    elif variant.optimizer in {"adam", "amsgrad"}:
        numbers["lr"] = rate / (1.0 - beta1**count)
    elif variant.optimizer == "nadam":
        every = beta1 * (1.0 - 0.5 * 0.96 ** (np.arange(1, start + len(eta) + 2)[:, None] * NADAM_WARMING))
        product = np.cumprod(every, axis=0)
        numbers["momentum_gain"] = every[start + 1 :] / (1.0 - product[start + 1 :])
        numbers["grad_gain"] = (1.0 - every[start:-1]) / (1.0 - product[start:-1])
    table = np.stack([np.broadcast_to(numbers[name], rate.shape) for name in StepNumbers._fields], axis=1)
    return torch.from_numpy(table.astype(np.float32)).to(device)
