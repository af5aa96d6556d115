import pytest

from hpscan.spec import SpecError
from hpscan.stopping import Halving

HALVING = {"name": "halving"}


def test_a_rung_is_the_step_of_an_evaluation():
    assert Halving(rungs=(0.25, 0.5)).steps(400, 8) == (100, 200)
    assert Halving().steps(400, 2) == (200,)
    assert Halving(rungs=(1 / 3, 2 / 3)).steps(100, 6) == (33, 67)


def test_the_best_part_goes_on_rounded_up():
    assert [Halving(reduction=3).kept(n) for n in (1, 3, 9, 10, 99)] == [1, 1, 3, 4, 33]
    assert Halving(reduction=1.5).kept(9) == 6


def test_the_short_form_names_the_rule(make_spec):
    assert make_spec(stop="halving", evaluations=4).stop == Halving()
    assert make_spec().stop == make_spec(stop="diverged").stop


def test_the_rule_is_no_part_of_a_runs_identity(make_spec):
    from hpscan.differences import differences
    from hpscan.grid import runs

    plain, halving = make_spec(evaluations=4), make_spec(evaluations=4, stop="halving")
    assert [run.run_id for run in runs(plain)] == [run.run_id for run in runs(halving)]
    assert not differences(plain, halving)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"stop": "sometimes"}, "`stop`: name must be one of diverged, halving; got 'sometimes'"),
        ({"stop": "halving", "evaluations": 3}, "stop.rungs: must be at evaluations, multiples of 1/3 (`evaluations`); got 0.5"),
        ({"stop": {**HALVING, "rungs": [0.5, 0.5]}}, "`stop.rungs`: must be rising fractions of the budget, each above 0 and below 1"),
        ({"stop": {**HALVING, "rungs": []}}, "`stop.rungs`: must be rising fractions of the budget, each above 0 and below 1"),
        ({"stop": {**HALVING, "reduction": 1}}, "`stop.reduction`: input must be greater than 1; got 1"),
        ({"stop": {**HALVING, "keep": 3}}, "`stop`: unknown key 'keep'; known are name, rungs, reduction"),
        (
            {"stop": {**HALVING, "rungs": [0.25, 0.5]}, "evaluations": 8, "budget": {"steps": 2}},
            "stop.rungs: must be different steps within the budget, 2; they are at (0, 1)",
        ),
        (
            {"stop": HALVING, "evaluations": 4, "metric": "val_top5"},
            "stop: runs are compared at rungs by val_loss or val_error; metric is val_top5",
        ),
        (
            {"stop": HALVING, "adaptive": True},
            "stop: halving stops cells of a whole grid; give `diverged`, or leave `adaptive` out",
        ),
        (
            {"stop": HALVING, "workload": {"name": "trainable", "trainable": "mine:train"}},
            "stop: a trainable is trained to its end and cannot pause at rungs; give `diverged`",
        ),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_followed_is_refused(make_spec, changes, told):
    with pytest.raises(SpecError) as error:
        make_spec(**changes)
    assert str(error.value) == told
