"""The data of a sweep on its device, and the batches of each run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from hpscan.hardware import free_memory
from hpscan.randomness import batches, key
from hpscan.strategies import Batch
from hpscan.tasks import Task
from hpscan.workloads import Data, Split

__all__ = ["Feed", "on_device"]

RESIDENT_SHARE = 0.5
"""Share of a GPU's free memory that the training set may take; a larger one stays in pinned host memory."""


def on_device(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """The inputs and targets of a split; on a CPU they share the arrays' memory."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # nobody writes to it
        return torch.from_numpy(split.inputs).to(device), torch.from_numpy(split.targets).to(device)


class Feed:
    """Yields what the runs of a pack train on, step by step.

    A run's batches come from its seed; its augmentation from its seed and the step.
    """

    def __init__(self, data: Data, task: Task, batch_size: int, seeds: Sequence[int], device: torch.device) -> None:
        self.task, self.device = task, device
        split = data.train
        self.resident = device.type == "cpu" or split.inputs.nbytes < RESIDENT_SHARE * free_memory(device)
        place = device if self.resident else torch.device("cpu")
        self.inputs, self.targets = on_device(split, place)
        if not self.resident:
            self.inputs, self.targets = self.inputs.pin_memory(), self.targets.pin_memory()
        self.streams = {seed: batches(seed, len(split.targets), batch_size) for seed in set(seeds)}

    def take(self, seeds: Sequence[int], steps: range) -> Iterator[Batch]:
        """The batches of consecutive steps for the runs of these seeds; every stream moves on, also of other seeds."""
        order = {seed: np.stack([next(stream) for _ in steps]) for seed, stream in self.streams.items()}
        index = torch.from_numpy(np.stack([order[seed] for seed in seeds], axis=1))
        if self.resident:
            index = index.to(self.device)
        for i, step in enumerate(steps):
            if self.resident and self.task.augment is None:
                yield Batch(index[i], self.inputs, self.targets, own=False)
            else:
                yield self._own(index[i], seeds, step)

    def _own(self, index: Tensor, seeds: Sequence[int], step: int) -> Batch:
        """A batch for each run: gathered, taken to the device if it is not there, augmented there."""
        made: dict[int, Tensor] = {}
        for row, seed in enumerate(seeds):
            if seed not in made:
                inputs = self.inputs[index[row]].to(self.device, non_blocking=True)
                if self.task.augment is not None:
                    generator = torch.Generator().manual_seed(key(seed, f"augmentation {step}"))
                    inputs = self.task.augment(inputs, generator)
                made[seed] = inputs
        inputs = torch.stack([made[seed] for seed in seeds])
        targets = self.targets[index].to(self.device, non_blocking=True)
        return Batch(index, inputs, targets, own=True)
