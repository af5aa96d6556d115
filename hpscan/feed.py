"""The data of a sweep on its device, and the batches of each run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from hpscan.hardware import free_memory
from hpscan.randomness import batches, key
from hpscan.tasks import Task
from hpscan.workloads import Data, Split

__all__ = ["Batch", "Feed", "on_device"]

RESIDENT_SHARE = 0.5
"""Share of a GPU's free memory that the training set may take; a larger one stays in pinned host memory."""


def on_device(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """The inputs and targets of a split; on a CPU they share the arrays' memory, if torch can have it as it is laid."""
    arrays = (part.copy() if min(part.strides, default=0) < 0 else part for part in (split.inputs, split.targets))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nobody writes to it
        inputs, targets = (torch.from_numpy(array).to(device) for array in arrays)
    return inputs, targets


class Feed:
    """Yields what the runs of a pack train on, step by step.

    A run's batches come from its seed; its augmentation from its seed and the step. ``first`` is the step to begin at.
    """

    def __init__(
        self, data: Data, task: Task, batch_size: int, seeds: Sequence[int], device: torch.device, *, first: int = 0
    ) -> None:
        self.augment, self.device = task.augment, device
        split = data.train
        resident = device.type == "cpu" or split.inputs.nbytes < RESIDENT_SHARE * free_memory(device)
        self.inputs, self.targets = on_device(split, device if resident else torch.device("cpu"))
        if not resident:
            self.inputs, self.targets = self.inputs.pin_memory(), self.targets.pin_memory()
        # to skip batches is to draw them again, which takes next to nothing beside having trained on them
        self.streams = {seed: islice(batches(seed, len(split.targets), batch_size), first, None) for seed in set(seeds)}

    def take(self, seeds: Sequence[int], steps: range) -> Iterator[Batch]:
        """The batches of consecutive steps for the runs of these seeds; every stream moves on, also of other seeds."""
        order = {seed: np.stack([next(stream) for _ in steps]) for seed, stream in self.streams.items()}
        index = torch.from_numpy(np.stack([order[seed] for seed in seeds], axis=1)).to(self.inputs.device)
        return (Batch(self, index[i], seeds, step) for i, step in enumerate(steps))


@dataclass(frozen=True)
class Batch:
    """What K runs train on in one step; gathered when it is asked for."""

    feed: Feed
    index: Tensor
    """Shape (K, batch): rows of the training set."""
    seeds: Sequence[int]
    step: int

    def row(self, row: int) -> tuple[Tensor, Tensor]:
        """The inputs and targets of one run, on the device and augmented."""
        feed, index = self.feed, self.index[row]
        inputs = feed.inputs.index_select(0, index).to(feed.device, non_blocking=True)
        targets = feed.targets.index_select(0, index).to(feed.device, non_blocking=True)
        if feed.augment is not None:
            generator = torch.Generator().manual_seed(key(self.seeds[row], f"augmentation {self.step}"))
            inputs = feed.augment(inputs, generator)
        return inputs, targets

    def stacked(self) -> tuple[Tensor, Tensor]:
        """The inputs and targets of all runs, shape (K, batch, …)."""
        if self.feed.augment is None:
            flat, shape = self.index.flatten(), self.index.shape
            inputs, targets = (
                data.index_select(0, flat).view(*shape, *data.shape[1:]).to(self.feed.device, non_blocking=True)
                for data in (self.feed.inputs, self.feed.targets)
            )
            return inputs, targets
        first = {seed: self.seeds.index(seed) for seed in set(self.seeds)}
        made = {seed: self.row(row) for seed, row in first.items()}
        inputs, targets = (torch.stack([made[seed][part] for seed in self.seeds]) for part in (0, 1))
        return inputs, targets
