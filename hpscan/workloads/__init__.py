"""Workloads: what a run trains. A workload names its data and its task; its arguments come from the spec.

Every workload has ``identity()``, what of it determines a run's result; ``resolved()``, itself as launched, so that it
means the same from any folder; ``n_train``, its number of training examples; and ``width_path``, where its model's
width stands. All but :class:`Trainable` and :class:`Imported` have ``load()``, the data; ``task()``, the model factory,
the loss and how outputs are judged; and ``example(n)``, inputs of the right shape that need no data.

Importing this package does not need torch; ``task()`` does, and so may a user's ``load()``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from hpscan._model import accept_name
from hpscan.workloads.base import Data, DataAbsentError, Split, UserWorkload, WorkloadError
from hpscan.workloads.imagenet import ImageNet32
from hpscan.workloads.images import CIFAR10, CIFAR100, Digits, FashionMNIST
from hpscan.workloads.imported import Imported
from hpscan.workloads.text import CharLM
from hpscan.workloads.user import Factory, Trainable
from hpscan.workloads.widths import at_width, width_of

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "CharLM",
    "Data",
    "DataAbsentError",
    "Digits",
    "Factory",
    "FashionMNIST",
    "ImageNet32",
    "Imported",
    "PackedWorkload",
    "Split",
    "Trainable",
    "UserWorkload",
    "Workload",
    "WorkloadError",
    "at_width",
    "width_of",
]


def _named(raw: Any) -> Any:
    """Let ``factory:`` and ``trainable:`` stand without a name beside them."""
    raw = accept_name(raw)
    if isinstance(raw, Mapping) and "name" not in raw:
        given = [kind for kind in ("factory", "trainable") if kind in raw]
        if len(given) > 1:
            raise ValueError("must be a factory or a trainable; got both")
        return {"name": given[0], **raw} if given else raw
    return raw


PackedWorkload = Digits | FashionMNIST | CIFAR10 | CIFAR100 | ImageNet32 | CharLM | Factory
"""What the packed engine can train."""

Workload = Annotated[PackedWorkload | Trainable | Imported, Field(discriminator="name"), BeforeValidator(_named)]
