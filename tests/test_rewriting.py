"""Rewritten models give what the models themselves give."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from hpscan.models import CNN, DenseNet, ResNet, ShakeShake
from hpscan.program import Program
from hpscan.rewriting import Folding, pool_first, rectified_before_pooling
from hpscan.spec import Training
from hpscan.strategies import Loop
from hpscan.tasks import classification

CPU = torch.device("cpu")


def _gradients(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    """The outputs and every gradient of a sum over them that no two outputs have the same part in."""
    outputs = model(inputs)
    model.zero_grad()
    (outputs * torch.arange(1.0, outputs.numel() + 1).view_as(outputs).sqrt()).sum().backward()
    return [outputs.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def _live(model: nn.Module) -> nn.Module:
    """A model whose norms have seen something, in evaluation mode."""
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (module.running_mean, module.weight, module.bias):
                if tensor is not None:
                    tensor.data.normal_()
            if module.running_var is not None:
                module.running_var.uniform_(0.1, 3.0)
    return model.eval()


@given(
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    ceil_mode=st.booleans(),
    inplace=st.booleans(),
    norm=st.booleans(),
    coarse=st.booleans(),
    seed=st.integers(0, 99),
)
def test_rectifying_after_pooling_is_the_same_to_the_bit(
    kernel: int, stride: int, ceil_mode: bool, inplace: bool, norm: bool, coarse: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3) if norm else nn.Identity(), nn.ReLU(inplace=inplace and norm)]
    model = nn.Sequential(*layers, nn.MaxPool2d(kernel, stride, kernel // 2, ceil_mode=ceil_mode))
    if coarse:  # many equal values in a window
        model[0].weight.data.round_()
    inputs = torch.randn(4, 2, 9, 9).round() if coarse else torch.randn(4, 2, 9, 9)
    inputs[0, 0, 0, 0] = torch.nan
    rewritten = copy.deepcopy(model)
    assert rectified_before_pooling(rewritten) == [("2", "3")]
    pool_first(rewritten, [("2", "3")])
    for one, other in zip(_gradients(model, inputs), _gradients(rewritten, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


class _Skipping(nn.Module):
    """What a forward pass does is given as a function of the module."""

    def __init__(self, forward: object) -> None:
        super().__init__()
        self.conv, self.norm, self.relu, self.pool = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.norm2, self.over = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU(inplace=True)
        self.how = forward

    def forward(self, inputs: Tensor) -> Tensor:
        return self.how(self, inputs)  # type: ignore[operator]


def _counting(m: _Skipping, x: Tensor) -> Tensor:
    y = m.relu(m.norm(m.conv(x)))
    return m.pool(y) + y.mean() + m.norm2(m.norm(m.conv2(x))).mean()


def _branching(m: _Skipping, x: Tensor) -> Tensor:
    return m.pool(m.relu(m.norm(m.conv(x)))) if x.sum() > 0 else x


def _in_place(m: _Skipping, x: Tensor) -> Tensor:
    y = m.conv(x)
    return m.pool(m.over(y)) + m.norm(y).mean()


def _seen(m: _Skipping, x: Tensor) -> Tensor:
    y = m.conv(x)
    return m.pool(m.over(y.view(y.shape))) + m.norm(y).mean()


def _reading(m: _Skipping, x: Tensor) -> Tensor:
    return m.norm(m.conv(x)) + m.norm.weight.sum() + m.norm2(m.conv2(x)) * m.conv2.weight.mean()


def _again(m: _Skipping, x: Tensor) -> Tensor:
    return m.pool(m.pool(m.relu(x))) + m.norm(x).mean() + m.norm(m.conv(x)).mean()


def _drawing(m: _Skipping, x: Tensor) -> Tensor:
    y = m.norm(m.conv(x))
    return m.pool(m.relu(y) if torch.rand(()) < 2 else y) + m.norm2(x).mean()


@pytest.mark.parametrize("forward", [_counting, _branching, _in_place, _seen, _reading, _again, _drawing])
def test_what_is_used_otherwise_is_left_alone(forward: object) -> None:
    model = _Skipping(forward)
    assert rectified_before_pooling(model) == []
    assert Folding.of(model.eval(), ()).model is model


def test_a_pair_may_be_called_again() -> None:
    def forward(m: _Skipping, x: Tensor) -> Tensor:
        for _ in range(2):
            x = m.pool(m.relu(m.norm(m.conv(x))))
        return x

    model, inputs = _live(_Skipping(forward)), torch.randn(3, 2, 8, 8)
    assert rectified_before_pooling(model) == [("relu", "pool")]
    folding = Folding.of(model, ())
    assert set(folding.norms) == {"conv"}
    folded = functional_call(folding.model, folding.state(model.state_dict()), inputs)
    torch.testing.assert_close(folded, model(inputs))
    torch.testing.assert_close(
        pool_first(copy.deepcopy(model), [("relu", "pool")])(inputs), model(inputs), rtol=0, atol=0
    )


def test_layers_in_two_places_hooks_and_other_kinds_are_left_alone() -> None:
    relu, pool, norm = nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(2)
    conv = [nn.Conv2d(2, 2, 1) for _ in range(3)]
    shared = nn.Sequential(conv[0], norm, relu, pool, conv[1], norm, nn.ReLU(), pool, nn.Conv2d(2, 2, 1), relu)
    indices = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, return_indices=True))
    hooked = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2))
    hooked[1].register_forward_hook(lambda *_: None)
    hooked[2].register_forward_hook(lambda *_: None)
    untracked = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False))
    parametrised = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 1)), nn.BatchNorm2d(2))
    for model in (shared, indices, hooked, untracked, parametrised):
        assert rectified_before_pooling(model) == []
        assert Folding.of(model.eval(), ()).model is model
    tied = nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))
    assert Folding.of(tied.eval(), {"0.weight"}).model is tied
    assert Folding.of(tied, {"1.bias"}).model is tied


@pytest.mark.parametrize(
    ("model", "folded"),
    [
        (CNN((3, 8, 8), (4, 8), 5), 2),
        (ResNet(3, 8, 4, 5), 9),
        (ShakeShake(3, 8, 4, 5), 13),
        (DenseNet(3, 10, 2, 5), 3),
        (nn.Sequential(nn.Conv1d(3, 4, 3, bias=False), nn.BatchNorm1d(4, affine=False), nn.Flatten()), 1),
    ],
    ids=["cnn", "resnet", "shake-shake", "densenet", "one dimension"],
)
def test_folded_norms_give_the_same_to_rounding(model: nn.Module, folded: int) -> None:
    model = _live(model)
    inputs = torch.randn(6, 3, 8) if isinstance(model[0], nn.Conv1d) else torch.randn(6, 3, 8, 8)
    with torch.no_grad():
        expected = model(inputs)
        folding = Folding.of(model, ())
        assert len(folding.norms) == folded
        got = functional_call(folding.model, folding.state(model.state_dict()), inputs)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


class _Called(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def test_runs_are_judged_without_norms_but_in_bfloat16() -> None:
    inputs = torch.randn(6, 3, 8, 8)
    for precision, norms in (("float32", 0), ("bf16", 2)):
        program = Program(classification(lambda: CNN((3, 8, 8), (4, 8), 5)), Training(precision=precision), CPU, False)
        loop = Loop(program, "sgd", False, [0], 1)
        with _Called() as called:
            outputs = loop.outputs(inputs)
        assert sum("batch_norm" in name for name in called.names) == norms
        torch.testing.assert_close(program.outputs(loop.singles[0].state, inputs), outputs[0], rtol=1e-4, atol=1e-4)


def test_dropout_is_no_hindrance() -> None:
    layers = [
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(36, 5),
    ]
    program = Program(classification(lambda: nn.Sequential(*copy.deepcopy(layers))), Training(), CPU, False)
    assert program.rectified == [("2", "3")]
    assert set(program.folding.norms) == {"0"}


def test_functions_in_place_of_modules_are_left_alone() -> None:
    model = _Skipping(lambda m, x: F.max_pool2d(F.relu(F.batch_norm(m.conv(x), torch.zeros(2), torch.ones(2))), 2))
    assert rectified_before_pooling(model) == []
    assert Folding.of(model.eval(), ()).norms == {}
