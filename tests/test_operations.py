"""What a call does, and what of it compiling could save."""

import time

import pytest
import torch

from hpscan.operations import LONG_S, Operations, operations


def test_what_compiling_makes_no_faster_is_told_from_what_it_fuses():
    images, weight, ones = torch.ones(2, 3, 8, 8), torch.ones(4, 3, 3, 3), torch.ones(8, 8)
    pooled = torch.max_pool2d(images.requires_grad_(), 2).sum()
    scaled = torch.nn.BatchNorm2d(3)(images).sum()
    with Operations() as pointwise:
        (ones * 2).relu()
    assert (pointwise.count, pointwise.ungained_s) == (2, 0.0)
    for call in (lambda: ones @ ones, lambda: torch.conv2d(images, weight), pooled.backward, scaled.backward):
        with Operations() as seen:
            call()
        assert seen.ungained_s > 0


@pytest.mark.parametrize(("seconds", "looks"), [(0.0, 3), (LONG_S / 3, 2), (LONG_S, 1)])
def test_what_takes_long_is_looked_at_less_often(monkeypatch, seconds, looks):
    calls = []
    monkeypatch.setattr(time, "perf_counter", lambda: seconds * len(calls))
    assert operations(lambda: calls.append(torch.ones(2) + 1)).count == 2
    assert len(calls) == 2 * looks
