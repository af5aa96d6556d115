"""A worker without Ray's processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from hpscan.cluster import Slots
from hpscan.resources import PerPack
from hpscan.worker import PackTrainable


def train_through(worker: PackTrainable, order: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """What a worker tells of the parts of a pack, as it trains them."""
    if order is not None:
        worker.config = order
        assert worker.reset_config(order)
    answers = [worker.step()]
    while not answers[-1]["done"]:
        answers.append(worker.step())
    return answers


def patch_launch(patch: pytest.MonkeyPatch) -> None:
    """Let a launch train in this process, by the worker's code and in the order of the searcher, without Ray."""
    from hpscan import launch
    from hpscan.course import Course
    from hpscan.searcher import AdaptiveSearcher, CourseSearcher

    @contextmanager
    def connected(resources: object, *_: object) -> Iterator[Slots]:
        yield Slots(1, 1, PerPack())

    def tune(trials, scratch, on_pack, stop):
        course, places = trials.course, trials.places
        searcher = (
            CourseSearcher(course, places, on_pack) if isinstance(course, Course) else AdaptiveSearcher(course, places)
        )
        worker = object.__new__(PackTrainable)
        worker.setup({}, trials.assignment)
        while (config := searcher.suggest("here")) != searcher.FINISHED:
            for answer in train_through(worker, config):
                on_pack(answer["summary"])
            searcher.ended("here")
        return launch._Outcome(None, searcher.lost)

    patch.setattr("hpscan.launch.connected", connected)
    patch.setattr("hpscan.launch.is_client", lambda: False)
    patch.setattr("hpscan.launch.ray.put", lambda value: value)
    patch.setattr("hpscan.launch._tune", tune)
    patch.setattr("hpscan.worker._packs_on_this_node", lambda _: 1)
