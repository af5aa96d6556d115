"""Where and how packs run: the part of a spec that changes no result."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from pydantic import Field

from hpscan._model import Model

__all__ = ["PerPack", "Resources"]


class PerPack(Model):
    """What Ray reserves for a pack."""

    cpus: float = Field(default=1.0, gt=0)
    """A pack trains with as many threads as whole CPUs, at least one."""
    gpus: float | None = Field(default=None, ge=0, le=1)
    """One GPU or a share of one; by default one where there are GPUs."""
    memory_gb: float | None = Field(default=None, gt=0)
    """GiB of main memory."""
    custom: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Further resources by the names that the cluster's nodes were started with."""

    def told(self) -> str:
        """For people: ``1 CPU, 0.5 GPU``."""
        amounts = {"CPU": self.cpus, "GPU": self.gpus, "GiB of memory": self.memory_gb, **self.custom}
        return ", ".join(f"{amount:g} {name}" for name, amount in amounts.items() if amount)


class Resources(Model):
    """Where and how packs run; never part of a run's identity."""

    workers: int | None = Field(default=None, ge=1)
    """Packs that train at once at most; by default as many as fit, on one's own machine one a CPU core or GPU."""
    gpus: int | None = Field(default=None, ge=0)
    """GPUs of this machine to use; by default all that Ray finds. A cluster has its own number."""
    per_pack: PerPack = PerPack()
    """What a pack takes of the machine or the cluster."""
    checkpoint_s: float = Field(default=600.0, gt=0)
    """Seconds between checkpoints of a pack, from which it goes on if its worker is lost."""
    pack_size: int | None = Field(default=None, ge=1)
    """Runs a pack holds at most: by default 32, where `gpus` is given 256. What does not fit in memory is trained in parts."""
    strategy: Literal["auto", "fused", "loop"] = "auto"
    """How gradients are computed: all runs of a pack in one call, or one run after another; ``auto`` times both."""
    compile: bool = True
    """Compile the training step where the machine has a C++ compiler and the sweep is long enough to earn it back."""
    cuda_graphs: bool = False
    """On a GPU, replay the compiled step as a CUDA graph."""

    @property
    def cores_here(self) -> int:
        """Cores that this process may use."""
        return len(os.sched_getaffinity(0))

    @property
    def workers_here(self) -> int:
        """``workers``, or as many packs as the cores that this process may use hold, and the ``gpus`` if they are given."""
        packs = max(self.cores_here, self.gpus or 0) / self.per_pack.cpus
        if self.gpus and self.per_pack.gpus != 0:
            packs = min(packs, self.gpus / (self.per_pack.gpus or 1.0))
        return self.workers or max(1, int(packs + 1e-9))  # shares such as 0.1 do not add up to whole numbers exactly

    @property
    def most_runs(self) -> int:
        """``pack_size``, or its default."""
        return self.pack_size or (256 if self.gpus else 32)
