"""ImageNet at 32×32: published without checksums, so that its batches are looked at, and prepared by its mean image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field

from hpscan.workloads.architectures import Architecture, ResNetConfig
from hpscan.workloads.base import DataAbsentError, WorkloadError
from hpscan.workloads.files import data_home, find_file
from hpscan.workloads.formats import read_npz, read_pickle
from hpscan.workloads.images import Images, Part

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ImageNet32"]

_TRAIN, _VALIDATION = "Imagenet32_train.zip", "Imagenet32_val.zip"


class ImageNet32(Images):
    """ImageNet downsampled to 32×32, Chrabaszcz et al. 2017: 1,281,167 and 50,000 images, 1,000 classes.

    Read from ``HPSCAN_DATA/imagenet32``: the published batches, pickled or npz. The training set's mean image, which
    is part of the first batch, is subtracted, and the result divided by 255. Reports the top-1 and the top-5 error.
    """

    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    classes: ClassVar[int] = 1000
    available: ClassVar[int] = 1_281_167
    url: ClassVar[str] = "https://image-net.org/data/downsample/"

    name: Literal["imagenet32"] = "imagenet32"
    model: Architecture = ResNetConfig()
    train: int = Field(default=1_231_167, ge=1)
    validation: int = Field(default=50_000, ge=1)
    mean_image: bytes | None = Field(default=None, exclude=True, repr=False)
    """The training set's, in float32, filled in at launch: batches are prepared where no file need be. Not for specs."""

    def resolved(self) -> Self:
        """The same workload with the mean image, if the data are here."""
        try:
            return self.model_copy(update={"mean_image": self._mean_image().tobytes()})
        except DataAbsentError:  # to say what a launch costs takes no data
            return self

    def _metrics(self) -> dict[str, Any]:
        from hpscan.tasks import top_error

        return {"top5_error": top_error(5)}

    def _prepare(self) -> Callable[[Tensor], Tensor]:
        from hpscan.workloads.augmentation import subtract_image

        carried = self.mean_image or self._mean_image().tobytes()
        mean = np.frombuffer(bytearray(carried), np.float32).reshape(1, *self.shape)  # torch wants it writable
        return subtract_image(self._pooled(mean)[0])

    def files_here(self) -> list[Path]:
        """The published batches; raises as :func:`find_file` does."""
        return [self._file(f"train_data_batch_{number}", _TRAIN) for number in range(1, 11)] + [
            self._file("val_data", _VALIDATION)
        ]

    def _mean_image(self) -> np.ndarray:
        (first, *_) = self._batches("train_data_batch_{}", range(1, 2), _TRAIN)
        if np.size(first.get("mean", ())) != math.prod(self.shape):
            raise WorkloadError(f"{self.files_here()[0]}: has no mean image, `mean`, of {self.shape}; get it again")
        return np.asarray(first["mean"], dtype=np.float32).reshape(self.shape)

    def _read(self) -> tuple[Part, Part]:
        train = self._joined(self._batches("train_data_batch_{}", range(1, 11), _TRAIN))
        return train, self._joined(self._batches("val_data", range(1), _VALIDATION))

    def _batches(self, pattern: str, numbers: range, archive: str) -> Iterator[dict[str, Any]]:
        for number in numbers:
            path = self._file(pattern.format(number), archive)
            batch = read_npz(path) if path.suffix == ".npz" else read_pickle(path, encoding="ASCII")
            classes, pixels = np.asarray(batch.get("labels", [])), math.prod(self.shape)
            fit = np.shape(batch.get("data", ())) == (*classes.shape, pixels) and classes.ndim == 1
            if not fit or not np.isin(classes, np.arange(1, 1001)).all():
                raise WorkloadError(
                    f"{path}: `data` must be of shape (images, {pixels}), with a class from 1 to 1000 for each in `labels`; get it again"
                )
            yield batch

    def _file(self, name: str, archive: str) -> Path:
        folder = data_home() / "imagenet32"
        npz = folder / f"{name}.npz"
        if npz.is_file():
            return npz
        return find_file(name, [folder, folder / archive[:-4]], [], self.url + archive, fetch=False)

    def _joined(self, batches: Iterator[dict[str, Any]]) -> Part:
        parts = [(batch["data"], np.asarray(batch["labels"]) - 1) for batch in batches]  # classes count from 1
        images = np.concatenate([images for images, _ in parts]).reshape(-1, *self.shape)
        return Part(images, np.concatenate([classes for _, classes in parts]))
