"""The models of image workloads, as a spec writes them; :meth:`build` alone needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from hpscan._model import Model, accept_name

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Architecture", "CNNConfig", "NormalisedMLPConfig", "ResNetConfig", "ShakeShakeConfig"]

Shape = tuple[int, int, int]
Width = Annotated[int, Field(ge=1)]


class _Architecture(Model):
    batch_norm: ClassVar[bool] = True
    width_field: ClassVar[str] = ""
    """The field that holds the width, a number or one a layer; empty for a model that has none."""

    def check(self, shape: Shape) -> None:
        """Raise ValueError if the model cannot take images of this shape."""

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """Return a new network for images of ``shape`` (channels, height, width), initialised from torch's generator."""
        raise NotImplementedError


class NormalisedMLPConfig(_Architecture):
    """:class:`hpscan.models.NormalisedMLP`: every weight matrix is scale-invariant."""

    name: Literal["normalised_mlp"] = "normalised_mlp"
    hidden: tuple[Width, ...] = (32, 32)
    """Units of each hidden layer."""
    width_field: ClassVar[str] = "hidden"

    def build(self, shape: Shape, classes: int) -> nn.Module:
        from hpscan.models import NormalisedMLP

        return NormalisedMLP((shape[0] * shape[1] * shape[2], *self.hidden, classes))


class PlainMLPConfig(_Architecture):
    """:class:`hpscan.models.PlainMLP`: no normalisation."""

    name: Literal["plain_mlp"] = "plain_mlp"
    hidden: tuple[Width, ...] = (32, 32)
    """Units of each hidden layer."""
    batch_norm: ClassVar[bool] = False
    width_field: ClassVar[str] = "hidden"

    def build(self, shape: Shape, classes: int) -> nn.Module:
        from hpscan.models import PlainMLP

        return PlainMLP((shape[0] * shape[1] * shape[2], *self.hidden, classes))


class CNNConfig(_Architecture):
    """:class:`hpscan.models.CNN`."""

    name: Literal["cnn"] = "cnn"
    channels: tuple[Width, ...] = (16, 32)
    """Of each convolution; a pooling by two follows each."""
    width_field: ClassVar[str] = "channels"

    def check(self, shape: Shape) -> None:
        """Raise ValueError if the pooling would leave no pixel."""
        if min(shape[1:]) < 2 ** len(self.channels):
            raise ValueError(
                f"model.channels: {len(self.channels)} poolings leave nothing of {shape[1]}×{shape[2]} pixels"
            )

    def build(self, shape: Shape, classes: int) -> nn.Module:
        from hpscan.models import CNN

        return CNN(shape, self.channels, classes)


class _Deep(_Architecture):
    """Networks of three stages, whose depth comes in certain numbers."""

    extra_layers: ClassVar[int] = 2
    depth: int

    @field_validator("depth")
    @classmethod
    def _whole_blocks(cls, depth: int) -> int:
        if depth < 6 + cls.extra_layers or (depth - cls.extra_layers) % 6:
            raise ValueError(f"must be 6n + {cls.extra_layers}; got {depth}")
        return depth


class ResNetConfig(_Deep):
    """:class:`hpscan.models.ResNet`."""

    name: Literal["resnet"] = "resnet"
    depth: int = 8
    width: Width = 16
    width_field: ClassVar[str] = "width"

    def build(self, shape: Shape, classes: int) -> nn.Module:
        from hpscan.models import ResNet

        return ResNet(shape[0], self.depth, self.width, classes)


class ShakeShakeConfig(_Deep):
    """:class:`hpscan.models.ShakeShake`; the default is the 26 2×64d of the paper."""

    name: Literal["shake_shake"] = "shake_shake"
    depth: int = 26
    width: Width = 64
    width_field: ClassVar[str] = "width"

    @model_validator(mode="after")
    def _two_paths(self) -> ShakeShakeConfig:
        if self.width % 2:
            raise ValueError(f"width: must be even, each half a path of the shortcut; got {self.width}")
        return self

    def build(self, shape: Shape, classes: int) -> nn.Module:
        from hpscan.models import ShakeShake

        return ShakeShake(shape[0], self.depth, self.width, classes)


class DenseNetConfig(_Deep):
    """:class:`hpscan.models.DenseNet`, DenseNet-BC."""

    extra_layers: ClassVar[int] = 4
    name: Literal["densenet_bc"] = "densenet_bc"
    depth: int = 100
    growth: Width = 12

    def check(self, shape: Shape) -> None:
        """Raise ValueError if the transitions would leave no pixel."""
        if min(shape[1:]) < 4:
            raise ValueError(f"model: densenet_bc halves images twice, from 4×4 pixels up; got {shape[1]}×{shape[2]}")

    def build(self, shape: Shape, classes: int) -> nn.Module:
        from hpscan.models import DenseNet

        return DenseNet(shape[0], self.depth, self.growth, classes)


Architecture = Annotated[
    Annotated[
        NormalisedMLPConfig | PlainMLPConfig | CNNConfig | ResNetConfig | ShakeShakeConfig | DenseNetConfig,
        Field(discriminator="name"),
    ],
    BeforeValidator(accept_name),
]
