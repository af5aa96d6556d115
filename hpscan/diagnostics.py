"""What one step does to the weights of K runs: norms, the step's size beside them, and the angle they turn by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["MEASURES", "measure"]

Stacked = Float[Tensor, "runs ..."]

MEASURES = ("weight_norm", "grad_norm", "update_ratio", "rotation")


def measure(
    before: Sequence[Stacked], after: Sequence[Stacked], grads: Sequence[Stacked]
) -> Float[Tensor, "measures runs"]:
    """Measure a step θ → θ + Δ: the rows are :data:`MEASURES`.

    Weights are the tensors of two or more axes of each run, whatever is decayed; of a model without any, all tensors.

        weight_norm   ‖θ‖ after the step, all weights together
        grad_norm     ‖g‖ over every tensor, of the training loss alone: before clipping, without decay
        update_ratio  ‖Δ‖ / ‖θ‖, with θ from before the step
        rotation      the angle between θ and θ + Δ in radians, the mean over weight tensors

    In float64, since angles of 10⁻⁶ are not rare: the part of Δ along θ is taken out before the angle's tangent is formed,
    where the cosine of two float32 vectors would be 1. What is found is rounded to float32: the order of the sums, and with it the
    last bit, depends on what a run is packed with.
    """
    n_runs = len(before[0])
    weights = [k for k, theta in enumerate(before) if theta.dim() > 2] or range(len(before))
    old, new, moved = (torch.zeros(n_runs, dtype=torch.float64, device=before[0].device) for _ in range(3))
    angles = []
    for k in weights:
        theta, later = _rows(before[k]), _rows(after[k])
        step = later - theta
        square, along, length = _dot(theta, theta), _dot(theta, step), _dot(step, step)
        across = (step - (along / square)[:, None] * theta).square().sum(1).sqrt()
        angles.append(torch.atan2(across, square.sqrt() + along / square.sqrt()))
        old, new, moved = old + square, new + _dot(later, later), moved + length
    gradient = torch.stack([_rows(grad).square().sum(1) for grad in grads]).sum(0)
    return torch.stack([new.sqrt(), gradient.sqrt(), (moved / old).sqrt(), torch.stack(angles).mean(0)]).float()


def _rows(stacked: Tensor) -> Tensor:
    values = torch.view_as_real(stacked.detach().resolve_conj()) if stacked.is_complex() else stacked.detach()
    return values.reshape(len(stacked), -1).double()


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(1)
