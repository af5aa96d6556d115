"""A page of the dashboard without a browser: what Dash's renderer asks the server, over HTTP.

It keeps the properties of the components that were sent, asks the callbacks that a changed property leads to, and
takes up what they answer. What runs in the browser (``assets/hpscan.js``) it does not do, and it draws nothing.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp

__all__ = ["Asked", "Viewer"]

CONNECTIONS = 6
"""That browsers have to a server at once."""
WILD = ["MATCH"], ["ALL"]
ALL = '["ALL"]'

Place = tuple[str, str]
"""A component's id, as JSON with its keys in order where it is no plain word, and a property."""


@dataclass(frozen=True)
class Asked:
    """A callback's request: what for, when it began, until the last byte of the answer, and bytes on the wire."""

    output: str
    began: float
    seconds: float
    size: int
    status: int


@dataclass(eq=False)
class Viewer:
    """A page that is open in one tab."""

    address: str
    asked: list[Asked] = field(default_factory=list)
    parses: bool = True
    """Whether figures are read, too, which nothing depends on."""

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        headers = {"Accept-Encoding": "gzip", "Sec-Fetch-Site": "same-origin", "Origin": self.address}
        self._session = aiohttp.ClientSession(self.address, connector=connector, headers=headers, auto_decompress=False)
        self._props: dict[Place, Any] = {}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    def value(self, name: str, prop: str) -> Any:
        """What a property of a component is now."""
        return self._props.get((name, prop))

    def names(self, prop: str, kind: str) -> list[str]:
        """Components of one ``type`` that have a property."""
        return [
            name
            for name, each in self._props
            if each == prop and name.startswith("{") and json.loads(name)["type"] == kind
        ]

    async def open(self, path: str) -> None:
        """Load a page, and ask what it asks until nothing changes any more."""
        await self._get(path)
        layout, wires = await asyncio.gather(self._get("/_dash-layout"), self._get("/_dash-dependencies"))
        self._wires = [wire for wire in json.loads(wires) if not wire["clientside_function"]]
        self._take_up(json.loads(layout))
        where, _, query = path.partition("?")
        self._props["url", "search"] = f"?{query}" if query else ""
        await self.set("url", pathname=where)

    async def tick(self) -> None:
        """What the page does every two seconds."""
        await self.set("tick", n_intervals=(self.value("tick", "n_intervals") or 0) + 1)

    async def set(self, name: str, **props: Any) -> None:
        """Change properties of a component, and ask what follows."""
        changed = [(name, prop) for prop in props]
        self._props.update({(name, prop): value for prop, value in props.items()})
        await self._follow(changed, [])

    async def _follow(self, changed: list[Place], new: list[str]) -> None:
        calls = list(self._calls(changed, set(new)))
        await asyncio.gather(*(self._ask(*call) for call in calls))

    def _calls(self, changed: list[Place], new: set[str]) -> Iterator[tuple[Any, dict[str, Any], list[Place]]]:
        """The callbacks that changed properties and new components lead to: wires, what MATCH is, what triggered."""
        names = {name for name, _ in self._props}
        properties = {prop for _, prop in changed}
        for wire in self._wires:
            outputs = [name for name, _ in _outputs(wire["output"])]
            if not new and not any(each["property"] in properties for each in wire["inputs"]):
                continue
            sources = [each["id"] for each in (*wire["inputs"], *wire["state"])]
            for name in names if outputs[0].startswith("{") else names & {outputs[0]}:
                match = _matched(outputs[0], name)
                if match is None or not all(
                    _resolved(each, match) in names for each in (*outputs, *sources) if ALL not in each
                ):
                    continue
                places = [
                    place
                    for place in changed
                    if any(
                        each["property"] == place[1] and _matched(_resolved(each["id"], match), place[0]) is not None
                        for each in wire["inputs"]
                    )
                ]
                if places or (name in new and not wire["prevent_initial_call"]):
                    yield wire, match, places

    async def _ask(self, wire: Any, match: dict[str, Any], changed: list[Place]) -> None:
        outputs = [{"id": _id(_resolved(name, match)), "property": prop} for name, prop in _outputs(wire["output"])]
        body = {
            "output": wire["output"],
            "outputs": outputs if wire["output"].startswith("..") else outputs[0],
            "inputs": [self._given(each, match) for each in wire["inputs"]],
            "state": [self._given(each, match) for each in wire["state"]],
            "changedPropIds": [f"{name}.{prop}" for name, prop in changed],
        }
        began = time.perf_counter()
        async with self._session.post("/_dash-update-component", json=body) as answer:
            content = await answer.read()
        seconds = time.perf_counter() - began
        self.asked.append(Asked(wire["output"], began, seconds, len(content), answer.status))
        if answer.status != 200 or (not self.parses and wire["output"].endswith(".figure")):
            return
        packed = answer.headers.get("Content-Encoding") == "gzip"
        response = json.loads(gzip.decompress(content) if packed else content).get("response", {})
        places, new = [], []
        for name, props in response.items():
            key = _key(json.loads(name)) if name.startswith("{") else name
            for prop, value in props.items():
                self._props[key, prop] = value
                places.append((key, prop))
                new += self._take_up(value) if prop == "children" else []
        await self._follow(places, new)

    def _given(self, source: dict[str, str], match: dict[str, Any]) -> Any:
        """A wire's value, or those of all components that it matches."""
        if ALL in source["id"]:
            names = [name for name, prop in self._props if prop == "id" and _matched(source["id"], name) is not None]
            return [self._one(name, source["property"]) for name in names]
        return self._one(_resolved(source["id"], match), source["property"])

    def _one(self, name: str, prop: str) -> dict[str, Any]:
        value = _id(name) if prop == "id" else self.value(name, prop)
        return {"id": _id(name), "property": prop, "value": value}

    def _take_up(self, component: Any) -> list[str]:
        """Remember the components that have a name, in a page or in part of one; their names."""
        if isinstance(component, list):
            return [name for each in component for name in self._take_up(each)]
        if not isinstance(component, dict) or "props" not in component:
            return []
        props, found = component["props"], []
        if "id" in props:
            name = _key(props["id"])
            found.append(name)
            self._props.update({(name, prop): value for prop, value in props.items() if prop != "children"})
        return found + self._take_up(props.get("children"))

    async def _get(self, path: str) -> bytes:
        async with self._session.get(path) as answer:
            content = await answer.read()
            return gzip.decompress(content) if answer.headers.get("Content-Encoding") == "gzip" else content


def _key(name: Any) -> str:
    return json.dumps(name, sort_keys=True, separators=(",", ":")) if isinstance(name, dict) else name


def _id(name: str) -> Any:
    return json.loads(name) if name.startswith("{") else name


@functools.cache
def _outputs(output: str) -> list[Place]:
    """Ids and properties that a callback answers."""
    parts: Iterable[str] = output.strip(".").split("...") if output.startswith("..") else [output]
    return [(name, prop.split("@")[0]) for name, _, prop in (part.rpartition(".") for part in parts)]


@functools.cache
def _matched(pattern: str, name: str) -> dict[str, Any] | None:
    """What the wildcards of one component stand for where a pattern fits its name; None where it does not."""
    if not pattern.startswith("{"):
        return {} if pattern == name else None
    if not name.startswith("{"):
        return None
    wanted, own = json.loads(pattern), json.loads(name)
    if wanted.keys() != own.keys() or any(value not in WILD and own[key] != value for key, value in wanted.items()):
        return None
    return {key: own[key] for key, value in wanted.items() if value == ["MATCH"]}


def _resolved(pattern: str, match: dict[str, Any]) -> str:
    return _filled(pattern, tuple(match.items())) if pattern.startswith("{") else pattern


@functools.cache
def _filled(pattern: str, match: tuple[tuple[str, Any], ...]) -> str:
    return _key({**json.loads(pattern), **dict(match)})
