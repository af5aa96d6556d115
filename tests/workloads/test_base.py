"""What a workload is: data in three parts."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import TensorDataset

from hpscan.workloads import DataAbsentError, Split, WorkloadError


@given(st.integers(1, 7), st.lists(st.integers(1, 3), max_size=2))
def test_a_dataset_is_collected_in_its_order(n, shape):
    inputs, targets = torch.randn(n, *shape), torch.arange(n)
    split = Split.of(TensorDataset(inputs, targets))
    assert np.array_equal(split.inputs, inputs.numpy())
    assert np.array_equal(split.targets, targets.numpy())


def test_pairs_of_plain_values_will_do():
    split = Split.of([([1.0, 2.0], 3), ([4.0, 5.0], 6)])
    assert split.inputs.tolist() == [[1.0, 2.0], [4.0, 5.0]]
    assert split.targets.tolist() == [3, 6]


def test_examples_of_different_shapes_are_no_split():
    with pytest.raises(ValueError, match="same shape"):
        Split.of([([1.0], 0), ([1.0, 2.0], 0)])


def test_absent_data_are_a_workload_that_cannot_be_used():
    assert issubclass(DataAbsentError, WorkloadError)
    assert issubclass(WorkloadError, ValueError)
