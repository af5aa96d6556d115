"""What each run is fed."""

import numpy as np
import pytest
import torch

from hpscan.feed import Feed, on_device
from hpscan.models import PlainMLP
from hpscan.randomness import batches
from hpscan.tasks import classification
from hpscan.workloads import Data, Split

CPU = torch.device("cpu")
SPLIT = Split(np.arange(40, dtype=np.float32).reshape(20, 2), np.arange(20))
DATA = Data(SPLIT, SPLIT, SPLIT)


def jitter(inputs, generator):
    return inputs + torch.rand(inputs.shape, generator=generator)


def feed(augment=None, seeds=(0, 1)):
    return Feed(DATA, classification(lambda: PlainMLP((2, 2)), augment=augment), 4, seeds, CPU)


def test_each_run_gets_the_batches_of_its_seed():
    order = {seed: batches(seed, 20, 4) for seed in (0, 1)}
    for batch in feed().take([0, 1, 0], range(7)):
        expected = {seed: next(stream) for seed, stream in order.items()}
        for row, seed in enumerate([0, 1, 0]):
            inputs, targets = batch.row(row)
            assert np.array_equal(targets.numpy(), expected[seed])
            assert np.array_equal(inputs.numpy(), SPLIT.inputs[expected[seed]])


def test_a_run_dropped_from_a_pack_changes_nothing_for_the_others():
    whole, part = feed(), feed()
    first = [list(f.take([0, 1], range(3))) for f in (whole, part)]
    assert torch.equal(first[0][2].index, first[1][2].index)
    both, one = list(whole.take([0, 1], range(3, 5))), list(part.take([1], range(3, 5)))
    assert torch.equal(both[1].index[1], one[1].index[0])


@pytest.mark.parametrize("augment", [None, jitter])
def test_stacked_batches_are_the_rows_of_each_run(augment):
    for batch in feed(augment).take([0, 1, 0], range(3)):
        stacked = batch.stacked()
        for row in range(3):
            assert all(torch.equal(whole[row], own) for whole, own in zip(stacked, batch.row(row), strict=True))


def test_augmentation_is_by_seed_and_step_and_in_no_way_by_the_pack():
    together = list(feed(jitter).take([0, 1], range(3)))
    alone = list(feed(jitter, seeds=[1]).take([1], range(3)))
    for batch, own in zip(together, alone, strict=True):
        assert torch.equal(batch.stacked()[0][1], own.row(0)[0])
    shifts = [batch.row(0)[0] - torch.from_numpy(SPLIT.inputs)[batch.index[0]] for batch in together]
    assert not torch.allclose(shifts[0], shifts[1])


def test_on_a_cpu_nothing_is_copied():
    frozen = SPLIT.inputs.copy()
    frozen.setflags(write=False)
    inputs, _ = on_device(Split(frozen, SPLIT.targets), CPU)
    assert inputs.data_ptr() == frozen.ctypes.data


def test_what_is_laid_backwards_is_copied():
    inputs, _ = on_device(Split(SPLIT.inputs[:, ::-1], SPLIT.targets), CPU)
    np.testing.assert_array_equal(inputs, SPLIT.inputs[:, ::-1])
