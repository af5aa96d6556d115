"""A worker without Ray's processes."""

from __future__ import annotations

from typing import Any

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
