"""The models that a spec names: what is accepted can be built, and what is built takes its images."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import nn

from hpscan.models import ResNet
from hpscan.workloads.architectures import Architecture, CNNConfig, DenseNetConfig

MODELS = TypeAdapter(Architecture)
WIDTHS = st.lists(st.integers(1, 6), max_size=3)
WRITTEN = st.one_of(
    st.fixed_dictionaries({"name": st.sampled_from(["normalised_mlp", "plain_mlp"]), "hidden": WIDTHS}),
    st.fixed_dictionaries({"name": st.just("resnet"), "depth": st.sampled_from([8, 14]), "width": st.integers(1, 4)}),
    st.fixed_dictionaries(
        {"name": st.just("shake_shake"), "depth": st.sampled_from([8, 14]), "width": st.sampled_from([2, 4])}
    ),
    st.fixed_dictionaries(
        {"name": st.just("densenet_bc"), "depth": st.sampled_from([10, 16]), "growth": st.integers(1, 4)}
    ),
)


@settings(max_examples=25)
@given(
    WRITTEN, st.tuples(st.sampled_from([1, 3]), st.sampled_from([8, 12]), st.sampled_from([8, 16])), st.integers(2, 5)
)
def test_what_is_accepted_takes_images_and_gives_a_number_for_each_class(written, shape, classes):
    config = MODELS.validate_python(written)
    config.check(shape)
    model = config.build(shape, classes)
    assert model(torch.randn(2, *shape)).shape == (2, classes)
    normalised = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    assert normalised <= config.batch_norm


@given(st.lists(st.integers(1, 3), max_size=4), st.tuples(st.just(1), st.integers(1, 20), st.integers(1, 20)))
def test_a_cnn_is_refused_for_images_of_which_pooling_would_leave_nothing(channels, shape):
    config = CNNConfig(channels=tuple(channels))
    if min(shape[1:]) // 2 ** len(channels):
        config.check(shape)
        assert config.build(shape, 2)(torch.randn(2, *shape)).shape == (2, 2)
    else:
        told = f"model.channels: {len(channels)} poolings leave nothing of {shape[1]}×{shape[2]} pixels"
        with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
            config.check(shape)


@given(st.integers(1, 9), st.integers(1, 9))
def test_a_densenet_is_refused_for_images_of_which_its_transitions_would_leave_nothing(height, width):
    config = DenseNetConfig(depth=10, growth=1)
    if min(height, width) // 4:
        config.check((1, height, width))
        assert config.build((1, height, width), 2)(torch.randn(2, 1, height, width)).shape == (2, 2)
    else:
        told = f"model: densenet_bc halves images twice, from 4×4 pixels up; got {height}×{width}"
        with pytest.raises(ValueError, match=f"^{told}$"):
            config.check((1, height, width))


@given(st.sampled_from([("resnet", 2), ("shake_shake", 2), ("densenet_bc", 4)]), st.integers(-3, 40))
def test_a_depth_is_of_three_stages_of_whole_blocks(named, depth):
    name, extra = named
    if depth >= 6 + extra and (depth - extra) % 6 == 0:
        assert MODELS.validate_python({"name": name, "depth": depth}).depth == depth
    else:
        with pytest.raises(ValidationError, match=rf"must be 6n \+ {extra}; got {depth}"):
            MODELS.validate_python({"name": name, "depth": depth})


def test_two_paths_need_an_even_width():
    with pytest.raises(ValidationError, match="width: must be even, each half a path of the shortcut; got 3"):
        MODELS.validate_python({"name": "shake_shake", "width": 3})


@pytest.mark.parametrize("name", ["normalised_mlp", "plain_mlp", "cnn", "resnet", "shake_shake", "densenet_bc"])
def test_a_name_alone_is_a_model(name):
    config = MODELS.validate_python(name)
    assert config.name == name
    assert config == MODELS.validate_python({"name": name})
    assert (config.width_field == "") == (name == "densenet_bc")
    assert not config.width_field or hasattr(config, config.width_field)


@pytest.mark.parametrize("wrong", ["resnet50", {"name": "cnn", "width": 3}, {"name": "cnn", "channels": [0]}, 3])
def test_what_is_none_is_refused(wrong):
    with pytest.raises(ValidationError):
        MODELS.validate_python(wrong)


def test_weights_come_from_torchs_generator():
    config = MODELS.validate_python({"name": "resnet", "depth": 8, "width": 2})
    torch.manual_seed(3)
    first = config.build((1, 8, 8), 3)
    torch.manual_seed(3)
    same, other = config.build((1, 8, 8), 3), config.build((1, 8, 8), 3)
    assert isinstance(first, ResNet)
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
