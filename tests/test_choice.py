"""The choice of a strategy on this machine."""

import itertools
from contextlib import nullcontext

import pytest
import torch

from hpscan import choice, marks
from hpscan.choice import Asked, choose
from hpscan.grid import Pack, runs
from hpscan.hardware import prepare_worker
from hpscan.operations import GAIN, Operations
from hpscan.session import examples_at_once
from hpscan.strategies import Fused

prepare_worker()


@pytest.fixture(autouse=True)
def _forget(monkeypatch, tmp_path):
    monkeypatch.setattr(choice, "_choices", {})
    monkeypatch.setattr(choice, "_programs", {})
    monkeypatch.setattr(choice, "_timings", {})
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def pack(make_spec):
    members = tuple(runs(make_spec(variants=["sgd"])))
    return Pack(members, len(members))


def asked(**changes):
    given = {
        "strategy": "auto", "may_compile": True, "cuda_graphs": False, "device": "cpu", "steps_to_come": 1e9,
        "memory_share": 1.0, **changes,
    }  # fmt: skip
    return Asked(**given)


def looked_at(share):
    """What is seen of operations that take a millisecond, a share of which gains nothing from being compiled."""
    seen = Operations()
    seen.count, seen.ungained_s, seen.whole_s = 100, 1e-3 * share, 1e-3
    return seen


def timings(monkeypatch, **seconds):
    """Replace the clock's part by figures: fused, loop, fused_compiled; a loop's update takes 0.1 ms, products nothing."""

    def measured(self, kind, rows, *, compiled):
        return seconds[f"{kind.name}{'_compiled' if compiled else ''}"]

    monkeypatch.setattr(choice._Trials, "_seconds", measured)
    monkeypatch.setattr(choice._Trials, "_update_s", lambda self: 1e-4)
    monkeypatch.setattr(choice, "operations", lambda call: looked_at(0.0))


@pytest.mark.parametrize(
    ("seconds", "steps", "expected"),
    [
        ({"fused": 1e-4, "loop": 1e-3, "fused_compiled": 3e-5}, 1e9, ("fused", True)),
        ({"fused": 1e-4, "loop": 1e-3}, 1e4, ("fused", False)),  # too short to compile
        ({"fused": 2e-3, "loop": 1e-3}, 1e4, ("loop", False)),
        ({"fused": 1e-2, "loop": 1e-3}, 1e9, ("loop", True)),  # hopeless: not even tried
        ({"fused": 2.9e-3, "loop": 1.1e-3}, 1e9, ("loop", True)),  # hardly faster, if at all
        ({"fused": 2e-3, "loop": 1e-3, "fused_compiled": 1.5e-3}, 1e9, ("loop", True)),
        ({"fused": 2e-3, "loop": 1e-3, "fused_compiled": 7e-4}, 1e9, ("fused", True)),
    ],
)
def test_auto_takes_the_faster_and_compiles_what_earns_it_back(monkeypatch, make_spec, pack, seconds, steps, expected):
    timings(monkeypatch, **seconds)
    chosen = choose(pack, make_spec().workload.load(), asked(steps_to_come=steps))
    assert (chosen.strategy, chosen.compiled) == expected
    assert "cannot be compiled" not in chosen.reason


@pytest.mark.parametrize(
    ("expected", "seconds", "compiled"),
    [
        ((6e-4, 20.0), {"fused": 2e-3, "loop": 1e-3}, False),  # saves 32 s of 80,000 run-steps, for 20 s of compiling
        ((4e-4, 20.0), {"fused": 2e-3, "loop": 1e-3, "fused_compiled": 5e-4}, True),
    ],
)
def test_what_compiling_is_expected_to_save_must_pay_for_it_twice_over(
    monkeypatch, make_spec, pack, expected, seconds, compiled
):
    timings(monkeypatch, **seconds)
    monkeypatch.setattr(choice._Trials, "_expected", lambda self, rows, fused_s: expected)
    assert choose(pack, make_spec().workload.load(), asked(steps_to_come=8e4)).compiled is compiled


def test_what_cannot_save_what_trying_costs_is_trained_in_a_loop_at_once(monkeypatch, make_spec, pack):
    data = make_spec().workload.load()
    timings(monkeypatch, loop=1e-3)  # fused is not timed
    chosen = choose(pack, data, asked(steps_to_come=6e3))
    assert (chosen.strategy, chosen.compiled) == ("loop", False)
    assert chosen.reason == "1000 µs a run-step in a loop, too few to try them fused"
    timings(monkeypatch, loop=1e-3, fused=1e-4)
    for more in (asked(steps_to_come=6e3, strategy="fused"), asked(steps_to_come=1.2e4)):
        monkeypatch.setattr(choice, "_choices", {})
        assert choose(pack, data, more).strategy == "fused"


def test_products_that_fusing_does_not_make_faster_are_nothing_that_trying_could_save(monkeypatch, make_spec, pack):
    timings(monkeypatch, loop=1e-3)
    monkeypatch.setattr(choice, "operations", lambda call: looked_at(0.9))
    assert choose(pack, make_spec().workload.load(), asked(steps_to_come=6e4)).reason.endswith("to try them fused")


def test_what_the_compilers_cache_holds_need_not_pay_for_compiling(monkeypatch, make_spec, pack):
    timings(monkeypatch, fused=2e-3, loop=1e-3, fused_compiled=5e-4)
    monkeypatch.setattr(choice._Trials, "_expected", lambda self, rows, fused_s: (5e-4, 20.0))
    data, few = make_spec().workload.load(), asked(steps_to_come=3e4)  # they save 15 s
    assert not choose(pack, data, few).compiled
    monkeypatch.setattr(choice, "_choices", {})
    assert choose(pack, data, asked(steps_to_come=1e9)).compiled
    monkeypatch.setattr(choice, "_choices", {})
    assert choose(pack, data, few).compiled
    monkeypatch.setattr(choice, "_choices", {})
    monkeypatch.setattr(marks, "version", lambda package: "another")
    assert not choose(pack, data, few).compiled


@pytest.mark.parametrize(
    ("first_steps", "alike", "expected"),
    [
        (4e4, True, ("fused", False)),  # compiling would save 60 of 80 s
        (2e5, True, ("fused", True)),
        (4e4, False, ("loop", False)),  # rather than rounding by what is beside
        (2e5, False, ("fused", True)),
        (None, False, ("fused", True)),
    ],
)
def test_what_somebody_waits_to_see_is_compiled_if_that_pays_by_itself(
    monkeypatch, make_spec, pack, first_steps, alike, expected
):
    timings(monkeypatch, fused=2e-3, loop=2.1e-3, fused_compiled=5e-4)
    monkeypatch.setattr(choice._Trials, "_expected", lambda self, rows, fused_s: (5e-4, 60.0))
    monkeypatch.setattr(choice._Trials, "_rounds_alike", lambda self, rows: alike)
    monkeypatch.setattr(choice._Trials, "_update_s", lambda self: 0.0)
    monkeypatch.setattr(choice, "compiled_before", lambda *what: first_steps is not None)  # the same on every machine
    data = make_spec().workload.load()
    chosen = choose(pack, data, asked(first_steps=first_steps))
    assert (chosen.strategy, chosen.compiled) == expected
    assert choose(pack, data, asked()).compiled  # what comes after


def test_whether_uncompiled_runs_round_by_those_beside_them_is_found_out(monkeypatch, make_spec):
    spec = make_spec(variants=["sgdw"], seeds=range(8))
    members, data = tuple(runs(spec)), spec.workload.load()
    assert len(members) > 8
    trials = choice._Trials(Pack(members, len(members)), data, asked())
    assert trials._rounds_alike(8)
    assert trials._rounds_alike(len(members))
    advance = Fused.advance

    def by_rows(self, *given, **more):
        return advance(self, *given, **more) * (1 + 1e-7 * (self.count > 8))

    monkeypatch.setattr(Fused, "advance", by_rows)
    assert trials._rounds_alike(8)
    assert not trials._rounds_alike(len(members))


@pytest.mark.parametrize(
    ("steps", "slower", "rows"),
    [
        (1e5, 1.2, 16),  # 2 s a worker, for 20 s of compiling
        (1e7, 1.2, 32),
        (1e5, 9.0, 32),
    ],
)
def test_rows_that_the_compilers_cache_has_are_taken_where_that_ends_sooner(
    monkeypatch, make_spec, steps, slower, rows
):
    members = tuple(itertools.islice(itertools.cycle(runs(make_spec(variants=["sgd"]))), 32))
    of = {8: 9e-4, 16: 1e-4, 32: 9e-5}
    compiled_for = []

    def measured(self, kind, rows, *, compiled):
        if compiled:
            compiled_for.append(rows)
        return 1e-2 if kind.name == "loop" else of[rows] / (2 if compiled else 1)

    monkeypatch.setattr(choice._Trials, "_seconds", measured)
    monkeypatch.setattr(choice._Trials, "_expected", lambda self, rows, fused_s: (fused_s / 2, 20.0))
    data, wanted = make_spec().workload.load(), asked(steps_to_come=steps, strategy="fused")
    of[32] = 1e-3
    assert choose(Pack(members, 32), data, wanted).rows == 16
    of[32] = 1e-4
    of[16] = slower * of[32]
    for _ in range(2):
        monkeypatch.setattr(choice, "_choices", {})
        assert choose(Pack(members, 32), data, wanted).rows == rows
    assert compiled_for == [16, rows, rows]


def test_what_was_tried_and_lost_is_not_tried_again_for_less(monkeypatch, make_spec, pack):
    monkeypatch.setattr(choice._Trials, "_expected", lambda self, rows, fused_s: (5e-4, 20.0))
    data, few = make_spec().workload.load(), asked(steps_to_come=3e4)  # they save 15 s
    timings(monkeypatch, fused=2e-3, loop=1e-3, fused_compiled=1.5e-3)
    assert choose(pack, data, asked(steps_to_come=1e9)).strategy == "loop"
    monkeypatch.setattr(choice, "_choices", {})
    timings(monkeypatch, fused=2e-3, loop=1e-3)
    assert choose(pack, data, few).reason.endswith("not worth compiling")


def test_another_optimizer_is_trained_likewise_in_as_many_rows_as_it_leaves_memory_for(monkeypatch, make_spec):
    spec = make_spec(variants=["sgd", "sgdw", "adamw"])
    data, packs = spec.workload.load(), {}
    for run in runs(spec):
        packs.setdefault(run.variant.name, []).append(run)
    sgd, sgdw, adamw = (Pack(tuple(members), len(members)) for members in packs.values())
    first = choose(sgd, data, asked(may_compile=False))
    assert choose(sgdw, data, asked(may_compile=False)) is first  # the same optimizer
    monkeypatch.setattr(choice._Trials, "_seconds", None)  # nothing is timed
    monkeypatch.setattr(choice, "rows_that_fit", lambda trial, device, most, share: 3)
    other = choose(adamw, data, asked(may_compile=False))
    assert (other.strategy, other.compiled, other.rows) == (first.strategy, first.compiled, min(3, first.rows))
    assert other.reason == f"{first.reason}; tried with {sgd.runs[0].variant.optimizer}"
    assert choose(adamw, data, asked(may_compile=False)) is other


def test_a_compilers_cache_that_cannot_be_used_is_none(monkeypatch, make_spec, pack, tmp_path):
    import torch._dynamo  # noqa: F401  (with such a cache it cannot be)

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "below"))
    timings(monkeypatch, fused=1e-4, loop=1e-3, fused_compiled=3e-5)
    assert choose(pack, make_spec().workload.load(), asked()).compiled


@pytest.mark.parametrize(
    ("seconds", "capacity", "rows"),
    [
        ({8: 3.0, 16: 2.0, 32: 1.0}, 32, 32),
        ({8: 3.0, 16: 2.0, 32: 2.5}, 32, 16),  # what more work on leaves the cache
        ({8: 1.0, 16: 0.99, 32: 0.98}, 32, 8),  # nothing to be gained from more: the first come sooner
        ({8: 1.0, 16: 1.1, 32: 0.5}, 32, 32),  # the clock wavered
        ({8: 1.0, 16: 0.5, 32: 0.6, 64: 0.7}, 128, 16),  # 128 are not timed
        ({13: 1.0, 25: 1.2}, 25, 13),  # equal parts
        ({14: 1.0}, 14, 14),  # halves are too few
        ({3: 1.0}, 3, 3),
    ],
)
def test_as_many_rows_train_together_as_are_fastest(monkeypatch, make_spec, pack, seconds, capacity, rows):
    monkeypatch.setattr(
        choice._Trials, "_seconds", lambda self, kind, rows, *, compiled: 1e9 if kind.name == "loop" else seconds[rows]
    )
    members = tuple(itertools.islice(itertools.cycle(pack.runs), capacity))
    assert choose(Pack(members, capacity), make_spec().workload.load(), asked(may_compile=False)).rows == rows


@pytest.mark.parametrize(
    ("strategy", "slower", "share", "tried"),
    [
        ("auto", GAIN + 0.1, 0.0, {8}),
        ("auto", GAIN - 0.1, 0.0, {8, 16}),
        ("auto", 1.5, 0.9, {8}),  # products and convolutions that compiling leaves as they are
        ("auto", 1.5, 0.4, {8, 16}),
        ("fused", GAIN + 0.1, 0.9, {8, 16}),
    ],
)
def test_more_rows_are_tried_only_where_compiling_could_help(
    monkeypatch, make_spec, pack, strategy, slower, share, tried
):
    sizes = set()

    def measured(self, kind, rows, *, compiled):
        if kind.name == "fused":
            sizes.add(rows)
        return slower * 8e-3 / rows if kind.name == "fused" else 1e-3

    monkeypatch.setattr(choice._Trials, "_seconds", measured)
    monkeypatch.setattr(choice, "operations", lambda call: looked_at(share))
    monkeypatch.setattr(choice._Trials, "_worth_trying", lambda self, alone_s: True)
    members = tuple(itertools.islice(itertools.cycle(pack.runs), 16))
    choose(Pack(members, 16), make_spec().workload.load(), asked(strategy=strategy, may_compile=False))
    assert sizes == tried


@pytest.mark.parametrize(("steps", "compiled"), [(1.6e5, False), (2e5, True)])
def test_a_loops_update_is_compiled_where_that_pays(monkeypatch, make_spec, pack, steps, compiled):
    timings(monkeypatch, fused=1e-1, loop=1e-3)
    monkeypatch.setattr(choice._Trials, "_expected", lambda self, rows, fused_s: (fused_s, 1.0))
    chosen = choose(pack, make_spec().workload.load(), asked(steps_to_come=steps))
    assert (chosen.strategy, chosen.compiled) == ("loop", compiled)


CNN = {"name": "digits", "model": {"name": "cnn", "channels": [4]}}


@pytest.mark.parametrize(("steps", "compiled"), [(1e3, False), (1e9, True)])
def test_how_a_loops_runs_are_judged_is_compiled_where_that_pays(monkeypatch, make_spec, steps, compiled):
    timings(monkeypatch, fused=1e-1, loop=1e-3)
    monkeypatch.setattr(choice._Trials, "_expected", lambda self, rows, fused_s: (fused_s, 1.0))
    monkeypatch.setattr(choice._Trials, "_update_s", lambda self: 0.0)
    spec = make_spec(variants=["sgd"], workload=CNN)
    members = tuple(runs(spec))
    chosen = choose(Pack(members, len(members)), spec.workload.load(), asked(steps_to_come=steps))
    assert (chosen.strategy, chosen.compiled) == ("loop", compiled)
    program = choice._programs.get((choice._identity(members[0].recipe, asked()), True))
    assert compiled == (program is not None and len(program.from_folded.ready) == 1)


def test_judging_saves_in_proportion_to_the_runs_to_come_and_how_often_they_are_judged(monkeypatch, make_spec):
    ticks = itertools.count()
    monkeypatch.setattr(choice.time, "perf_counter", lambda: float(next(ticks)))

    class Seen(nullcontext, Operations):
        def __init__(self):
            Operations.__init__(self)
            self.enter_result, self.count, self.ungained_s = self, 7, 0.25

    monkeypatch.setattr("hpscan.operations.Operations", Seen)
    found = {}
    for evaluations, steps in ((1, 120), (1, 1200), (12, 1200)):
        spec = make_spec(variants=["sgd"], workload=CNN, evaluations=evaluations)
        members, data = tuple(runs(spec)), spec.workload.load()
        trials = choice._Trials(Pack(members, len(members)), data, asked(steps_to_come=steps))
        found[evaluations, steps], cost_s = trials._judging()
        assert cost_s == choice.JUDGING_S + 7 * choice.OPERATION_S
    assert found[1, 1200] == pytest.approx(10 * found[1, 120])
    train, validation, test = (len(part.targets) for part in (data.train, data.validation, data.test))
    runs_to_come, chunk = 1200 / members[0].recipe.steps, examples_at_once(data)
    of_all = runs_to_come * (train + validation + test) / chunk
    assert found[1, 1200] == pytest.approx(of_all * (1.0 - 0.25) * (1 - 1 / GAIN))
    assert found[12, 1200] / found[1, 1200] == pytest.approx(
        (train + 12 * validation + test) / (train + validation + test)
    )


def test_stacked_judging_is_never_compiled(make_spec, pack):
    assert choice._Trials(pack, make_spec().workload.load(), asked())._judging() == (0.0, 0.0)


def test_a_model_whose_judging_the_compiler_cannot_do_is_trained_in_a_loop_all_the_same(monkeypatch, make_spec):
    def refused(self, *given):
        raise RuntimeError("data-dependent\nand more")

    timings(monkeypatch, fused=1e-1, loop=1e-3)
    monkeypatch.setattr(choice._Trials, "_expected", lambda self, rows, fused_s: (fused_s, 1.0))
    monkeypatch.setattr("hpscan.program._Compiled.__call__", refused)
    spec = make_spec(variants=["sgd"], workload=CNN)
    members = tuple(runs(spec))
    chosen = choose(Pack(members, len(members)), spec.workload.load(), asked())
    assert (chosen.strategy, chosen.compiled) == ("loop", False)
    assert chosen.reason.endswith("; cannot be compiled: RuntimeError: data-dependent")


@pytest.mark.parametrize(("loop_s", "rows"), [(1e-6, 1000), (0.1, 4), (10.0, 1)])
def test_a_loops_parts_take_some_seconds_of_as_many_runs_as_that_takes(monkeypatch, make_spec, pack, loop_s, rows):
    timings(monkeypatch, fused=1e9, loop=loop_s)
    monkeypatch.setattr(choice, "rows_that_fit", lambda trial, device, most, share: 1000)
    assert choose(pack, make_spec().workload.load(), asked(may_compile=False)).rows == rows  # 12 steps a run


def test_a_loops_update_is_timed_on_a_copy(make_spec, pack):
    data = make_spec().workload.load()
    assert 0 < choice._Trials(pack, data, asked())._update_s() < 1


def test_without_a_compiler_nothing_is_compiled(monkeypatch, make_spec, pack):
    timings(monkeypatch, fused=1e-4, loop=1e-3)
    assert not choose(pack, make_spec().workload.load(), asked(may_compile=False)).compiled


def test_the_choice_is_made_once_and_says_why(make_spec, pack):
    data = make_spec().workload.load()
    first = choose(pack, data, asked(may_compile=False))
    assert "µs a run-step fused" in first.reason
    assert first.seconds > 0
    assert choose(pack, data, asked(may_compile=False)) is first
    assert choose(pack, data, asked(strategy="loop", may_compile=False)).strategy == "loop"


def test_what_cannot_be_compiled_is_trained_uncompiled_with_a_note(monkeypatch, make_spec, pack):
    original = choice._Trials._seconds

    def broken(self, kind, rows, *, compiled):
        if compiled and kind.name == "fused":
            raise RuntimeError("the compiler gave up\nand more")
        return original(self, kind, rows, compiled=compiled)

    monkeypatch.setattr(choice._Trials, "_seconds", broken)
    chosen = choose(pack, make_spec().workload.load(), asked(strategy="fused"))
    assert (chosen.strategy, chosen.compiled) == ("fused", False)
    assert chosen.reason.endswith("cannot be compiled: RuntimeError: the compiler gave up")


def test_a_loops_update_that_cannot_be_compiled_is_left_as_it_is(monkeypatch, make_spec, pack):
    """As where there is a C++ compiler that does not work: an MLP is judged stacked, so nothing else would tell."""

    def broken(*_):
        raise RuntimeError("the compiler gave up")

    monkeypatch.setattr(choice._Trials, "_pays", lambda *_: True)
    monkeypatch.setattr("hpscan.program._Compiled._compile", broken)
    chosen = choose(pack, make_spec().workload.load(), asked(strategy="loop"))
    assert (chosen.strategy, chosen.compiled) == ("loop", False)
    assert chosen.reason.endswith("cannot be compiled: RuntimeError: the compiler gave up")


def test_a_loop_that_is_all_there_is_left_needs_memory_for_one_run_only(monkeypatch, make_spec, pack):
    def seconds(self, kind, rows, *, compiled):
        if rows > 1:
            raise torch.OutOfMemoryError("out of memory")
        return 1e-3

    monkeypatch.setattr(choice._Trials, "_seconds", seconds)
    chosen = choose(pack, make_spec().workload.load(), asked())
    assert (chosen.strategy, chosen.reason) == ("loop", "no fused gradients: OutOfMemoryError: out of memory")


def test_fewer_rows_are_held_where_memory_is_short(monkeypatch, make_spec, pack):
    monkeypatch.setattr(choice, "rows_that_fit", lambda trial, device, most, share: 5)
    assert choose(pack, make_spec().workload.load(), asked(may_compile=False)).rows == 5
