"""A task made ready for training, against stock torch."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hpscan.hardware import prepare_worker
from hpscan.models import NormalisedMLP, PlainMLP
from hpscan.program import Program, row_of
from hpscan.randomness import initial_model, layer_keys
from hpscan.spec import Training
from hpscan.tasks import Task, classification
from hpscan.workloads import WorkloadError

prepare_worker()

CPU = torch.device("cpu")


def test_smoothing_a_task_that_has_no_such_loss_is_refused():
    task = Task(partial(PlainMLP, (192, 8, 4)), F.cross_entropy, lambda o, t: (o.argmax(-1) != t).float().mean())
    cpu = torch.device("cpu")
    assert Program(task, Training(), cpu, compiled=False).loss is F.cross_entropy
    with pytest.raises(WorkloadError, match=r"training\.label_smoothing: the workload's task has no"):
        Program(task, Training(label_smoothing=0.1), cpu, compiled=False)
    with pytest.raises(WorkloadError, match=r"training\.snapshots: the workload's task cannot"):
        Program(task, Training(snapshots=True), cpu, compiled=False)


def program_of(make=lambda: NormalisedMLP((6, 5, 3)), **training):
    return Program(classification(make), Training(**training), CPU, compiled=False)


def stacked(tensors):
    return {name: torch.stack([own[name] for own in tensors]) for name in tensors[0]}


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradients_losses_and_buffers_of_stacked_runs_are_those_of_stock_modules(smoothing):
    program = program_of(label_smoothing=smoothing)
    models = [initial_model(program.task.model, seed).train() for seed in range(3)]
    inputs = torch.randn(3, 16, 6, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(48).view(3, 16) % 3
    params = stacked([{name: value.detach().clone() for name, value in m.named_parameters()} for m in models])
    buffers = stacked([{name: value.clone() for name, value in m.named_buffers()} for m in models])
    before = {name: value.clone() for name, value in buffers.items()}
    grads, (losses, after) = program.gradients(params, buffers, inputs, targets)
    for row, model in enumerate(models):
        loss = F.cross_entropy(model(inputs[row]), targets[row], label_smoothing=smoothing)
        loss.backward()
        torch.testing.assert_close(losses[row], loss.detach())
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(grads[name][row], parameter.grad, rtol=1e-4, atol=1e-6)
        for name, buffer in model.named_buffers():
            torch.testing.assert_close(after[name][row], buffer)
    assert all(torch.equal(buffers[name], value) for name, value in before.items())  # what was given is left alone


def test_outputs_are_those_of_the_stock_module_in_evaluation_mode():
    program = program_of(lambda: nn.Sequential(NormalisedMLP((6, 5, 4)), nn.Dropout(0.5), nn.Linear(4, 3)))
    model = initial_model(program.task.model, 3)
    inputs = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    model.train()(inputs)  # statistics that are not 0 and 1
    state = {name: value.clone() for name, value in model.state_dict().items()}
    expected = model.eval()(inputs)
    torch.testing.assert_close(program.outputs(state, inputs), expected)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


class _Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, inputs):
        return {"logits": self.linear(inputs)}


def test_a_model_that_returns_no_tensor_is_told_so():
    program = program_of(_Named)
    with pytest.raises(WorkloadError, match="the workload's model: must return a tensor; got dict"):
        program.outputs(dict(program.template.named_parameters()), torch.zeros(2, 6))


@pytest.mark.parametrize("name", ["loss", "error"])
def test_a_metric_that_would_stand_in_for_the_tasks_own_is_refused(name):
    task = classification(partial(PlainMLP, (6, 3)), metrics={name: F.cross_entropy})
    with pytest.raises(WorkloadError, match=f"metrics: {name!r} is the task's own; give it another name"):
        Program(task, Training(), CPU, compiled=False)
    regression = Task(partial(PlainMLP, (6, 3)), F.mse_loss, metrics={"error": F.l1_loss})
    assert list(Program(regression, Training(), CPU, compiled=False).task.judges) == ["loss", "error"]


@pytest.mark.parametrize("tracked", [True, False])
def test_chunks_are_not_filled_up_where_examples_are_normalised_by_those_beside_them(tracked):
    def make():
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=tracked), nn.Flatten())

    program = Program(classification(make), Training(), CPU, compiled=True)
    assert program.wants_whole_chunks == tracked


class _Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.head = nn.Embedding(7, 6), nn.Linear(6, 7)

    def forward(self, tokens):
        own = self.token(tokens).unsqueeze(1)
        return self.head(F.scaled_dot_product_attention(own, own, own, is_causal=True).squeeze(1)).mean(1)


def test_what_is_compiled_is_found_whole_in_the_compilers_cache(monkeypatch, tmp_path):
    from torch._dynamo.utils import counters

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    seen, expected = [], None
    for _ in range(2):
        program = Program(classification(_Attending), Training(), CPU, compiled=True)
        tokens = torch.arange(8 * 14).view(8, 2, 7) % 7
        params = stacked([dict(initial_model(_Attending, seed).named_parameters()) for seed in range(8)])
        params = {name: value.detach() for name, value in params.items()}
        counters.clear()
        found = program.gradients(params, {}, tokens, tokens[:, :, 0])[0]
        found |= {"outputs": program.predict(row_of(params, 0), tokens[0])}
        expected = expected or found
        torch.testing.assert_close(found, expected)
        seen.append({name: n for name, n in counters["aot_autograd"].items() if name.startswith("autograd_cache")})
    misses = {"autograd_cache_miss": 2, "autograd_cache_saved": 2}
    assert seen == [misses, {"autograd_cache_hit": 2}]


class _Constant(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.head, self.scale, self.factor = nn.Linear(6, 3), scale, float(scale.sum())

    def forward(self, x):
        return self.head(x * self.scale) * torch.tensor([1.0, 2.0, self.factor])


@pytest.mark.parametrize("shape", [(), (1,), (6,), (2, 6)])
def test_a_model_s_constants_are_its_own_though_the_compilers_cache_has_another_s_graph(monkeypatch, tmp_path, shape):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    inputs, targets = torch.randn(8, 2, 6, generator=torch.Generator().manual_seed(0)), torch.arange(16).view(8, 2) % 3
    seen = []
    for value in (2.0, 3.0):
        make = partial(_Constant, torch.full(shape, value))
        compiled, plain = (Program(classification(make), Training(), CPU, compiled=each) for each in (True, False))
        models = [initial_model(make, seed) for seed in range(8)]
        params = stacked([{name: own.detach() for name, own in model.named_parameters()} for model in models])
        expected = plain.gradients(params, {}, inputs, targets)
        torch.testing.assert_close(compiled.gradients(params, {}, inputs, targets), expected)
        outputs = plain.predict(row_of(params, 0), inputs[0])
        torch.testing.assert_close(compiled.predict(row_of(params, 0), inputs[0]), outputs)
        seen.append(outputs)
    assert not torch.allclose(*seen)


class _Tied(nn.Module):
    """An embedding that stands in two places, as an encoder's and a decoder's, and whose weight is the head's, too."""

    def __init__(self):
        super().__init__()
        self.token, self.norm, self.head = nn.Embedding(7, 6), nn.LayerNorm(6), nn.Linear(6, 7, bias=False)
        self.decoder = self.token
        self.head.weight = self.token.weight

    def forward(self, tokens):
        return self.head(self.norm(self.token(tokens) + self.decoder(tokens.flip(0))))


def test_a_tied_weight_of_a_module_that_stands_in_two_places_is_the_run_s_own_at_every_call():
    program, tokens = program_of(_Tied), torch.arange(14).view(1, 14) % 7
    for seed in (1, 2, 3):
        model = initial_model(_Tied, seed)
        params = {name: value.detach() for name, value in model.named_parameters()}
        torch.testing.assert_close(program.outputs(params, tokens[0]), model(tokens[0]).detach())
        grads, _ = program.gradients(stacked([params]), {}, tokens, tokens.flip(1))
        F.cross_entropy(model(tokens[0]), tokens[0].flip(0)).backward()
        torch.testing.assert_close(grads["token.weight"][0], model.token.weight.grad)


def test_a_model_that_cannot_be_copied_is_trained():
    def make():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # deprecated, and what many models have
            return nn.utils.weight_norm(nn.Linear(6, 3))  # its weight is computed, which deepcopy refuses

    program, inputs = program_of(make), torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    model = initial_model(make, 3)
    state = {name: value.detach() for name, value in model.named_parameters()}
    torch.testing.assert_close(program.outputs(state, inputs), model(inputs).detach())


MADE_ONCE = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: MADE_ONCE, "0.weight"),
        (lambda: nn.Sequential(MADE_ONCE[0], nn.Linear(6, 3)), "0.weight"),
        (lambda: nn.Sequential(MADE_ONCE[1].requires_grad_(requires_grad=False), nn.Linear(6, 3)), "0.running_mean"),
    ],
    ids=["the whole model", "a layer", "what a frozen layer counts"],
)
def test_what_runs_would_share_and_change_is_refused(make, named):
    with pytest.raises(WorkloadError, match=f"model: {named} is the same tensor in every model that is made"):
        program_of(make)


def test_what_runs_share_and_none_changes_is_not():
    backbone = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)).eval().requires_grad_(requires_grad=False)
    assert program_of(lambda: nn.Sequential(backbone, nn.Linear(6, 3))).trained == {"1.weight", "1.bias"}


class _Fourier(nn.Module):
    """Random features (Rahimi & Recht 2007)."""

    def __init__(self, *, registered=False):
        super().__init__()
        self.head, self.period = nn.Linear(8, 3), torch.tensor(2 * torch.pi)
        if registered:
            self.register_buffer("directions", torch.randn(6, 8))
        else:
            self.directions = torch.randn(6, 8)

    def forward(self, inputs):
        return self.head((self.period * inputs @ self.directions).sin())


def test_a_drawn_tensor_that_is_no_buffer_is_refused():
    with pytest.raises(WorkloadError, match=r"model: directions is drawn, and neither parameter nor buffer"):
        program_of(_Fourier)
    assert program_of(partial(_Fourier, registered=True)).trained == {"head.weight", "head.bias"}


def test_in_bf16_outputs_are_rounded_and_handed_over_in_float32():
    inputs = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    state = initial_model(lambda: PlainMLP((6, 5, 3)), 0).state_dict()
    full, half = (
        program_of(lambda: PlainMLP((6, 5, 3)), precision=precision).outputs(state, inputs)
        for precision in ("float32", "bf16")
    )
    assert half.dtype == torch.float32
    assert torch.equal(half, half.bfloat16().float())
    assert not torch.equal(half, full)
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.05)


def test_an_average_begins_at_weights_and_statistics_as_copies_and_only_if_asked_for():
    state = dict(initial_model(lambda: NormalisedMLP((6, 5, 3)), 0).state_dict())
    assert program_of().first_average(state) == {}
    average = program_of(ema=0.9).first_average(state)
    assert set(state) - set(average) == {name for name in state if name.endswith("num_batches_tracked")}
    for name, value in average.items():
        assert torch.equal(value, state[name])
        value.add_(1.0)
        assert not torch.equal(value, state[name])


def test_a_runs_stream_of_random_numbers_is_its_own_in_any_pack():
    program = program_of(lambda: nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), nn.Linear(4, 3), nn.Dropout(0.5)))
    found = program.streams([7, 3, 7], range(5, 9))
    assert found.shape == (2, 4, 3)
    assert torch.equal(found[..., 0], found[..., 2])
    assert not torch.equal(found[..., 0], found[..., 1])
    for column, seed in enumerate([7, 3, 7]):
        assert torch.equal(found[..., column], program.streams([seed], range(5, 9))[..., 0])
        assert found[:, 2, column].tolist() == layer_keys(seed, range(7, 8), 2)[0].tolist()
    assert program_of().streams([7, 3], range(4)) is None


class Assigning(nn.Module):
    """Assigns to its buffer instead of changing it, and ties its weights."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        self.mean = 0.9 * self.mean + 0.1 * x.mean(0).detach()
        return self.second(self.first(x - self.mean))


@pytest.mark.parametrize("compiled", [False, True])
def test_what_a_forward_pass_assigns_to_a_buffer_is_kept(compiled):
    program = Program(classification(Assigning), Training(), CPU, compiled=compiled)
    models = [initial_model(Assigning, seed) for seed in range(8)]
    inputs, targets = torch.randn(8, 5, 3), torch.randint(0, 3, (8, 5))
    params, buffers = (
        stacked([{name: value.detach() for name, value in named(model)} for model in models])
        for named in (nn.Module.named_parameters, nn.Module.named_buffers)
    )
    grads, (_, after) = program.gradients(params, buffers, inputs, targets)
    for row, model in enumerate(models):
        F.cross_entropy(model(inputs[row]), targets[row]).backward()
        torch.testing.assert_close(after["mean"][row], model.mean)
        torch.testing.assert_close(grads["first.weight"][row], model.first.weight.grad)
