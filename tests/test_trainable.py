"""A user's own training function, and the optimizer that follows a run's config."""

import copy

import numpy as np
import pytest
import torch

from hpscan.engine import train_pack
from hpscan.grid import Pack, runs
from hpscan.randomness import batches, initial_model
from hpscan.spec import Spec
from hpscan.trainable import RunOptimizer, train_one_by_one
from tests.conftest import TINY

MODULE = """
import math

def train(config):
    if config["args"].get("raise_at") == config["seed"]:
        raise RuntimeError("my model broke")
    for step in (6, 12):
        loss = config["args"].get("loss", 1.0) * config["lr"] / step
        yield {"step": step, "val_loss": loss, "val_error": 0.5, "test_loss": 2 * loss, "val_f1": 0.1}

def explodes(config):
    yield {"step": 6, "val_loss": 1.0}
    yield {"step": 7, "val_loss": math.inf}
    raise AssertionError("must not be asked for more")

def of_a_split(config):
    yield {"step": 6, "val_loss": 1.0, config["args"]["name"]: math.nan}

def leaves(config):
    if config["seed"]:
        raise SystemExit(3)
    yield {"val_loss": 1.0}

def silent(config):
    return iter(())

def returns(config):
    return {"step": 12, "val_loss": config["lr"]}

def nothing(config):
    pass

def lone(config):
    return 0.5

def wordy(config):
    yield {"val_loss": "low"}

def halfway(config):
    yield {"val_loss": 1.0, "step": 1.5}

def misnamed(config):
    yield {"val_loss": 1.0, "accuracy": 3}

def lossless(config):
    yield {"val_error": 1.0}
"""


@pytest.fixture
def pack_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users_trainables.py").write_text(MODULE)

    def pack(function, **args):
        workload = {"trainable": f"users_trainables:{function}", "args": args}
        return Pack(tuple(runs(Spec.validated({**TINY, "variants": ["adamw"], "workload": workload}))), 32)

    return pack


def ended(pack):
    return [result for part in train_one_by_one(pack) for result in part]


def test_what_has_ended_is_handed_over_every_few_seconds(pack_of, monkeypatch):
    pack = pack_of("train")
    assert [len(part) for part in train_one_by_one(pack)] == [len(pack.runs)]
    monkeypatch.setattr("hpscan.trainable.PART_S", 0.0)
    assert [len(part) for part in train_one_by_one(pack)] == [1] * len(pack.runs)


def test_each_run_is_called_with_its_config_and_its_last_metrics_count(pack_of):
    results = ended(pack_of("train", loss=3.0))
    assert {result.state for result in results} == {"completed"}
    for result in results:
        assert result.metrics["val_loss"] == pytest.approx(3.0 * result.run.cell.lr / 12)
        assert result.metrics["val_f1"] == 0.1
        assert [point.step for point in result.curve] == [6, 12]
        assert result.steps_done == 12


def test_what_is_returned_is_the_only_report(pack_of):
    for result in ended(pack_of("returns")):
        assert (result.state, result.steps_done, result.metrics) == ("completed", 12, {"val_loss": result.run.cell.lr})


def test_a_run_that_raises_has_failed_and_the_others_go_on(pack_of):
    results = ended(pack_of("train", raise_at=1))
    assert {(result.run.seed, result.state) for result in results} == {(0, "completed"), (1, "failed")}
    failed = next(result for result in results if result.state == "failed")
    assert failed.error == "users_trainables:train raised RuntimeError: my model broke (users_trainables.py, line 6)"
    assert failed.metrics == {}


def test_a_run_that_would_end_its_process_has_failed_alone(pack_of):
    errors = {result.run.seed: result.error for result in ended(pack_of("leaves"))}
    assert errors[0] is None
    assert errors[1].startswith("users_trainables:leaves raised SystemExit: 3 (")


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(pack_of):
    for result in ended(pack_of("explodes")):
        assert (result.state, result.steps_done, result.metrics) == ("diverged", 7, {})
        assert len(result.curve) == 1


@pytest.mark.parametrize("name", ["batch_loss", "train_loss", "test_loss"])
def test_so_does_one_of_another_split(pack_of, name):
    assert {(result.state, *result.metrics) for result in ended(pack_of("of_a_split", name=name))} == {("diverged",)}


@pytest.mark.parametrize("name", ["val_error", "val_f1"])
def test_a_metric_that_is_no_loss_may_be_undefined(pack_of, name):
    for result in ended(pack_of("of_a_split", name=name)):
        assert (result.state, result.metrics["val_loss"], len(result.curve)) == ("completed", 1.0, 1)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("silent", "yielded nothing; it must yield metrics"),
        ("nothing", "users_trainables:nothing must yield mappings with val_loss; got None"),
        ("lone", "users_trainables:lone must yield mappings with val_loss; got 0.5"),
        ("wordy", "users_trainables:wordy: val_loss must be a number; got 'low'"),
        ("halfway", "users_trainables:halfway: step must be a whole number of at least 0; got 1.5"),
        ("misnamed", "users_trainables:misnamed: metrics must be named train_…, val_… or test_…; got 'accuracy'"),
        ("lossless", "must yield mappings with val_loss"),
    ],
)
def test_what_is_yielded_wrongly_is_said(pack_of, function, message):
    for result in ended(pack_of(function)):
        assert result.state == "failed"
        assert message in result.error


@pytest.mark.parametrize("variant", ["sgdw", "adamw-normalised", "lion-l2"])
def test_the_run_optimizer_trains_as_the_engine_does(variant):
    options = {
        "variants": [variant],
        "seeds": [0],
        "grid": {"lr": [0.01], "wd": [0.05]},
        "training": {"clip_norm": 0.5},
    }
    spec = Spec.validated({**TINY, **options})
    (run,) = runs(spec)
    data, task = spec.workload.load(), spec.workload.task()
    (packed,) = train_pack(Pack((run,), 1), data, strategy="fused", compile=False)
    model = initial_model(task.model, run.seed)
    optimizer = RunOptimizer(model.parameters(), {**run.config, "run": run})
    order = batches(run.seed, 200, 16)
    for _ in range(run.recipe.steps):
        index = torch.from_numpy(next(order))
        optimizer.zero_grad()
        outputs = model(task.prepare(torch.from_numpy(data.train.inputs)[index]))
        task.loss(outputs, torch.from_numpy(data.train.targets)[index]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        loss = task.loss(
            model(task.prepare(torch.from_numpy(data.validation.inputs))), torch.from_numpy(data.validation.targets)
        )
    np.testing.assert_allclose(packed.metrics["val_loss"], loss.item(), rtol=1e-4)


def quadratic(**changes):
    """A parameter, its optimizer and a step of a quadratic loss as a closure."""
    spec = Spec.validated(
        {**TINY, "variants": ["adamw"], "seeds": [0], "grid": {"lr": [0.1], "wd": [0.05]}, "decay_on": "all", **changes}
    )
    (run,) = runs(spec)
    theta = torch.nn.Parameter(torch.ones(3))
    optimizer = RunOptimizer([theta], {**run.config, "run": run})

    def closure():
        optimizer.zero_grad()
        loss = (theta**2).sum()
        loss.backward()
        return loss

    return theta, optimizer, closure


def test_the_run_optimizer_calls_a_closure_as_torchs_do():
    (one, by_closure, closure), (other, by_hand, again) = quadratic(), quadratic()
    for _ in range(3):
        assert by_closure.step(closure).item() == again().item()
        assert by_hand.step() is None
    assert torch.equal(one, other)


def test_the_run_optimizer_goes_on_where_its_state_was_saved():
    theta, optimizer, closure = quadratic()
    for _ in range(4):
        optimizer.step(closure)
    later, resumed, again = quadratic()
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # as a file would have it
    later.data.copy_(theta)
    optimizer.step(closure)
    resumed.step(again)
    assert torch.equal(theta, later)


def test_a_step_without_gradients_moves_the_schedule_on_alone():
    theta, optimizer, _ = quadratic()
    optimizer.step()
    assert optimizer.steps_taken == 1
    assert torch.equal(theta, torch.ones(3))
