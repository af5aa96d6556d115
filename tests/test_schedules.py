import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpscan.schedules import Constant, Cosine, Step


@given(steps=st.integers(1, 500), data=st.data())
def test_multipliers_stay_in_the_unit_interval_and_start_at_one(steps, data):
    step = data.draw(st.integers(0, steps - 1))
    for schedule in (Constant(), Cosine(), Step()):
        assert 0 <= schedule.multiplier(step, steps) <= 1
        assert schedule.multiplier(0, steps) == 1


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Cosine(), torch.optim.lr_scheduler.CosineAnnealingLR),
        (
            Step(at=(0.5, 0.75), factor=0.1),
            lambda optimizer, steps: torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps // 2, steps * 3 // 4], 0.1),
        ),
    ],
    ids=["cosine", "step"],
)
def test_agrees_with_torch(schedule, make):
    steps = 40
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer, steps)
    for step in range(steps):
        assert schedule.multiplier(step, steps) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-7)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("at", [(), (0.5, 0.3), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5)])
def test_step_refuses_fractions_that_do_not_rise_inside_the_budget(at):
    with pytest.raises(ValueError, match="rising fractions"):
        Step(at=at)
