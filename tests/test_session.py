"""Runs in training: their numbers, what became of them, and how they are judged."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from hpscan import session, strategies
from hpscan.grid import runs
from hpscan.hardware import prepare_worker
from hpscan.models import PlainMLP
from hpscan.optimizers import StepNumbers
from hpscan.program import Program
from hpscan.randomness import initial_model
from hpscan.session import Evaluation, RunResult, Session, judged
from hpscan.spec import Spec, Training
from hpscan.tasks import classification
from hpscan.workloads import Data, Split
from tests.conftest import TINY

prepare_worker()

CPU = torch.device("cpu")


def test_normalised_decay_follows_the_period_of_the_current_restart(make_spec):
    """A normalised run is a run whose λ changes with each restart, and so is not one of plain ``adamw``."""
    schedule = {"name": "cosine_restarts", "first": 10, "mult": 2}
    spec = make_spec(
        variants=["sgdw-normalised"],
        seeds=[0],
        grid={"lr": [0.01], "wd": [0.5]},
        budget={"steps": 70},
        schedule=schedule,
    )
    (run,) = runs(spec)
    table = session.numbers_of([run], range(70), torch.device("cpu"))
    eta = [run.recipe.schedule.multiplier(step, 70) for step in range(70)]
    period = [10] * 10 + [20] * 20 + [40] * 40
    expected = [e * 0.5 / p**0.5 for e, p in zip(eta, period, strict=True)]
    assert [float(StepNumbers(*numbers).shrink) for numbers in table] == pytest.approx(expected, rel=1e-5)


def data_of(train, validation, test, targets=()):
    splits = (Split(np.zeros((n, 2), np.float32), np.zeros((n, *targets), np.int64)) for n in (train, validation, test))
    return Data(*splits)


@pytest.mark.parametrize(
    ("sizes", "at_once"),
    [
        (((4000, 2000, 10_000), ()), 500),
        (((512, 512, 512), ()), 512),
        (((1000, 398, 399), ()), 399),  # 1995 places in all; of 512, 2048
        (((10, 10, 10), ()), 257),  # nothing fits better than another: the fewest places
        (((10, 10, 10), (8192,)), 1),
        (((10, 10, 10), (9000,)), 1),
        (((10, 10, 10), (0,)), 257),  # a loss that needs no targets
    ],
)
def test_as_many_examples_are_judged_at_once_as_go_best_into_the_splits(sizes, at_once):
    assert session.examples_at_once(data_of(*sizes[0], sizes[1])) == at_once


@given(st.lists(st.integers(1, 3000), min_size=3, max_size=3), st.integers(1, 64))
def test_what_is_judged_at_once_stays_in_the_cache_and_leaves_fewer_places_empty_than_the_most(sizes, targets):
    most = min(session.CHUNK, session.MOST_TARGETS // targets)
    at_once = session.examples_at_once(data_of(*sizes, targets=(targets,)))
    assert most // 2 < at_once <= most
    empty = [sum(-size % n for size in sizes) for n in (at_once, most)]
    assert empty[0] <= empty[1]


def test_a_split_judged_in_parts_has_the_mean_of_the_whole(make_spec, monkeypatch):
    workload = {"name": "charlm", "context": 8, "layers": 1, "heads": 1, "width": 4}
    spec = make_spec(workload=workload, variants=["adamw"], budget={"steps": 1}, batch_size=4, evaluations=1)
    members, data = runs(spec)[:2], spec.workload.load()
    program = Program(spec.workload.task(), Training(), torch.device("cpu"), compiled=False)
    judged = session.Session.start(strategies.Fused, program, members, data, len(members))
    split = torch.from_numpy(data.validation.inputs[:50]), torch.from_numpy(data.validation.targets[:50])
    whole = judged.judge(*split)
    sizes, outputs = [], judged.strategy.outputs
    judged.at_once = 16
    monkeypatch.setattr(judged.strategy, "outputs", lambda x: sizes.append(len(x)) or outputs(x))
    assert judged.judge(*split) == {name: pytest.approx(values, rel=1e-5) for name, values in whole.items()}
    assert sizes == [16, 16, 16, 2]


RUN = runs(Spec.validated(TINY))[0]
NUMBERS = st.none() | st.floats(-10, 10)
POINTS = st.builds(
    Evaluation, st.integers(0, 99), NUMBERS, st.floats(-10, 10), NUMBERS,
    snapshot=st.booleans(), weight_norm=NUMBERS, grad_norm=NUMBERS, update_ratio=NUMBERS, rotation=NUMBERS, gap=NUMBERS,
)  # fmt: skip


@given(
    st.lists(POINTS, max_size=4),
    st.sampled_from(["completed", "diverged", "stopped", "failed"]),
    st.dictionaries(st.sampled_from(["val_loss", "test_error"]), st.floats(0, 9)),
)
def test_a_result_comes_back_from_a_file_without_code_and_only_as_its_own_runs(curve, state, metrics):
    result = RunResult(RUN, state, 7, None, metrics, 1.5, curve, 2.0, 1.0, 0.5)
    file = io.BytesIO()
    torch.save(result.saved(), file)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    assert RunResult.restored(RUN, saved) == result
    other = runs(Spec.validated(TINY))[1]
    with pytest.raises(ValueError, match=f"of run {RUN.run_id}, not of {other.run_id}"):
        RunResult.restored(other, saved)


@given(st.lists(POINTS, max_size=5), st.sampled_from(["completed", "diverged", "stopped"]))
def test_diagnostics_of_a_run_are_its_last_norms_and_the_mean_of_what_dies_out(curve, state):
    found = RunResult(RUN, state, sharpness=2.5, curve=curve).diagnostics
    if state != "completed" or not curve:
        assert found == {}
        return
    assert found["sharpness"] == 2.5
    assert [found[name] for name in ("weight_norm", "grad_norm", "gap")] == [
        curve[-1].weight_norm, curve[-1].grad_norm, curve[-1].gap,
    ]  # fmt: skip
    for name in ("update_ratio", "rotation"):
        mean = np.mean([np.nan if getattr(point, name) is None else getattr(point, name) for point in curve])
        assert found[name] == (None if np.isnan(mean) else pytest.approx(mean))


def test_the_numbers_of_a_run_are_the_same_in_any_pack_and_from_any_step(make_spec):
    spec = make_spec(
        variants=["adamw"], schedule={"name": "cosine_restarts", "first": 5, "mult": 2}, budget={"steps": 35},
        grid={"lr": [0.01, 0.1], "wd": [0.0, 0.1], "beta2": [0.9, 0.99]}, seeds=[0],
    )  # fmt: skip
    members = runs(spec)
    whole = session.numbers_of(members, range(35), CPU)
    assert whole.shape == (35, len(StepNumbers._fields), 8)
    for column, run in enumerate(members):
        assert torch.equal(session.numbers_of([run], range(12, 20), CPU)[..., 0], whole[12:20, :, column])


def trained(members, *, steps=3, kind=strategies.Fused, capacity=None):
    recipe = members[0].recipe
    program = Program(recipe.workload.task(), recipe.training, CPU, compiled=False)
    started = Session.start(kind, program, members, recipe.workload.load(), capacity or len(members))
    started.advance(range(steps))
    return started


@pytest.fixture
def few(make_spec):
    return tuple(runs(make_spec(variants=["sgdw"], grid={"lr": [0.05, 0.1], "wd": [0.0, 0.1]}, seeds=[0, 1])))


def test_what_is_kept_of_a_pack_has_the_results_outputs_and_losses_that_it_had(few):
    whole = trained(few)
    data = few[0].recipe.workload.load().validation
    split = torch.from_numpy(data.inputs), torch.from_numpy(data.targets)
    before, outputs, losses = whole.judge(*split), whole.outputs(split[0]), whole.losses[0]
    rows = [1, 4, 6]
    whole.keep(rows, 5)
    assert [result.run for result in whole.results] == [few[row] for row in rows]
    assert len(whole.everyone) == len(few)
    torch.testing.assert_close(whole.outputs(split[0]), outputs[rows])
    assert torch.equal(whole.losses[0], losses[:, [1, 4, 6, 6, 6]])  # two idle copies
    assert whole.judge(*split) == {
        name: pytest.approx([values[row] for row in rows]) for name, values in before.items()
    }


def test_outputs_in_chunks_are_those_of_all_at_once(few):
    whole = trained(few[:2])
    inputs = torch.from_numpy(few[0].recipe.workload.load().validation.inputs[:50])
    at_once = whole.outputs(inputs)
    whole.at_once = 16
    torch.testing.assert_close(whole.outputs(inputs), at_once)


@pytest.mark.parametrize("kind", [strategies.Fused, strategies.Loop])
def test_what_is_compiled_judges_whole_chunks_to_the_metrics_of_what_is_not(make_spec, kind):
    """One graph for every split, whatever is left over at its end."""
    spec = make_spec(
        workload={"name": "digits", "model": {"name": "cnn", "channels": [4]}}, variants=["adamw"], batch_size=16
    )
    members, data = runs(spec)[:2], spec.workload.load()
    splits = [(torch.from_numpy(part.inputs), torch.from_numpy(part.targets)) for part in (data.train, data.test)]
    found = []
    for compiled in (False, True):
        program = Program(spec.workload.task(), Training(), CPU, compiled=compiled)
        assert program.wants_whole_chunks is compiled
        whole = Session.start(kind, program, members, data, len(members))
        found.append([whole.judge(*split) for split in splits] + [{"outputs": whole.outputs(splits[1][0]).tolist()}])
    assert len(program.from_folded.ready) == 1
    for eager, compiled in zip(*found, strict=True):
        assert compiled == {name: pytest.approx(np.array(values), rel=1e-4, abs=1e-5) for name, values in eager.items()}


def test_a_run_that_no_state_holds_cannot_be_gone_on_with(few):
    program, data = (
        Program(few[0].recipe.workload.task(), Training(), CPU, compiled=False),
        few[0].recipe.workload.load(),
    )
    states = [trained(few[:2]).state(), trained(few[2:4]).state()]
    gathered = Session.gathered(strategies.Fused, program, [few[3], few[0]], data, 2, states=states)
    assert [result.run for result in gathered.results] == [few[3], few[0]]
    for key, value in gathered.strategy.state()["params"].items():
        expected = [states[1]["strategy"]["params"][key][1], states[0]["strategy"]["params"][key][0]]
        assert torch.equal(value, torch.stack(expected))
    with pytest.raises(KeyError, match=few[5].run_id):
        Session.gathered(strategies.Fused, program, [few[5], few[0]], data, 2, states=states)


def test_the_state_of_other_runs_is_refused(few):
    started = trained(few[:2])
    with pytest.raises(ValueError, match=f"of run {few[0].run_id}, not of {few[2].run_id}"):
        Session.resume(strategies.Fused, started.program, few[2:4], few[0].recipe.workload.load(), started.state())


def test_metrics_that_vmap_cannot_do_are_those_of_each_run_by_itself():
    task = classification(lambda: PlainMLP((4, 3)))
    models = [initial_model(task.model, seed) for seed in range(3)]
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(20, 4, generator=generator), torch.arange(20) % 3
    with torch.no_grad():
        outputs = torch.stack([model(inputs) for model in models])
    total = replace(
        task, metrics={"confident": lambda o, t: float(o.softmax(-1).max() > 0.9), "top": lambda o, t: o.max()}
    )
    for found in (judged(task, outputs, targets), judged(total, outputs, targets)):
        torch.testing.assert_close(found["loss"], torch.stack([F.cross_entropy(row, targets) for row in outputs]))
        assert found["error"].tolist() == pytest.approx(
            [float((row.argmax(1) != targets).float().mean()) for row in outputs]
        )
    assert found["top"].tolist() == [float(row.max()) for row in outputs]
    assert found["confident"].tolist() == [float(row.softmax(-1).max() > 0.9) for row in outputs]
