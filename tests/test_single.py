"""One run of a loop: where its parameters lie."""

import copy

import pytest
import torch
from torch import nn

from hpscan.single import ALIGNED, Single


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Flatten(1), nn.Linear(64, 5), nn.Linear(5, 2).double()
    )


@pytest.mark.parametrize("decay_all", [False, True])
def test_a_change_of_what_lies_end_to_end_is_a_change_of_the_model(decay_all):
    stock = model()
    single = Single.of(copy.deepcopy(stock), 2, decay_all=decay_all)
    for own, other in zip(single.model.parameters(), stock.parameters(), strict=True):
        assert torch.equal(own, other)
        assert own.shape == other.shape
    assert single.decays == ([True, True] if decay_all else [True, False, True, False])  # of each type
    assert [[m.shape for m in moments] for moments in single.moments] == [[t.shape] * 2 for t in single.thetas]
    for theta in single.thetas:
        assert theta.shape == (1, theta.numel())
        theta.mul_(2)
    for own, other in zip(single.model.parameters(), stock.parameters(), strict=True):
        assert torch.equal(own, 2 * other)
        assert own.storage_offset() % ALIGNED == 0


def test_gradients_are_those_of_the_stock_module_and_add_up_where_they_lie():
    stock = model()[:-1]
    single = Single.of(copy.deepcopy(stock), 0, decay_all=False)
    inputs = torch.randn(7, 3, 4, 4)
    stock(inputs).square().sum().backward()
    for times in (1, 2):
        single.model(inputs).square().sum().backward()
        thetas, grads = single.rows()
        for own, grad, other in zip(thetas, grads, stock.parameters(), strict=True):
            assert torch.equal(own[0], other)
            torch.testing.assert_close(grad[0], times * other.grad, rtol=1e-5, atol=1e-5)
        together = sum(grad.square().sum() for grad in single.grads)
        torch.testing.assert_close(together, sum(grad.square().sum() for grad in grads))  # nothing but zeros between
    for grad in single.grads:
        grad.zero_()
    assert all(not parameter.grad.any() for parameter in single.model.parameters())


def test_a_model_with_nothing_to_train_is_refused():
    model = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        Single.of(model, 1, decay_all=False)


def test_frozen_and_tied_parameters_are_left_frozen_and_tied():
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    tied[2].weight = tied[0].weight
    tied[1].requires_grad_(False)
    frozen = tied[1].weight.clone()
    single = Single.of(tied, 0, decay_all=False)
    single.model(torch.ones(2, 4)).sum().backward()
    for theta, grad in zip(single.thetas, single.grads, strict=True):
        theta.sub_(grad)
    assert torch.equal(tied[1].weight, frozen)
    assert tied[2].weight is tied[0].weight
    assert len(single.rows()[0]) == 3


def test_the_last_axis_of_an_expanded_or_transposed_parameter_gets_memory_of_its_own():
    odd = nn.Module()
    odd.transposed = nn.Parameter(torch.arange(6.0).view(2, 3).T)
    odd.expanded = nn.Parameter(torch.ones(1).expand(3, 2))
    single = Single.of(odd, 0, decay_all=False)
    single.thetas[0].add_(1)
    assert odd.transposed.tolist() == [[1, 4], [2, 5], [3, 6]]
    assert odd.expanded.tolist() == [[2, 2]] * 3


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "expected"), [(4, 1, 2, False), (16, 1, 2, True), (4, 1, 1, True), (4, 3, 2, True)]
)
def test_channels_last_is_left_where_its_gradient_writes_past_its_memory(channels, kernel, stride, expected):
    def convolutions():
        return nn.Sequential(nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 8, kernel, stride), nn.Flatten(1))

    single = Single.of(convolutions(), 0, decay_all=False)
    weight = single.model[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == expected
