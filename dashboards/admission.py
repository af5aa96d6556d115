"""Which specs a server takes from whoever sends them: by their size, and by the code and files that they name."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from hpscan.spec import Spec, SpecError
from hpscan.spec_text import parse_yaml

__all__ = ["MOST_TEXT", "LaunchError", "RefusedError", "admitted"]

MOST_TEXT = 64 * 1024
"""Characters of a spec; the longest that is shipped has two thousand."""
MOST_POINTS = 10_000
"""Of one axis, seeds, and panels: what a spec of a few lines asks a server to hold at most."""
MOST_RUNS = 3_000_000
"""Of all axes together: each is hashed by whoever has a spec checked."""
MOST_NESTED = 20


class LaunchError(Exception):
    """What was asked for is not done; the message is one line for the person who asked."""


class RefusedError(LaunchError):
    """The spec names code or files that nobody allowed."""


def admitted(text: str, allow: Sequence[str], *, submits: bool) -> Spec:
    """The spec that a YAML text is, of which nothing is read or imported before it is known to be allowed.

    Parameters
    ----------
    text
        The YAML.
    allow
        Code and files that it may name.
    submits
        Whether it goes to a job server, which is sent no code.

    Raises
    ------
    SpecError
        If it is no valid spec, or too large.
    RefusedError
        If it names code or files that are not allowed.
    """
    if len(text) > MOST_TEXT:
        raise SpecError(f"spec: must have at most {MOST_TEXT:,} characters; got {len(text):,}")
    with _plain_errors():
        _check_form(text)
        raw = parse_yaml(text, "spec")
        _check_size(raw)
        _check_code(raw.get("workload"), allow, submits=submits)
        spec = Spec.validated(raw)
    if spec.n_runs > MOST_RUNS:
        raise SpecError(f"grid: must make at most {MOST_RUNS:,} runs here; got {spec.n_runs:,}")
    return spec


def _check_form(text: str) -> None:
    """Refuse YAML that a few characters make large, or slow to read: PyYAML's time is quadratic in the depth."""
    depth = 0
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise SpecError("spec: must spell its values out; YAML's anchors and aliases are not read here")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_NESTED:
                raise SpecError("spec: is nested too deeply")
    except yaml.YAMLError:
        return  # parse_yaml says what is wrong


def _check_size(raw: Mapping[str, Any]) -> None:
    """Refuse what a few lines make large before it is made."""
    grid = raw.get("grid")
    grid = grid if isinstance(grid, Mapping) else {}
    ranges = grid.get("variants")
    own = [each for each in ranges.values() if isinstance(each, Mapping)] if isinstance(ranges, Mapping) else []
    for axes in ({**grid, **each} for each in ({}, *own)):
        sizes = {str(name): _points(axis) for name, axis in axes.items() if name != "variants"}
        for name, size in (*sizes.items(), ("seeds", _seeds(raw.get("seeds")))):
            if size > MOST_POINTS:
                raise SpecError(f"{name}: must have at most {MOST_POINTS:,} values here; got {size:,}")
        n_panels = math.prod(size for name, size in sizes.items() if name not in {"lr", "wd"})
        if n_panels > MOST_POINTS:
            raise SpecError(f"grid: must make at most {MOST_POINTS:,} landscapes of a variant here; got {n_panels:,}")


def _points(axis: Any) -> int:
    if isinstance(axis, Mapping):
        points = axis.get("points")
        return points if isinstance(points, int) else 1
    return len(axis) if isinstance(axis, list) else 1


def _seeds(seeds: Any) -> int:
    return len(seeds) if isinstance(seeds, list) else seeds if isinstance(seeds, int) else 1


def _check_code(workload: Any, allow: Sequence[str], *, submits: bool) -> None:
    if not isinstance(workload, Mapping):
        return
    allowed = f"; allowed are {', '.join(allow)}" if allow else ""
    for kind in ("factory", "trainable"):
        if kind in workload or workload.get("name") == kind:
            code = workload.get(kind)
            if code not in allow:
                raise RefusedError(
                    f"workload.{kind}: {code!r} is Python code, which must be allowed by --allow-workload{allowed}"
                )
            if workload.get("folder") is not None:
                raise RefusedError("workload.folder: must be left out; code comes from the folder of the server")
            if submits:
                raise RefusedError(
                    f"workload.{kind}: job servers are sent a spec and no code; hpscan submit sends both"
                )
    text = workload.get("text", "alice")
    if text != "alice" and text not in allow:
        raise RefusedError(
            f"workload.text: {text!r} is a file of the server, which must be allowed by --allow-workload{allowed}"
        )
    if workload.get("name") == "imported":
        raise RefusedError("workload: an imported sweep cannot be trained")


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Say in one line what YAML and numbers without bounds lead to."""
    try:
        yield
    except ArithmeticError as error:
        raise SpecError(f"spec: holds a number that is too large ({error})") from None
