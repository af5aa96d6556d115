"""A sweep by halving, with a planted metric instead of training: what Tune is handed, interrupted anywhere."""

from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray.tune.search import Searcher

from hpscan.course import Course
from hpscan.grid import runs
from hpscan.rungs import next_round
from hpscan.searcher import HAND_OUTS, CourseSearcher
from hpscan.store import Store

STEPS, EVERY, RUNGS = 80, 10, (20, 40)


def value(run, step):
    """Of a run at a step; some cells diverge, and curves cross."""
    bits = int(run.run_id[:4], 16)
    return (bits % 7) / 7 + (bits % 5) * step / 400 + 0.001 * run.seed


def diverges_at(run):
    return {0: 13, 1: 55}.get(int(run.run_id[4:6], 16) % 12)


def train(store, pack):
    """What a worker stores of a pack."""
    curves, ended, at_rung = [], [], []
    for run in pack.runs:
        at = diverges_at(run)
        last = min(pack.end, at or pack.end)
        curves += [
            {"run_id": run.run_id, "step": step, "val_loss": value(run, step)} for step in range(EVERY, last + 1, EVERY)
        ]
        row = {"run_id": run.run_id, "variant": run.cell.variant, "lr": run.cell.lr, "wd": run.cell.wd, "seed": run.seed,
               "config": "{}", "steps_done": last, "strategy": "fused", "compiled": False, "pack_id": pack.pack_id,
               "finished_at": datetime.now(UTC)}  # fmt: skip
        if at is not None and at <= pack.end:
            ended.append(row | {"state": "diverged"})
        elif pack.end < STEPS:
            at_rung.append(row | {"state": "stopped"})
        else:
            ended.append(row | {"state": "completed", "val_loss": value(run, STEPS)})
    if at_rung:
        store.save_rung("tiny", pack.pack_id, at_rung)
        store.save_checkpoint("tiny", pack.pack_id, b"")
    store.save_pack("tiny", pack.pack_id, ended, curves)


def launched(spec, store, dies_after=float("inf"), loses=()):
    """Train round by round; returns the packs trained."""
    first, every = next_round(spec, store), runs(spec)
    if first.stopped:
        store.stop("tiny", first.stopped)
    course, trained = Course(spec, store.location, every, 2, first), []
    planned = course.packs()
    while planned:
        for number, pack in enumerate(planned):
            if len(trained) >= dies_after:
                return trained
            trained.append(pack)
            if number not in loses:
                train(store, pack)
        planned = course.proceed(lambda _: None)
    return trained


def outcome(store):
    rows = store.runs("tiny").sort_values("run_id").reset_index(drop=True)
    return rows[["run_id", "state", "steps_done", "val_loss"]]


@pytest.fixture
def spec(make_spec):
    return make_spec(
        variants=["sgd", "sgdw"], stop={"name": "halving", "rungs": [0.25, 0.5], "reduction": 2}, evaluations=8,
        budget={"steps": STEPS}, resources={"pack_size": 5},
    )  # fmt: skip


def test_what_goes_on_is_what_an_oracle_says(spec, tmp_path):
    store = Store(tmp_path)
    packs = launched(spec, store)
    found = store.runs("tiny")
    for (variant, ), panel in pd.DataFrame([
        {"variant": run.cell.variant, "cell": (run.cell.lr, run.cell.wd), "run": run} for run in runs(spec)
    ]).groupby(["variant"]):  # fmt: skip
        cells = {cell: list(part["run"]) for cell, part in panel.groupby("cell")}
        for rung in RUNGS:
            n_kept = -(-len(cells) // 2)
            alive = {cell: members for cell, members in cells.items()
                     if all((diverges_at(run) or STEPS + 1) > rung for run in members)}  # fmt: skip
            ranked = sorted(alive, key=lambda cell: sum(value(run, rung) for run in alive[cell]))
            cells = {cell: alive[cell] for cell in ranked[:n_kept]}
        mine = found[(found["variant"] == variant) & (found["state"] != "stopped")]
        beyond = mine[mine["steps_done"] > RUNGS[-1]]
        assert set(zip(beyond["lr"], beyond["wd"], strict=True)) == set(cells)
    assert len(found) == 48
    assert {pack.until for pack in packs} == {20, 40, 80}
    assert not next_round(spec, store).open


def test_later_packs_are_full_and_say_what_they_go_on_from(spec, tmp_path):
    packs = launched(spec, Store(tmp_path))
    capacity = packs[0].capacity
    for until in (40, 80):
        later = [pack for pack in packs if pack.until == until]
        assert {pack.capacity for pack in later} == {capacity}
        assert all(pack.sources and pack.since == {40: 20, 80: 40}[until] for pack in later)
        total = sum(len(pack.runs) for pack in later)
        assert len(later) <= total / capacity + 2  # one pack of a variant may be short


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deaths=st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_killed_at_any_moment_it_comes_to_the_same(spec, tmp_path_factory, deaths):
    spec = spec.model_copy(update={"variants": ("sgd",)})
    whole, killed = (Store(tmp_path_factory.mktemp(name)) for name in ("whole", "killed"))
    once = launched(spec, whole)
    trained = [pack for dies in deaths for pack in launched(spec, killed, dies_after=dies)] + launched(spec, killed)
    pd.testing.assert_frame_equal(outcome(whole), outcome(killed))
    assert len(trained) <= len(once) + len(
        deaths
    )  # nothing is trained twice; a broken round may be cut into more packs


def test_a_lost_pack_holds_up_its_landscape_and_is_not_tried_for_ever(spec, tmp_path):
    store = Store(tmp_path)
    launched(spec, store, loses={0})
    assert next_round(spec, store).open
    launched(spec, store)
    whole = Store(tmp_path / "whole")
    launched(spec, whole)
    pd.testing.assert_frame_equal(outcome(whole), outcome(store))


def test_without_the_rule_the_stopped_runs_are_trained_to_the_end(spec, make_spec, tmp_path):
    store = Store(tmp_path)
    launched(spec, store)
    stopped = set(store.runs("tiny").query("state == 'stopped'")["run_id"])
    store.tidy("tiny", complete=True)
    plain = spec.model_copy(update={"stop": make_spec().stop})
    assert next_round(plain, store).open == stopped
    assert {run.run_id for pack in launched(plain, store) for run in pack.runs} == stopped
    assert set(store.runs("tiny")["state"]) == {"completed", "diverged"}
    assert not next_round(spec, store).open  # and with the rule again nothing is to do


def test_more_seeds_are_judged_with_the_old_ones(spec, tmp_path):
    store, fresh = Store(tmp_path / "a"), Store(tmp_path / "b")
    launched(spec, store)
    store.tidy("tiny", complete=True)
    more = spec.model_copy(update={"seeds": (0, 1, 2)})
    launched(more, store)
    launched(more, fresh)
    mine, theirs = (outcome(each).set_index("run_id") for each in (store, fresh))
    assert set(mine.index) == set(theirs.index)
    assert not next_round(more, store).open
    ended = theirs[theirs["state"] != "stopped"]
    pd.testing.assert_frame_equal(mine.loc[ended.index], ended)  # what goes on is the same; what had ended stays


def test_tune_is_handed_a_round_when_the_one_before_has_ended(spec, tmp_path):
    store = Store(tmp_path)
    every = runs(spec)
    told = []
    places = {run.run_id: place for place, run in enumerate(every)}
    course = Course(spec, store.location, every, 2, next_round(spec, store))
    planned = course.packs()
    handed = CourseSearcher(course, places, told.append)
    configs = [handed.suggest(str(number)) for number in range(len(planned))]
    assert [config["runs"] for config in configs] == [[places[run.run_id] for run in pack.runs] for pack in planned]
    assert handed.suggest("early") is None
    for number, pack in enumerate(planned):
        train(store, pack)
        handed.ended(str(number))
        assert handed.suggest("still") is None or number == len(planned) - 1
    assert told[0].states["stopped"] > 0
    assert set(handed.handed) == {"still"}
    assert handed.course.round.legs is not None
    handed.queue.clear()
    for _ in range(HAND_OUTS - 1):
        handed.dropped("still", "its worker died")
        assert handed.suggest("still") is not None  # the same again
    handed.dropped("still", "its worker died")
    assert handed.lost == ["its worker died"]
    assert handed.suggest("next") == Searcher.FINISHED  # it was lost, and so were the others for all the course knows
