"""A spec's text: a file or a shipped name, its YAML, and fields overridden on the command line; nothing of it is validated."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from hpscan._model import accept_name
from hpscan.errors import first_line

__all__ = ["SpecError", "override_field", "parse_yaml", "read_source", "shipped_specs", "write_yaml"]


class SpecError(ValueError):
    """A spec that cannot be used; the message is one line that names the field, the value and what would be right."""


def shipped_specs() -> dict[str, str]:
    """The specs that come with hpscan: name → YAML text."""
    folder = resources.files("hpscan.sweeps")
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name)
    return {entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8") for entry in files}


def read_source(source: str) -> str:
    """The text of a file, or of a shipped spec by its name; raises SpecError if there is neither."""
    path = Path(source)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise SpecError(f"spec {source!r}: cannot be read: {reason}") from None
    shipped = shipped_specs()
    if source in shipped:
        return shipped[source]
    raise SpecError(f"spec {source!r}: no such file, and no shipped spec of that name ({', '.join(shipped)})")


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, where YAML's own loader keeps the last one silently."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._seen = set[int]()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if id(node) in self._seen:  # what was merged into it stands in it by now
            return
        self._seen.add(id(node))
        keys = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    problem="a key must be a plain word", problem_mark=key_node.start_mark
                )
            if key_node.value in keys:
                raise yaml.constructor.ConstructorError(
                    problem=f"key {key_node.value!r} is given twice", problem_mark=key_node.start_mark
                )
            keys.add(key_node.value)
        super().flatten_mapping(node)


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader would not read as the word that it is."""


for _each in (_UniqueKeyLoader, _Dumper):  # YAML 1.2 has 1e3 as a number, where PyYAML wants 1.0e+3
    _each.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )
for _first in "-+0123456789":  # and 10:00 as a word, where PyYAML reads 600, of minutes and seconds
    _UniqueKeyLoader.yaml_implicit_resolvers[_first].insert(
        0, ("tag:yaml.org,2002:str", re.compile(r"[-+]?\d[\d_]*(:[0-5]?\d)+(\.[\d_]*)?$"))
    )


def write_yaml(raw: Mapping[str, Any]) -> str:
    """A spec's YAML, as :func:`parse_yaml` reads it, its fields in their order."""
    return yaml.dump(raw, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """Read a spec's YAML; raises SpecError, naming the source, if it is none or no mapping."""
    try:
        raw = yaml.load(text, _UniqueKeyLoader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, ValueError) as error:  # PyYAML lets ValueError through for, say, a 13th month
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise SpecError(
            f"spec {source!r}: not YAML{where}: {getattr(error, 'problem', None) or first_line(error)}"
        ) from None
    if not isinstance(raw, dict):
        got = "nothing" if raw is None else f"a {type(raw).__name__}"
        raise SpecError(f"spec {source!r}: must be a mapping of fields such as `name:`; got {got}")
    return raw


def override_field(raw: dict[str, Any], override: str) -> None:
    """Set one ``dotted.key=value``, its value YAML, in place; raises SpecError where it is none."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        raise SpecError(f"--set {override!r}: must be key=value, e.g. seeds=[1, 2]")
    *parents, last = dotted.strip().split(".")
    for parent in parents:
        below = raw.setdefault(parent, {})
        if below is None:  # said to be left out, as stored specs say it
            below = raw[parent] = {}
        if isinstance(below, str):  # the short form of {name: …}
            below = raw[parent] = accept_name(below)
        if not isinstance(below, dict):
            raise SpecError(f"--set {override!r}: `{parent}` holds {below!r}, which has no keys below it")
        raw = below
    try:
        raw[last] = yaml.load(text, _UniqueKeyLoader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        problem = getattr(error, "problem", None)
        raise SpecError(
            f"--set {override!r}: {text!r} is not a YAML value{f': {problem}' if problem else ''}"
        ) from None
