"""Who may ask for what: the outermost layer of the server, before any route is looked for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .launching import viewer_may_launch
from .login import arrival_page, local, login_page, logout_page
from .origins import Hosts, client_of, port_of, same_origin
from .problems import problem
from .tokens import SESSION_S, Attempts, Clock, Role, Sessions, Tokens

__all__ = ["Guard"]

MOST_BODY = 4 * 2**20
"""Bytes of a request; the largest is a page's callback that says what is shown."""
MOST_LOGIN = 8 * 1024
MOST_FIELDS = 10
TIME_LIMIT_S = 60.0
"""Until an answer begins."""
BODY_S = 20.0
"""Until a request is here."""

DOORS = {"/login", "/logout"}
READING = {"/_dash-update-component", "/api/v1/validate"}
"""What is asked by POST and changes nothing: how pages ask what to show, and whether a spec is one."""


@dataclass(frozen=True)
class _Viewer:
    """Who asks, and how that is known."""

    role: Role
    by_header: bool = False
    """By a Bearer token, which no page of another site can send."""
    by_cookie: bool = False


@contextlib.contextmanager
def _acting_as(viewer: _Viewer | None) -> Iterator[None]:
    """While a request is passed on: whether who asks may launch."""
    mark = viewer_may_launch.set(viewer is not None and viewer.role is Role.FULL)
    try:
        yield
    finally:
        viewer_may_launch.reset(mark)


class Guard:
    """Checks every request, and adds to every answer what keeps browsers from doing more with it than is meant.

    Parameters
    ----------
    app
        What is guarded.
    tokens, hosts
        Who is let in, and by which names.
    script_hashes
        Of the inline scripts of its pages, as CSP has them: ``'sha256-…'``.
    most_body, time_limit_s
        Bytes of a request, and seconds until its answer begins.
    clock
        Seconds, for the limit on attempts.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Tokens,
        hosts: Hosts,
        script_hashes: Sequence[str] = (),
        most_body: int = MOST_BODY,
        time_limit_s: float = TIME_LIMIT_S,
        clock: Clock = time.monotonic,
    ) -> None:
        self._app, self._tokens, self._hosts = app, tokens, hosts
        self._most_body, self._time_limit_s = most_body, time_limit_s
        self._attempts = Attempts(clock)
        self._sessions = Sessions()
        self._headers = _headers(script_hashes)
        self._late: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or pass it on."""
        if scope["type"] == "http":
            await self._http(scope, receive, self._safer(send))
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        viewer = self._viewer(request)
        answer: Response | None
        if isinstance(viewer, Response):
            answer = viewer
        elif self._tokens and scope["path"] in DOORS:
            answer = await self._door(request, receive)
        else:
            answer = self._refusal(request, viewer)
            if answer is None:
                body = await _body(request.headers, receive, self._most_body)
                if isinstance(body, bytes):
                    with _acting_as(viewer):
                        await self._in_time(scope, _replayed(body, receive), send)
                    return
                answer = body
        await answer(scope, receive, send)

    def _viewer(self, request: Request) -> _Viewer | Response | None:
        """Who asks; None if nobody that is known, and an answer if that cannot be told or they must wait."""
        if not self._hosts.allow(request.headers.get("host")):
            return problem(400, "the Host header names another server; --allowed-host NAME lets a name be used")
        if not self._tokens:
            return _Viewer(Role.FULL)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            client = client_of(request)
            wait_s = self._attempts.wait_s(client, of_all=False)
            if wait_s:
                return _too_many(wait_s)
            role = self._tokens.role(token.strip().encode("latin-1"))
            if role is None:
                self._attempts.failed(client, of_all=False)
            return _Viewer(role, by_header=True) if role else None
        role = self._sessions.role(request.cookies.get(_cookie_name(request)))
        return _Viewer(role, by_cookie=True) if role else None

    def _refusal(self, request: Request, viewer: _Viewer | None) -> Response | None:
        """What is answered instead of passing a request on; None to pass it on."""
        path, changes = request.scope["path"], request.method not in {"GET", "HEAD", "OPTIONS"}
        if path == "/healthz" and not changes:
            return None
        if viewer is None:
            return self._unknown(request)
        if path in DOORS:  # there is nothing to sign in to
            return RedirectResponse("/", 303)
        if changes and not viewer.by_header and not same_origin(request, must_say=viewer.by_cookie):
            return problem(
                403, "another site's page asks for this; ask from the dashboard itself, or by a Bearer token"
            )
        if changes and viewer.role is Role.READ and path not in READING:
            return problem(403, "this token may look, and neither launch nor cancel")
        return None

    @staticmethod
    def _unknown(request: Request) -> Response:
        is_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if not is_page or request.scope["path"].startswith(("/api/v1", "/metrics")):
            return problem(401, "a token is needed: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})
        raw = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
        query = request.scope.get("query_string", b"")
        path = local((raw.partition(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1"))
        if request.headers.get("sec-fetch-site") == "cross-site":
            return arrival_page(path)  # SameSite=Strict keeps the cookie from who follows a link in a mail
        return RedirectResponse(f"/login?{urlencode({'next': path})}", 303)

    async def _door(self, request: Request, receive: Receive) -> Response:
        """Signing in and out."""
        cookie = request.cookies.get(_cookie_name(request))
        if request.method in {"GET", "HEAD"}:
            if request.scope["path"] == "/logout":
                return logout_page()
            onward = local(request.query_params.get("next", "/"))
            return RedirectResponse(onward, 303) if self._sessions.role(cookie) else login_page(onward)
        if request.method != "POST":
            return problem(405, f"{request.scope['path']}: may be asked by GET and POST", {"Allow": "GET, HEAD, POST"})
        if not same_origin(request, must_say=False):
            return problem(403, "another site's page asks for this")
        if request.scope["path"] == "/logout":
            self._sessions.end(cookie)
            answer: Response = RedirectResponse("/login", 303)
            answer.delete_cookie(_cookie_name(request), path="/", httponly=True, samesite="strict")
            return answer
        return await self._sign_in(request, receive)

    async def _sign_in(self, request: Request, receive: Receive) -> Response:
        body = await _body(request.headers, receive, MOST_LOGIN)
        if not isinstance(body, bytes):
            return body
        try:
            form = parse_qs(body.decode(errors="replace"), max_num_fields=MOST_FIELDS)
        except ValueError:
            return problem(400, f"a login must have at most {MOST_FIELDS} fields")
        onward = local(form.get("next", ["/"])[0])
        client = client_of(request)
        wait_s = self._attempts.wait_s(client)
        if wait_s:
            answer: Response = login_page(onward, f"Too many wrong tokens. Try again in {wait_s} s.", 429)
            answer.headers["Retry-After"] = str(wait_s)
            return answer
        role = self._tokens.role(form.get("token", [""])[0].strip().encode())
        if role is None:
            self._attempts.failed(client)
            return login_page(onward, "That is not the token.", 401)
        answer = RedirectResponse(onward, 303)
        answer.set_cookie(
            _cookie_name(request), self._sessions.begin(role), max_age=SESSION_S, path="/", httponly=True,
            samesite="strict", secure=request.scope["scheme"] == "https",
        )  # fmt: skip
        return answer

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        # a browser sends neither Sec-Fetch-Site nor a token with it, and always its Origin
        request = Request({**scope, "type": "http", "method": "GET"})
        viewer = self._viewer(request)
        if not isinstance(viewer, _Viewer) or not same_origin(request, must_say=not viewer.by_header):
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        with _acting_as(viewer):
            await self._app(scope, receive, send)

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; should its answer not begin in time, say so, and do not wait for it."""
        begun = asyncio.Event()
        late = False

        async def relay(message: Message) -> None:
            if not late:
                begun.set()
                await send(message)

        work = asyncio.ensure_future(self._app(scope, receive, relay))
        beginning = asyncio.ensure_future(begun.wait())
        try:
            await asyncio.wait({work, beginning}, timeout=self._time_limit_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done() or begun.is_set():
                await work
                return
        except asyncio.CancelledError:
            work.cancel()
            raise
        finally:
            beginning.cancel()
        late = True
        # a thread cannot be stopped, so its task ends when it will
        self._late.add(work)
        work.add_done_callback(self._forget)
        work.cancel()
        answer = problem(
            504, f"took longer than {self._time_limit_s:g} s; ask for less, or again: what was made is kept"
        )
        await answer(scope, receive, send)

    def _forget(self, work: asyncio.Task[None]) -> None:
        self._late.discard(work)
        if not work.cancelled():
            work.exception()

    def _safer(self, send: Send) -> Send:
        async def wrapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        return wrapped


def _headers(script_hashes: Sequence[str]) -> dict[str, str]:
    policy = {
        "default-src": "'self'",
        "script-src": " ".join(["'self'", *script_hashes]),
        "style-src": "'self' 'unsafe-inline'",  # Plotly sets styles
        "img-src": "'self' data: blob:",
        "connect-src": "'self'",
        "worker-src": "'self' blob:",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "object-src": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, no-cache",
    }


async def _body(headers: Headers, receive: Receive, most: int) -> bytes | Response:
    """The whole of a request, or what is answered to one that is too large or does not come."""
    too_large = problem(413, f"the request must have at most {most:,} bytes")
    announced = headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:12]) > most:
        return too_large
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return Response(status_code=400)
                content += message.get("body", b"")
                if len(content) > most:
                    return too_large
                if not message.get("more_body", False):
                    return bytes(content)
    except TimeoutError:
        return problem(504, f"the request did not come within {BODY_S:.0f} s")


def _replayed(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if not told:
            told = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return again


def _too_many(wait_s: int) -> Response:
    return problem(429, f"too many wrong tokens; try again in {wait_s} s", {"Retry-After": str(wait_s)})


def _cookie_name(request: Request) -> str:
    """One for each port, since cookies do not know ports: two dashboards on a machine are two."""
    port = port_of(request.headers.get("host"))
    return f"hpscan-{port}" if port else "hpscan"
