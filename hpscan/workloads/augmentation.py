"""Batches of images on their way to the model: standardised, cropped, flipped, cut out. Tensors on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F  # noqa: N812  (torch's own convention)

__all__ = ["augmentation", "crop_flip", "cutout", "standardise", "subtract_image"]

Augment = Callable[[Tensor, Generator], Tensor]


def standardise(mean: Sequence[float], std: Sequence[float], scale: float) -> Callable[[Tensor], Tensor]:
    """(images / scale − mean) / std by channel, as float32."""
    if set(mean) == {0.0} and set(std) == {1.0}:
        return lambda images: images.to(torch.float32) * (1.0 / scale)
    gain = torch.tensor([1.0 / (scale * s) for s in std]).view(-1, 1, 1)
    offset = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(-1, 1, 1)
    return lambda images: images.to(torch.float32) * gain.to(images.device) + offset.to(images.device)


def subtract_image(mean: np.ndarray) -> Callable[[Tensor], Tensor]:
    """(images − mean image) / 255, as float32."""
    image = torch.from_numpy(mean)
    return lambda images: (images.to(torch.float32) - image.to(images.device)) * (1.0 / 255.0)


def crop_flip(images: Tensor, generator: Generator) -> Tensor:
    """Pad by 4, crop back to size at random, flip left to right at random: He et al. 2016, section 4.2."""
    n, _, height, width = images.shape
    top, left = torch.randint(0, 9, (2, n, 1), generator=generator)
    flip = torch.randint(0, 2, (n, 1), generator=generator).bool()
    rows = (torch.arange(height) + top).to(images.device)
    straight = torch.arange(width)
    columns = (torch.where(flip, straight.flip(0), straight) + left).to(images.device)
    padded = F.pad(images, (4, 4, 4, 4))
    index = torch.arange(n, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cutout(images: Tensor, generator: Generator) -> Tensor:
    """Zero a square of half the side, about any pixel, so that it may reach over the border: DeVries & Taylor 2017."""
    n, _, height, width = images.shape
    side = height // 2
    y, x = (torch.randint(0, size, (n, 1), generator=generator) for size in (height, width))
    rows, columns = (torch.arange(size) - at + side // 2 for size, at in ((height, y), (width, x)))  # within the hole
    hole = (((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :])[:, None]
    return images.masked_fill(hole.to(images.device), 0)


def _autoaugment() -> Augment:
    """AutoAugment's CIFAR-10 policy, Cubuk et al. 2019, as kornia has it."""
    from kornia.augmentation.auto import AutoAugment

    policy = AutoAugment("cifar10")

    def augment(images: Tensor, generator: Generator) -> Tensor:
        with torch.random.fork_rng(devices=[]):  # kornia draws from the global generator
            torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
            changed = policy(images.to(torch.float32) / 255.0)
        return (changed * 255.0).round().clamp(0, 255).to(images.dtype)

    return augment


def augmentation(names: Sequence[str]) -> Augment:
    """Compose augmentations by name, in the order given."""
    steps: list[Augment] = [
        {"crop_flip": lambda: crop_flip, "cutout": lambda: cutout, "autoaugment": _autoaugment}[name]()
        for name in names
    ]

    def augment(images: Tensor, generator: Generator) -> Tensor:
        for step in steps:
            images = step(images, generator)
        return images

    return augment
