"""Every loader on files in the true format, small ones; the embedded and the installed data for real."""

import gzip
import pickle
import struct
import tarfile

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.datasets import load_digits

from hpscan.workloads import CIFAR10, CIFAR100, DataAbsentError, Digits, FashionMNIST, ImageNet32, WorkloadError
from hpscan.workloads.files import md5

RNG = np.random.default_rng(0)


def rows(split):
    return {image.tobytes() for image in split.inputs}


def test_the_three_splits_of_the_digits_hold_every_image_once():
    data = Digits(train=900, validation=448).load()
    splits = (data.train, data.validation, data.test)
    assert [len(split.targets) for split in splits] == [900, 448, 449]
    images, labels = load_digits(return_X_y=True)
    stacked = np.concatenate([split.inputs for split in splits]).reshape(-1, 64)
    assert sorted(map(tuple, stacked)) == sorted(map(tuple, images))
    assert np.bincount(np.concatenate([split.targets for split in splits])).tolist() == np.bincount(labels).tolist()
    assert not rows(data.train) & rows(data.test)


def test_loading_is_deterministic_and_data_seed_changes_the_split():
    first, again, other = Digits().load(), Digits().load(), Digits(data_seed=1).load()
    assert np.array_equal(first.train.inputs, again.train.inputs)
    assert not np.array_equal(first.train.inputs, other.train.inputs)


def test_label_noise_replaces_a_share_of_the_training_labels_and_nothing_else():
    clean, noisy = Digits().load(), Digits(label_noise=0.2).load()
    changed = np.mean(clean.train.targets != noisy.train.targets)
    assert changed == pytest.approx(0.2 * 0.9, abs=0.03)  # a tenth of random labels is right by chance
    for part in ("validation", "test"):
        assert np.array_equal(getattr(clean, part).targets, getattr(noisy, part).targets)
        assert np.array_equal(getattr(clean, part).inputs, getattr(noisy, part).inputs)


@pytest.mark.parametrize(
    ("model", "parameters"), [("normalised_mlp", 64 * 8 + 8 + 80 + 20), ("plain_mlp", 64 * 8 + 8 + 90)]
)
def test_the_task_builds_the_named_model(model, parameters):
    built = Digits(model={"name": model, "hidden": [8]}).task().model()
    assert sum(parameter.numel() for parameter in built.parameters()) == parameters


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"train": 1500}, "at most 1299"),
        ({"pool": 3}, "must divide 8×8"),
        ({"model": {"name": "cnn", "channels": [4, 4, 4, 4]}}, "4 poolings leave nothing"),
        ({"model": {"name": "resnet", "depth": 9}}, r"must be 6n \+ 2"),
        ({"model": {"name": "densenet_bc", "depth": 8}}, r"must be 6n \+ 4"),
        ({"model": {"name": "shake_shake", "width": 3}}, "must be even"),
        ({"pool": 4, "model": "densenet_bc"}, "model: densenet_bc halves images twice, from 4×4 pixels up; got 2×2"),
        (
            {"augment": ["crop_flip", "autoaugment"]},
            "augment: autoaugment is for images of 3 channels and 3×3 pixels or more; got 1×8×8; leave it out",
        ),
    ],
)
def test_what_cannot_work_is_refused(change, match):
    with pytest.raises(ValidationError, match=match):
        Digits(**change)


def test_autoaugment_is_for_images_in_colour_that_it_can_sharpen():
    assert CIFAR10(augment=["autoaugment"], pool=8).pooled_shape == (3, 4, 4)
    with pytest.raises(ValidationError, match="got 3×2×2; leave it out"):
        CIFAR10(augment=["autoaugment"], pool=16)


def write_fashion(folder, n=60):
    folder.mkdir()
    written = {}
    for name, axes in (
        ("train-images-idx3", 3),
        ("train-labels-idx1", 1),
        ("t10k-images-idx3", 3),
        ("t10k-labels-idx1", 1),
    ):
        shape = (n, 28, 28)[:axes]
        values = RNG.integers(0, 256 if axes == 3 else 10, shape).astype(np.uint8)
        header = struct.pack(f">HBB{axes}I", 0, 8, axes, *shape)
        (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(header + values.tobytes()))
        written[name] = values
    return written


def trusted(monkeypatch, folder):
    """Let the checksums of small test files be the right ones."""
    checksums = {name: (md5(folder / name),) for name in FashionMNIST.files}
    monkeypatch.setattr(FashionMNIST, "files", checksums)


def test_fashion_mnist_is_read_from_idx_files(home, monkeypatch):
    written = write_fashion(home / "fashion-mnist")
    trusted(monkeypatch, home / "fashion-mnist")
    data = FashionMNIST(train=40, validation=20).load()
    assert data.train.inputs.shape == (40, 1, 28, 28)
    assert data.train.inputs.dtype == np.uint8
    assert np.array_equal(data.test.inputs[:, 0], written["t10k-images-idx3"])
    assert np.array_equal(data.test.targets, written["t10k-labels-idx1"])
    known = {image.tobytes() for image in written["train-images-idx3"]}
    assert rows(data.train) | rows(data.validation) == known


def test_pooling_averages_blocks(home, monkeypatch):
    written = write_fashion(home / "fashion-mnist")
    trusted(monkeypatch, home / "fashion-mnist")
    pooled = FashionMNIST(train=40, validation=20, pool=2).load().test.inputs
    tensor = torch.from_numpy(written["t10k-images-idx3"].astype(np.float32))[:, None]
    torch.testing.assert_close(torch.from_numpy(pooled), torch.nn.functional.avg_pool2d(tensor, 2))


def test_a_damaged_file_is_named_with_its_checksum(home):
    write_fashion(home / "fashion-mnist")
    with pytest.raises(WorkloadError, match=r"train-images-idx3-ubyte.gz: MD5 is \w{32}, should be 8d4fb7e6"):
        FashionMNIST(train=40, validation=20).load()


@pytest.mark.skipif(not FashionMNIST.debian.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_fashion_mnist_for_real():
    data = FashionMNIST().load()
    assert [len(split.targets) for split in (data.train, data.validation, data.test)] == [55_000, 5_000, 10_000]
    everything = np.concatenate([data.train.inputs, data.validation.inputs])
    assert everything.mean() / 255 == pytest.approx(FashionMNIST.mean[0], abs=1e-4)
    assert everything.std() / 255 == pytest.approx(FashionMNIST.std[0], abs=1e-4)
    assert np.bincount(data.test.targets).tolist() == [1000] * 10


@pytest.mark.parametrize(
    ("workload", "name", "url", "checksum"),
    [
        (FashionMNIST(), "fashion-mnist/train-images-idx3-ubyte.gz", "http://fashion-mnist.s3", "MD5 8d4fb7e6"),
        (CIFAR10(), "cifar-10-python.tar.gz", "https://www.cs.toronto.edu/", "MD5 c58f3010"),
        (CIFAR100(), "cifar-100-python.tar.gz", "https://www.cs.toronto.edu/", "MD5 eb9058c3"),
        (ImageNet32(), "imagenet32/train_data_batch_1", "https://image-net.org/", "gives no checksum"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_absent_data_are_named_with_path_url_and_checksum(home, workload, name, url, checksum):
    with pytest.raises(DataAbsentError) as caught:
        workload.load()
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in (str(home / name), url, checksum))
    assert not any(home.iterdir()) or not any((home / "fashion-mnist").iterdir())


def test_a_download_is_checked_and_kept(home, monkeypatch, tmp_path_factory):
    source = tmp_path_factory.mktemp("server")
    write_fashion(source / "files")
    trusted(monkeypatch, source / "files")
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda url, timeout: (source / "files" / url.split("/")[-1]).open("rb")
    )
    first = FashionMNIST(train=40, validation=20).load()
    monkeypatch.setattr("urllib.request.urlopen", None)
    again = FashionMNIST(train=40, validation=20).load()
    assert np.array_equal(first.train.inputs, again.train.inputs)


def write_cifar(folder, workload, label, n=20):
    folder.mkdir()
    for name in (*workload.training, *workload.testing):
        classes = RNG.integers(0, workload.classes, n).tolist()
        batch = {b"data": RNG.integers(0, 256, (n, 3072)).astype(np.uint8), label: classes, b"batch_label": b"x"}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))


@pytest.mark.parametrize(("kind", "label"), [(CIFAR10, b"labels"), (CIFAR100, b"fine_labels")])
def test_cifar_is_read_from_its_python_batches(home, monkeypatch, kind, label):
    folder = home / kind.folder
    write_cifar(folder, kind, label)
    for part in ("training", "testing"):
        monkeypatch.setattr(kind, part, {name: md5(folder / name) for name in getattr(kind, part)})
    known = 20 * len(kind.training)
    data = kind(train=known - 5, validation=5).load()
    assert data.train.inputs.shape == (known - 5, 3, 32, 32)
    with (folder / next(iter(kind.testing))).open("rb") as file:
        batch = pickle.load(file, encoding="bytes")
    assert np.array_equal(data.test.inputs.reshape(20, -1), batch[b"data"])  # channel by channel, as published
    assert data.test.targets.tolist() == batch[label]
    logits = kind(model={"name": "resnet", "depth": 8, "width": 4}).task()
    assert logits.model()(logits.prepare(torch.from_numpy(data.test.inputs))).shape == (20, kind.classes)


def test_of_an_archive_that_was_unpacked_in_part_nothing_is_left(home, tmp_path_factory, monkeypatch):
    source = tmp_path_factory.mktemp("published") / CIFAR10.folder
    write_cifar(source, CIFAR10, b"labels")
    for part in ("training", "testing"):
        monkeypatch.setattr(CIFAR10, part, {name: md5(source / name) for name in getattr(CIFAR10, part)})
    with tarfile.open(home / CIFAR10.archive, "w:gz") as archive:
        archive.add(source, CIFAR10.folder)
    monkeypatch.setattr(CIFAR10, "archive_md5", md5(home / CIFAR10.archive))

    def stopped(archive, path, **_):
        archive.extract(f"{CIFAR10.folder}/data_batch_1", path, filter="data")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tarfile.TarFile.extractall", stopped)
        with pytest.raises(KeyboardInterrupt):
            CIFAR10(train=90, validation=10).load()
    assert [path.name for path in home.iterdir()] == [CIFAR10.archive]
    assert len(CIFAR10(train=90, validation=10).load().test.targets) == 20
    assert {path.name for path in home.iterdir()} == {CIFAR10.archive, CIFAR10.folder}


@pytest.mark.parametrize("call", [exec, np.testing.runstring], ids=["builtin", "numpy's"])
def test_a_pickle_that_would_run_code_is_refused(home, monkeypatch, call):
    folder = home / CIFAR10.folder
    write_cifar(folder, CIFAR10, b"labels")

    class Evil:
        def __reduce__(self):
            return call, ("print('owned')", {})

    (folder / "data_batch_1").write_bytes(pickle.dumps(Evil()))
    monkeypatch.setattr(CIFAR10, "training", {"data_batch_1": md5(folder / "data_batch_1")})
    with pytest.raises(WorkloadError, match=rf"data_batch_1: not a published batch \(it asks for .*{call.__name__}\)"):
        CIFAR10(train=10, validation=5).load()
