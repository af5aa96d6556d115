"""The update rules against torch.optim and against float64 transcriptions of the published algorithms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import optim

from hpscan.optimizers import OPTIMIZERS, apply_average, apply_step, step_numbers
from hpscan.variants import OPTIMIZER_SETTINGS, VARIANTS, Decay

STEPS = 200
BETAS, EPS, MOMENTUM = (0.9, 0.999), 1e-8, 0.9


def grads_of(step, shape, runs, dtype=np.float32):
    """Gradients that wander, with the scale of real ones."""
    rng = np.random.default_rng(step)
    return (rng.normal(size=(runs, *shape)) * 0.1 + 0.05).astype(dtype)


def train(variant, lr, wd, eta, start, steps=STEPS, grad=grads_of, clip=None, period=None, **changed):
    """Run a variant on stacked parameters; lr, wd and changed settings are per run, eta is a function of the step."""
    chosen = VARIANTS[variant]
    optimizer = OPTIMIZERS[chosen.optimizer]
    paper_momentum = changed.pop("paper_momentum", False)
    own = {**OPTIMIZER_SETTINGS[chosen.optimizer], **changed}
    own = {name: np.broadcast_to(value, len(lr)).astype(np.float64) for name, value in own.items()}
    theta = torch.tensor(start)
    moments = [torch.zeros_like(theta) for _ in range(optimizer.n_moments)]
    etas = np.array([eta(step) for step in range(steps)])
    periods = None if period is None else np.full(steps, float(period))
    # in two calls, as the engine makes many: the count of steps must go on
    numbers = [
        at
        for a, b in ((0, steps // 3), (steps // 3, steps))
        for at in step_numbers(
            chosen, own, np.array(lr), np.array(wd), etas[a:b], start=a,
            period=None if periods is None else periods[a:b], paper_momentum=paper_momentum,
        )
    ]  # fmt: skip
    for step, at in enumerate(numbers):
        gradient = torch.tensor(grad(step, start.shape[1:], len(lr)))
        apply_step(optimizer.direction, [theta], [gradient], [moments], [True], at, clip)
    return theta.numpy()


def cosine(step):
    return 0.5 * (1 + np.cos(np.pi * step / STEPS))


def constant(_):
    return 1.0


START = np.random.default_rng(1).normal(size=(3, 4, 5)).astype(np.float32)
LR, WD = [0.1, 0.01, 0.003], [0.0, 0.01, 0.3]

TORCH = {
    "sgd": lambda p, lr, wd: optim.SGD(p, lr=lr, weight_decay=wd, momentum=MOMENTUM),
    "adam": lambda p, lr, wd: optim.Adam(p, lr=lr, weight_decay=wd),
    "adamw-torch": lambda p, lr, wd: optim.AdamW(p, lr=lr, weight_decay=wd),
    "amsgrad": lambda p, lr, wd: optim.Adam(p, lr=lr, weight_decay=wd, amsgrad=True),
    "nadam": lambda p, lr, wd: optim.NAdam(p, lr=lr, weight_decay=wd),
    "adagrad": lambda p, lr, wd: optim.Adagrad(p, lr=lr, weight_decay=wd),
}


def torch_alone(make, eta, run, start=START, grad=grads_of, steps=STEPS, clip=None):
    theta = torch.nn.Parameter(torch.tensor(start[run]))
    optimizer = make([theta], LR[run], WD[run])
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LR[run] * eta(step)
        theta.grad = torch.tensor(grad(step, start.shape[1:], len(start))[run])
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([theta], clip)
        optimizer.step()
    return theta.detach().numpy()


@pytest.mark.parametrize("eta", [constant, cosine], ids=["constant", "cosine"])
@pytest.mark.parametrize("variant", TORCH)
def test_agrees_with_torch_over_200_steps(variant, eta):
    stacked = train(variant, LR, WD, eta, START)
    for run in range(3):
        np.testing.assert_allclose(stacked[run], torch_alone(TORCH[variant], eta, run), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("variant", "changed", "make"),
    [
        ("sgd", {"momentum": 0.0}, lambda p, lr, wd: optim.SGD(p, lr=lr, weight_decay=wd)),
        (
            "sgd",
            {"momentum": 0.8, "nesterov": 1.0},
            lambda p, lr, wd: optim.SGD(p, lr=lr, weight_decay=wd, momentum=0.8, nesterov=True),
        ),
        (
            "adam",
            {"beta1": 0.5, "beta2": 0.95, "eps": 1e-3},
            lambda p, lr, wd: optim.Adam(p, lr=lr, weight_decay=wd, betas=(0.5, 0.95), eps=1e-3),
        ),
    ],
    ids=["plain", "nesterov", "betas"],
)
def test_settings_mean_what_they_mean_in_torch(variant, changed, make):
    stacked = train(variant, LR, WD, cosine, START, **changed)
    for run in range(3):
        np.testing.assert_allclose(stacked[run], torch_alone(make, cosine, run), rtol=2e-5, atol=2e-6)


def test_settings_are_per_run():
    together = train("sgd", LR, WD, cosine, START, momentum=[0.0, 0.5, 0.9], nesterov=[0.0, 1.0, 0.0])
    for run, (momentum, nesterov) in enumerate([(0.0, 0.0), (0.5, 1.0), (0.9, 0.0)]):
        alone = train("sgd", LR, WD, cosine, START, momentum=momentum, nesterov=nesterov)
        assert np.array_equal(together[run], alone[run])


def complex_grads_of(step, shape, runs):
    return grads_of(step, (*shape, 2), runs).view(np.complex64)[..., 0]


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("variant", TORCH)
def test_complex_parameters_are_pairs_of_real_ones_as_in_torch(variant, clip):
    start = np.random.default_rng(1).normal(size=(3, 4, 5, 2)).astype(np.float32).view(np.complex64)[..., 0]
    stacked = train(variant, LR, WD, cosine, start, grad=complex_grads_of, clip=clip)
    for run in range(3):
        alone = torch_alone(TORCH[variant], cosine, run, start=start, grad=complex_grads_of, clip=clip)
        np.testing.assert_allclose(stacked[run], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clip", [0.05, 0.5, 100.0])
def test_clipping_agrees_with_torch(clip):
    stacked = train("sgd", LR, WD, constant, START, clip=clip)
    for run in range(3):
        np.testing.assert_allclose(
            stacked[run], torch_alone(TORCH["sgd"], constant, run, clip=clip), rtol=1e-4, atol=1e-5
        )


# --- the published algorithms, in float64 ---------------------------------------------------------------------------


def algorithm_1(theta, lr, wd, eta, *, lr_inside):
    """SGDW, Loshchilov & Hutter 2019, Algorithm 1; with ``lr_inside`` to the letter, else as in the authors' code."""
    momentum = np.zeros_like(theta)
    for step in range(STEPS):
        grad = grads_of(step, START.shape[1:], 3).astype(np.float64)
        if lr_inside:
            momentum = MOMENTUM * momentum + eta(step) * lr * grad
            theta = theta - momentum - eta(step) * wd * theta
        else:
            momentum = MOMENTUM * momentum + grad
            theta = theta - eta(step) * (lr * momentum + wd * theta)
    return theta


def algorithm_2(theta, lr, wd, eta, *, amsgrad):
    """AdamW, Loshchilov & Hutter 2019, Algorithm 2; with ``amsgrad`` over the largest second moment so far."""
    mean, square, largest = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
    for step in range(1, STEPS + 1):
        grad = grads_of(step - 1, START.shape[1:], 3).astype(np.float64)
        mean = BETAS[0] * mean + (1 - BETAS[0]) * grad
        square = BETAS[1] * square + (1 - BETAS[1]) * grad**2
        largest = np.maximum(largest, square)
        mean_hat, square_hat = mean / (1 - BETAS[0] ** step), (largest if amsgrad else square) / (1 - BETAS[1] ** step)
        theta = theta - eta(step - 1) * (lr * mean_hat / (np.sqrt(square_hat) + EPS) + wd * theta)
    return theta


def lion(theta, lr, wd, eta):
    """Chen et al. 2023, Algorithm 2, decay times the learning rate."""
    mean = np.zeros_like(theta)
    for step in range(STEPS):
        grad = grads_of(step, START.shape[1:], 3).astype(np.float64)
        theta = theta - eta(step) * lr * (np.sign(0.9 * mean + 0.1 * grad) + wd * theta)
        mean = 0.99 * mean + 0.01 * grad
    return theta


@pytest.mark.parametrize(
    ("variant", "changed", "algorithm"),
    [
        ("sgdw", {}, lambda *given: algorithm_1(*given, lr_inside=False)),
        ("sgdw", {"paper_momentum": True}, lambda *given: algorithm_1(*given, lr_inside=True)),
        ("adamw", {}, lambda *given: algorithm_2(*given, amsgrad=False)),
        ("amsgradw", {}, lambda *given: algorithm_2(*given, amsgrad=True)),
        ("lion", {}, lion),
    ],
    ids=["sgdw", "sgdw to the letter", "adamw", "amsgradw", "lion"],
)
def test_agrees_with_the_published_algorithm_in_float64(variant, changed, algorithm):
    column = np.array(LR)[:, None, None], np.array(WD)[:, None, None]
    exact = algorithm(START.astype(np.float64), *column, cosine)
    np.testing.assert_allclose(train(variant, LR, WD, cosine, START, **changed), exact, rtol=2e-5, atol=2e-6)


def test_the_two_forms_of_momentum_differ_only_under_a_schedule():
    forms = {
        eta: [train("sgdw", LR, WD, eta, START, paper_momentum=flag) for flag in (False, True)]
        for eta in (constant, cosine)
    }
    np.testing.assert_allclose(*forms[constant], rtol=1e-4, atol=1e-5)
    assert np.abs(forms[cosine][0] - forms[cosine][1]).max() > 1e-3


# --- properties -----------------------------------------------------------------------------------------------------

BY_OPTIMIZER = {
    optimizer: [name for name, variant in VARIANTS.items() if variant.optimizer == optimizer]
    for optimizer in OPTIMIZERS
}


def test_every_optimizer_has_variants_and_settings():
    assert set(OPTIMIZERS) == set(OPTIMIZER_SETTINGS)
    assert all(BY_OPTIMIZER.values())


@pytest.mark.parametrize("optimizer", BY_OPTIMIZER)
def test_without_decay_every_convention_is_the_same_to_the_bit(optimizer):
    first, *others = (train(name, LR, [0.0] * 3, cosine, START) for name in BY_OPTIMIZER[optimizer])
    assert all(np.array_equal(first, other) for other in others)


@given(lr=st.floats(1e-3, 0.5), wd=st.floats(1e-4, 0.2), family=st.sampled_from(["sgdw", "adamw"]))
@settings(max_examples=20, deadline=None)
def test_the_papers_decay_at_lambda_equals_torchs_at_lambda_over_lr(lr, wd, family):
    paper = train(family, [lr], [wd], cosine, START[:1], steps=50)
    torch_form = train(f"{family}-torch", [lr], [wd / lr], cosine, START[:1], steps=50)
    np.testing.assert_allclose(paper, torch_form, rtol=1e-4, atol=1e-5)


@given(wd=st.floats(1e-3, 0.5), period=st.integers(1, 5000), family=st.sampled_from(["sgdw", "adamw"]))
@settings(max_examples=20, deadline=None)
def test_normalised_decay_is_the_papers_over_the_root_of_the_period(wd, period, family):
    normalised = train(f"{family}-normalised", [0.01], [wd], cosine, START[:1], steps=30, period=period)
    paper = train(family, [0.01], [wd / period**0.5], cosine, START[:1], steps=30)
    np.testing.assert_allclose(normalised, paper, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", [name for name, variant in VARIANTS.items() if variant.decay is not Decay.L2])
def test_without_gradients_only_pure_decay_is_left(variant):
    shrink = {Decay.PAPER: 0.05, Decay.TORCH: 0.02 * 0.05, Decay.NORMALISED: 0.05 / 100**0.5}[VARIANTS[variant].decay]
    zero = train(
        variant, [0.02], [0.05], constant, START[:1], steps=30, period=100,
        grad=lambda *_: np.zeros((1, 4, 5), np.float32),
    )  # fmt: skip
    np.testing.assert_allclose(zero, START[:1] * (1 - shrink) ** 30, rtol=1e-5)


def test_parameters_not_decayed_move_as_if_wd_were_zero():
    own = {name: np.array([value]) for name, value in OPTIMIZER_SETTINGS["sgd"].items()}
    (at,) = step_numbers(VARIANTS["sgdw"], own, np.array([0.1]), np.array([0.5]), np.ones(1))
    decayed, spared, zeros = torch.ones(1, 2), torch.ones(1, 2), torch.zeros(1, 2)
    moments = [[torch.zeros(1, 2)], [torch.zeros(1, 2)]]
    apply_step(OPTIMIZERS["sgd"].direction, [decayed, spared], [zeros, zeros], moments, [True, False], at)
    assert decayed.tolist() == [[0.5, 0.5]]
    assert spared.tolist() == [[1.0, 1.0]]


def test_an_average_agrees_with_torchs_swa_utils():
    model = torch.nn.Linear(3, 2)
    theirs = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    theirs.update_parameters(model)  # its first update copies
    ours = [parameter.detach().clone() for parameter in model.parameters()]
    for _ in range(5):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        apply_average(ours, [parameter.detach() for parameter in model.parameters()], 0.9)
        theirs.update_parameters(model)
    for one, other in zip(ours, theirs.module.parameters(), strict=True):
        torch.testing.assert_close(one, other.detach())
