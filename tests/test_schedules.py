import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpscan.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Cyclic,
    InverseSqrt,
    Linear,
    Step,
    WarmupStableDecay,
)  # fmt: skip

lr_scheduler = torch.optim.lr_scheduler
ALL = [
    Constant(), Cosine(), CosineRestarts(first=7, mult=2), Cyclic(cycle=10), Linear(), WarmupStableDecay(),
    InverseSqrt(warmup=5), Step(), Cosine(warmup=6), Step(warmup=3), CosineRestarts(first=4, warmup=5),
]  # fmt: skip


@given(steps=st.integers(1, 500), data=st.data(), schedule=st.sampled_from(ALL))
def test_multipliers_stay_in_the_unit_interval(steps, data, schedule):
    step = data.draw(st.integers(0, steps - 1))
    assert 0 <= schedule.multiplier(step, steps) <= 1


@pytest.mark.parametrize("schedule", ALL, ids=lambda schedule: f"{schedule.name}-{schedule.warmup:g}")
def test_the_peak_is_reached(schedule):
    assert max(schedule.multiplier(step, 60) for step in range(60)) == pytest.approx(1.0)


def torch_multipliers(make, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Cosine(), lambda o: lr_scheduler.CosineAnnealingLR(o, 40)),
        (CosineRestarts(first=5, mult=2), lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, 2)),
        (CosineRestarts(first=9, mult=1), lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 9, 1)),
        (Step(at=(0.5, 0.75), factor=0.1), lambda o: lr_scheduler.MultiStepLR(o, [20, 30], 0.1)),
        (Linear(final=0.2), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.2, 40)),
        (
            Cyclic(cycle=8, low=0.1),
            lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, step_size_up=4, cycle_momentum=False),
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_agrees_with_torch(schedule, make):
    ours = [schedule.multiplier(step, 40) for step in range(40)]
    assert ours == pytest.approx(torch_multipliers(make, 40), abs=1e-6)


@given(warmup=st.integers(1, 100), step=st.integers(0, 1000))
def test_inverse_sqrt_is_the_transformers(warmup, step):
    t = step + 1
    transformer = min(t**-0.5, t * warmup**-1.5) / warmup**-0.5
    assert InverseSqrt(warmup=warmup).multiplier(step, 1001) == pytest.approx(transformer)


def test_warmup_rises_in_equal_steps_and_the_schedule_gets_the_rest():
    schedule = Cosine(warmup=4)
    assert [schedule.multiplier(step, 20) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert [schedule.multiplier(step, 20) for step in range(4, 20)] == [Cosine().multiplier(s, 16) for s in range(16)]


def test_wsd_is_flat_and_falls_to_nothing_at_the_end():
    multipliers = [WarmupStableDecay(decay=0.25).multiplier(step, 40) for step in range(41)]
    assert multipliers[:31] == [1.0] * 31
    assert multipliers[30:] == pytest.approx([1 - k / 10 for k in range(11)])


def test_restarts_are_where_the_multiplier_jumps_back_to_one():
    schedule = CosineRestarts(first=100, mult=2)
    assert schedule.restarts(1500) == [0, 100, 300, 700]  # the paper's Figure 4
    for restart in schedule.restarts(1500)[1:]:
        assert schedule.multiplier(restart, 1500) == 1.0
        assert schedule.multiplier(restart - 1, 1500) < 0.01
    assert CosineRestarts(first=10, mult=1, warmup=5).restarts(31) == [0, 15, 25]
    assert Cosine().restarts(100) == [0]


@given(hundredths=st.integers(1, 99), steps=st.integers(1, 10_000))
def test_a_step_drops_where_its_fraction_of_the_budget_is_reached(hundredths, steps):
    """In floats 0.28 · 25 is more than 7."""
    drop = -(-hundredths * steps // 100)
    assert Step(at=(hundredths / 100,)).drops(steps) == [drop]
    assert Step(at=(0.28,)).multiplier(7, 25) == 0.1


@pytest.mark.parametrize("steps_per_epoch", [351.5625, 390.625, 7.1])
def test_a_budget_of_whole_periods_has_no_restart_at_its_end(steps_per_epoch):
    """Rounded one by one, the periods of 15 × 100 epochs would end a few steps early, and the rate would jump."""
    schedule, steps = CosineRestarts(first=100, mult=2).in_steps(steps_per_epoch), round(1500 * steps_per_epoch)
    assert len(schedule.restarts(steps)) == 4
    assert schedule.multiplier(steps - 1, steps) < 0.01


def test_lengths_are_given_in_the_unit_of_the_budget():
    assert CosineRestarts(first=2, warmup=0.5).in_steps(100).model_dump() == {
        "warmup": 50, "name": "cosine_restarts", "first": 200, "mult": 2,
    }  # fmt: skip
    assert Step().in_steps(100) == Step()


@pytest.mark.parametrize("at", [(), (0.5, 0.3), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5)])
def test_step_refuses_fractions_that_do_not_rise_inside_the_budget(at):
    with pytest.raises(ValueError, match="rising fractions"):
        Step(at=at)


def test_fractional_growth_of_periods_ends():
    assert math.isfinite(sum(CosineRestarts(first=1, mult=1.5).multiplier(step, 1000) for step in range(1000)))
