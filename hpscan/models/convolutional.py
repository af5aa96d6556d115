"""Convolutional networks for small images: a plain one, ResNet, Shake-Shake and DenseNet-BC."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own convention)

from hpscan.randomness import RandomLayer

__all__ = ["CNN", "DenseNet", "ResNet", "ShakeShake"]


def _conv3(n_in: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)


def _conv1(n_in: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False)


class CNN(nn.Sequential):
    """Conv 3×3 → BatchNorm → ReLU → max-pool for each of ``channels``, then one Linear.

    Parameters
    ----------
    shape
        (channels, height, width) of an image.
    channels
        Of each convolution.
    classes
        Outputs.
    """

    def __init__(self, shape: Sequence[int], channels: Sequence[int], classes: int) -> None:
        layers: list[nn.Module] = []
        n_in, height, width = shape
        for n_out in channels:
            layers += [_conv3(n_in, n_out), nn.BatchNorm2d(n_out), nn.ReLU(), nn.MaxPool2d(2)]
            n_in, height, width = n_out, height // 2, width // 2
        super().__init__(*layers, nn.Flatten(), nn.Linear(n_in * height * width, classes))


class _BasicBlock(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            _conv3(n_in, n_out, stride), nn.BatchNorm2d(n_out), nn.ReLU(), _conv3(n_out, n_out), nn.BatchNorm2d(n_out)
        )
        same = n_in == n_out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(_conv1(n_in, n_out, stride), nn.BatchNorm2d(n_out))

    def forward(self, inputs: Tensor) -> Tensor:
        return F.relu(self.branch(inputs) + self.shortcut(inputs))


def _three_stages(n_in: int, width: int, blocks: int) -> Iterator[tuple[int, int, int]]:
    """Yield (channels in, channels out, stride) of each block: every stage doubles the channels and halves the image."""
    for stage in range(3):
        for block in range(blocks):
            n_out = width * 2**stage
            yield n_in, n_out, 2 if stage and block == 0 else 1
            n_in = n_out


class ResNet(nn.Sequential):
    """The ResNet of He et al. 2016, section 4.2, for small images: 6n + 2 layers in three stages of basic blocks.

    Parameters
    ----------
    in_channels
        Of an image.
    depth
        6n + 2: 8, 14, 20, …
    width
        Channels of the first stage; doubled in each further one.
    classes
        Outputs.
    """

    def __init__(self, in_channels: int, depth: int, width: int, classes: int) -> None:
        blocks = [_BasicBlock(*sizes) for sizes in _three_stages(width, width, (depth - 2) // 6)]
        stem = (_conv3(in_channels, width), nn.BatchNorm2d(width), nn.ReLU())
        super().__init__(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes))


class _ShakeBlock(RandomLayer):
    """Two residual branches mixed by α in the forward and by β in the backward pass, both drawn for each image."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(), _conv3(n_in, n_out, stride), nn.BatchNorm2d(n_out),
                nn.ReLU(), _conv3(n_out, n_out), nn.BatchNorm2d(n_out),
            )
            for _ in range(2)
        )  # fmt: skip
        self.shortcut = nn.Identity() if n_in == n_out else _ShakeShortcut(n_in, n_out, stride)

    def forward(self, inputs: Tensor) -> Tensor:
        one, two = (branch(inputs) for branch in self.branches)
        if not self.training:
            return self.shortcut(inputs) + 0.5 * (one + two)
        alpha = self.uniform(len(inputs), 1, 1, 1).to(one.dtype)
        beta = self.uniform(len(inputs), 1, 1, 1).to(one.dtype)
        backward = beta * one + (1 - beta) * two
        forward = alpha * one + (1 - alpha) * two
        return self.shortcut(inputs) + backward + (forward - backward).detach()


class _ShakeShortcut(nn.Module):
    """ReLU, then two 1×1 convolutions of the image subsampled at even and at odd pixels, side by side."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.even, self.odd = _conv1(n_in, n_out // 2), _conv1(n_in, n_out - n_out // 2)
        self.norm = nn.BatchNorm2d(n_out)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = F.relu(inputs)
        shifted = F.pad(inputs[:, :, 1:, 1:], (0, 1, 0, 1))
        step = self.stride
        halves = [self.even(inputs[:, :, ::step, ::step]), self.odd(shifted[:, :, ::step, ::step])]
        return self.norm(torch.cat(halves, 1))


class ShakeShake(nn.Sequential):
    """Shake-Shake regularised ResNet, Gastaldi 2017, S-S-I: shaken forward and backward for each image, even at test.

    "26 2×64d" is depth 26, two branches, 64 channels in the first stage: 11.6 M parameters with 10 classes.

    Parameters
    ----------
    in_channels
        Of an image.
    depth
        6n + 2.
    width
        Channels of the first stage; doubled in each further one.
    classes
        Outputs.
    """

    def __init__(self, in_channels: int, depth: int, width: int, classes: int) -> None:
        blocks = [_ShakeBlock(*sizes) for sizes in _three_stages(16, width, (depth - 2) // 6)]
        stem = (_conv3(in_channels, 16), nn.BatchNorm2d(16))
        head = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, classes))
        super().__init__(*stem, *blocks, *head)


class _DenseLayer(nn.Module):
    def __init__(self, n_in: int, growth: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(n_in), nn.ReLU(), _conv1(n_in, 4 * growth),
            nn.BatchNorm2d(4 * growth), nn.ReLU(), _conv3(4 * growth, growth),
        )  # fmt: skip

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([inputs, self.branch(inputs)], 1)


class DenseNet(nn.Sequential):
    """DenseNet-BC, Huang et al. 2017: bottlenecks of 4 growth channels and transitions that halve the channels.

    Parameters
    ----------
    in_channels
        Of an image.
    depth
        6n + 4; the paper's are 100, 190 and 250.
    growth
        Channels that each layer adds; 12, 40 and 24 in the paper.
    classes
        Outputs.
    """

    def __init__(self, in_channels: int, depth: int, growth: int, classes: int) -> None:
        channels = 2 * growth
        layers: list[nn.Module] = [_conv3(in_channels, channels)]
        for stage in range(3):
            for _ in range((depth - 4) // 6):
                layers.append(_DenseLayer(channels, growth))
                channels += growth
            if stage < 2:
                layers += [nn.BatchNorm2d(channels), nn.ReLU(), _conv1(channels, channels // 2), nn.AvgPool2d(2)]
                channels //= 2
        layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*layers, nn.Linear(channels, classes))
