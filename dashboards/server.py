"""The server: API, health and metrics, then the pages, and the guard around all of it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import socket
from collections.abc import AsyncIterator, Callable, Sequence

import anyio.to_thread
import uvicorn
from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp

from .api import BASE, api
from .guard import MOST_BODY, TIME_LIMIT_S, Guard
from .launching import Launcher
from .metrics import Counted, Metrics
from .origins import Hosts
from .problems import add_handlers
from .reading import Reader
from .remembered import Remembered
from .tokens import Tokens

__all__ = ["Pages", "ServerError", "bound", "make_app", "serve", "share_arenas"]

Pages = Callable[..., Sequence[str]]
"""Adds the pages to a server, ``(server, reader, launcher, signed_in=…)``; returns the hashes of their inline scripts."""

GRACE_S = 3
ARENAS = 2
_M_ARENA_MAX = -8


class ServerError(Exception):
    """The server cannot be started; the message is one line."""


def make_app(
    reader: Reader,
    launcher: Launcher,
    *,
    tokens: Tokens | None = None,
    hosts: Hosts | None = None,
    pages: Pages | None = None,
    most_body: int = MOST_BODY,
    time_limit_s: float = TIME_LIMIT_S,
) -> ASGIApp:
    """All of the dashboard as one ASGI application.

    Parameters
    ----------
    reader, launcher
        What pages and API read of and launch into; both are closed when the application ends.
    tokens
        What opens it; without any, whoever reaches it may do everything.
    hosts
        The names it answers to; by default those of loopback.
    pages
        Adds the pages; by default those of ``hpscan.dashboards.app``.
    most_body, time_limit_s
        Bytes of a request, and seconds until its answer begins.
    """
    tokens, hosts = tokens or Tokens(), hosts or Hosts.of()
    metrics = Metrics(reader, launcher)

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        reader.close()
        await anyio.to_thread.run_sync(launcher.close)

    server = FastAPI(lifespan=life, openapi_url=None)
    add_handlers(server)
    server.mount(BASE, api(reader, launcher))  # before the pages, which take whatever is left

    @server.get(BASE)
    def reference() -> Response:
        return RedirectResponse(f"{BASE}/docs")

    @server.get("/healthz")
    def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @server.get("/metrics")
    def prometheus() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    hashes = (pages or _pages)(server, reader, launcher, signed_in=bool(tokens))
    packed = GZipMiddleware(server, minimum_size=1000, compresslevel=1)  # more takes longer and gains 4 % of a map
    return Guard(
        Counted(Remembered(packed), metrics),
        tokens=tokens,
        hosts=hosts,
        script_hashes=hashes,
        most_body=most_body,
        time_limit_s=time_limit_s,
    )


def _pages(server: FastAPI, reader: Reader, launcher: Launcher, *, signed_in: bool) -> Sequence[str]:
    from .app import add_pages

    return add_pages(server, reader, launcher, signed_in=signed_in)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens; raises ServerError if there is no such address, or the port is not to be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]  # fmt: skip
    except (OSError, UnicodeError, OverflowError) as error:
        raise ServerError(
            f"--host {host}: {getattr(error, 'strerror', None) or 'no address of this machine'}"
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(2048)  # who asks before the first answer waits
    except OSError as error:
        listener.close()
        raise ServerError(
            f"--port {port} on {host}: {error.strerror}; give another --port, or end what uses it"
        ) from None
    return listener


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Answer until SIGINT or SIGTERM, which give requests 3 s to end."""
    share_arenas()
    config = uvicorn.Config(
        app,
        http="h11",  # it bounds what a request's header may take
        h11_max_incomplete_event_size=64 * 1024,
        proxy_headers="FORWARDED_ALLOW_IPS" in os.environ,  # uvicorn would believe them of everybody on this machine
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S,
    )
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn ends, then raises the signal again
        uvicorn.Server(config).run(sockets=[listener])


def share_arenas() -> bool:
    """Have glibc's malloc keep the memory of all threads in two arenas; whether it does.

    A callback runs in any of forty threads, each of which has an arena of its own up to sixteen on two cores: what one
    has freed another does not use, and a server that fifty look at grew by 20 MB a minute.
    """
    is_glibc = platform.system() == "Linux" and platform.libc_ver()[0] == "glibc"
    return is_glibc and bool(ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, ARENAS))
