"""Published parameter counts, shapes, and what each architecture is known by."""

import pytest
import torch

from hpscan.models import CNN, DenseNet, ResNet, ShakeShake


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (lambda: ResNet(3, 20, 16, 10), 272_474),  # He et al. 2016: 0.27 M, with projections in two shortcuts
        (lambda: DenseNet(3, 100, 12, 10), 769_162),  # Huang et al. 2017: 0.8 M
        (lambda: ShakeShake(3, 26, 64, 10), 11_653_978),  # the paper's "11.6 M"
        (lambda: ShakeShake(3, 26, 96, 10), 26_192_922),  # 26.2 M as Gastaldi has it; the paper says 25.6 M
    ],
    ids=["resnet20", "densenet-bc-100-12", "shake-shake-26-2x64d", "shake-shake-26-2x96d"],
)
def test_the_number_of_parameters_is_the_published_one(make, parameters):
    with torch.device("meta"):
        assert count(make()) == parameters


@pytest.mark.parametrize(
    "model",
    [CNN((3, 32, 32), (4, 8), 7), ResNet(3, 8, 4, 7), ShakeShake(3, 8, 4, 7), DenseNet(3, 10, 4, 7)],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize("training", [True, False])
def test_images_become_logits_and_every_parameter_gets_a_gradient(model, training):
    model.train(training)
    logits = model(torch.randn(4, 3, 32, 32))
    assert logits.shape == (4, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_the_depth_is_the_number_of_layers_on_the_way():
    resnet = ResNet(3, 20, 16, 10)
    convolutions = [
        m for name, m in resnet.named_modules() if isinstance(m, torch.nn.Conv2d) and "shortcut" not in name
    ]
    assert len(convolutions) + 1 == 20
    shake = ShakeShake(3, 26, 8, 10)
    convolutions = [
        m for name, m in shake.named_modules()
        if isinstance(m, torch.nn.Conv2d) and "shortcut" not in name and "branches.1" not in name
    ]  # fmt: skip
    assert len(convolutions) + 1 == 26
