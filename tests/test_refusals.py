"""Whatever pydantic finds wrong is one line, in words of specs."""

import pytest

from hpscan.spec import Spec, SpecError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": {"lr": "abc", "wd": [0]}}, "`grid.lr`: input must be a valid number, unable to parse string"),
        ({"grid": {"lr": [1, "abc"], "wd": [0]}}, "`grid.lr.1`: input must be a valid number, unable to parse string"),
        ({"seeds": [-1]}, "`seeds.0`: input must be greater than or equal to 0; got -1"),
        (
            {"workload": "imagenet"},
            "`workload`: name must be one of digits, fashion_mnist, cifar10, cifar100, imagenet32, charlm, factory, trainable, imported; got 'imagenet'",
        ),
        (
            {"workload": {"name": "digits", "label_noise": 1.5}},
            "`workload.label_noise`: input must be less than 1; got 1.5",
        ),
        ({"schedule": "triangle"}, "`schedule`: name must be one of constant, cosine, cosine_restarts, cyclic"),
        ({"stop": {"rungs": [0.5]}}, "`stop`: must have a `name`; got {'rungs': [0.5]}"),
        ({"schedule": "cosine_restarts"}, "`schedule.first`: missing"),
        ({"variants": "sgd"}, "`variants`: must be a list; got 'sgd'"),
        ({"grid": 3}, "`grid`: must be a mapping of fields; got 3"),
        ({"workload": None}, "`workload`: must be a name, or a mapping with one; got None"),
        ({"workload": {"factory": "my.py"}}, "`workload.factory`: must be module:function, of a file in this folder"),
        ({"workload": {"trainable": "a:b", "args": 3}}, "`workload.args`: must be a mapping of fields; got 3"),
        ({"optimizer": {"betas": [0.9]}}, "`optimizer.betas`: must be a list of 2; got [0.9]"),
        (
            {"optimizer": {"betas": [0.9, 0.99, 0.999]}},
            "`optimizer.betas`: must be a list of 2; got [0.9, 0.99, 0.999]",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_is_one_line_with_field_and_value(make_spec, change, message):
    with pytest.raises(SpecError) as error:
        make_spec(**change)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_missing_field_is_named(tiny_raw):
    del tiny_raw["budget"]
    with pytest.raises(SpecError, match="`budget`: missing"):
        Spec.validated(tiny_raw)


def test_all_that_is_missing_is_named_at_once():
    with pytest.raises(
        SpecError, match=r"^`workload`: missing; a spec must give it, and `variants`, and `budget`, .*$"
    ):
        Spec.validated({"name": "mine", "grid": {"lr": [1], "wd": [0]}})
    with pytest.raises(SpecError, match=r"^`workload`: missing; a spec must give it, and `budget`.* \(and 1 more\)$"):
        Spec.validated({"name": "mine", "variants": "sgd", "grid": {"lr": [1], "wd": [0]}})
