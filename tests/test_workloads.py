import numpy as np
import pytest
from sklearn.datasets import load_digits

from hpscan.workloads import Digits


def rows(split):
    return {image.tobytes() for image in split.inputs}


def test_the_three_splits_hold_every_image_once():
    data = Digits(train=900).load()
    splits = (data.train, data.validation, data.test)
    assert [len(split.targets) for split in splits] == [900, 448, 449]
    images, labels = load_digits(return_X_y=True)
    stacked = np.concatenate([split.inputs for split in splits]) * 16
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
    built = Digits(model=model, hidden=(8,)).task().model()
    assert sum(parameter.numel() for parameter in built.parameters()) == parameters
