"""Workloads: what a run trains. A workload names its data and its task; its arguments come from the spec.

Importing this module needs neither torch nor scikit-learn; :meth:`Digits.load` and :meth:`Digits.task` do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from pydantic import Field, model_validator

from hpscan._model import Model

if TYPE_CHECKING:
    from hpscan.models import Task

__all__ = ["Data", "Digits", "Split", "Workload"]


@dataclass(frozen=True)
class Split:
    """One part of a data set."""

    inputs: np.ndarray
    """Shape (examples, features), float32."""
    targets: np.ndarray
    """Shape (examples,), int64 class indices."""


@dataclass(frozen=True)
class Data:
    """A data set in three disjoint parts: runs train on one, are chosen on the next and reported on the last."""

    train: Split
    validation: Split
    test: Split


class Workload(Protocol):
    """What the engine needs to know of a workload."""

    def load(self) -> Data:
        """Read the data set; the same arrays at every call."""

    def task(self) -> Task:
        """The model factory, the loss and the error rate."""


class Digits(Model):
    """Scikit-learn's 8×8 handwritten digits (1,797 images, embedded in its wheel) and a small MLP.

    The split and the noisy labels depend on ``data_seed`` only, so every run of a sweep sees the same data; a run's
    own seed decides its initialisation and its batch order.
    """

    name: Literal["digits"] = "digits"
    model: Literal["normalised_mlp", "plain_mlp"] = "normalised_mlp"
    hidden: tuple[int, ...] = (32, 32)
    train: int = Field(default=1000, ge=1)
    """Training images; the rest is halved into validation and test."""
    label_noise: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training labels replaced by random classes. Validation and test labels are never touched."""
    data_seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sizes(self) -> Digits:
        if self.train > 1797 - 200:
            raise ValueError(f"train: must leave at least 200 of the 1,797 images to judge by; got {self.train}")
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden: widths must be positive; got {list(self.hidden)}")
        return self

    def load(self) -> Data:
        """Read, shuffle and split the images; pixels are scaled to [0, 1]."""
        from sklearn.datasets import load_digits

        inputs, targets = load_digits(return_X_y=True)
        split_rng, noise_rng = np.random.default_rng(self.data_seed).spawn(2)
        order = split_rng.permutation(len(targets))
        inputs = (inputs[order] / 16.0).astype(np.float32)
        targets = targets[order].astype(np.int64)
        train, validation = self.train, self.train + (len(targets) - self.train) // 2
        noisy = targets[:train].copy()
        flipped = noise_rng.permutation(train)[: round(self.label_noise * train)]
        noisy[flipped] = noise_rng.integers(0, 10, len(flipped))
        return Data(
            train=Split(inputs[:train], noisy),
            validation=Split(inputs[train:validation], targets[train:validation]),
            test=Split(inputs[validation:], targets[validation:]),
        )

    def task(self) -> Task:
        """A classifier of 64 inputs and 10 classes."""
        from hpscan import models

        factory = {"normalised_mlp": models.NormalisedMLP, "plain_mlp": models.PlainMLP}[self.model]
        return models.classification(lambda: factory((64, *self.hidden, 10)))
