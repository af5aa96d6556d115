import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from hpscan import progress
from hpscan.progress import PackSummary, Progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test winds."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def make(*, terminal=False, total=100, done_before=20):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    return Progress(
        console,
        "demo",
        "val_loss",
        ("sgd", "sgdw"),
        total,
        {"completed": done_before - 2, "diverged": 2},
        12.0 * (total - done_before),
    ), console.file


def pack(pack_id, variant="sgd", best=(0.5, 0.1, 0.01), **states):
    return PackSummary(pack_id, variant, states, best, run_steps=12 * sum(states.values()))


def test_counts_states_and_keeps_the_best_run_of_each_variant(clock):
    shown, _ = make()
    shown.add(pack("a", completed=8, diverged=2))
    shown.add(pack("b", best=(0.3, 0.2, 0.02), completed=9, failed=1))
    shown.add(pack("c", "sgdw", best=None, diverged=10))
    assert shown.line() == ("demo: 50 done, 14 diverged, 1 failed, 50 missing of 100 runs; best val_loss: sgd 0.3")


def test_a_metric_that_was_undefined_throughout_is_no_best(clock):
    shown, _ = make()
    shown.add(pack("a", best=(float("inf"), 0.1, 0.01), completed=10))
    assert shown.line().endswith("missing of 100 runs")


def test_a_retried_pack_counts_once(clock):
    shown, _ = make()
    shown.add(pack("a", failed=10))
    shown.add(pack("a", completed=10))
    assert (shown.ended, shown.count("failed")) == (10, 0)


def test_a_pack_that_is_tried_again_in_other_parts_counts_once(clock):
    shown, _ = make()
    for first, n in ((0, 4), (4, 4), (0, 3), (3, 3), (6, 3), (9, 1)):
        shown.add(replace(pack("a", completed=n), first=first))
    assert shown.ended == 10
    shown.add(replace(pack("a", completed=5), first=5))  # from a checkpoint
    assert shown.ended == 3 + 3 + 5


def test_the_eta_leaves_out_what_starting_cost(clock):
    shown, _ = make()
    assert shown.eta_s is None
    clock.now += 60
    shown.add(pack("a", completed=10))
    assert shown.eta_s is None
    clock.now += 10
    shown.add(pack("b", completed=20))
    assert shown.eta_s == pytest.approx(10 / 20 * 50)
    assert ", about 25 s to go" in shown.line()


def test_the_eta_counts_steps_where_runs_pause_at_rungs(clock):
    shown, _ = make()
    shown.add(PackSummary("a until 3", "sgd", {}, None, run_steps=30))
    clock.now += 10
    shown.add(PackSummary("b until 3", "sgd", {"diverged": 1}, None, run_steps=30))
    shown.add(PackSummary("rung", "", {"stopped": 15}, None))
    assert shown.eta_s == pytest.approx(10 / 30 * (12 * 80 - 60))
    assert shown.line().startswith("demo: 36 done, 3 diverged, 15 stopped, 0 failed, 64 missing of 100 runs")


def test_without_a_terminal_there_are_plain_lines_now_and_then(clock):
    shown, out = make()
    with shown:
        for index in range(7):
            clock.now += 2
            shown.add(pack(str(index), completed=10))
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith("demo: 90 done, 2 diverged, 0 failed, 10 missing of 100 runs")
    assert "\x1b" not in out.getvalue()


def test_what_was_said_last_is_not_said_again_at_the_end(clock):
    shown, out = make()
    with shown:
        clock.now += 6
        shown.add(pack("0", completed=50))
    assert len(out.getvalue().splitlines()) == 1


def test_a_notebook_gets_plain_lines():
    shown, out = make(terminal=True)
    shown.console.is_jupyter = True
    shown.__post_init__()
    shown.console.is_jupyter = False  # or it would look for IPython's display
    with shown:
        shown.add(pack("0", completed=50))
    assert "\x1b[?25l" not in out.getvalue()  # no cursor is hidden


def test_on_a_terminal_the_table_is_live_and_one_line_stays():
    shown, out = make(terminal=True)
    with shown:
        shown.add(pack("a", completed=80))
    assert "\x1b" in out.getvalue()
    assert "demo: 100 done" in out.getvalue().splitlines()[-1]
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert any(line.strip().startswith("variant") for line in plain.splitlines())


def test_the_seconds_of_compiling_are_told_from_one_on(clock):
    shown, _ = make()
    shown.add(PackSummary("a", "sgd", {"completed": 10}, None, compile_s=0.4))
    assert "compiling" not in shown.line()
    shown.add(PackSummary("b", "sgd", {"completed": 10}, None, compile_s=11.0))
    assert "11 s of all workers' time spent on compiling" in shown.line()
