"""Everything random is a function of the run's seed, in any pack."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.func import vmap
from torch.utils.checkpoint import checkpoint

from hpscan.randomness import RandomLayer, RunDropout, adopt_dropout, batches, initial_model, layer_keys, uniform


def test_batches_are_permutations_laid_end_to_end():
    stream = batches(seed=3, n_train=10, batch_size=4)
    drawn = np.concatenate([next(stream) for _ in range(5)])
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    again = batches(seed=3, n_train=10, batch_size=4)
    assert np.array_equal(drawn, np.concatenate([next(again) for _ in range(5)]))
    assert not np.array_equal(drawn[:10], drawn[10:])


def test_initialisation_depends_on_the_seed_and_leaves_the_global_generator_alone(make_spec):
    task = make_spec().workload.task()
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one, again, other = (initial_model(task.model, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [next(model.parameters()) for model in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_uniform_numbers_are_uniform_and_independent_of_each_other():
    drawn = np.stack([uniform(torch.tensor(stream), (1000,)).numpy() for stream in range(200)])
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3
    correlations = np.corrcoef(drawn)[np.triu_indices(200, 1)]
    assert np.abs(correlations).max() < 6 / np.sqrt(1000)
    assert np.abs([np.corrcoef(row[:-1], row[1:])[0, 1] for row in drawn]).max() < 6 / np.sqrt(1000)
    bits = (drawn * 2**24).astype(np.int64)
    for bit in range(24):
        assert (bits >> bit & 1).mean() == pytest.approx(0.5, abs=5 / np.sqrt(drawn.size))


def test_uniform_numbers_are_the_same_in_a_pack_and_alone():
    streams = torch.tensor([5, 7, 2**32 - 1])
    together = vmap(lambda stream: uniform(stream, (4, 3)))(streams)
    for row, stream in zip(together, streams, strict=True):
        assert torch.equal(row, uniform(stream, (4, 3)))
    compiled = torch.compile(vmap(lambda stream: uniform(stream, (4, 3))), dynamic=False)(streams)
    assert torch.equal(compiled, together)


def test_keys_differ_by_seed_step_and_layer():
    keys = np.concatenate([layer_keys(seed, range(50), 8).ravel() for seed in range(20)])
    assert keys.min() >= 0
    assert keys.max() < 2**32
    assert len(np.unique(keys)) >= len(keys) - 2  # of 8,000 in 2^32, hardly ever two alike
    assert np.array_equal(layer_keys(3, range(10, 20), 2), layer_keys(3, range(30), 2)[10:20])


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_dropout_zeroes_its_share_and_keeps_the_mean(p):
    layer = RunDropout(p)
    layer.stream.fill_(12345)
    out = layer(torch.ones(200, 500))
    assert (out == 0).float().mean().item() == pytest.approx(p, abs=0.01)
    if p < 1:
        assert out.mean().item() == pytest.approx(1.0, abs=0.02)
    assert torch.equal(layer.eval()(torch.ones(3)), torch.ones(3))


def test_torchs_dropouts_are_adopted_wherever_they_are():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Dropout(0.25), nn.Dropout2d(0.5)))
    adopt_dropout(model)
    found = [module for module in model.modules() if isinstance(module, RunDropout)]
    assert [(layer.p, layer.channelwise) for layer in found] == [(0.25, 0), (0.5, 2)]
    found[1].stream.fill_(3)
    images = found[1](torch.ones(8, 6, 5, 5))
    per_channel = images.flatten(2)
    assert torch.equal(per_channel.amin(2), per_channel.amax(2))  # whole channels go together


def test_the_draws_of_a_step_are_independent():
    layer = RandomLayer()
    drawn = []
    for stream in range(50):
        layer.stream.fill_(stream)
        drawn += [layer.uniform(1000).numpy() for _ in range(4)]
    assert stats.kstest(np.ravel(drawn), "uniform").pvalue > 1e-3
    assert np.abs(np.corrcoef(drawn)[np.triu_indices(200, 1)]).max() < 6 / np.sqrt(1000)


def test_a_layer_that_runs_again_in_the_backward_pass_is_refused():
    layer = RunDropout(0.5)
    with pytest.raises(RuntimeError, match="activation checkpointing"):
        checkpoint(layer, torch.ones(4, requires_grad=True), use_reentrant=False).sum().backward()


@pytest.mark.parametrize("shape", [(200, 16), (200, 16, 5), (200, 16, 3, 3)])
def test_dropout2d_takes_channels_from_the_second_axis_as_torchs(shape):
    model = adopt_dropout(nn.Sequential(nn.Dropout2d(0.5)))
    model[0].stream.fill_(int(layer_keys(0, range(1), 1)[0, 0]))
    kept = model(torch.ones(shape)) != 0
    whole = kept.reshape(200, 16, -1)
    assert (whole.all(-1) | ~whole.any(-1)).all()  # channels go together
    assert whole[..., 0].float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert whole[..., 0].float().mean(1).min() > 0.1  # and examples do not


def test_a_dropout_that_stands_twice_is_replaced_at_both_places():
    again = nn.Dropout(0.5)
    model = adopt_dropout(nn.Sequential(nn.Linear(2, 2), again, nn.Linear(2, 2), again))
    assert [type(model[at]) for at in (1, 3)] == [RunDropout, RunDropout]
    assert model[1] is not model[3]


def test_a_dropout_that_is_in_evaluation_mode_stays_in_it():
    backbone = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).eval()
    model = adopt_dropout(nn.Sequential(backbone, nn.Dropout(0.5)))
    assert [model[0][1].training, model[1].training] == [False, True]
