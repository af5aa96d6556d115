"""Fused and loop give the same training, for every kind of layer and every option."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hpscan import models
from hpscan.engine import train_pack
from hpscan.grid import Pack, runs
from hpscan.hardware import prepare_worker
from hpscan.program import Program
from hpscan.randomness import RandomLayer, batches, initial_model
from hpscan.session import Session
from hpscan.spec import Spec
from hpscan.strategies import Fused, Loop
from hpscan.tasks import Task, classification
from hpscan.workloads import Data, Split
from tests.conftest import TINY

prepare_worker()


def images(n=96, shape=(3, 8, 8)):
    rng = np.random.default_rng(0)
    return Split(rng.normal(size=(n, *shape)).astype(np.float32), rng.integers(0, 4, n))


def tokens(n=96, length=6):
    rng = np.random.default_rng(0)
    return Split(rng.integers(0, 11, (n, length)), rng.integers(0, 4, n))


class Attention(nn.Module):
    """Embedding, LayerNorm, torch's own attention, a mean, a linear head."""

    def __init__(self):
        super().__init__()
        self.embedding, self.norm = nn.Embedding(11, 8), nn.LayerNorm(8)
        self.attention, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 4)

    def forward(self, x):
        h = self.norm(self.embedding(x))
        return self.head((h + self.attention(h, h, h, need_weights=False)[0]).mean(1))


class _TwiceDropped(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear, self.dropout = nn.Linear(n_in, n_out), nn.Dropout(0.4)

    def forward(self, x):
        return self.dropout(self.linear(self.dropout(x)))


class Recurrent(nn.Module):
    """What vmap can do with gradients and cannot without."""

    def __init__(self, kind):
        super().__init__()
        self.recurrent, self.head = kind(8, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, x):
        return self.head(self.recurrent(x.flatten(1).unflatten(1, (24, 8)))[0][:, -1])


MODELS = {
    "batchnorm": (lambda: models.NormalisedMLP((192, 8, 4)), images),
    "plain": (lambda: models.PlainMLP((192, 8, 4)), images),
    "cnn": (lambda: models.CNN((3, 8, 8), (4, 6), 4), images),
    "resnet": (lambda: models.ResNet(3, 8, 4, 4), images),
    "densenet": (lambda: models.DenseNet(3, 10, 4, 4), images),
    "shake_shake": (lambda: models.ShakeShake(3, 8, 4, 4), images),
    "groupnorm": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)),
        images,
    ),
    "dropout": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 4)),
        images,
    ),
    "a dropout called twice": (
        lambda: nn.Sequential(nn.Flatten(), _TwiceDropped(192, 16), nn.ReLU(), nn.Linear(16, 4)),
        images,
    ),
    "channel dropout": (
        lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Dropout2d(0.4), nn.Flatten(), nn.Linear(216, 4)),
        images,
    ),
    "attention": (Attention, tokens),
    "lstm": (lambda: Recurrent(nn.LSTM), images),
    "gru": (lambda: Recurrent(nn.GRU), images),
    "gpt": (
        lambda: nn.Sequential(
            models.GPT(11, 6, layers=1, width=8, heads=2, dropout=0.2), nn.Flatten(), nn.Linear(66, 4)
        ),
        tokens,
    ),
}


def training_of(kind, model, make_split, *, compiled=False, seeds=(0, 1, 2), variant="adamw", task=None, **options):
    spec = Spec.validated(
        {
            **TINY,
            "variants": [variant],
            "seeds": list(seeds),
            "grid": {"lr": [0.003], "wd": [0.01]},
            "training": options,
        }
    )
    members = tuple(runs(spec))
    split = make_split()
    task = task or classification(model)
    program = Program(task, spec.training, torch.device("cpu"), compiled)
    return Session.start(kind, program, members, Data(split, split, split), len(members))


def losses_and_outputs(training, split, steps=8):
    losses = torch.cat([training.advance(range(steps // 2)), training.advance(range(steps // 2, steps))])
    return losses, training.outputs(torch.from_numpy(split.inputs))


def compare(name, steps=8, rtol=2e-4, **options):
    model, make_split = MODELS[name]
    split = make_split()
    fused, loop = (
        losses_and_outputs(training_of(kind, model, lambda: split, **options), split, steps) for kind in (Fused, Loop)
    )
    for one, other in zip(fused, loop, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol)
    return fused


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", MODELS)
def test_fused_and_loop_agree(name):
    losses, _ = compare(name)
    assert torch.isfinite(losses).all()
    assert not torch.equal(losses[:, 0], losses[:, 1])  # seeds differ


@pytest.mark.parametrize("name", ["plain", "cnn", "groupnorm", "gpt"])
def test_fused_and_loop_agree_on_the_sharpness(name):
    model, make_split = MODELS[name]
    split = make_split()
    batch = torch.from_numpy(split.inputs), torch.from_numpy(split.targets)
    fused, loop = (training_of(kind, model, lambda: split, sharpness=True).sharpness(*batch) for kind in (Fused, Loop))
    assert fused == pytest.approx(loop, rel=1e-2)


@pytest.mark.parametrize("name", ["dropout", "a dropout called twice", "shake_shake", "gpt"])
def test_random_layers_draw_the_same_in_any_pack(name):
    model, make_split = MODELS[name]
    split = make_split()
    together, _ = losses_and_outputs(training_of(Fused, model, lambda: split, seeds=[0, 1, 2, 3]), split)
    alone, _ = losses_and_outputs(training_of(Fused, model, lambda: split, seeds=[3]), split)
    torch.testing.assert_close(together[:, 3:], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [Fused, Loop])
def test_every_call_of_a_dropout_and_every_part_of_a_batch_has_a_mask_of_its_own(kind):
    class Masks(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.dropout = nn.Parameter(torch.zeros(())), nn.Dropout(0.5)

        def forward(self, x):
            ones = torch.ones_like(x.flatten(1)[:, :64])
            return self.dropout(ones) * self.dropout(ones) + 0 * self.weight

    task = Task(Masks, lambda outputs, targets: outputs.mean())
    training = training_of(kind, Masks, images, seeds=range(8), task=task, accumulate=4)
    losses = training.advance(range(8))
    assert losses.mean().item() == pytest.approx(1.0, abs=0.03)  # a mask times itself has a mean of 2
    in_a_part = 4 * 64 / 4  # elements, and what one that is kept is worth
    assert not (losses * in_a_part % 1 == 0).all()  # as where all parts have the mean of the first


def test_a_model_that_draws_from_torchs_generator_draws_by_seed_and_step_in_a_loop():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(192, 4)

        def forward(self, x):
            return self.linear(F.dropout(x.flatten(1), 0.5, self.training))

    split = images()
    before = torch.random.get_rng_state()
    together, _ = losses_and_outputs(training_of(Loop, Noisy, lambda: split, seeds=[0, 1, 2]), split)
    alone, _ = losses_and_outputs(training_of(Loop, Noisy, lambda: split, seeds=[2]), split)
    assert torch.equal(together[:, 2:], alone)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "options",
    [
        {"clip_norm": 0.1}, {"label_smoothing": 0.2}, {"ema": 0.9}, {"accumulate": 4},
        {"clip_norm": 0.5, "ema": 0.5, "accumulate": 2, "label_smoothing": 0.1},
    ],
    ids=str,
)  # fmt: skip
def test_fused_and_loop_agree_under_every_option(options):
    with_option = compare("batchnorm", **options)
    without = compare("batchnorm")
    assert not all(torch.equal(one, other) for one, other in zip(with_option, without, strict=True))


def test_options_agree_with_plain_torch():
    """Clipping, smoothing, accumulation and the average together, against a loop as anybody would write it."""
    split = images()
    options = {"clip_norm": 0.3, "label_smoothing": 0.1, "accumulate": 2, "ema": 0.8}
    training = training_of(Fused, MODELS["plain"][0], lambda: split, seeds=[4], variant="sgd", **options)
    losses, outputs = losses_and_outputs(training, split)
    run = training.results[0].run
    model = initial_model(MODELS["plain"][0], 4)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.8))
    average.update_parameters(model)
    groups = [[p for p in model.parameters() if (p.dim() >= 2) == decayed] for decayed in (True, False)]
    optimizer = torch.optim.SGD(
        [{"params": groups[0], "weight_decay": 0.01}, {"params": groups[1]}], lr=run.cell.lr, momentum=0.9
    )
    order = batches(4, 96, 16)
    for step in range(8):
        optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = (
            run.cell.lr * run.recipe.schedule.multiplier(step, run.recipe.steps)
        )
        index = next(order)
        optimizer.zero_grad()
        halves = [torch.from_numpy(half) for half in np.split(index, 2)]
        parts = [
            F.cross_entropy(
                model(torch.from_numpy(split.inputs)[half]), torch.from_numpy(split.targets)[half], label_smoothing=0.1
            )
            for half in halves
        ]
        (sum(parts) / 2).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        optimizer.step()
        average.update_parameters(model)
        assert losses[step, 0].item() == pytest.approx(sum(parts).item() / 2, rel=1e-4)
    torch.testing.assert_close(outputs[0], average(torch.from_numpy(split.inputs)).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [Fused, Loop])
def test_bf16_is_near_float32_and_not_it(kind):
    split = images()
    full, half = (
        losses_and_outputs(training_of(kind, MODELS["plain"][0], lambda: split, precision=precision), split)[0]
        for precision in ("float32", "bf16")
    )
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    torch.testing.assert_close(full, half, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", ["dropout", "batchnorm", "gpt"])
def test_compiled_and_eager_agree(name):
    model, make_split = MODELS[name]
    split = make_split()
    eager, compiled = (
        losses_and_outputs(
            training_of(Fused, model, lambda: split, compiled=flag, seeds=range(8), clip_norm=1.0), split
        )
        for flag in (False, True)
    )
    for one, other in zip(eager, compiled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_shake_shake_mixes_by_its_own_numbers_forward_and_backward_and_evenly_at_test():
    block = models.convolutional._ShakeBlock(4, 4, 1)
    block.stream.fill_(77)
    x = torch.randn(5, 4, 6, 6)
    alpha, beta = block.uniform(5, 1, 1, 1), block.uniform(5, 1, 1, 1)
    block.stream.fill_(77)
    for branch in block.branches:
        branch.eval()  # fixed statistics, so that the branches can be called on their own
    one, two = (branch(x) for branch in block.branches)
    torch.testing.assert_close(block(x), x + alpha * one + (1 - alpha) * two)
    weights = [branch[-1].bias for branch in block.branches]
    block.stream.fill_(77)
    gradient = torch.autograd.grad(block(x).sum(), weights)
    torch.testing.assert_close(gradient[0], (beta.sum() * 36).expand(4), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gradient[1], ((1 - beta).sum() * 36).expand(4), rtol=1e-4, atol=1e-4)
    block.eval()
    torch.testing.assert_close(block(x), x + 0.5 * (one + two))


def test_a_custom_random_layer_is_keyed_too():
    class Jitter(RandomLayer):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(192, 4)

        def forward(self, x):
            x = x.flatten(1)
            return self.linear(x + self.uniform(*x.shape) if self.training else x)

    split = images()
    fused, loop = (losses_and_outputs(training_of(kind, Jitter, lambda: split), split)[0] for kind in (Fused, Loop))
    torch.testing.assert_close(fused, loop, rtol=1e-4, atol=1e-4)


class Untraceable(nn.Module):
    """Decides by a number in the data, which vmap refuses."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = x.flatten(1)
        return self.linear(x) if float(x.detach().sum()) > 0 else -self.linear(x)


def test_a_model_that_vmap_refuses_is_trained_in_a_loop_with_a_note(monkeypatch, make_spec):
    spec = make_spec(variants=["sgd"], seeds=[0])
    monkeypatch.setattr(type(spec.workload), "task", lambda self: classification(Untraceable, prepare=lambda x: x / 16))
    spec = make_spec(
        variants=["sgd"], seeds=[0], workload={**TINY["workload"], "data_seed": 17}
    )  # a program of its own
    chosen = []
    pack = Pack(tuple(runs(spec)), 12)
    results = train_pack(pack, spec.workload.load(), compile=False, steps_to_come=1e9, on_choice=chosen.append)
    assert chosen[0].strategy == "loop"
    assert "no fused gradients" in chosen[0].reason
    assert {result.state for result in results} == {"completed"}


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}], ids=str)
@pytest.mark.parametrize("kind", [Fused, Loop])
def test_frozen_parameters_stay_as_they_are(kind, options):
    def model():
        net = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 4))
        net[1].weight.requires_grad_(False)
        return net

    split = images()
    training = training_of(kind, model, lambda: split, seeds=[0, 1], **options)
    losses = training.advance(range(8))
    assert torch.isfinite(training.outputs(torch.from_numpy(split.inputs))).all()
    frozen = [initial_model(model, seed)[1].weight for seed in (0, 1)]
    strategy = training.strategy
    kept = strategy.buffers["1.weight"] if kind is Fused else [one.model[1].weight for one in strategy.singles]
    assert all(torch.equal(one, other) for one, other in zip(frozen, kept, strict=True))
    assert not torch.equal(losses[0], losses[-1])


class _Halved(nn.Module):
    """Writes into what it is given, as a first layer with ``inplace=True`` does."""

    def __init__(self, *, in_place):
        super().__init__()
        self.linear, self.in_place = nn.Linear(192, 4), in_place

    def forward(self, x):
        return self.linear((x.mul_(0.5) if self.in_place else x * 0.5).flatten(1))


@pytest.mark.parametrize("kind", [Fused, Loop])
def test_a_model_that_writes_into_its_inputs_leaves_the_data_as_they_are(kind):
    found, split = [], images()
    inputs, targets = (torch.from_numpy(part.copy()) for part in (split.inputs, split.targets))
    for in_place in (True, False):
        training = training_of(kind, lambda in_place=in_place: _Halved(in_place=in_place), lambda: split)
        training.advance(range(4))
        found += [training.judge(inputs, targets), training.sharpness(inputs, targets)]
    assert found[:2] == found[2:]
    np.testing.assert_array_equal(inputs, split.inputs)


class _Spectral(nn.Module):
    """Complex weights and outputs, as of a Fourier layer."""

    def __init__(self):
        super().__init__()
        self.linear, self.weight = nn.Linear(192, 8), nn.Parameter(torch.randn(8, 4, dtype=torch.cfloat))

    def forward(self, x):
        return self.linear(x.flatten(1)).to(torch.cfloat) @ self.weight


@pytest.mark.parametrize("kind", [Fused, Loop])
def test_complex_weights_and_outputs_are_trained_as_torch_does(kind):
    def loss(outputs, targets):
        return ((outputs - targets[:, None]).abs() ** 2).mean()

    split = images()
    training = training_of(kind, _Spectral, lambda: split, variant="adam", seeds=(0,), task=Task(_Spectral, loss))
    found = training.advance(range(8), measured=True)[:, 0]
    run = training.results[0].run
    model, order = initial_model(_Spectral, 0), batches(0, len(split.targets), 16)
    weights = [{"params": [model.linear.weight, model.weight], "weight_decay": run.cell.wd}]
    optimizer = torch.optim.Adam([*weights, {"params": [model.linear.bias]}], lr=run.cell.lr)
    for step in range(8):
        for group in optimizer.param_groups:
            group["lr"] = run.cell.lr * run.recipe.schedule.multiplier(step, run.recipe.steps)
        index = next(order)
        optimizer.zero_grad()
        expected = loss(model(torch.from_numpy(split.inputs[index])), torch.from_numpy(split.targets[index]))
        expected.backward()
        optimizer.step()
        torch.testing.assert_close(found[step], expected.detach(), rtol=1e-4, atol=1e-5)
