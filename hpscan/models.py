"""Models, and what a task is to the engine: a model factory, a loss and an error rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own convention)

__all__ = ["NormalisedMLP", "PlainMLP", "Task", "classification"]


@dataclass(frozen=True)
class Task:
    """What to train: a model factory (called under the run's seed), a mean loss and a mean error rate of a batch."""

    model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    error: Callable[[Tensor, Tensor], Tensor]


def classification(model: Callable[[], nn.Module]) -> Task:
    """A task with softmax cross-entropy and the share of misclassified examples.

    Outputs have shape (batch, classes), targets are class indices of shape (batch,).
    """
    return Task(model, F.cross_entropy, lambda logits, target: (logits.argmax(-1) != target).float().mean())


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
        """Map (batch, widths[0]) to logits of shape (batch, widths[-1])."""
        activations = inputs
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
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        super().__init__(*layers[:-1])
