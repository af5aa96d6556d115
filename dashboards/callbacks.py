"""How pages ask the server: callbacks run in threads, so that one who waits for a large sweep makes nobody else wait."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
from dash import ClientsideFunction, Dash, ctx

from .launching import Launcher
from .reading import Reader

__all__ = ["Pages"]


@dataclass(frozen=True, eq=False)
class Pages:
    """What the callbacks of all pages work with."""

    app: Dash
    reader: Reader
    launcher: Launcher

    @staticmethod
    def triggered() -> Any:
        """The id of what asked for the callback that runs."""
        return ctx.triggered_id

    def callback(self, *wires: Any, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """As ``Dash.callback``; Dash runs plain functions on the event loop, where each would hold up all requests."""

        def wrap(ask: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(ask)
            async def asked(*given: Any) -> Any:
                return await anyio.to_thread.run_sync(functools.partial(ask, *given))

            self.app.callback(*wires, **options)(asked)
            return ask

        return wrap

    def in_browser(self, function: str, *wires: Any, **options: Any) -> None:
        """Have a function of ``assets/hpscan.js`` answer."""
        self.app.clientside_callback(ClientsideFunction("hpscan", function), *wires, **options)  # type: ignore[no-untyped-call]
