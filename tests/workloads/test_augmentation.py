import importlib.util

import numpy as np
import pytest
import torch

from hpscan.workloads import CIFAR10, WorkloadError
from hpscan.workloads.augmentation import augmentation, crop_flip, cutout, standardise


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


IMAGES = torch.arange(40 * 3 * 32 * 32, dtype=torch.float32).view(40, 3, 32, 32) + 1


def test_a_crop_is_a_window_of_the_padded_image_perhaps_mirrored():
    padded = torch.nn.functional.pad(IMAGES, (4, 4, 4, 4))
    out = crop_flip(IMAGES, generator())
    assert out.shape == IMAGES.shape
    windows = set()
    for image, around in zip(out, padded, strict=True):
        found = [
            (top, left, flip)
            for top in range(9) for left in range(9) for flip in (False, True)
            if torch.equal(image.flip(2) if flip else image, around[:, top : top + 32, left : left + 32])
        ]  # fmt: skip
        assert len(found) == 1
        windows.add(found[0])
    assert len({top for top, _, _ in windows}) > 5
    assert {flip for _, _, flip in windows} == {False, True}


@pytest.mark.parametrize("side", [4, 8, 14, 32])
def test_cutout_zeroes_a_square_of_half_the_side_clipped_at_the_border_and_nothing_else(side):
    images = torch.ones(200, 3, side, side)
    out = cutout(images, generator())
    assert set(out.unique().tolist()) == {0.0, 1.0}
    holes = (out == 0).all(1)
    assert torch.equal(holes, (out == 0).any(1))
    corners = set()
    for hole in holes:
        (rows,), (columns,) = hole.any(1).nonzero(as_tuple=True), hole.any(0).nonzero(as_tuple=True)
        assert hole.sum() == len(rows) * len(columns)
        for found in (rows, columns):
            inside = found[0] > 0 and found[-1] < side - 1
            assert len(found) == side // 2 if inside else 1 <= len(found) <= side // 2
        corners.add((int(rows[0]), int(columns[0])))
    assert len(corners) > 5


@pytest.mark.parametrize("names", [["crop_flip"], ["crop_flip", "cutout"]])
def test_augmentation_is_a_function_of_the_generator_and_keeps_type_and_shape(names):
    augment = augmentation(names)
    images = IMAGES.to(torch.uint8)
    one, again, other = (augment(images, generator(seed)) for seed in (1, 1, 2))
    assert one.dtype == torch.uint8
    assert one.shape == images.shape
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_standardising_gives_zero_mean_and_unit_variance():
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (50, 2, 8, 8)).astype(np.uint8))
    scaled = images.float() / 255
    out = standardise(scaled.mean((0, 2, 3)).tolist(), scaled.std((0, 2, 3)).tolist(), 255.0)(images)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std((0, 2, 3)), torch.ones(2), atol=1e-4, rtol=0)


@pytest.mark.skipif(importlib.util.find_spec("kornia") is None, reason="needs kornia")
def test_autoaugment_changes_images_by_its_generator_alone():
    images = torch.randint(0, 256, (16, 3, 32, 32), generator=generator()).to(torch.uint8)
    augment = augmentation(["autoaugment"])
    before = torch.random.get_rng_state()
    one, again, other = (augment(images, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.dtype == torch.uint8
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one, images)


def test_without_kornia_autoaugment_says_what_to_install(monkeypatch):
    monkeypatch.setattr("hpscan.workloads.images.find_spec", lambda name: None)
    with pytest.raises(WorkloadError, match=r"pip install 'hpscan\[augment\]'"):
        CIFAR10(augment=["autoaugment"]).load()
