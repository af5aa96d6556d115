"""What is made beside the server's answers: nobody waits for it, and one thing at a time is made of a sweep."""

import threading

import pytest

from hpscan.dashboards import making as making_module
from hpscan.dashboards.making import Making as Makings
from hpscan.files import StoreError
from tests.processes import wait_for


class Making(Makings):
    """What a maker makes of sweeps."""

    def __init__(self, maker):
        super().__init__()
        self.maker = maker

    def of(self, sweep, version, **options):
        return super().of(sweep, version, lambda: self.maker(sweep), **options)


class Maker:
    """Makes when it is let, and counts."""

    def __init__(self):
        self.begun, self.may_end = [], threading.Semaphore(0)

    def __call__(self, sweep):
        self.begun.append(sweep)
        assert self.may_end.acquire(timeout=60)
        if sweep == "broken":
            raise ValueError(sweep)
        if sweep == "away" and len(self.begun) == 1:
            raise StoreError(sweep)
        return f"{sweep} {len(self.begun)}"


@pytest.fixture
def maker():
    made = Maker()
    yield made
    made.may_end.release(100)


def ended(making, sweep, version):
    """What was made of a version, once it was."""
    return wait_for(lambda: (found := making.of(sweep, version)) and found.version == version and found, timeout=60)


def test_nobody_waits_and_whoever_asks_meanwhile_begins_no_other(maker):
    making = Making(maker)
    assert [making.of("a", "v1") for _ in range(5)] == [None] * 5
    maker.may_end.release()
    assert ended(making, "a", "v1").outcome.result() == "a 1"
    assert maker.begun == ["a"]


def test_what_was_made_is_shown_until_what_follows_is(maker):
    making = Making(maker)
    making.of("a", "v1")
    maker.may_end.release()
    ended(making, "a", "v1")
    for version in ("v2", "v3", "v4"):
        assert making.of("a", version).version == "v1"
    maker.may_end.release()
    assert ended(making, "a", "v2").outcome.result() == "a 2"
    maker.may_end.release()
    assert ended(making, "a", "v4").outcome.result() == "a 3"


def test_what_cannot_be_made_says_why_and_keeps_no_other_waiting(maker):
    making = Making(maker)
    making.of("broken", "v1")
    making.of("a", "v1")
    maker.may_end.release(2)
    assert isinstance(ended(making, "broken", "v1").outcome.exception(), ValueError)
    assert ended(making, "a", "v1").outcome.result().startswith("a ")


def test_who_waits_has_it_when_it_is_made_or_nothing_when_the_time_is_over(maker):
    making = Making(maker)
    assert making.of("a", "v1", wait_s=0.01) is None
    maker.may_end.release()
    assert making.of("a", "v1", wait_s=60).outcome.result() == "a 1"
    assert making.of("a", "v1", wait_s=60).outcome.result() == "a 1"
    assert maker.begun == ["a"]


def test_a_store_that_could_not_be_read_is_tried_again_later(maker, monkeypatch):
    making = Making(maker)
    maker.may_end.release(2)
    for _ in range(2):
        assert isinstance(making.of("away", "v1", wait_s=60).outcome.exception(), StoreError)
    monkeypatch.setattr(making_module, "RETRY_S", -1.0)
    assert making.of("away", "v1", wait_s=60).outcome.result() == "away 2"


def test_the_longest_unused_is_dropped(maker, monkeypatch):
    monkeypatch.setattr(making_module, "MOST_KEPT", 2)
    making = Making(maker)
    maker.may_end.release(10)
    for sweep in "abca":
        making.of(sweep, "v1", wait_s=60)
    assert maker.begun == [*"abca"]
