import pytest

from hpscan.spec import Spec
from hpscan.workloads import at_width, width_of
from tests.conftest import TINY


def workload(raw):
    return Spec.validated({**TINY, "workload": raw}).workload


@pytest.mark.parametrize(
    ("raw", "width", "at_64"),
    [
        (
            {"name": "digits", "model": {"name": "normalised_mlp", "hidden": [32, 16]}},
            32,
            ("model", "hidden", (64, 32)),
        ),
        ({"name": "digits", "model": {"name": "plain_mlp", "hidden": [8]}}, 8, ("model", "hidden", (64,))),
        ({"name": "digits", "model": {"name": "cnn", "channels": [16, 32]}}, 16, ("model", "channels", (64, 128))),
        ({"name": "cifar10", "model": {"name": "resnet", "width": 16}}, 16, ("model", "width", 64)),
        ({"name": "cifar10", "model": {"name": "shake_shake", "width": 32}}, 32, ("model", "width", 64)),
    ],
)
def test_a_models_width_is_that_of_its_first_layer(raw, width, at_64):
    before = workload(raw)
    after = at_width(before, 64)
    holder, field, value = at_64
    assert width_of(before) == width
    assert width_of(after) == 64
    assert getattr(getattr(after, holder), field) == value
    assert at_width(after, width) == before


def test_a_text_model_and_a_users_function_have_theirs():
    gpt, own = workload("charlm"), workload({"factory": "a:b", "args": {"width": 5, "depth": 2}})
    assert (width_of(gpt), width_of(at_width(gpt, 64))) == (32, 64)
    assert at_width(own, 7).args == {"width": 7, "depth": 2}


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ({"name": "cifar10", "model": "densenet_bc"}, "densenet_bc"),
        ({"name": "digits", "model": {"name": "plain_mlp", "hidden": []}}, "plain_mlp"),
        ({"trainable": "a:b", "args": {"width": True}}, "trainable"),
    ],
)
def test_what_has_no_width_says_so(raw, name):
    assert width_of(workload(raw)) is None
    with pytest.raises(ValueError, match=f"{name} has no width to set"):
        at_width(workload(raw), 8)
