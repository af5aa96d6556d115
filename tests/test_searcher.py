"""What Tune is handed, and when: rounds of an adaptive sweep overlap, and packs that Tune drops come again."""

import pytest
from ray.tune.search import Searcher

from hpscan.grid import runs
from hpscan.rounds import AdaptiveRounds
from hpscan.searcher import HAND_OUTS, AdaptiveSearcher
from hpscan.store import Store
from tests.test_rounds import GRID, trained


@pytest.fixture
def searcher(make_spec, tmp_path):
    spec = make_spec(
        grid=GRID, variants=["sgdw"], adaptive={"most_cells": 0.4}, resources={"pack_size": 12, "workers": 2}
    )
    store = Store(tmp_path)
    store.save_spec(spec)
    places = {run.run_id: place for place, run in enumerate(runs(spec))}
    return AdaptiveSearcher(AdaptiveRounds(spec, store.location, frozenset(), 2), places), spec, store


def ask(searcher, n):
    """Trials that have been handed something, by name."""
    begun = []
    for number in range(n):
        name = f"t{len(searcher.handed)}-{number}-{sum(searcher.drops.values())}"
        if not isinstance(found := searcher.suggest(name), dict):
            return begun, found
        begun.append(name)
    return begun, None


def finish(searcher, spec, store, trial):
    trained(store, spec, [searcher.handed[trial]])
    searcher.ended(trial)


def test_a_sweep_is_handed_out_to_its_end_and_nothing_twice(searcher):
    searcher, spec, store = searcher
    seen, found, number = [], None, 0
    while found != Searcher.FINISHED:
        found = searcher.suggest(f"t{number}")
        number += 1
        if isinstance(found, dict):
            seen += [run.run_id for run in searcher.handed[f"t{number - 1}"].runs]
        elif found is None:
            finish(searcher, spec, store, next(iter(searcher.handed)))
        assert number < 200
    assert not searcher.handed
    assert len(seen) == len(set(seen)) == len(store.runs(spec.name))
    assert not searcher.lost


def test_the_second_round_waits_for_the_first_and_the_third_is_chosen_while_the_second_trains(searcher):
    searcher, spec, store = searcher
    first, found = ask(searcher, 50)
    assert first
    assert found is None  # all of the first round is in training, and the second depends on it
    for trial in first[:-1]:
        finish(searcher, spec, store, trial)
        assert searcher.suggest("early") is None
    finish(searcher, spec, store, first[-1])
    second = set(searcher.rounds.asked)
    handed, _ = ask(searcher, 50)
    assert searcher.rounds.asked > second
    ids = {run.run_id for trial in handed for run in searcher.handed[trial].runs}
    stored = set(store.runs(spec.name)["run_id"])
    assert not ids & stored
    # two rounds are out at once, the later chosen without what the earlier is going to say
    assert len(ids) > len(searcher.last)


def test_a_dropped_pack_is_handed_out_again_and_lost_in_the_end(searcher):
    searcher, _, _ = searcher
    assert isinstance(searcher.suggest("a"), dict)
    pack = searcher.handed["a"]
    for round_, trial in enumerate("abc"[:HAND_OUTS]):
        searcher.dropped(trial, "its worker died")
        if round_ < HAND_OUTS - 1:
            searcher.suggest("abc"[round_ + 1])
            assert searcher.handed["abc"[round_ + 1]] is pack
    assert searcher.lost == ["its worker died"]
    assert pack not in searcher.queue
