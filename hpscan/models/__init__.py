"""Models that come with hpscan; any other ``nn.Module`` will do as well."""

from __future__ import annotations

from hpscan.models.convolutional import CNN, DenseNet, ResNet, ShakeShake
from hpscan.models.gpt import GPT
from hpscan.models.mlp import NormalisedMLP, PlainMLP

__all__ = ["CNN", "GPT", "DenseNet", "NormalisedMLP", "PlainMLP", "ResNet", "ShakeShake"]
