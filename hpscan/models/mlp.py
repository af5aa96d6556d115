"""Multilayer perceptrons, with normalisation after every layer and without any."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own convention)

__all__ = ["NormalisedMLP", "PlainMLP"]


class NormalisedMLP(nn.Module):
    """An MLP in which every weight matrix is scale-invariant: each Linear, without bias, feeds a BatchNorm.

    Hidden layers are Linear → BatchNorm without affine → + bias → ReLU; the output layer is Linear → BatchNorm, whose
    learned gain sets the scale of the logits. Scaling a weight matrix changes nothing but its effective learning
    rate: the regime in which decoupled decay separates. Gains and biases are vectors, so decay on weights spares them.

    Parameters
    ----------
    widths
        Sizes from input to output, e.g. ``(64, 32, 32, 10)``.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        *hidden, output = pairwise(widths)
        self.linear = nn.ModuleList(nn.Linear(n_in, n_out, bias=False) for n_in, n_out in hidden)
        self.norm = nn.ModuleList(nn.BatchNorm1d(n_out, affine=False) for _, n_out in hidden)
        self.bias = nn.ParameterList(nn.Parameter(torch.zeros(n_out)) for _, n_out in hidden)
        self.output = nn.Sequential(nn.Linear(*output, bias=False), nn.BatchNorm1d(output[1]))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, …), widths[0] numbers each, to logits of shape (batch, widths[-1])."""
        activations = inputs.flatten(1)
        for linear, norm, bias in zip(self.linear, self.norm, self.bias, strict=True):
            activations = F.relu(norm(linear(activations)) + bias)
        return self.output(activations)


class PlainMLP(nn.Sequential):
    """An MLP of Linear and ReLU, with biases and no normalisation.

    Parameters
    ----------
    widths
        Sizes from input to output, e.g. ``(64, 32, 32, 10)``.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        super().__init__(*layers[:-1])
