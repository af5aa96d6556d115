"""Errors of a launch, and what an error says in one line: what raised it may say it in many, or not at all."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

__all__ = [
    "ClusterError",
    "SweepIncompleteError",
    "UnknownJobError",
    "at",
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


LIBRARIES = tuple(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))
PACKAGE = Path(__file__).parent


def at(error: BaseException) -> str:
    """Where in a user's own code it was raised, as the end of a sentence: `` (net.py, line 12)``; empty if nowhere there."""
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
    own = [(Path(name), line) for name, line in frames if not _is_a_library(name)]
    return f" ({own[-1][0].name}, line {own[-1][1]})" if own else ""


def _is_a_library(name: str) -> bool:
    """Whether code is of Python, of what is installed, or ours; ``<frozen importlib>`` and ``<string>`` are in no file."""
    path = Path(name)
    if {"site-packages", "dist-packages"} & set(path.parts):  # of a user's own folder, too, where .venv is in it
        return True
    return name.startswith("<") or any(path.is_relative_to(folder) for folder in (*LIBRARIES, PACKAGE))


def first_line(error: BaseException, otherwise: str | None = None) -> str:
    """Its message up to the first line break, or to the second where the first ends in a colon; where it has none ``otherwise``, or its type."""
    lines = _lines(error)
    return " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1]) or otherwise or type(error).__name__


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
