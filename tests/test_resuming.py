"""A pack that goes on from a checkpoint ends with the numbers, to the bit, of one that was never interrupted."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import nn

from hpscan import checkpoint, choice, session
from hpscan.engine import train_pack
from hpscan.grid import Pack, runs
from hpscan.hardware import prepare_worker
from hpscan.models import CNN, NormalisedMLP
from hpscan.tasks import classification
from hpscan.workloads import WorkloadError
from tests.checkpoints import Died, Kept, content_after, outcome, pack_of, resealed

prepare_worker()


@dataclass
class Rungs(Kept):
    """Keeps runs at rungs, for packs of the next leg."""

    every_s: float = 1e9
    kept: dict[str, bytes] = field(default_factory=dict)
    holds: dict[str, str] = field(default_factory=dict)

    def sources(self):
        return list(self.kept.values())

    def keep_rung(self, name, run_ids, content):
        self.kept[name] = content
        self.holds |= dict.fromkeys(run_ids, name)


def check_goes_on(pack, data, **how):
    """Go on from the checkpoint at every segment's end, and compare with never having saved one."""
    whole = outcome(train_pack(pack, data, **how))
    kept = Kept()
    assert outcome(train_pack(pack, data, checkpoints=kept, **how)) == whole
    assert len(kept.saved) > 1
    for n, content in enumerate(kept.saved, start=1):
        chosen, again = [], Kept(content)
        assert outcome(train_pack(pack, data, checkpoints=again, on_choice=chosen.append, **how)) == whole
        assert "goes on from a checkpoint at step" in chosen[0].reason
        assert len(again.saved) == len(kept.saved) - n  # what was done before was not done again
    return whole


def noisy(inputs, generator):
    return inputs + torch.rand(inputs.shape, generator=generator)


def square(inputs):
    return inputs.view(-1, 1, 8, 8) / 16


def dropout():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 10)
    )


def frozen():
    net = NormalisedMLP((64, 8, 10))
    next(net.parameters()).requires_grad_(False)
    return net


TASKS = {
    "dropout and batchnorm": classification(dropout, prepare=lambda x: x / 16),
    "augmentation": classification(lambda: NormalisedMLP((64, 8, 10)), prepare=lambda x: x / 16, augment=noisy),
    "convolutions": classification(lambda: CNN((1, 8, 8), (4, 6), 10), prepare=square),
    "frozen parameters": classification(frozen, prepare=lambda x: x / 16),
}


PLAIN = {"name": "digits", "model": {"name": "plain_mlp", "hidden": [8]}, "train": 200}


RESTARTS = {"name": "cosine_restarts", "first": 10, "mult": 2}


SPECS = {
    "adamw": {"variants": ["adamw"]},
    "nadam": {"variants": ["nadam"]},
    "amsgrad": {"variants": ["amsgrad"]},
    "momentum as in the paper": {"variants": ["sgdw"], "optimizer": {"momentum_form": "paper"}},
    "ema": {"variants": ["adamw"], "training": {"ema": 0.9}},
    "accumulate, clipped": {"variants": ["sgd"], "training": {"accumulate": 4, "clip_norm": 0.5}},
    "restarts": {"variants": ["adamw-normalised"], "schedule": RESTARTS},
    "snapshots": {"variants": ["sgdw"], "schedule": RESTARTS, "training": {"snapshots": True, "ema": 0.5}},
    "bf16": {"variants": ["adamw"], "workload": PLAIN, "training": {"precision": "bf16"}},
}


STRATEGIES = pytest.mark.parametrize("strategy", ["fused", "loop"])


@pytest.fixture
def with_task(make_spec, monkeypatch):
    """A spec whose workload has another task: a data_seed of its own gives it a program of its own."""
    seeds = itertools.count(101)

    def make(task, **changes):
        workload = make_spec().workload
        monkeypatch.setattr(type(workload), "task", lambda self: task)
        monkeypatch.setattr(choice, "_programs", {})
        monkeypatch.setattr(choice, "_choices", {})
        return make_spec(workload={**workload.model_dump(), "data_seed": next(seeds)}, **changes)

    return make


@STRATEGIES
@pytest.mark.parametrize("name", SPECS)
def test_every_optimizer_and_option_goes_on_as_if_nothing_had_happened(make_spec, name, strategy):
    grid = {"lr": [2**-8, 2**-6], "wd": [2**-6]}
    spec = make_spec(budget={"steps": 70}, evaluations=2, grid=grid, **SPECS[name])
    check_goes_on(pack_of(spec), spec.workload.load(), strategy=strategy, compile=False)


@STRATEGIES
@pytest.mark.parametrize("name", TASKS)
def test_every_kind_of_model_goes_on_as_if_nothing_had_happened(with_task, name, strategy):
    grid = {"lr": [2**-8, 2**-6], "wd": [2**-6]}
    spec = with_task(
        TASKS[name], variants=["adamw"], budget={"steps": 60}, evaluations=2, grid=grid, training={"ema": 0.8}
    )
    check_goes_on(pack_of(spec), spec.workload.load(), strategy=strategy, compile=False)


@STRATEGIES
def test_runs_that_diverge_before_and_after_a_checkpoint_are_marked_alike(make_spec, strategy):
    # 1e30 diverges at once, the rest by decay: θ grows by |1 − lr·wd| a step
    spec = make_spec(
        variants=["sgdw"], workload=PLAIN, budget={"steps": 120}, evaluations=3, schedule="constant",
        grid={"lr": [0.01, 1e30], "wd": [0.0, 4.0, 5.0]},
    )  # fmt: skip
    whole = check_goes_on(pack_of(spec), spec.workload.load(), strategy=strategy, compile=False)
    diverged_at = {steps for _, state, steps, *_ in whole if state == "diverged"}
    assert min(diverged_at) < 25
    assert 25 < max(diverged_at) < 120
    assert "completed" in {state for _, state, *_ in whole}


@pytest.fixture
def in_parts(make_spec, monkeypatch):
    """A pack of which no more than some rows fit, its data, and how it is trained."""

    def make(rows, strategy, steps):
        monkeypatch.setattr(choice, "_choices", {})
        monkeypatch.setattr(choice, "rows_that_fit", lambda trial, device, most, share: rows)
        spec = make_spec(variants=["adamw"], seeds=[0], budget={"steps": steps})
        return pack_of(spec), spec.workload.load(), {"strategy": strategy, "compile": False}

    return make


@STRATEGIES
def test_a_pack_in_parts_goes_on_with_the_part_it_was_in(in_parts, strategy):
    pack, data, how = in_parts(5, strategy, 30)
    check_goes_on(pack, data, **how)


@STRATEGIES
def test_what_is_left_of_a_pack_goes_on_with_the_part_it_was_in(in_parts, strategy):
    """Parts that ended are stored; a relaunch trains the rest, under the pack's name."""
    pack, data, how = in_parts(5, strategy, 60)
    whole = outcome(train_pack(pack, data, **how))
    content = content_after(pack, data, 6, **how)  # of the second part's first segments
    for gone, expected in ((5, True), (4, True), (6, False)):
        rest = Pack(pack.runs[gone:], pack.capacity, rest_of=pack.pack_id)
        chosen, kept = [], Kept(content, every_s=1e9)
        results = train_pack(rest, data, checkpoints=kept, on_choice=chosen.append, **how)
        assert ("checkpoint" in chosen[0].reason) is expected
        if expected:
            assert outcome(results) == whole[gone:]
        else:  # in other parts, uncompiled: to rounding
            assert [one[0] for one in outcome(results)] == [one[0] for one in whole[gone:]]


@STRATEGIES
def test_what_failed_before_is_trained_again_last_if_it_is_still_asked_for(in_parts, monkeypatch, strategy):
    pack, data, how = in_parts(2, strategy, 60)
    whole, start, bad = train_pack(pack, data, **how), session.Session.start, {pack.runs[1].run_id}

    def breaks(kind, program, members, *rest, **options):
        if any(run.run_id in bad for run in members):
            raise ValueError("not today")
        return start(kind, program, members, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "start", breaks)
        content = content_after(pack, data, 6, **how)  # of the third part, the first having been halved
    before = [result["state"] for result in checkpoint._loaded(content)["finished"]]
    assert before.count("failed") == 1
    in_training = len(before)
    by_id = {one[0]: one for one in outcome(whole)}

    def goes_on(members, content, dies_after=float("inf")):
        chosen, kept = [], Kept(content, every_s=0.0, dies_after=dies_after)
        rest = Pack(members, pack.capacity, rest_of=pack.pack_id)
        try:
            found = train_pack(rest, data, checkpoints=kept, on_choice=chosen.append, **how)
        except Died:
            return kept.content
        assert "goes on from a checkpoint" in chosen[0].reason
        for one in outcome(found):
            assert one[1:4] == by_id[one[0]][1:4]
            assert one[4] == pytest.approx(by_id[one[0]][4], rel=1e-5)
        return [result.run for result in found]

    retried, later = pack.runs[1], pack.runs[in_training:]
    assert goes_on(pack.runs, content) == [pack.runs[0], *pack.runs[2:in_training], *later, retried]
    assert goes_on((retried, *later), content) == [*later, retried]  # what is stored otherwise is left out
    assert goes_on(later, content) == [*later]  # so is what failed, unless it is to be retried
    for saves in (1, 9):  # and interrupted again
        assert set(goes_on((retried, *later), goes_on((retried, *later), content, saves))) == {retried, *later}


def test_a_pack_that_was_halved_for_want_of_memory_goes_on_in_halves(make_spec, monkeypatch):
    spec = make_spec(variants=["sgd"], seeds=[0], budget={"steps": 30})
    data, pack = spec.workload.load(), pack_of(spec)
    sizes, original = [], session.Session.start

    def start(kind, program, members, *rest, **options):
        sizes.append(len(members))
        if len(members) > 6:
            raise MemoryError
        return original(kind, program, members, *rest, **options)

    train_pack(pack, data, strategy="fused", compile=False)  # the choice is made while there is memory
    monkeypatch.setattr(session.Session, "start", start)
    check_goes_on(pack, data, strategy="fused", compile=False)
    assert sizes[-1] <= 6
    del sizes[:]
    train_pack(
        pack,
        data,
        strategy="fused",
        compile=False,
        checkpoints=Kept(content_after(pack, data, 3, strategy="fused", compile=False)),
    )
    assert sizes == [12, 6, 6, 6]  # dies in the second half; goes on there, without having tried twelve again


@STRATEGIES
def test_a_compiled_pack_goes_on_as_if_nothing_had_happened(make_spec, strategy):
    spec = make_spec(
        variants=["adamw"], seeds=[0], budget={"steps": 60}, grid={"lr": [2**-8, 2**-6, 1e30], "wd": [0.0, 0.1, 1e9]},
        training={"ema": 0.9},
    )  # fmt: skip
    check_goes_on(pack_of(spec, capacity=10), spec.workload.load(), strategy=strategy, compile=True)


def in_two_legs(spec, rung, capacity, **how):
    """Three packs to a rung, then every other run of all of them in one pack to the end: (results, why, what was kept)."""
    data, members, kept, chosen = spec.workload.load(), tuple(runs(spec)), Rungs(), []
    third = len(members) // 3
    for start in (0, third, 2 * third):
        first = Pack(members[start : start + third], capacity, until=rung)
        results = train_pack(first, data, checkpoints=kept, **how)
        assert {result.state for result in results} <= {"stopped", "diverged"}
        assert all(result.steps_done == rung and not result.metrics for result in results if result.state == "stopped")
    survivors = tuple(run for run in members if run.run_id in kept.holds)[::2]
    sources = tuple(sorted({kept.holds[run.run_id] for run in survivors}))
    last = Pack(survivors[::-1], capacity, rung, None, sources)
    return train_pack(last, data, checkpoints=kept, on_choice=chosen.append, **how), chosen[0].reason, kept


def check_two_legs(spec, rung, *, capacity=12, **how):
    whole = {one[0]: one for one in outcome(train_pack(pack_of(spec, capacity=capacity), spec.workload.load(), **how))}
    results, reason, kept = in_two_legs(spec, rung, capacity, **how)
    assert reason == f"goes on from a rung at step {rung}"
    assert len(results) >= 3
    assert outcome(results) == [whole[result.run.run_id] for result in results]
    return kept


LEGS = {"budget": {"steps": 60}, "evaluations": 4, "training": {"ema": 0.9}}


def test_a_compiled_run_that_goes_on_at_a_rung_has_the_numbers_of_one_that_never_paused(make_spec):
    spec = make_spec(
        variants=["adamw"], seeds=[0], grid={"lr": [2**-8, 2**-6, 1e30], "wd": [0.0, 0.1, 0.2, 1e9]}, **LEGS
    )
    check_two_legs(spec, 30, strategy="fused", compile=True)


def test_a_loop_that_goes_on_at_a_rung_has_the_numbers_of_one_that_never_paused(make_spec):
    schedule = {"name": "cosine_restarts", "first": 15, "mult": 1}
    spec = make_spec(variants=["sgd"], seeds=[0], schedule=schedule, budget={"steps": 60}, evaluations=4,
                     training={"snapshots": True})  # fmt: skip
    check_two_legs(spec, 15, strategy="loop", compile=False)


def test_runs_at_a_rung_are_kept_by_the_parts_that_fit_in_memory(make_spec, monkeypatch):
    monkeypatch.setattr(choice, "_choices", {})
    monkeypatch.setattr(choice, "rows_that_fit", lambda trial, device, most, share: 3)
    spec = make_spec(variants=["adamw"], seeds=[0], **LEGS)
    kept = check_two_legs(spec, 15, strategy="loop", compile=False)
    assert len(kept.kept) == 6


LOST = {
    "one of them": lambda contents: contents[1:],
    "all that is in them": lambda contents: [content[:-100] for content in contents],
    "the way they were trained in": lambda contents: [
        resealed(content, lambda saved: saved.update(compiled=True)) for content in contents
    ],
}


def test_runs_whose_rung_is_lost_start_over_to_the_same_numbers(make_spec, monkeypatch):
    spec = make_spec(
        variants=["sgd"], seeds=[0], budget={"steps": 20}, evaluations=2, grid={"lr": [0.1, 0.2, 0.4], "wd": [0.0]}
    )
    how = {"strategy": "loop", "compile": False}
    whole = {one[0]: one for one in outcome(train_pack(pack_of(spec), spec.workload.load(), **how))}
    for lose in LOST.values():
        monkeypatch.setattr(Rungs, "sources", lambda self, lose=lose: lose(list(self.kept.values())))
        results, reason, _ = in_two_legs(spec, 10, 3, **how)
        assert "rung" not in reason
        assert outcome(results) == [whole[result.run.run_id] for result in results]


def test_a_run_may_be_interrupted_again_and_again(make_spec):
    spec = make_spec(variants=["adamw"], budget={"steps": 100})
    data, pack = spec.workload.load(), pack_of(spec)
    whole = outcome(train_pack(pack, data, strategy="fused", compile=False))
    kept = Kept(dies_after=1)
    for _ in range(20):
        kept.saved = []
        try:
            results = train_pack(pack, data, strategy="fused", compile=False, checkpoints=kept)
            break
        except Died:
            continue
    assert outcome(results) == whole


def test_a_loop_for_want_of_fused_gradients_goes_on_as_a_loop(make_spec):
    # autocast under vmap does not do BatchNorm
    spec = make_spec(variants=["sgd"], training={"precision": "bf16"}, budget={"steps": 60}, seeds=[0])
    check_goes_on(pack_of(spec), spec.workload.load(), strategy="fused", compile=False)


def test_checkpoints_are_as_far_apart_as_asked_for(make_spec):
    """The clock goes a second a reading, and is read once a segment and once after each checkpoint."""
    spec = make_spec(variants=["sgd"], budget={"steps": 500}, evaluations=1)
    now, at = itertools.count(), []

    class Watched(Kept):
        def save(self, content):
            super().save(content)
            at.append(last[0])

    last = [0.0]

    def clock():
        last[0] = float(next(now))
        return last[0]

    data, pack = spec.workload.load(), pack_of(spec)
    train_pack(pack, data, strategy="fused", compile=False, checkpoints=Watched(every_s=5.0), clock=clock)
    assert at[0] == 5.0
    assert set(np.diff(at)) == {6.0}  # from the end of a save, a second after its beginning
    kept = Kept(every_s=1e9)
    train_pack(pack, data, strategy="fused", compile=False, checkpoints=kept, clock=clock)
    assert kept.saved == []


def test_the_seconds_before_a_checkpoint_are_kept_and_added_to(make_spec):
    spec = make_spec(variants=["sgd"], budget={"steps": 100}, evaluations=1)
    data, pack = spec.workload.load(), pack_of(spec)

    def trained(kept):
        now = itertools.count()
        return train_pack(pack, data, strategy="fused", compile=False, checkpoints=kept, clock=lambda: float(next(now)))

    whole = trained(Kept(every_s=1e9))
    content = content_after(pack, data, 2, strategy="fused", compile=False, clock=itertools.count().__next__)
    again = trained(Kept(content, every_s=1e9))
    seconds = [[(result.wall_s, result.device_s) for result in results] for results in (whole, again)]
    assert seconds[0][0][0] == 4.0  # four segments
    assert seconds[1][0][0] == 5.0  # and one reading more, after the first checkpoint
    for results in (whole, again):
        assert sum(result.device_s for result in results) == pytest.approx(results[0].wall_s)


@pytest.mark.parametrize("error", [OSError("disk full"), WorkloadError("no bucket")], ids=["os", "own"])
def test_what_saving_raises_is_raised(make_spec, error):
    class Broken(Kept):
        def save(self, content):
            raise error

    spec = make_spec(variants=["sgd"])
    with pytest.raises(type(error)) as raised:
        train_pack(pack_of(spec), spec.workload.load(), strategy="loop", compile=False, checkpoints=Broken())
    assert raised.value is error
