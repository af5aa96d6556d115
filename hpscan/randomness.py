"""Everything random about a run comes from its seed: initialisation, batches, augmentation and random layers.

A random layer under vmap cannot draw from torch's global generator: its numbers would depend on the run's place in
the pack. Here a layer computes its numbers from a counter (:func:`uniform`), keyed by the run's seed, the step and the
layer, so a run draws the same in any pack, one at a time, compiled or not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["RandomLayer", "RunDropout", "adopt_dropout", "batches", "initial_model", "key", "layer_keys", "uniform"]

_MASK = 0xFFFFFFFF


def key(seed: int, purpose: str) -> int:
    """A generator seed of its own for each (run seed, purpose)."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:7], "big")


def batches(seed: int, n_train: int, batch_size: int) -> Iterator[np.ndarray]:
    """Yield the batches of a run for ever, each of shape (batch_size,).

    Epochs are permutations laid end to end: every example is seen once an epoch, every batch is full, and a batch may
    reach into the next epoch.
    """
    rng = np.random.default_rng(key(seed, "batches"))
    queue = np.empty(0, dtype=np.int64)
    while True:
        while len(queue) < batch_size:
            queue = np.concatenate([queue, rng.permutation(n_train)])
        yield queue[:batch_size]
        queue = queue[batch_size:]


def _scrambled(x: Tensor) -> Tensor:
    """Mix 32 bits held in int64: Wellons' hash prospector, the pair with constants below 2³¹, so nothing overflows."""
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & _MASK
    x = ((x ^ (x >> 15)) * 0x735A2D97) & _MASK
    return x ^ (x >> 15)


def uniform(stream: Tensor, shape: Sequence[int]) -> Tensor:
    """Numbers in [0, 1) of ``shape``, a function of the 32-bit integer ``stream`` alone; in steps of 2⁻²⁴."""
    counter = torch.arange(prod(shape), device=stream.device, dtype=torch.int64)
    return ((_scrambled(_scrambled(counter + 1) ^ stream) >> 8).to(torch.float32) * 2.0**-24).view(*shape)


class RandomLayer(nn.Module):
    """A module that draws random numbers in training; derive from it, and draw with :meth:`uniform`.

    Its ``stream`` is set by the engine before every step, and moves on with every draw.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("stream", torch.zeros((), dtype=torch.int64))
        self.stream: Tensor

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), others at every call.

        Raises RuntimeError in a backward pass, as of activation checkpointing: what runs again would draw anew.
        """
        if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:  # noqa: SLF001
            raise RuntimeError(
                "a random layer runs again in the backward pass; leave it out of activation checkpointing"
            )
        drawn = uniform(self.stream, shape)
        self.stream.add_(0x9E3779B9).bitwise_and_(_MASK)
        return drawn


class RunDropout(RandomLayer):
    """Dropout whose mask is a function of the run's seed, the step and how often it was called in it.

    Parameters
    ----------
    p
        Share of the elements, or of the channels, that are zeroed.
    channelwise
        Whether whole channels go together: the trailing axes that share one number.
    """

    def __init__(self, p: float, *, channelwise: int = 0) -> None:
        super().__init__()
        self.p = p
        self.channelwise = channelwise

    def forward(self, inputs: Tensor) -> Tensor:
        """Zero a share ``p`` and scale the rest by 1 / (1 − p)."""
        if not self.training or self.p == 0.0:
            return inputs
        if self.p >= 1.0:
            return inputs * 0.0
        n_own = inputs.dim() - self.channelwise
        if self.channelwise == 2:  # torch's Dropout2d takes the second axis for channels, be there further ones or not
            n_own = min(2, inputs.dim())
        shape = (*inputs.shape[:n_own], *(1 for _ in range(inputs.dim() - n_own)))
        kept = self.uniform(*shape) >= self.p
        return inputs * (kept.to(inputs.dtype) / (1.0 - self.p))


_DROPOUTS: dict[type, int] = {nn.Dropout: 0, nn.Dropout1d: 1, nn.Dropout2d: 2, nn.Dropout3d: 3}


def adopt_dropout(model: nn.Module) -> nn.Module:
    """Replace torch's dropout modules by :class:`RunDropout`, in place."""
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):  # noqa: SLF001  (named_children leaves out what stands twice)
            if type(child) in _DROPOUTS:
                adopted = RunDropout(float(child.p), channelwise=_DROPOUTS[type(child)])  # type: ignore[union-attr,arg-type]
                setattr(module, name, adopted.train(child.training))  # type: ignore[union-attr]
    return model


def initial_model(factory: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a model with the initialisation of a run's seed; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "initialisation"))
        return adopt_dropout(factory())


def layer_keys(seed: int, steps: range, layers: int) -> np.ndarray:
    """32-bit streams of shape (steps, layers) for the random layers of a run, one for each step and layer."""
    base = np.uint64(key(seed, "layers"))
    x = base + np.arange(steps.start, steps.stop, dtype=np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
    x = x + np.arange(layers, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)  # SplitMix64's finaliser
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x >> np.uint64(32)).astype(np.int64)
