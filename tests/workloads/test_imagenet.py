"""ImageNet32 is read from files in the true format, small ones."""

import pickle
import shutil

import numpy as np
import pytest
import torch

from hpscan.spec import Spec
from hpscan.workloads import ImageNet32, WorkloadError
from tests.conftest import TINY

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("form", ["pickle", "npz"])
def test_imagenet32_is_read_less_its_mean_image(home, form):
    folder = home / "imagenet32"
    folder.mkdir()
    mean = RNG.uniform(0, 255, 3072)
    for name in (*(f"train_data_batch_{k}" for k in range(1, 11)), "val_data"):
        batch = {"data": RNG.integers(0, 256, (4, 3072)).astype(np.uint8), "labels": [1, 1000, 7, 7], "mean": mean}
        if form == "npz":
            np.savez(folder / f"{name}.npz", **batch)
        else:
            (folder / name).write_bytes(pickle.dumps(batch))
    workload = ImageNet32(train=36, validation=4)
    data = workload.load()
    assert sorted(data.test.targets) == [0, 6, 6, 999]  # published classes count from 1
    prepared = workload.task().prepare(torch.from_numpy(data.test.inputs)).numpy()
    np.testing.assert_allclose(prepared.reshape(4, -1), (data.test.inputs.reshape(4, -1) - mean) / 255, atol=1e-6)
    assert set(workload.task().judges) == {"loss", "error", "top5_error"}

    grid = {**TINY["grid"], "width": [4, 8]}
    spec = Spec.validated({**TINY, "workload": {"name": "imagenet32", "train": 36, "validation": 4}, "grid": grid})
    resolved = spec.resolved()
    assert resolved.to_yaml() == spec.to_yaml()
    assert resolved.workload.identity() == workload.identity()
    sent = pickle.dumps([resolved.workload, resolved.at({"width": 8}).workload])
    shutil.rmtree(folder)  # a worker is given the data, and has no file
    for given in pickle.loads(sent):
        assert np.array_equal(given.task().prepare(torch.from_numpy(data.test.inputs)).numpy(), prepared)
    assert spec.resolved() == spec  # a price is told without data


@pytest.mark.parametrize("form", ["pickle", "npz"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 1, 2, 3]}, "with a class from 1 to 1000 for each in `labels`"),
        ({"labels": [1, 2, 3]}, "with a class from 1 to 1000 for each in `labels`"),
        ({"labels": [[1], [2], [3], [4]]}, "with a class from 1 to 1000 for each in `labels`"),
        ({"data": np.zeros((4, 192), np.uint8)}, r"`data` must be of shape \(images, 3072\)"),
        ({"data": None}, r"`data` must be of shape \(images, 3072\)"),
        ({"mean": None}, "train_data_batch_1.*: has no mean image"),
    ],
)
def test_a_batch_without_a_checksum_is_looked_at(home, form, change, message):
    folder = home / "imagenet32"
    folder.mkdir()
    whole = {"data": np.zeros((4, 3072), np.uint8), "labels": [1, 1000, 7, 7], "mean": np.zeros(3072)}
    changed = {name: value for name, value in {**whole, **change}.items() if value is not None}
    for number, batch in enumerate([changed, *[whole] * 9, whole]):
        name = f"train_data_batch_{number + 1}" if number < 10 else "val_data"
        if form == "npz":
            np.savez(folder / f"{name}.npz", **batch)
        else:
            (folder / name).write_bytes(pickle.dumps(batch))
    workload = ImageNet32(train=36, validation=4)
    with pytest.raises(WorkloadError, match=message):
        workload.task() if "mean" in change else workload.load()
