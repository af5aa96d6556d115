"""What a workload is: data in three parts, and a task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from hpscan.tasks import Task

__all__ = ["Data", "DataAbsentError", "Split", "UserWorkload", "WorkloadError"]


class WorkloadError(ValueError):
    """A workload that cannot be used; the message is one line."""


class DataAbsentError(WorkloadError):
    """A data set that is not on this machine; the message names the path, the URL and the checksum."""


@dataclass(frozen=True)
class Split:
    """One part of a data set."""

    inputs: np.ndarray
    """Shape (examples, …), of any type; the task's ``prepare`` makes of it what the model takes."""
    targets: np.ndarray
    """Shape (examples, …), for classes int64."""

    @classmethod
    def of(cls, dataset: Any) -> Split:
        """Collect a map-style ``torch.utils.data.Dataset`` of (input, target) pairs into arrays."""
        pairs = [dataset[index] for index in range(len(dataset))]
        return cls(*(np.stack([np.asarray(pair[part]) for pair in pairs]) for part in (0, 1)))


@dataclass(frozen=True)
class Data:
    """A data set in three disjoint parts: runs train on one, are chosen on the next and reported on the last."""

    train: Split
    validation: Split
    test: Split


@dataclass(frozen=True)
class UserWorkload:
    """What the ``factory`` of a spec returns: a user's own data and task.

    ``load`` is called once a sweep; its arrays go to the workers through shared memory. ``task`` is built on every
    worker.
    """

    load: Callable[[], Data]
    task: Task
