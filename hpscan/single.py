"""One run of a loop: a stock module whose parameters lie end to end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from hpscan.program import Named

__all__ = ["Single"]

ALIGNED = 16
"""Elements that a parameter begins at a multiple of, where many are laid end to end."""


def _gains_by_channels_last(model: nn.Module) -> bool:
    """Whether a model has convolutions, and none whose gradient oneDNN writes past the end of its memory.

    It does in channels-last format for strided 1×1 convolutions of fewer channels than a vector register holds
    (uxlfoundation/oneDNN#6035: a crash with AVX2, wrong numbers elsewhere).
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    return bool(convolutions) and not any(
        conv.kernel_size == (1, 1) and max(conv.stride) > 1 and conv.in_channels // conv.groups < 16
        for conv in convolutions
    )


@dataclass
class Single:
    """One run of a loop: a stock module, with what its optimizer keeps.

    Parameters that are decayed lie end to end in one tensor of shape (1, elements), the others in another, and their
    gradients likewise: an update is a few calls, however many parameters a model has. The axis in front is the run's,
    so that the stacked update serves one run as well.
    """

    model: nn.Module
    thetas: list[Tensor]
    grads: list[Tensor]
    decays: list[bool]
    moments: list[list[Tensor]]
    averages: Named

    @classmethod
    def of(cls, model: nn.Module, n_moments: int, *, decay_all: bool) -> Single:
        """Lay a model's parameters out, of convolutions with the channels last."""
        if _gains_by_channels_last(model):
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        kinds: dict[tuple[bool, torch.dtype], list[nn.Parameter]] = {}
        for parameter in model.parameters():
            if parameter.requires_grad:
                kinds.setdefault((decay_all or parameter.dim() > 1, parameter.dtype), []).append(parameter)
        if not kinds:
            raise ValueError("the model has no parameter that requires a gradient: there is nothing to train")
        thetas, grads = map(list, zip(*map(_end_to_end, kinds.values()), strict=True))
        moments = [[torch.zeros_like(theta) for _ in range(n_moments)] for theta in thetas]
        return cls(model, thetas, grads, [decay for decay, _ in kinds], moments, averages={})

    def rows(self) -> tuple[list[Tensor], list[Tensor]]:
        """Parameters and gradients one by one, with the run's axis in front."""
        pairs = [(parameter.detach(), parameter.grad) for parameter in self.model.parameters()]
        trained = [(theta.unsqueeze(0), grad.unsqueeze(0)) for theta, grad in pairs if grad is not None]
        return [theta for theta, _ in trained], [grad for _, grad in trained]

    @property
    def state(self) -> Named:
        """Parameters and buffers."""
        parameters = {name: parameter.detach() for name, parameter in self.model.named_parameters()}
        return {**parameters, **dict(self.model.named_buffers())}


def _end_to_end(parameters: Sequence[nn.Parameter]) -> tuple[Tensor, Tensor]:
    """Move parameters into one tensor, and their gradients, now 0, into another; both of shape (1, elements)."""
    sizes = [math.ceil(parameter.numel() / ALIGNED) * ALIGNED for parameter in parameters]
    flat, grads = (parameters[0].new_zeros(1, sum(sizes)).detach() for _ in range(2))
    for parameter, end, size in zip(parameters, accumulate(sizes), sizes, strict=True):
        strides = torch.empty_like(parameter).stride()  # those of dense memory, channels last where they are
        place, grad = (whole.as_strided(parameter.shape, strides, end - size) for whole in (flat, grads))
        place.copy_(parameter.detach())
        parameter.data, parameter.grad = place, grad
    return flat, grads
