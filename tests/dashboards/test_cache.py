"""Answers are made once, and kept as long as they are true and there is room."""

import threading

import numpy as np
import pytest

from hpscan.dashboards.cache import Cache, Cached


def test_an_answer_is_made_once_for_a_version():
    cache, made = Cache(), []
    for version in ("a", "a", "b", "b"):
        assert cache.get("key", version, lambda version=version: made.append(version) or version) == version
    assert made == ["a", "b"]
    assert cache.counts() == Cached(kept=1, hits=2, misses=2)


def test_who_asks_meanwhile_waits_for_the_one_answer():
    cache, begun, free, made, got = Cache(), threading.Event(), threading.Event(), [], []

    def slow():
        made.append(1)
        begun.set()
        assert free.wait(60)
        return "answer"

    threads = [threading.Thread(target=lambda: got.append(cache.get("key", 1, slow))) for _ in range(5)]
    threads[0].start()
    assert begun.wait(60)
    for thread in threads[1:]:
        thread.start()
    assert cache.get("another", 1, lambda: "at once") == "at once"
    free.set()
    for thread in threads:
        thread.join(60)
    assert (made, got) == ([1], ["answer"] * 5)


@pytest.mark.parametrize("cache", [Cache(most=2), Cache(most_bytes=2500)], ids=["answers", "bytes"])
def test_what_was_not_asked_for_the_longest_is_dropped(cache):
    for key in ("a", "b", "a", "c"):
        cache.get(key, 1, lambda: np.zeros(125))
    assert cache.counts().kept == 2
    made = []
    for key in ("a", "b"):
        cache.get(key, 1, lambda key=key: made.append(key))
    assert made == ["b"]


def test_what_cannot_be_made_is_tried_again():
    cache = Cache()
    with pytest.raises(OSError, match="gone"):
        cache.get("key", 1, lambda: (_ for _ in ()).throw(OSError("gone")))
    assert cache._makers == {}  # keys may hold what a user has typed
    assert cache.get("key", 1, lambda: "there") == "there"
