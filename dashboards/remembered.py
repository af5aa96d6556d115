"""Answers that many viewers ask for with the same words, made and packed once."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from typing import Any
from weakref import WeakValueDictionary

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import problem

__all__ = ["ASKED", "Remembered"]

ASKED = "/_dash-update-component"
MOST_BYTES = 64_000_000

Key = tuple[str, bytes]


class Remembered:
    """Keeps the answers of callbacks whose inputs have the version of what they show.

    Such a request says all that its answer depends on, so whoever asks the same next is answered the same, and who asks
    meanwhile waits for the one answer. An answer that says ``no-store`` is for who asked.
    """

    def __init__(self, app: ASGIApp, most_bytes: int = MOST_BYTES) -> None:
        self._app, self._most_bytes = app, most_bytes
        self._kept: OrderedDict[Key, tuple[Message, bytes]] = OrderedDict()
        self._bytes = 0
        self._makers: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as before, or pass a request on."""
        if scope["type"] != "http" or scope["path"] != ASKED:
            await self._app(scope, receive, send)
            return
        request = await receive()  # whole: the guard has read it
        body = request.get("body", b"")
        key = Headers(scope=scope).get("accept-encoding", ""), body

        async def again() -> Message:
            nonlocal request
            given, request = request, {}
            return given or await receive()

        inputs = _inputs_of(body)
        if inputs is None:
            refusal = problem(400, "a callback's request must be a JSON object that has its inputs")
            await refusal(scope, receive, send)
            return
        if not any(isinstance(each, dict) and each.get("id") == "version" and each.get("value") for each in inputs):
            await self._app(scope, again, send)
            return
        maker = self._makers.setdefault(key, asyncio.Lock())
        async with maker:
            found = self._kept.get(key) or await self._made(key, scope, again)
        if key in self._kept:
            self._kept.move_to_end(key)
        start, content = found
        await send({**start, "headers": list(start["headers"])})
        await send({"type": "http.response.body", "body": content})

    async def _made(self, key: Key, scope: Scope, receive: Receive) -> tuple[Message, bytes]:
        start: Message = {}
        parts: list[bytes] = []

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        await self._app(scope, receive, collect)
        made = start, b"".join(parts)
        if start["status"] == 200 and Headers(raw=start["headers"]).get("cache-control") != "no-store":
            self._kept[key] = made
            self._bytes += _size(key, made)
            while self._bytes > self._most_bytes:
                self._bytes -= _size(*self._kept.popitem(last=False))
        return made


def _size(key: Key, made: tuple[Message, bytes]) -> int:
    return len(key[1]) + len(made[1]) + 1_000


def _inputs_of(body: bytes) -> list[Any] | None:
    """The inputs of a callback, among which is the version of what it shows if it says all; None if it is no such request."""
    try:
        inputs = json.loads(body)["inputs"]
    except (ValueError, LookupError, TypeError, RecursionError):  # brackets within brackets
        return None
    return inputs if isinstance(inputs, list) else None
