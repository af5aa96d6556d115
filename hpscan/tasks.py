"""What a task is to the engine: a model factory, a loss, and how outputs are judged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own convention)

__all__ = ["Task", "classification"]

Judge = Callable[[Tensor, Tensor], Tensor]
"""From outputs and targets of a batch to a number: the mean over its examples."""


@dataclass(frozen=True)
class Task:
    """What to train and how to judge it.

    ``loss`` and every metric take (outputs, targets) of a batch and return the mean over the batch.
    """

    model: Callable[[], nn.Module]
    """Called under the run's seed."""
    loss: Judge
    error: Judge | None = None
    """The share of wrong answers, where answers are right or wrong."""
    metrics: Mapping[str, Judge] = field(default_factory=dict)
    """Further metrics by name; a run reports each as ``train_NAME``, ``val_NAME`` and ``test_NAME``."""
    prepare: Callable[[Tensor], Tensor] | None = None
    """From inputs as stored (say, uint8) to inputs as the model takes them; deterministic, part of the graph."""
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
    """From a training batch as stored to one of the same shape and type; all that is random in it is drawn from the
    generator, which is keyed by the run's seed and step and lives on the CPU."""
    smoothed: Callable[[float], Judge] | None = None
    """The training loss under label smoothing ε."""
    average: Callable[[Tensor], Tensor] | None = None
    """From the outputs of several models, stacked on axis 0, to those of their averaged predictions."""

    def __post_init__(self) -> None:
        if isinstance(self.model, nn.Module):
            raise TypeError(
                f"model: must be a function that makes a model, or its class; got a {type(self.model).__name__} that is made"
            )

    @property
    def judges(self) -> dict[str, Judge]:
        """Every metric: ``loss``, ``error`` if there is one, and the further ones."""
        error = {} if self.error is None else {"error": self.error}
        return {"loss": self.loss, **error, **self.metrics}


def _error(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits.argmax(-1) != targets).float().mean()


def cross_entropy(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), label_smoothing=label_smoothing)


def top_error(k: int) -> Judge:
    """The share of examples whose class is not among the k likeliest."""

    def error(logits: Tensor, targets: Tensor) -> Tensor:
        return (logits.topk(k, dim=-1).indices != targets.unsqueeze(-1)).all(-1).float().mean()

    return error


def _mean_prediction(logits: Tensor) -> Tensor:
    """Logits of the mean of the predicted probabilities."""
    return logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))


def classification(
    model: Callable[[], nn.Module],
    *,
    metrics: Mapping[str, Judge] | None = None,
    prepare: Callable[[Tensor], Tensor] | None = None,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
) -> Task:
    """A task with softmax cross-entropy and the share of misclassified examples.

    Outputs have shape (batch, …, classes), targets are class indices of shape (batch, …).
    """
    return Task(
        model,
        cross_entropy,
        _error,
        metrics=metrics or {},
        prepare=prepare,
        augment=augment,
        smoothed=lambda smoothing: partial(cross_entropy, label_smoothing=smoothing),
        average=_mean_prediction,
    )
