"""Numbers that are computed beside: the last are there at once, newer ones follow, once however often they are asked for."""

import threading

import pytest

from hpscan.analysis import VariantAnalysis
from hpscan.dashboards.maps import _numbers
from hpscan.dashboards.numbers import Numbers, _thinned
from hpscan.dashboards.view import View
from tests.processes import wait_for

from .conftest import text_of

SUBJECT = ("tiny", "sgdw", None, None)


@pytest.fixture
def numbers():
    made = Numbers()
    yield made
    made.close()


@pytest.mark.parametrize("panel", ["sgdw", "adamw"], ids=["whole", "without a seed"])
def test_numbers_follow_and_are_those_of_the_landscape(numbers, reader, panel):
    shape = reader.shape("tiny", panel)
    assert numbers.of(SUBJECT, "1", lambda: shape) is None
    wait_for(lambda: numbers.ended("tiny"), what="the numbers")
    known = numbers.of(SUBJECT, "1", lambda: shape)
    whole = VariantAnalysis.of(shape)
    assert known.version == "1"
    assert repr(known.analysis.separability) == repr(whole.separability)
    assert known.analysis.best.index == whole.best.index


def test_what_changes_meanwhile_is_computed_once_more_and_the_last_is_shown_until_then(numbers, reader, monkeypatch):
    shape, begun, go_on = reader.shape("tiny", "sgdw"), threading.Semaphore(0), threading.Semaphore(0)
    monkeypatch.setattr(
        numbers, "_computed", lambda *_: (begun.release(), go_on.acquire(), (VariantAnalysis.of(shape), 1))[2]
    )
    numbers.of(SUBJECT, "1", lambda: shape)
    assert begun.acquire(timeout=30)
    for version in ("2", "3", "4"):
        assert numbers.of(SUBJECT, version, lambda: shape) is None
    go_on.release()
    wait_for(lambda: numbers.ended("tiny") == 1, what="the first")
    assert numbers.of(SUBJECT, "4", lambda: shape).version == "1"
    go_on.release()
    wait_for(lambda: numbers.ended("tiny") == 2, what="the last")
    assert numbers.of(SUBJECT, "4", lambda: shape).version == "4"
    assert begun.acquire(blocking=False)
    assert not begun.acquire(blocking=False)


def test_a_process_that_is_killed_is_told_of_and_followed_by_another(numbers, reader, caplog):
    shape = reader.shape("tiny", "sgdw")

    def killed():
        numbers._pipe()
        numbers._process[0].kill()
        numbers._process[0].join()
        return shape

    numbers.of(SUBJECT, "1", killed)
    wait_for(lambda: numbers.ended("tiny") == 1, what="the first")
    known = numbers.of(SUBJECT, "1", lambda: shape)
    assert known.analysis is None
    assert "cannot be computed" in text_of(_numbers(known, True, View(), "tiny/sgdw"))
    assert "tiny/sgdw" in caplog.text
    numbers.of(SUBJECT, "2", lambda: shape)
    wait_for(lambda: numbers.ended("tiny") == 2, what="the next")
    assert numbers.of(SUBJECT, "2", lambda: shape).analysis is not None


def test_what_cannot_be_read_is_not_asked_for_again_and_again(numbers):
    numbers.of(SUBJECT, "1", lambda: 1 / 0)
    wait_for(lambda: numbers.ended("tiny") == 1, what="the end of it")
    assert numbers.of(SUBJECT, "1", lambda: 1 / 0).analysis is None
    assert numbers.ended("tiny") == 1


def test_a_page_says_of_when_numbers_are_that_are_not_the_last(reader):
    assert reader.numbers_of("tiny", "sgdw") == (None, False)
    wait_for(lambda: reader.numbers.ended("tiny"), what="the numbers")
    known, is_current = reader.numbers_of("tiny", "sgdw")
    reader.close()
    assert is_current
    assert "newer ones" not in text_of(_numbers(known, True, View(), "tiny/sgdw"))
    assert f"{known.read_at:%H:%M:%S} UTC; newer ones are being computed" in text_of(
        _numbers(known, False, View(), "tiny/sgdw")
    )


def test_of_a_large_grid_the_statistics_are_of_some_values_and_the_best_cell_of_all(numbers, reader, monkeypatch):
    monkeypatch.setattr("hpscan.dashboards.numbers.MOST_POINTS", 2)
    shape = reader.shape("tiny", "sgdw")  # 3 × 4 cells
    numbers.of(SUBJECT, "1", lambda: shape)
    wait_for(lambda: numbers.ended("tiny"), what="the numbers")
    known = numbers.of(SUBJECT, "1", lambda: shape)
    assert known.every == 2
    assert known.analysis.best.index == shape.best().index
    assert known.analysis.landscape.z.shape == shape.z.shape
    thin = VariantAnalysis.of(_thinned(shape, 2))
    assert thin.landscape.z.shape == (2, 2, 2)
    assert repr(known.analysis.separability) == repr(thin.separability)
    assert "one in 2 values" in text_of(_numbers(known, True, View(), "tiny/sgdw"))
