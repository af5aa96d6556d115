import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call

from hpscan.engine import train_pack
from hpscan.grid import Pack, runs
from hpscan.hardware import prepare_worker
from hpscan.models import NormalisedMLP
from hpscan.program import Program
from hpscan.sharpness import sharpness, top_eigenvalues
from hpscan.spec import SpecError, Training
from hpscan.tasks import Task, classification

prepare_worker()  # two threads on two busy cores wait for each other


def spectrum_of(values, seed):
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))[0]
    return torch.tensor(basis @ np.diag(values) @ basis.T)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([(5.0, -9.0), (5.0, 1.0), (-1.0, -7.0), (0.5, -30.0)]), min_size=1, max_size=4))
def test_the_largest_eigenvalue_is_found_where_a_negative_one_is_larger_in_magnitude(ends):
    rest = np.linspace(-0.9, 0.4, 10)
    matrices = torch.stack([
        spectrum_of([most, least, *(rest if most > 0 else rest - 5)], seed) for seed, (most, least) in enumerate(ends)
    ])  # fmt: skip
    found = top_eigenvalues(lambda v: (matrices @ v[..., None])[..., 0], torch.ones(len(ends), 12).double())
    assert found.numpy() == pytest.approx(torch.linalg.eigvalsh(matrices)[:, -1].numpy(), rel=1e-3)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "loop"])
def test_it_is_the_top_eigenvalue_of_the_full_hessian(fused):
    smoothing = 0.2
    task = classification(lambda: NormalisedMLP((6, 5, 3)))
    program = Program(task, Training(label_smoothing=smoothing), torch.device("cpu"), compiled=False)
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(40, 6, generator=generator), torch.arange(40) % 3
    models = [task.model() for _ in range(2)]
    for model in models:
        model.train()(inputs)  # statistics that are not 0 and 1
    states = [{name: value.detach() for name, value in model.state_dict().items()} for model in models]
    stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    parts = [(inputs[:16], targets[:16]), (inputs[16:], targets[16:])]
    found = sharpness(program, stacked, parts, fused=fused)
    for state, value in zip(states, found, strict=True):
        names = [name for name in state if name in program.trained]
        sizes = [state[name].numel() for name in names]

        def loss(flat, state=state, names=names, sizes=sizes):
            params = {name: part.view(state[name].shape) for name, part in zip(names, flat.split(sizes), strict=True)}
            outputs = functional_call(program.frozen, {**state, **params}, (inputs,))
            return torch.nn.functional.cross_entropy(outputs, targets, label_smoothing=smoothing)

        flat = torch.cat([state[name].flatten() for name in names])
        hessian = torch.autograd.functional.hessian(loss, flat)
        assert value.item() == pytest.approx(np.linalg.eigvalsh(hessian.numpy())[-1], rel=1e-3)


@pytest.mark.parametrize("strategy", ["fused", "loop"])
def test_asking_for_it_changes_no_metric(make_spec, strategy):
    found = []
    for training in ({}, {"sharpness": True}):
        spec = make_spec(variants=["adamw"], seeds=[0], training=training)
        pack = Pack(tuple(runs(spec))[:3], 3)
        found.append(train_pack(pack, spec.workload.load(), strategy=strategy, compile=False))
    without, asked = found
    assert [result.metrics for result in without] == [result.metrics for result in asked]
    assert [result.curve for result in without] == [result.curve for result in asked]
    assert all(result.sharpness is None for result in without)
    assert all(result.diagnostics["sharpness"] > 0 for result in asked)
    assert without[0].run.run_id != asked[0].run.run_id  # or a relaunch would find nothing missing


def test_a_trainable_has_none(make_spec):
    with pytest.raises(SpecError, match=r"training\.sharpness: must be false for a trainable"):
        make_spec(workload={"name": "trainable", "trainable": "train:train"}, training={"sharpness": True})


class _NoForward(torch.autograd.Function):
    @staticmethod
    def forward(inputs):
        return inputs.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_a_model_without_second_derivatives_fails_before_it_is_trained(make_spec, monkeypatch):
    class Model(torch.nn.Linear):
        def forward(self, inputs):
            return _NoForward.apply(super().forward(inputs.flatten(1)))

    spec = make_spec(variants=["sgd"], seeds=[0], training={"sharpness": True})
    task: Task = classification(lambda: Model(64, 10), prepare=lambda x: x / 16)
    monkeypatch.setattr(type(spec.workload), "task", lambda self: task)
    monkeypatch.setattr("hpscan.choice._programs", {})
    monkeypatch.setattr("hpscan.choice._choices", {})
    with pytest.raises(Exception, match="sharpness"):
        train_pack(Pack(tuple(runs(spec)), 12), spec.workload.load(), compile=False)
