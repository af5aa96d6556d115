"""The update rules against torch.optim and against a float64 transcription of the paper's algorithms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hpscan.optimizers import OPTIMIZERS, StepNumbers, apply_step
from hpscan.variants import VARIANTS, decay_coefficients

STEPS = 200
BETAS, EPS, MOMENTUM = (0.9, 0.999), 1e-8, 0.9


def grads_of(step, shape, runs, dtype=np.float32):
    """Gradients that wander, with the scale of real ones."""
    rng = np.random.default_rng(step)
    return (rng.normal(size=(runs, *shape)) * 0.1 + 0.05).astype(dtype)


def train(variant, lr, wd, eta, start, steps=STEPS, grad=grads_of):
    """Run a variant on stacked parameters; lr and wd are per run, eta is a function of the step."""
    chosen = VARIANTS[variant]
    optimizer = OPTIMIZERS[chosen.optimizer]
    theta = torch.tensor(start)
    moments = [torch.zeros_like(theta) for _ in range(optimizer.n_moments)]
    beta1, beta2 = (MOMENTUM, 0.0) if chosen.optimizer == "sgd" else BETAS
    lr, wd = np.array(lr), np.array(wd)
    runs = len(lr)
    for step in range(steps):
        l2, shrink = decay_coefficients(chosen.decay, lr, wd, eta(step))
        corrections = (1 - beta1 ** (step + 1), 1 - beta2 ** (step + 1))
        columns = (eta(step) * lr, l2, shrink, beta1, beta2, 1 - beta1, 1 - beta2, *corrections, EPS)
        at = StepNumbers(*(torch.tensor(np.broadcast_to(column, runs).astype(np.float32)) for column in columns))
        apply_step(
            optimizer.direction, [theta], [torch.tensor(grad(step, start.shape[1:], runs))], [moments], [True], at
        )
    return theta.numpy()


def cosine(step):
    return 0.5 * (1 + np.cos(np.pi * step / STEPS))


START = np.random.default_rng(1).normal(size=(3, 4, 5)).astype(np.float32)
LR, WD = [0.1, 0.01, 0.003], [0.0, 0.01, 0.3]


@pytest.mark.parametrize("eta", [lambda _: 1.0, cosine], ids=["constant", "cosine"])
@pytest.mark.parametrize(
    ("variant", "make"),
    [
        ("sgd", lambda p, lr, wd: torch.optim.SGD(p, lr=lr, weight_decay=wd, momentum=MOMENTUM)),
        ("adam", lambda p, lr, wd: torch.optim.Adam(p, lr=lr, weight_decay=wd, betas=BETAS, eps=EPS)),
        ("adamw-torch", lambda p, lr, wd: torch.optim.AdamW(p, lr=lr, weight_decay=wd, betas=BETAS, eps=EPS)),
    ],
    ids=["sgd", "adam", "adamw-torch"],
)
def test_agrees_with_torch_over_200_steps(variant, make, eta):
    stacked = train(variant, LR, WD, eta, START)
    for run, (lr, wd) in enumerate(zip(LR, WD, strict=True)):
        theta = torch.nn.Parameter(torch.tensor(START[run]))
        optimizer = make([theta], lr, wd)
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = lr * eta(step)
            theta.grad = torch.tensor(grads_of(step, START.shape[1:], 3)[run])
            optimizer.step()
        np.testing.assert_allclose(stacked[run], theta.detach().numpy(), rtol=2e-5, atol=2e-6)


def paper_algorithm_1(theta, lr, wd, eta):
    """SGDW in float64 with the learning rate outside the momentum buffer, as in the authors' code."""
    momentum = np.zeros_like(theta)
    for step in range(STEPS):
        momentum = MOMENTUM * momentum + grads_of(step, START.shape[1:], 3).astype(np.float64)
        theta = theta - eta(step) * (lr * momentum + wd * theta)
    return theta


def paper_algorithm_2(theta, lr, wd, eta):
    """AdamW in float64, Loshchilov & Hutter 2019, Algorithm 2."""
    mean, square = np.zeros_like(theta), np.zeros_like(theta)
    for step in range(1, STEPS + 1):
        grad = grads_of(step - 1, START.shape[1:], 3).astype(np.float64)
        mean = BETAS[0] * mean + (1 - BETAS[0]) * grad
        square = BETAS[1] * square + (1 - BETAS[1]) * grad**2
        mean_hat, square_hat = mean / (1 - BETAS[0] ** step), square / (1 - BETAS[1] ** step)
        theta = theta - eta(step - 1) * (lr * mean_hat / (np.sqrt(square_hat) + EPS) + wd * theta)
    return theta


@pytest.mark.parametrize(("variant", "algorithm"), [("sgdw", paper_algorithm_1), ("adamw", paper_algorithm_2)])
def test_agrees_with_the_papers_algorithm_in_float64(variant, algorithm):
    column = np.array(LR)[:, None, None], np.array(WD)[:, None, None]
    exact = algorithm(START.astype(np.float64), *column, cosine)
    np.testing.assert_allclose(train(variant, LR, WD, cosine, START), exact, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("family", [("sgd", "sgdw"), ("adam", "adamw", "adamw-torch")], ids=["sgd", "adam"])
def test_without_decay_every_convention_is_the_same_to_the_bit(family):
    first, *others = (train(variant, LR, [0.0] * 3, cosine, START) for variant in family)
    assert all(np.array_equal(first, other) for other in others)


@given(lr=st.floats(1e-3, 0.5), wd=st.floats(1e-4, 0.2))
@settings(max_examples=20, deadline=None)
def test_adamw_at_lambda_equals_adamw_torch_at_lambda_over_lr(lr, wd):
    paper = train("adamw", [lr], [wd], cosine, START[:1], steps=50)
    torch_form = train("adamw-torch", [lr], [wd / lr], cosine, START[:1], steps=50)
    np.testing.assert_allclose(paper, torch_form, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("variant", "shrink"), [("sgdw", 0.05), ("adamw", 0.05), ("adamw-torch", 0.02 * 0.05)])
def test_without_gradients_only_pure_decay_is_left(variant, shrink):
    zero = train(
        variant, [0.02], [0.05], lambda _: 1.0, START[:1], steps=30, grad=lambda *_: np.zeros((1, 4, 5), np.float32)
    )
    np.testing.assert_allclose(zero, START[:1] * (1 - shrink) ** 30, rtol=1e-5)


def test_parameters_not_decayed_move_as_if_wd_were_zero():
    at = StepNumbers(*(torch.tensor([value]) for value in (0.1, 0.0, 0.5, 0.9, 0.0, 0.1, 1.0, 1.0, 1.0, EPS)))
    decayed, spared = torch.ones(1, 2), torch.ones(1, 2)
    zeros = torch.zeros(1, 2)
    moments = [[torch.zeros(1, 2)], [torch.zeros(1, 2)]]
    apply_step(OPTIMIZERS["sgd"].direction, [decayed, spared], [zeros, zeros], moments, [True, False], at)
    assert decayed.tolist() == [[0.5, 0.5]]
    assert spared.tolist() == [[1.0, 1.0]]
