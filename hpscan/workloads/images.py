"""Image classification, and its small data sets: scikit-learn's digits, Fashion-MNIST, CIFAR-10 and -100.

Torch is needed by what :meth:`task` makes, and not to read the images.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from hpscan._model import Model
from hpscan.workloads.architectures import Architecture, NormalisedMLPConfig, ResNetConfig
from hpscan.workloads.base import Data, Split, WorkloadError
from hpscan.workloads.files import data_home, find_file
from hpscan.workloads.formats import read_idx, read_pickle

if TYPE_CHECKING:
    from torch import Tensor

    from hpscan.tasks import Task

__all__ = ["CIFAR10", "CIFAR100", "Digits", "FashionMNIST", "Images", "Part"]

Augmentation = Literal["crop_flip", "cutout", "autoaugment"]


class Part(NamedTuple):
    """Images (n, channels, height, width) and classes (n,) as published."""

    images: np.ndarray
    classes: np.ndarray


class Images(Model):
    """What every image workload has.

    The split and the noisy labels depend on ``data_seed`` only, so every run of a sweep sees the same data; a run's
    own seed decides its initialisation, batch order and augmentation.
    """

    shape: ClassVar[tuple[int, int, int]]
    classes: ClassVar[int] = 10
    available: ClassVar[int]
    """Images to train on and to validate by."""
    mean: ClassVar[tuple[float, ...]] = (0.0,)
    std: ClassVar[tuple[float, ...]] = (1.0,)
    """Of each channel, of the training images scaled to [0, 1]."""

    model: Architecture
    train: int = Field(ge=1)
    """Training images."""
    validation: int = Field(ge=1)
    """Validation images, apart from those."""
    label_noise: float = Field(default=0.0, ge=0, lt=1)
    """Share of the training labels replaced by random classes. Validation and test labels are never touched."""
    data_seed: int = Field(default=0, ge=0)
    """Decides the split and the random labels, which all runs of a sweep share."""
    pool: int = Field(default=1, ge=1)
    """Average-pool the images by this factor."""
    augment: tuple[Augmentation, ...] = ()
    """``crop_flip``: pad by 4, crop at random, flip at random; ``cutout``: a hole of half the side (DeVries & Taylor
    2017); ``autoaugment``: the CIFAR-10 policy of Cubuk et al. 2019, by kornia. Applied in this order."""

    @model_validator(mode="after")
    def _sizes(self) -> Images:
        if self.train + self.validation > self.available:
            raise ValueError(
                f"train: with {self.validation} validation images at most {self.available - self.validation} are left; "
                f"got {self.train}"
            )
        if self.shape[1] % self.pool or self.shape[2] % self.pool:
            raise ValueError(f"pool: must divide {self.shape[1]}×{self.shape[2]} pixels; got {self.pool}")
        self.model.check(self.pooled_shape)
        channels, height, width = self.pooled_shape
        if "autoaugment" in self.augment and (channels != 3 or min(height, width) < 3):
            raise ValueError(
                "augment: autoaugment is for images of 3 channels and 3×3 pixels or more; "
                f"got {channels}×{height}×{width}; leave it out"
            )
        return self

    @property
    def n_train(self) -> int:
        """Training examples."""
        return self.train

    @property
    def width_path(self) -> tuple[str, ...]:
        """Where the width stands; empty if the model has none."""
        field = self.model.width_field
        return ("model", field) if field and getattr(self.model, field) else ()

    def example(self, n: int) -> np.ndarray:
        """``n`` black images."""
        return np.zeros((n, *self.pooled_shape), np.uint8)

    def identity(self) -> dict[str, Any]:
        """Every field."""
        return self.model_dump(mode="json")

    def resolved(self) -> Self:
        """The config itself: it refers to nothing."""
        return self

    @property
    def pooled_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) as the model sees them."""
        return self.shape[0], self.shape[1] // self.pool, self.shape[2] // self.pool

    def load(self) -> Data:
        """Read the files, draw the training and validation images and the noisy labels.

        Raises
        ------
        DataAbsentError
            If the files are not on this machine and cannot be fetched.
        """
        if "autoaugment" in self.augment and find_spec("kornia") is None:
            raise WorkloadError("workload.augment: autoaugment needs kornia; pip install 'hpscan[augment]'")
        known, test = self._read()
        split_rng, noise_rng = np.random.default_rng(self.data_seed).spawn(2)
        order = split_rng.permutation(len(known.classes))
        train, validation, rest = np.split(order, [self.train, self.train + self.validation])
        if test is None:
            test = Part(known.images[rest], known.classes[rest])
        noisy = known.classes[train].astype(np.int64)
        flipped = noise_rng.permutation(self.train)[: round(self.label_noise * self.train)]
        noisy[flipped] = noise_rng.integers(0, self.classes, len(flipped))
        return Data(
            train=Split(self._pooled(known.images[train]), noisy),
            validation=Split(self._pooled(known.images[validation]), known.classes[validation].astype(np.int64)),
            test=Split(self._pooled(test.images), test.classes.astype(np.int64)),
        )

    def task(self) -> Task:
        """A classifier of prepared images."""
        from hpscan import tasks
        from hpscan.workloads.augmentation import augmentation

        return tasks.classification(
            lambda: self.model.build(self.pooled_shape, self.classes),
            metrics=self._metrics(),
            prepare=self._prepare(),
            augment=augmentation(self.augment) if self.augment else None,
        )

    _scale: ClassVar[float] = 255.0

    def _metrics(self) -> dict[str, Any]:
        return {}

    def _prepare(self) -> Callable[[Tensor], Tensor]:
        """From stored images to those that the model takes: scaled to [0, 1] and standardised by channel."""
        from hpscan.workloads.augmentation import standardise

        return standardise(self.mean, self.std, self._scale)

    def _read(self) -> tuple[Part, Part | None]:
        """The published training and test parts; without the latter, what neither trains nor validates is the test."""
        raise NotImplementedError

    def _pooled(self, images: np.ndarray) -> np.ndarray:
        if self.pool == 1:
            return np.ascontiguousarray(images)
        n, channels, height, width = images.shape
        blocks = images.reshape(n, channels, height // self.pool, self.pool, width // self.pool, self.pool)
        return blocks.mean((3, 5), dtype=np.float32)


class Digits(Images):
    """Scikit-learn's 8×8 handwritten digits: 1,797 images, embedded in its wheel.

    What is neither for training nor for validation is the test set.
    """

    shape: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    available: ClassVar[int] = 1797 - 100
    _scale: ClassVar[float] = 16.0

    name: Literal["digits"] = "digits"
    model: Architecture = NormalisedMLPConfig()
    train: int = Field(default=1000, ge=1)
    validation: int = Field(default=398, ge=1)

    def _read(self) -> tuple[Part, None]:
        # load_digits() reads this file, and importing scikit-learn for it takes every worker seconds
        table = np.loadtxt(
            str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")), delimiter=","
        )
        return Part(table[:, :-1].reshape(-1, 1, 8, 8).astype(np.float32), table[:, -1].astype(np.int64)), None


class FashionMNIST(Images):
    """Fashion-MNIST, Xiao et al. 2017: 60,000 and 10,000 images of 28×28.

    Read from ``HPSCAN_DATA/fashion-mnist``, from Debian's package ``dataset-fashion-mnist``, or downloaded.
    """

    shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)
    available: ClassVar[int] = 60_000
    mean: ClassVar[tuple[float, ...]] = (0.2860,)
    std: ClassVar[tuple[float, ...]] = (0.3530,)
    url: ClassVar[str] = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    files: ClassVar[dict[str, tuple[str, str]]] = {
        "train-images-idx3-ubyte.gz": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "cf8536b0aa1a6ac5fa3f23001093305c"),
        "train-labels-idx1-ubyte.gz": ("25c81989df183df01b3e8a0aad5dffbe", "10bea18fdb374794d4bb42e356e600c9"),
        "t10k-images-idx3-ubyte.gz": ("bef4ecab320f06d8554ea6380940ec79", "f78720b4224f21cce2f2ccf2d7a94c9a"),
        "t10k-labels-idx1-ubyte.gz": ("bb300cfdad3c16e7a12a480ee83cd310", "0d30e22e447f3c33dab9ed536400ac01"),
    }
    """MD5 as published, and as Debian compressed the same bytes anew."""
    debian: ClassVar[Path] = Path("/usr/share/datasets/fashion-mnist")

    name: Literal["fashion_mnist"] = "fashion_mnist"
    model: Architecture = NormalisedMLPConfig()
    train: int = Field(default=55_000, ge=1)
    validation: int = Field(default=5_000, ge=1)

    def files_here(self, *, fetch: bool = False) -> list[Path]:
        """The published files, found or fetched, and checked; raises as :func:`find_file` does."""
        folders = [data_home() / "fashion-mnist", self.debian]
        return [
            find_file(name, folders, checksums, self.url + name, fetch=fetch) for name, checksums in self.files.items()
        ]

    def _read(self) -> tuple[Part, Part]:
        images, classes, test_images, test_classes = map(read_idx, self.files_here(fetch=True))
        return Part(images[:, None], classes), Part(test_images[:, None], test_classes)


class _CIFAR(Images):
    """Krizhevsky 2009, the python version: 50,000 and 10,000 images of 3×32×32.

    Read from ``HPSCAN_DATA``, the archive or its folder, or downloaded.
    """

    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    available: ClassVar[int] = 50_000
    archive: ClassVar[str]
    archive_md5: ClassVar[str]
    folder: ClassVar[str]
    label_key: ClassVar[bytes]
    training: ClassVar[dict[str, str]]
    testing: ClassVar[dict[str, str]]

    model: Architecture = ResNetConfig()
    train: int = Field(default=45_000, ge=1)
    validation: int = Field(default=5_000, ge=1)

    def files_here(self, *, fetch: bool = False) -> list[Path]:
        """The unpacked files, or else the archive, found or fetched, and checked; raises as :func:`find_file` does."""
        folder = data_home() / self.folder
        if not folder.is_dir():
            return [find_file(self.archive, [data_home()], [self.archive_md5], self._url, fetch=fetch)]
        return [
            find_file(name, [folder], [checksum], self._url, fetch=False)
            for name, checksum in {**self.training, **self.testing}.items()
        ]

    def _read(self) -> tuple[Part, Part]:
        folder = data_home() / self.folder
        if not folder.is_dir():
            (path,) = self.files_here(fetch=True)
            with tarfile.open(path) as archive, tempfile.TemporaryDirectory(dir=data_home()) as unpacked:
                archive.extractall(unpacked, filter="data")
                if not folder.is_dir():  # another launch may have been faster
                    (Path(unpacked) / self.folder).replace(folder)
        return self._part(folder, self.training), self._part(folder, self.testing)

    @property
    def _url(self) -> str:
        return f"https://www.cs.toronto.edu/~kriz/{self.archive}"

    def _part(self, folder: Path, files: dict[str, str]) -> Part:
        batches = [
            read_pickle(find_file(name, [folder], [checksum], self._url, fetch=False))
            for name, checksum in files.items()
        ]
        images = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
        return Part(images, np.concatenate([np.asarray(batch[self.label_key]) for batch in batches]))


class CIFAR10(_CIFAR):
    """CIFAR-10."""

    mean: ClassVar[tuple[float, ...]] = (0.4914, 0.4822, 0.4465)
    std: ClassVar[tuple[float, ...]] = (0.2470, 0.2435, 0.2616)
    archive: ClassVar[str] = "cifar-10-python.tar.gz"
    archive_md5: ClassVar[str] = "c58f30108f718f92721af3b95e74349a"
    folder: ClassVar[str] = "cifar-10-batches-py"
    label_key: ClassVar[bytes] = b"labels"
    training: ClassVar[dict[str, str]] = {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    }
    testing: ClassVar[dict[str, str]] = {"test_batch": "40351d587109b95175f43aff81a1287e"}

    name: Literal["cifar10"] = "cifar10"


class CIFAR100(_CIFAR):
    """CIFAR-100, the fine labels."""

    classes: ClassVar[int] = 100
    mean: ClassVar[tuple[float, ...]] = (0.5071, 0.4865, 0.4409)
    std: ClassVar[tuple[float, ...]] = (0.2673, 0.2564, 0.2762)
    archive: ClassVar[str] = "cifar-100-python.tar.gz"
    archive_md5: ClassVar[str] = "eb9058c3a382ffc7106e4002c42a8d85"
    folder: ClassVar[str] = "cifar-100-python"
    label_key: ClassVar[bytes] = b"fine_labels"
    training: ClassVar[dict[str, str]] = {"train": "16019d7e3df5f24257cddd939b257f8d"}
    testing: ClassVar[dict[str, str]] = {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}

    name: Literal["cifar100"] = "cifar100"
