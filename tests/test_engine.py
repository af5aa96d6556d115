"""The packed engine against separate torch.optim trainings, and against itself in other packs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hpscan import choice, engine, session, strategies
from hpscan.engine import train_pack
from hpscan.grid import Pack, runs
from hpscan.hardware import prepare_worker
from hpscan.program import Program
from hpscan.randomness import batches, initial_model
from hpscan.spec import Training
from hpscan.tasks import top_error

prepare_worker()


def pack_of(spec, *, capacity=None):
    members = tuple(runs(spec))
    return Pack(members, capacity or len(members))


def metrics(results):
    return {result.run.run_id: (result.state, result.steps_done, result.metrics, result.curve) for result in results}


def train_alone(run, data, make_optimizer):
    """One run as anybody would write it: a stock module, a stock optimizer, a scheduler by hand."""
    recipe = run.recipe
    task = recipe.workload.task()
    model = initial_model(task.model, run.seed)
    decayed = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    spared = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    optimizer = make_optimizer(
        [{"params": decayed, "weight_decay": run.cell.wd}, {"params": spared, "weight_decay": 0.0}], run.cell.lr
    )
    order = batches(run.seed, len(data.train.targets), recipe.batch_size)
    inputs, targets = torch.tensor(data.train.inputs), torch.tensor(data.train.targets)
    losses = []
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = run.cell.lr * recipe.schedule.multiplier(step, recipe.steps)
        batch = torch.from_numpy(next(order))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(task.prepare(inputs[batch])), targets[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        outputs = model(task.prepare(torch.tensor(data.validation.inputs)))
        validation = F.cross_entropy(outputs, torch.tensor(data.validation.targets))
    return losses, validation.item()


@pytest.mark.parametrize("strategy", ["fused", "loop"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    ("variant", "make_optimizer"),
    [
        ("sgd", lambda groups, lr: torch.optim.SGD(groups, lr=lr, momentum=0.9)),
        ("adam", lambda groups, lr: torch.optim.Adam(groups, lr=lr)),
        ("adamw-torch", lambda groups, lr: torch.optim.AdamW(groups, lr=lr)),
    ],
    ids=["sgd", "adam", "adamw"],
)
def test_a_pack_gives_the_loss_curves_of_separate_torch_optim_trainings(
    make_spec, variant, make_optimizer, compiled, strategy
):
    # Every step is an evaluation, so the curve holds the loss of every batch. The learning rates are moderate: where
    # training is chaotic, rounding alone makes two runs part company.
    spec = make_spec(
        variants=[variant], seeds=[0, 1], budget={"steps": 100}, evaluations=100, batch_size=32,
        workload={"name": "digits", "model": {"name": "normalised_mlp", "hidden": [16]}, "train": 400, "label_noise": 0.1},
        grid={"lr": [2**-9, 2**-7], "wd": [0, 2**-6]},
    )  # fmt: skip
    data = spec.workload.load()
    pack = pack_of(spec)
    for result in train_pack(pack, data, strategy=strategy, compile=compiled):
        losses, validation = train_alone(result.run, data, make_optimizer)
        np.testing.assert_allclose([point.batch_loss for point in result.curve], losses, rtol=1e-4)
        assert result.metrics["val_loss"] == pytest.approx(validation, rel=1e-4)


def together_and_apart(spec, compiled, strategy="fused"):
    """The results of all runs in one pack, and in packs of five in another order."""
    data, members = spec.workload.load(), runs(spec)
    together = train_pack(Pack(tuple(members), len(members)), data, strategy=strategy, compile=compiled)
    shuffled = [members[index] for index in np.random.default_rng(0).permutation(len(members))]
    apart = [
        result
        for start in range(0, len(members), 5)
        for result in train_pack(Pack(tuple(shuffled[start : start + 5]), 5), data, strategy=strategy, compile=compiled)
    ]
    return metrics(together), metrics(apart)


@pytest.mark.parametrize("strategy", ["fused", "loop"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("model", ["normalised_mlp", "plain_mlp"])
@pytest.mark.parametrize("training", [{}, {"clip_norm": 0.5, "ema": 0.9}], ids=["plain", "clipped"])
def test_a_run_gives_the_same_bits_whichever_pack_it_is_in(make_spec, model, compiled, strategy, training):
    workload = {"name": "digits", "model": {"name": model, "hidden": [8]}, "train": 200}
    spec = make_spec(variants=["adamw"], seeds=range(10), workload=workload, training=training)
    together, apart = together_and_apart(spec, compiled=compiled, strategy=strategy)
    assert apart == together


def test_compiled_and_eager_agree(make_spec):
    spec = make_spec(variants=["adamw"], budget={"steps": 60}, grid={"lr": [2**-8], "wd": [0, 2**-4]})
    data = spec.workload.load()
    eager, compiled = (train_pack(pack_of(spec), data, strategy="fused", compile=flag) for flag in (False, True))
    for one, other in zip(eager, compiled, strict=True):
        assert one.metrics["val_loss"] == pytest.approx(other.metrics["val_loss"], rel=1e-4)


DIVERGING = {"lr": [0.01, 1e30], "wd": [0.0]}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_diverged_runs_are_marked_and_the_others_go_on_undisturbed(make_spec, compiled):
    plain = {"name": "digits", "model": {"name": "plain_mlp", "hidden": [8]}, "train": 200}
    spec = make_spec(variants=["sgd"], workload=plain, grid=DIVERGING, budget={"steps": 80})
    data = spec.workload.load()
    results = train_pack(pack_of(spec), data, strategy="fused", compile=compiled)
    by_lr = {lr: [result for result in results if result.run.cell.lr == lr] for lr in DIVERGING["lr"]}
    for result in by_lr[1e30]:
        assert result.state == "diverged"
        assert result.steps_done < 10
        assert result.metrics == {}
    alone = make_spec(variants=["sgd"], workload=plain, grid={"lr": [0.01], "wd": [0.0]}, budget={"steps": 80})
    undisturbed = train_pack(pack_of(alone), data, strategy="fused", compile=compiled)
    for result, twin in zip(by_lr[0.01], undisturbed, strict=True):
        assert result.metrics == twin.metrics


@pytest.mark.parametrize(("strategy", "rows"), [("fused", 8), ("loop", 6)])
def test_diverged_runs_leave_the_pack(make_spec, monkeypatch, strategy, rows):
    plain = {"name": "digits", "model": {"name": "plain_mlp", "hidden": [8]}, "train": 200}
    spec = make_spec(variants=["sgd"], workload=plain, grid=DIVERGING, budget={"steps": 80}, seeds=range(6))
    counts = []
    original = session.Session.keep
    monkeypatch.setattr(
        session.Session,
        "keep",
        lambda rows, live, capacity: counts.append((len(live), capacity)) or original(rows, live, capacity),
    )
    train_pack(pack_of(spec), spec.workload.load(), strategy=strategy, compile=False)
    assert counts == [(6, rows)]


def test_a_pack_in_which_all_runs_diverge_ends_early(make_spec):
    plain = {"name": "digits", "model": {"name": "plain_mlp", "hidden": [8]}, "train": 200}
    spec = make_spec(variants=["sgd"], workload=plain, grid={"lr": [1e30], "wd": [0.0]}, budget={"steps": 100_000})
    results = train_pack(pack_of(spec), spec.workload.load(), strategy="fused", compile=False)
    assert {result.state for result in results} == {"diverged"}


def test_shrinking_waits_until_it_pays(make_spec):
    task, cpu = make_spec().workload.task(), torch.device("cpu")
    shared = Program(task, Training(), cpu, compiled=True, rows_compiled={32})
    fused, loop = (kind(shared, "sgd", False, [0, 1], 2) for kind in (strategies.Fused, strategies.Loop))
    assert engine._capacity(3, 32, 1.0, shared, fused) == 32
    assert engine._capacity(3, 32, 100.0, shared, fused) == strategies.MIN_ROWS
    assert engine._capacity(9, 32, 100.0, shared, fused) == 16
    assert engine._capacity(9, 32, 1.0, shared, loop) == 9
    shared.rows_compiled.add(16)
    assert engine._capacity(3, 32, 1.0, shared, fused) == 16


def test_a_short_pack_moves_to_fewer_rows_once_they_are_compiled_and_keeps_its_numbers(make_spec, monkeypatch):
    spec = make_spec(variants=["adamw"], seeds=[0], budget={"steps": 100}, grid={"lr": [2**-8, 2**-7], "wd": [0.0]})
    data = spec.workload.load()
    small = metrics(train_pack(pack_of(spec), data, strategy="fused", compile=True))
    kept = []
    original = strategies.Fused.keep
    monkeypatch.setattr(
        strategies.Fused, "keep", lambda rows, live, capacity: kept.append(capacity) or original(rows, live, capacity)
    )
    together = choice.Choice("fused", True, 20, "as many as there may be")
    assert metrics(train_pack(pack_of(spec, capacity=20), data, chosen=together)) == small
    assert kept[-2:] == [20, strategies.MIN_ROWS]


def test_evaluations_are_equally_spaced_and_end_with_the_budget(make_spec):
    spec = make_spec(variants=["sgd"], budget={"steps": 100}, evaluations=4)
    results = train_pack(pack_of(spec), spec.workload.load(), strategy="fused", compile=False)
    for result in results:
        assert [point.step for point in result.curve] == [25, 50, 75, 100]
        assert result.curve[-1].val_loss == result.metrics["val_loss"]
        assert result.steps_done == 100


def test_more_evaluations_than_steps_evaluate_every_step(make_spec):
    spec = make_spec(variants=["sgd"], budget={"steps": 3}, evaluations=8)
    (first, *_) = train_pack(pack_of(spec), spec.workload.load(), strategy="fused", compile=False)
    assert [point.step for point in first.curve] == [1, 2, 3]


def test_seconds_add_up_to_the_packs(make_spec):
    spec = make_spec(variants=["sgd"])
    ticks = iter(range(100))
    results = train_pack(
        pack_of(spec), spec.workload.load(), strategy="fused", compile=False, clock=lambda: float(next(ticks))
    )
    assert sum(result.device_s for result in results) == pytest.approx(results[0].wall_s)


@pytest.mark.parametrize("decay_on", ["weights", "all"])
def test_decay_on_decides_whether_biases_and_gains_are_decayed(make_spec, decay_on):
    spec = make_spec(variants=["sgdw"], decay_on=decay_on, grid={"lr": [1e-12], "wd": [0.5]}, seeds=[0], schedule="constant",
                     budget={"steps": 40})  # fmt: skip
    (result,) = train_pack(pack_of(spec), spec.workload.load(), strategy="fused", compile=False)
    gain_gone = result.metrics["train_loss"] == pytest.approx(np.log(10), abs=1e-6)  # all logits 0: the gain decayed
    assert gain_gone == (decay_on == "all")


def test_metrics_are_of_the_split_they_are_named_after(make_spec):
    spec = make_spec(variants=["sgd"], seeds=[0])
    data = spec.workload.load()
    swapped = replace(data, validation=data.test, test=data.validation)
    one, other = (train_pack(pack_of(spec), given, strategy="fused", compile=False) for given in (data, swapped))
    for result, twin in zip(one, other, strict=True):
        assert result.metrics["val_loss"] == twin.metrics["test_loss"]
        assert result.metrics["test_error"] == twin.metrics["val_error"]
        assert result.metrics["train_loss"] == twin.metrics["train_loss"]


def test_a_pack_larger_than_memory_is_trained_in_parts_with_the_same_results(make_spec, monkeypatch):
    spec = make_spec(variants=["adamw"], seeds=[0])
    data, pack = spec.workload.load(), pack_of(spec)
    whole = metrics(train_pack(pack, data, strategy="fused"))
    monkeypatch.setattr(choice, "_choices", {})
    monkeypatch.setattr(choice, "rows_that_fit", lambda trial, device, most, share: 5)
    assert metrics(train_pack(pack, data, strategy="fused")) == whole


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")], ids=["cpu", "gpu"])
def test_out_of_memory_halves_the_pack_and_tries_again(make_spec, monkeypatch, error):
    spec = make_spec(variants=["sgd"], seeds=[0])
    data, pack = spec.workload.load(), pack_of(spec)
    whole = train_pack(pack, data, strategy="loop", compile=False)
    sizes = []
    original = session.Session.start

    def start(kind, program, members, data, capacity):
        sizes.append(len(members))
        if len(members) > 4:
            raise error
        return original(kind, program, members, data, capacity)

    monkeypatch.setattr(session.Session, "start", start)
    parts = train_pack(pack, data, strategy="loop", compile=False)
    assert sizes == [12, 6, 3, 3, 3, 3]
    assert metrics(parts) == metrics(whole)


def test_one_run_that_does_not_fit_is_an_error(make_spec, monkeypatch):
    spec = make_spec(variants=["sgd"], seeds=[0], grid={"lr": [0.1], "wd": [0.0]})
    data = spec.workload.load()
    train_pack(pack_of(spec), data, strategy="loop", compile=False)

    def start(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(session.Session, "start", start)
    with pytest.raises(MemoryError):
        train_pack(pack_of(spec), data, strategy="loop", compile=False)


@pytest.mark.parametrize(("strategy", "compiled"), [("fused", False), ("fused", True), ("loop", False)])
def test_a_run_that_raises_fails_alone(make_spec, monkeypatch, strategy, compiled):
    spec = make_spec(variants=["sgd"])
    data, pack = spec.workload.load(), pack_of(spec)
    whole = metrics(train_pack(pack, data, strategy=strategy, compile=compiled))
    bad = {run.run_id for run in pack.runs if run.cell.lr > 0.1 and run.seed == 1}
    assert 1 < len(bad) < len(pack.runs) / 2
    advance = session.Session.advance

    def breaks(self, steps, **how):
        if steps.start and any(result.run.run_id in bad for result in self.results):
            raise ValueError("too much")
        return advance(self, steps, **how)

    monkeypatch.setattr(session.Session, "advance", breaks)
    results = train_pack(pack, data, strategy=strategy, compile=compiled)
    assert [result.run for result in results] == list(pack.runs)
    assert {result.run.run_id for result in results if result.error == "ValueError: too much"} == bad
    assert {result.run.run_id for result in results if result.state == "failed"} == bad
    for run_id, (state, steps, found, curve) in metrics(results).items():
        if run_id not in bad and compiled:
            assert (state, steps, found, curve) == whole[run_id]
        elif run_id not in bad:
            assert (state, steps) == whole[run_id][:2]
            assert found == pytest.approx(whole[run_id][2], rel=1e-3)


@pytest.mark.parametrize("strategy", ["fused", "loop"])
def test_snapshots_are_judged_at_every_restart_and_so_is_their_average(make_spec, strategy):
    schedule = {"name": "cosine_restarts", "first": 10, "mult": 2}
    spec = make_spec(
        variants=["adamw-normalised"], seeds=[0], grid={"lr": [0.01], "wd": [0.0, 0.1]}, budget={"steps": 70},
        schedule=schedule, training={"snapshots": True}, evaluations=1,
    )  # fmt: skip
    data = spec.workload.load()
    results = train_pack(pack_of(spec), data, strategy=strategy, compile=False)
    for result in results:
        assert [(point.step, point.snapshot) for point in result.curve] == [(10, True), (30, True), (70, True)]
        assert 0 < result.metrics["ensemble_val_loss"] < max(point.val_loss for point in result.curve)
        assert {f"ensemble_{split}_{name}" for split in ("val", "test") for name in ("loss", "error")} <= set(
            result.metrics
        )
    # one period only: the average of one snapshot is that snapshot
    single = make_spec(
        variants=["adamw"], seeds=[0], grid={"lr": [0.01], "wd": [0.1]}, budget={"steps": 10},
        schedule=schedule, training={"snapshots": True},
    )  # fmt: skip
    (result,) = train_pack(pack_of(single), data, strategy=strategy, compile=False)
    assert result.metrics["ensemble_test_loss"] == pytest.approx(result.metrics["test_loss"], rel=1e-5)


def test_further_metrics_of_a_task_are_reported_on_every_split(make_spec, monkeypatch):
    spec = make_spec(variants=["sgd"], seeds=[0], workload={**make_spec().workload.model_dump(), "data_seed": 23})
    plain = spec.workload.task()
    task = replace(plain, metrics={"top3_error": top_error(3), "unmappable": lambda o, t: torch.tensor(float(o.sum()))})
    monkeypatch.setattr(type(spec.workload), "task", lambda self: task)
    for result in train_pack(pack_of(spec), spec.workload.load(), strategy="fused", compile=False):
        for split in ("train", "val", "test"):
            assert result.metrics[f"{split}_top3_error"] <= result.metrics[f"{split}_error"]
            assert f"{split}_unmappable" in result.metrics


def test_a_metric_that_is_undefined_is_no_divergence(make_spec, monkeypatch):
    spec = make_spec(variants=["sgd"], workload={**make_spec().workload.model_dump(), "data_seed": 29})
    plain = spec.workload.task()
    task = replace(
        plain, error=lambda o, t: torch.tensor(torch.nan), metrics={"f1": lambda o, t: torch.tensor(torch.inf)}
    )
    monkeypatch.setattr(type(spec.workload), "task", lambda self: task)
    for result in train_pack(pack_of(spec), spec.workload.load(), strategy="fused", compile=False):
        assert result.state == "completed"
        assert math.isnan(result.metrics["val_error"])
        assert result.metrics["test_f1"] == math.inf
        assert {point.val_error for point in result.curve} == {None}


def test_what_compiling_took_is_reported_with_the_pack_it_was_for(make_spec):
    spec = make_spec(variants=["sgd"], seeds=[0], batch_size=24)
    first, again = (train_pack(pack_of(spec), spec.workload.load(), strategy="fused") for _ in range(2))
    assert all(result.compile_s > 0.1 for result in first)
    assert {result.compile_s for result in again} == {0.0}


def test_a_pack_is_tried_out_with_a_run_that_can_be(make_spec, monkeypatch):
    spec = make_spec(variants=["sgd"], seeds=[1, 0, 2])
    monkeypatch.setattr(choice, "_choices", {})
    start = session.Session.start

    def raises(kind, program, members, *rest, **how):
        if any(run.seed == 1 for run in members):
            raise ValueError("not this seed")
        return start(kind, program, members, *rest, **how)

    monkeypatch.setattr(session.Session, "start", raises)
    results = train_pack(pack_of(spec), spec.workload.load(), strategy="loop", compile=False)
    assert {(result.run.seed, result.state) for result in results} == {
        (0, "completed"),
        (1, "failed"),
        (2, "completed"),
    }
    monkeypatch.setattr(choice, "_choices", {})
    monkeypatch.setattr(session.Session, "start", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_pack(pack_of(spec), spec.workload.load(), strategy="loop", compile=False)
