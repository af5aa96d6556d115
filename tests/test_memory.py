"""How many rows fit, measured on tensors of known size."""

import numpy as np
import pytest
import torch

from hpscan import memory
from hpscan.memory import is_out_of_memory, peak_bytes, rows_that_fit

CPU = torch.device("cpu")
MIB = 1 << 20


@pytest.mark.parametrize("size", [32, 128])
def test_the_peak_is_what_work_holds_at_once(size):
    def work():
        block = torch.ones(size * MIB // 4)
        del block
        torch.ones(size * MIB // 4)  # as large, or malloc may find it another place

    work()
    assert peak_bytes(work, CPU) == pytest.approx(size * MIB, rel=0.15)


@pytest.mark.parametrize(("free", "expected"), [(10_000, 32), (800, 10), (70, 1)])
def test_rows_are_extrapolated_from_two_trials_into_80_per_cent_of_the_free_memory(monkeypatch, free, expected):
    monkeypatch.setattr(memory, "free_memory", lambda device: free * MIB)
    rows = rows_that_fit(lambda rows: torch.ones(rows * 64 * MIB // 4).sum(), CPU, most=32)
    assert rows == pytest.approx(expected, abs=0 if expected in (1, 32) else 2)


def test_a_share_of_the_memory_holds_a_share_of_the_rows(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 1600 * MIB)
    trial = lambda rows: torch.ones(rows * 64 * MIB // 4).sum()  # noqa: E731
    assert rows_that_fit(trial, CPU, most=32, share=0.5) == pytest.approx(10, abs=2)


def test_what_is_too_small_to_be_seen_fits():
    assert rows_that_fit(np.ones, CPU, most=32) == 32


def test_out_of_memory_is_told_from_other_errors():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
