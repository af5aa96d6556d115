"""Errors of a launch, and what an error says in one line: what raised it may say it in many, or not at all."""

from __future__ import annotations

__all__ = [
    "ClusterError",
    "SweepIncompleteError",
    "UnknownJobError",
    "first_line",
    "last_line",
    "told",
    "told_in_short",
]


class ClusterError(Exception):
    """Ray could not be started or reached, or cannot hold a pack; the message is one line."""


class UnknownJobError(ClusterError):
    """The cluster has no job of a sweep: none was submitted, or the cluster has started again since."""


class SweepIncompleteError(Exception):
    """A launch ended with runs that failed or are missing; the others are stored."""


def first_line(error: BaseException, otherwise: str | None = None) -> str:
    """Its message up to the first line break; where it has none ``otherwise``, or its type."""
    return next(iter(_lines(error)), otherwise or type(error).__name__)


def told(error: BaseException) -> str:
    """Its type and all of its message."""
    return f"{type(error).__name__}: {chr(10).join(_lines(error)) or 'no message'}"


def told_in_short(error: BaseException) -> str:
    """Its type and the first line of its message, which may be long where it holds code."""
    return f"{type(error).__name__}: {first_line(error, 'no message')}"[:300]


def last_line(error: BaseException, otherwise: str | None = None) -> str:
    """The end of its message, where a traceback in it has the cause; where it has none ``otherwise``, or its type."""
    return next(reversed(_lines(error)), otherwise or type(error).__name__)


def _lines(error: BaseException) -> list[str]:
    try:
        told = str(error)
    except Exception:  # noqa: BLE001  (an exception of a user's may raise when it is asked what it says)
        return []
    return [line.strip() for line in told.splitlines() if line.strip()]
