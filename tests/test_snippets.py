"""What is pasted trains as the run did: the same learning rates, the same weights, the stored metrics."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

from hpscan.engine import train_pack
from hpscan.feed import Feed
from hpscan.grid import Cell, Pack, Run, panels, runs
from hpscan.hardware import prepare_worker
from hpscan.optimizers import OPTIMIZERS, apply_step
from hpscan.randomness import initial_model
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
from hpscan.session import numbers_of
from hpscan.snippets import torch_optimizer, torch_snippet
from hpscan.variants import VARIANTS
from tests.test_optimizers import START, STEPS, cosine, grads_of, train

prepare_worker()

LR, WD = 2**-6, 2**-7
BUDGET = 16
SCHEDULES = [
    Constant(), Cosine(), Linear(), Linear(final=0.25), Cyclic(cycle=7.5), WarmupStableDecay(), Step(),
    Step(at=(0.3, 0.31, 0.9), factor=0.5), CosineRestarts(first=3), CosineRestarts(first=5, mult=1),
    CosineRestarts(first=3.5), CosineRestarts(first=4, mult=1.5), CosineRestarts(first=0.2),
]  # fmt: skip
SCHEDULES += [
    type(schedule).model_validate({**schedule.model_dump(), "warmup": warmup})
    for schedule in SCHEDULES[:6] + SCHEDULES[7:9]
    for warmup in ((4, 2.5) if schedule.name == "cyclic" else (4,))
]
SCHEDULES += [InverseSqrt(warmup=warmup) for warmup in (0.3, 4, 5.5)] + [Cosine(warmup=30)]
NOT_IN_TORCH = {"lion", "lion-l2"}
IN_TORCH = [name for name in VARIANTS if name not in NOT_IN_TORCH]
TRAININGS = [
    {}, {"clip_norm": 0.5}, {"accumulate": 4}, {"label_smoothing": 0.1}, {"ema": 0.9}, {"precision": "tf32"},
    {"ema": 0.9, "accumulate": 2, "clip_norm": 0.1, "label_smoothing": 0.2},
]  # fmt: skip


@pytest.fixture(autouse=True)
def matmul_mode():
    """What a snippet for TF32 sets is set back."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def panel_of(spec, **changed):
    """The only panel of a spec, some of its recipe replaced."""
    (panel,) = panels(spec)
    return replace(panel, recipe=replace(panel.recipe, **changed))


def trainer(code):
    """The function that a snippet defines; with all that it needs to define it."""
    namespace = {}
    exec(compile(code, "<snippet>", "exec"), namespace)
    return namespace["train"]


def rates_of(*args):
    """What was trained, and the learning rate of each of its steps."""
    rates = []
    hook = register_optimizer_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    try:
        return trainer(args[0])(*args[1:]), rates
    finally:
        hook.remove()


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))


def examples():
    generator = torch.Generator().manual_seed(1)
    while True:
        yield torch.randn(8, 6, generator=generator), torch.randint(3, (8,), generator=generator)


def engines_own(run):
    """The network trained on the examples by the engine's own update."""
    model, optimizer = network(), OPTIMIZERS[run.variant.optimizer]
    parameters = list(model.parameters())
    thetas = [parameter.detach().unsqueeze(0) for parameter in parameters]
    moments = [[torch.zeros_like(theta) for _ in range(optimizer.n_moments)] for theta in thetas]
    decays = [run.recipe.decay_on == "all" or parameter.dim() >= 2 for parameter in parameters]
    numbers = numbers_of([run], range(run.recipe.steps), torch.device("cpu"))
    for at, (inputs, targets) in zip(numbers, examples(), strict=False):
        grads = torch.autograd.grad(F.cross_entropy(model(inputs), targets), parameters)
        apply_step(optimizer.direction, thetas, [grad.unsqueeze(0) for grad in grads], moments, decays, at)
    return parameters


def assert_steps_are_the_engines(spec, panel):
    trained, rates = rates_of(torch_snippet(spec, panel, LR, WD), network(), examples(), F.cross_entropy)
    recipe = panel.recipe
    etas = [recipe.schedule.multiplier(step, recipe.steps) for step in range(recipe.steps)]
    assert rates == pytest.approx([LR * eta for eta in etas], abs=1e-12)
    expected = engines_own(Run(Cell(panel.variant, LR, WD, panel.settings), 0, recipe))
    for one, other in zip(trained.parameters(), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: f"{schedule.name}-{schedule.warmup:g}")
def test_every_variant_takes_the_steps_of_a_run(make_spec, schedule):
    for variant, decay_on in zip(IN_TORCH, cycle(["weights", "all"])):
        spec = make_spec(variants=[variant])
        assert_steps_are_the_engines(spec, panel_of(spec, steps=BUDGET, schedule=schedule, decay_on=decay_on))


@pytest.mark.parametrize(
    ("variant", "given"),
    [
        ("sgd", {"momentum": 0.8, "nesterov": True}),
        ("sgdw", {"momentum": 0.0, "nesterov": True}),
        ("adamw", {"betas": [0.5, 0.9], "eps": 1e-3}),
    ],
    ids=["nesterov", "nesterov-without-momentum", "betas"],
)
def test_settings_are_the_runs(make_spec, variant, given):
    spec = make_spec(variants=[variant], optimizer=given)
    assert_steps_are_the_engines(spec, panel_of(spec))


def test_where_nothing_decays_all_conventions_are_one(make_spec):
    codes = [
        torch_snippet(spec, panel_of(spec), LR, 0.0).partition('    """\n    optimizer')[2]
        for spec in (make_spec(variants=[variant]) for variant in ("sgd", "sgdw", "sgdw-normalised"))
    ]
    assert codes[0]
    assert len(set(codes)) == 1


def pasted(spec, panel, result, data):
    """Validation metrics of what the snippet trains from the run's initial model on the run's batches."""
    run, task = result.run, panel.recipe.workload.task()
    feed = Feed(data, task, panel.recipe.batch_size, [run.seed], torch.device("cpu"))
    rows = (batch.row(0) for batch in feed.take([run.seed], range(panel.recipe.steps)))
    batches = ((task.prepare(inputs), targets) for inputs, targets in rows)
    code = torch_snippet(spec, panel, run.cell.lr, run.cell.wd)
    model = trainer(code)(initial_model(task.model, run.seed), batches, F.cross_entropy).eval()
    in_half = panel.recipe.training.precision == "bf16"
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=in_half):
        outputs = model(task.prepare(torch.tensor(data.validation.inputs))).float()
    targets = torch.tensor(data.validation.targets)
    return {"val_loss": task.loss(outputs, targets).item(), "val_error": task.error(outputs, targets).item()}


def assert_reached(spec, rel=1e-3):
    (panel,), data = panels(spec), spec.workload.load()
    members = tuple(runs(spec))
    for result in train_pack(Pack(members, len(members)), data, strategy="loop", compile=False):
        stored = {name: result.metrics[name] for name in ("val_loss", "val_error")}
        assert pasted(spec, panel, result, data) == pytest.approx(stored, rel=rel)


DIGITS = {
    "workload": {"name": "digits", "model": {"name": "normalised_mlp", "hidden": [16]}, "train": 400},
    "grid": {"lr": [2**-8, 2**-6], "wd": [0, 2**-8, 2**-6]}, "seeds": [0], "budget": {"steps": 60}, "batch_size": 32,
}  # fmt: skip


@pytest.mark.parametrize("variant", ["sgd", "sgdw", "sgdw-torch", "adam", "adamw", "adamw-torch"])
def test_what_is_pasted_reaches_the_stored_metrics(make_spec, variant):
    assert_reached(make_spec(**DIGITS, variants=[variant]))


@pytest.mark.parametrize("training", TRAININGS[1:], ids="-".join)
def test_what_else_is_done_in_training_is_done(make_spec, training):
    narrow = {**DIGITS, "grid": {"lr": [2**-6], "wd": [2**-8]}}
    assert_reached(make_spec(**narrow, variants=["sgdw"], training=training))


def test_bfloat16_is_where_the_run_had_it(make_spec):
    """After few steps: bfloat16 makes much of other rounding, and float32 alone would differ in the fourth digit."""
    few = {**DIGITS, "grid": {"lr": [2**-6], "wd": [2**-8]}, "budget": {"steps": 3}}
    assert_reached(make_spec(**few, variants=["adamw"], training={"precision": "bf16"}), rel=1e-5)


def test_parameters_of_one_axis_are_not_decayed(make_spec):
    spec = make_spec(variants=["adamw"])
    for decay_on, shrunk in (("weights", False), ("all", True)):
        model = torch.nn.LayerNorm(3)
        code = torch_snippet(spec, panel_of(spec, decay_on=decay_on), LR, WD)
        nothing = ((torch.zeros(1, 3), None) for _ in iter(int, 1))
        trained = trainer(code)(model, nothing, lambda outputs, _: 0.0 * outputs.sum())
        assert bool((trained.weight < 1).all()) == shrunk


def test_what_is_not_in_torch_has_no_snippet(make_spec):
    for variant in NOT_IN_TORCH:
        spec = make_spec(variants=[variant])
        assert torch_snippet(spec, panel_of(spec), LR, WD) is None
    for variant, expected in (("sgdw", False), ("adamw", True)):  # only SGD has a learning rate inside its buffer
        spec = make_spec(variants=[variant], optimizer={"momentum_form": "paper"})
        assert bool(torch_snippet(spec, panel_of(spec), LR, WD)) == expected


@pytest.mark.parametrize("field", ["budget", "batch_size", "schedule", "decay_on", "optimizer", "training"])
def test_an_import_that_does_not_say_what_is_needed_has_no_snippet(make_spec, field):
    source = {"name": "imported", "kind": "csv", "source": "x.csv"}
    known, blank = (make_spec(variants=["adamw"], workload={**source, "unknown": unknown}) for unknown in ([], [field]))
    assert torch_snippet(known, panel_of(known), LR, WD)
    assert torch_snippet(blank, panel_of(blank), LR, WD) is None


def test_none_of_the_specs_text_gets_into_the_code(make_spec):
    words = 'x"""\nimport os  # '
    source = {"name": "imported", "kind": "csv", "source": words}
    spec = make_spec(name="tiny-unheard-of", notes=words, variants=["sgdw"], workload=source)
    plain = make_spec(variants=["sgdw"], workload={**source, "source": "x.csv"})
    numbers = np.float64(LR), np.float64(WD)
    assert torch_snippet(spec, panel_of(spec), *numbers) == torch_snippet(plain, panel_of(plain), LR, WD)


def test_what_a_snippet_leaves_out_it_says(make_spec):
    spec = make_spec(variants=["adamw"], schedule={"name": "cosine_restarts", "first": 4}, training={"snapshots": True})
    assert "Not here: the sweep also judged" in torch_snippet(spec, panel_of(spec), LR, WD)


def test_too_few_batches_are_an_error(make_spec):
    spec = make_spec(variants=["sgd"])
    train_it = trainer(torch_snippet(spec, panel_of(spec), LR, WD))
    with pytest.raises(StopIteration):
        train_it(network(), [next(examples())], F.cross_entropy)


def test_ruff_finds_nothing_in_any_snippet(make_spec, tmp_path):
    spec, written = make_spec(), Counter()
    for variant in IN_TORCH:
        base = panel_of(make_spec(variants=[variant]))
        for schedule in SCHEDULES:
            for training in TRAININGS if variant == "adamw" else TRAININGS[:1]:
                for wd in (0.0, WD):
                    options = type(base.recipe.training).model_validate(training)
                    panel = replace(base, recipe=replace(base.recipe, schedule=schedule, training=options))
                    name = tmp_path / f"{variant.replace('-', '_')}_{written[variant]}.py"
                    name.write_text(torch_snippet(spec, panel, LR, wd))
                    compile(name.read_text(), name, "exec")
                    written[variant] += 1
    ruff = pytest.importorskip("ruff")
    rules = "--select=E,F,W,B,I,N,UP,SIM,RET,RUF,ARG,D"
    subprocess.run(
        [sys.executable, "-m", ruff.__name__, "check", "--isolated", "--no-cache", "--line-length=120", rules,
         "--ignore=D100,D203,D213,D413", tmp_path],
        check=True,
    )  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_torchs_optimizer_takes_the_same_steps(make_spec, variant):
    """Under a schedule, over 200 steps; where torch has no such optimizer, none is named."""
    (panel,) = panels(make_spec(variants=[variant]))
    panel = replace(panel, recipe=replace(panel.recipe, steps=STEPS))
    lr, wd = 0.01, 0.001
    told = torch_optimizer(panel, lr, wd)
    if told is None:
        assert variant in {"sgdw", "sgdw-torch", "sgdw-normalised", "lion", "lion-l2"}
        return
    theta = torch.nn.Parameter(torch.tensor(START[0]))
    named = getattr(torch.optim, told.pop("class").removeprefix("torch.optim."))
    optimizer = named([theta], **{**told, **({"betas": tuple(told["betas"])} if "betas" in told else {})})
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = lr * cosine(step)
        theta.grad = torch.tensor(grads_of(step, START.shape[1:], len(START))[0])
        optimizer.step()
    ours = train(variant, [lr] * 3, [wd] * 3, cosine, START, period=STEPS)[0]
    np.testing.assert_allclose(ours, theta.detach().numpy(), rtol=2e-5, atol=2e-6)
