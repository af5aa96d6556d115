"""The list of sweeps: each is told of, in order, and sent again only when it has changed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from hpscan.dashboards import overview
from hpscan.dashboards.launching import Launcher
from hpscan.dashboards.reading import Pace, Reader
from hpscan.dashboards.server import make_app
from hpscan.grid import runs
from hpscan.landscape import STATES
from hpscan.lease import held
from hpscan.rounds import AdaptiveRounds
from hpscan.store import Store

from .conftest import called, parts_of, result_of, text_of

OVER = Pace(datetime(2026, 1, 1, tzinfo=UTC), is_running=False, eta_s=None)


def test_an_empty_store_says_what_to_run(tmp_path):
    page = overview.page(Reader(Store(tmp_path)))
    assert "No sweeps yet" in text_of(page)
    assert f"hpscan launch quickstart --store {tmp_path}" in text_of(page)


def test_the_list_tells_progress_the_best_and_each_landscape(reader):
    page = overview.page(reader)
    told = text_of(page)
    assert "incomplete" in told  # nothing has landed of late
    assert "12 to go" in told
    assert "Best so far" in told
    assert "adamw, lr 2⁻⁴, wd 2⁻⁶" in told
    assert len(parts_of(page, "Img")) == 3


def test_a_sweep_without_a_readable_spec_does_not_hide_the_others(reader, store):
    (store.root / "broken").mkdir()
    (store.root / "broken" / "spec.yaml").write_text("name: [", encoding="utf-8")
    told = text_of(overview.page(reader))
    assert "tiny" in told
    assert "not YAML" in told


def test_what_has_landed_last_comes_first(reader, store, make_spec):
    for name, day in (("late", 2), ("early", 1)):
        spec = make_spec(name=name)
        store.save_spec(spec)
        row = {**result_of(runs(spec)[0]), "finished_at": datetime(2027, 1, day, tzinfo=UTC)}
        store.save_pack(name, "p", [row], [])
    store.save_spec(make_spec(name="unbegun"))
    names = [link.children for link in parts_of(overview.page(reader), "Link")]
    assert names == ["late", "early", "tiny", "unbegun"]


def test_a_sweep_is_found_by_any_part_of_its_name(reader, store, make_spec):
    store.save_spec(make_spec(name="Other-1"))
    assert [link.children for link in parts_of(overview._cards(reader, "oTHER"), "Link")] == ["Other-1"]
    assert "No sweep of this store has “<b>” in its name" in text_of(overview._cards(reader, "<b>"))


def test_a_folder_s_name_is_quoted_in_its_link(reader, store):
    (store.root / "tiny").rename(store.root / "a?b#c d")
    (link,) = parts_of(overview.page(reader), "Link")
    assert (link.children, link.href) == ("a?b#c d", "/sweeps/a%3Fb%23c%20d")


@pytest.fixture
def now(monkeypatch):
    """The time of day that the list goes by; nothing passes by itself."""

    class Fixed(datetime):
        at = datetime(2026, 1, 3, 12, 0, 30, tzinfo=UTC)

        @classmethod
        def now(cls, tz=None):
            return cls.at

    monkeypatch.setattr(overview, "datetime", Fixed)
    return Fixed


@pytest.mark.parametrize(("seconds", "again"), [(10, False), (40, True)])
def test_an_open_list_says_from_minute_to_minute_how_long_ago(reader, now, seconds, again):
    shown = overview._shown(reader, "")
    now.at += timedelta(seconds=seconds)
    assert (overview._shown(reader, "") != shown) is again


@pytest.mark.usefixtures("now")
def test_an_open_list_says_at_once_that_a_launch_has_ended(reader, store):
    with held(store, "tiny"):
        shown = overview._shown(reader, "")
    reader._looked.clear()
    assert overview._shown(reader, "") != shown


@pytest.mark.usefixtures("now")
def test_the_list_is_sent_again_only_when_it_has_changed(reader, store, make_spec):
    (shown,) = parts_of(overview.page(reader), "Store")
    with TestClient(make_app(reader, Launcher(store)), base_url="http://localhost") as client:

        def refreshed(shown, wanted):
            return called(client, "sweeps.children", {"sweeps-shown.data": shown, "search.value": wanted})

        assert refreshed(shown.data, None) == {}
        found = refreshed(shown.data, "tin")["sweeps-shown"]["data"]
        assert refreshed(found, "tin") == {}
        store.save_spec(make_spec(name="tin-2"))
        assert "tin-2" in str(refreshed(found, "tin")["sweeps"])


@given(st.fixed_dictionaries(dict.fromkeys(STATES, st.integers(0, 500))))
def test_the_bar_is_as_long_as_what_has_ended(states):
    total = sum(states.values())
    told = overview.progress({"states": states, "runs": total}, OVER)
    bar = told.children[0]
    share = (total - states["missing"]) / max(total, 1)
    assert sum(float(part.style["width"].rstrip("%")) for part in bar.children) == pytest.approx(100 * share, abs=0.05)
    assert abs(int(getattr(bar, "aria-valuenow")) - 100 * share) <= 0.5
    for state in ("completed", "diverged", "stopped", "failed"):
        assert (f"{states[state]} {state}" in text_of(told)) is bool(states[state])


@pytest.mark.parametrize(
    ("missing", "failed", "running", "word"),
    [(0, 0, False, "complete"), (0, 1, False, "with failures"), (3, 1, True, "running"), (3, 0, False, "incomplete")],
)
def test_the_condition_of_a_sweep_is_a_word(missing, failed, running, word):
    status = {"states": dict.fromkeys(STATES, 0) | {"missing": missing, "failed": failed}, "runs": 9}
    assert text_of(overview._condition(status, Pace(None, is_running=running, eta_s=None))) == word


def test_a_sweep_that_runs_says_how_long_it_will(make_spec):
    states = dict.fromkeys(STATES, 0) | {"completed": 5, "missing": 4}
    told = overview.progress({"states": states, "runs": 9}, Pace(None, is_running=True, eta_s=300.0))
    assert text_of(told).strip() == "5 completed · 4 to go · about 5 min left"
    ended = Pace(datetime.now(UTC) - timedelta(days=3), is_running=False, eta_s=None)
    assert "ended 3 d ago" in text_of(overview.progress({"states": states | {"missing": 0}, "runs": 5}, ended))


def test_an_adaptive_sweep_has_ended_when_it_has_trained_what_it_may(tmp_path, make_spec):
    spec, store = make_spec(adaptive={"most_cells": 0.5}, variants=["sgdw"]), Store(tmp_path / "adaptive")
    store.save_spec(spec)
    every = runs(spec)
    half = list(dict.fromkeys((run.cell.lr, run.cell.wd) for run in every))[:6]
    rows = [result_of(run) | {"finished_at": datetime.now(UTC)} for run in every if (run.cell.lr, run.cell.wd) in half]
    store.save_pack("tiny", "p", rows[:8], [])
    with held(store, "tiny"):
        reader = Reader(store)
        assert "8 completed · at most 4 to go · about" in text_of(overview.page(reader))
        assert "running" in text_of(overview.page(reader))
    store.save_pack("tiny", "q", rows[8:], [])
    told = text_of(overview.page(Reader(store)))
    assert "12 completed · 12 left out · ended" in told
    assert "tiny complete digits" in told


def test_an_adaptive_sweep_has_ended_when_a_launch_would_train_no_more_of_it(tmp_path, make_spec):
    grid = {"lr": {"log2": [-8, 0], "points": 9}, "wd": {"log2": [-10, -2], "points": 9}}
    spec, store = make_spec(adaptive={"most_cells": 0.9}, variants=["sgdw"], grid=grid), Store(tmp_path / "adaptive")
    store.save_spec(spec)
    told = []
    while packs := AdaptiveRounds(spec, store.location, frozenset(), workers=1).next():
        told.append(text_of(overview.page(Reader(store))))
        for pack in packs:
            rows = [result_of(run) | {"finished_at": datetime.now(UTC)} for run in pack.runs]
            store.save_pack("tiny", pack.pack_id, rows, [])
    assert not [each for each in told if "tiny complete" in each]
    page = text_of(overview.page(Reader(store)))
    trained = len(store.runs("tiny"))
    assert trained < 0.8 * spec.n_runs
    assert f"{trained} completed · {spec.n_runs - trained} left out · ended" in page
    assert "tiny complete digits" in page


def test_of_many_landscapes_some_are_pictured_and_the_rest_counted(reader, monkeypatch):
    monkeypatch.setattr(overview, "MOST_THUMBNAILS", 2)
    page = overview.page(reader)
    assert [text_of(each) for each in parts_of(page, "Figcaption")] == ["sgd", "sgdw"]
    assert "and 1 more" in text_of(page)
