"""Who may ask for what: the outermost layer of the server, before any route is looked for."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import math
import re
import secrets
import socket
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from itsdangerous import BadSignature, TimestampSigner
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .launching import viewer_may_launch
from .login import arrival_page, local, login_page, logout_page
from .problems import problem

__all__ = ["Attempts", "Guard", "Hosts", "Role", "Tokens", "is_loopback"]

MOST_BODY = 4 * 2**20
"""Bytes of a request; the largest is a page's callback that says what is shown."""
MOST_LOGIN = 8 * 1024
TIME_LIMIT_S = 60.0
"""Until an answer begins."""
BODY_S = 20.0
"""Until a request is here."""
SESSION_S = 14 * 86400
MOST_ENDED = 10_000

READING = {"/_dash-update-component", "/api/v1/validate"}
"""What is asked by POST and changes nothing: how pages ask what to show, and whether a spec is one."""

_HOST = re.compile(r"(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?", re.ASCII)
"""A Host header; what else may stand there would be taken for a path by who makes a URL of it."""

Clock = Callable[[], float]


class Role(StrEnum):
    """What a viewer may do."""

    FULL = "full"
    READ = "read"


@dataclass(frozen=True)
class Tokens:
    """What opens the dashboard; without any it is open to whoever reaches it."""

    full: str | None = None
    read: str | None = None
    """May look, and neither launch nor cancel."""

    def __bool__(self) -> bool:
        return bool(self.full or self.read)

    def role(self, given: bytes) -> Role | None:
        """What a token allows, in a time that says nothing of it."""
        found = None
        for role, token in ((Role.READ, self.read), (Role.FULL, self.full)):
            # digests, since the comparison's time depends on the length
            same = hmac.compare_digest(_digest(given), _digest((token or "").encode()))
            found = role if same and token else found
        return found


@dataclass(frozen=True)
class Hosts:
    """Names that this server is asked by: another's page whose name was made to point here asks by its own."""

    names: frozenset[str]
    any_address: bool = False
    """Whether any number will do: a page of a stranger's has a name, or a number that is not ours."""

    @classmethod
    def of(cls, bound: str = "127.0.0.1", allowed: Sequence[str] = ()) -> Hosts:
        """The names of loopback, of what the server is bound to, and what else is allowed."""
        names = {"localhost", "127.0.0.1", "::1", *allowed}
        outside = not is_loopback(bound)
        if outside:
            names |= {bound, socket.gethostname(), socket.getfqdn()}
        return cls(frozenset(name.lower().strip("[]").rstrip(".") for name in names), any_address=outside)

    def allow(self, header: str | None) -> bool:
        """Whether a Host header names this server."""
        named = _HOST.fullmatch(header or "")
        if not named:
            return False
        host = named["host"].strip("[]").rstrip(".").lower()
        return host in self.names or (self.any_address and _address(host) is not None)


class Attempts:
    """Wrong tokens of the last minute, by client and in all."""

    WINDOW_S = 60.0
    MOST_OF_CLIENT = 10
    MOST_IN_ALL = 100
    MOST_CLIENTS = 10_000

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._all: deque[float] = deque()
        self._by_client: OrderedDict[str, deque[float]] = OrderedDict()

    def wait_s(self, client: str, *, of_all: bool = True) -> int:
        """Seconds until this client may try again; 0 if now. ``of_all``: whether what others try counts, too."""
        waits = [self._wait(self._by_client.get(client, deque()), self.MOST_OF_CLIENT)]
        waits += [self._wait(self._all, self.MOST_IN_ALL)] if of_all else []
        return math.ceil(max(waits))

    def failed(self, client: str) -> None:
        """Remember a wrong token."""
        now = self._clock()
        own = self._by_client.setdefault(client, deque(maxlen=self.MOST_OF_CLIENT))
        self._by_client.move_to_end(client)
        own.append(now)
        self._all.append(now)
        while len(self._all) > self.MOST_IN_ALL:
            self._all.popleft()
        while len(self._by_client) > self.MOST_CLIENTS:
            self._by_client.popitem(last=False)

    def _wait(self, times: deque[float], most: int) -> float:
        return max(0.0, times[-most] + self.WINDOW_S - self._clock()) if len(times) >= most else 0.0


@dataclass
class _Sessions:
    """Who is signed in: a signed cookie says it, and those who signed out are remembered."""

    signer: TimestampSigner = field(default_factory=lambda: TimestampSigner(secrets.token_bytes(32), salt="hpscan"))
    ended: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def begin(self, role: Role) -> str:
        return self.signer.sign(f"{role}.{secrets.token_urlsafe(9)}").decode()

    def role(self, cookie: str | None) -> Role | None:
        said = self._said(cookie)
        return Role(said.partition(".")[0]) if said and said not in self.ended else None

    def end(self, cookie: str | None) -> None:
        said = self._said(cookie)
        if said:
            self.ended[said] = None
            while len(self.ended) > MOST_ENDED:
                self.ended.popitem(last=False)

    def _said(self, cookie: str | None) -> str | None:
        """What was signed; the same signature can be spelt in several ways."""
        try:
            return self.signer.unsign(cookie or "", max_age=SESSION_S).decode()
        except BadSignature:
            return None


@dataclass(frozen=True)
class _Viewer:
    """Who asks, and how that is known."""

    role: Role
    by_header: bool = False
    """By a Bearer token, which no page of another site can send."""
    by_cookie: bool = False


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
        self._sessions = _Sessions()
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
        refusal = viewer if isinstance(viewer, Response) else None
        if refusal is None and request.scope["path"] in {"/login", "/logout"} and self._tokens:
            refusal = await self._door(request, receive)
        elif refusal is None:
            assert not isinstance(viewer, Response)
            refusal = self._refusal(request, viewer)
        if refusal is None:
            body = await _body(request.headers, receive, self._most_body)
            if isinstance(body, bytes):
                role = viewer.role if isinstance(viewer, _Viewer) else Role.READ
                mark = viewer_may_launch.set(role is Role.FULL)
                try:
                    await self._in_time(scope, _replayed(body, receive), send)
                finally:
                    viewer_may_launch.reset(mark)
                return
            refusal = body
        await refusal(scope, receive, send)

    def _viewer(self, request: Request) -> _Viewer | Response | None:
        """Who asks; None if nobody that is known, and an answer if that cannot be told or they must wait."""
        if not self._hosts.allow(request.headers.get("host")):
            return problem(400, "the Host header names another server; --allowed-host NAME lets a name be used")
        if not self._tokens:
            return _Viewer(Role.FULL)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            client = _client(request)
            wait_s = self._attempts.wait_s(client, of_all=False)
            if wait_s:
                return _too_many(wait_s)
            role = self._tokens.role(token.strip().encode("latin-1"))
            if role is None:
                self._attempts.failed(client)
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
        if path in {"/login", "/logout"}:  # there is nothing to sign in to
            return RedirectResponse("/", 303)
        if changes and not viewer.by_header and not _same_origin(request, must_say=viewer.by_cookie):
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
        if not _same_origin(request, must_say=False):
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
        form = parse_qs(body.decode(errors="replace"), max_num_fields=10)
        onward = local(form.get("next", ["/"])[0])
        client = _client(request)
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
        if not isinstance(viewer, _Viewer) or not _same_origin(request, must_say=not viewer.by_header):
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        mark = viewer_may_launch.set(viewer.role is Role.FULL)
        try:
            await self._app(scope, receive, send)
        finally:
            viewer_may_launch.reset(mark)

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


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that is bound to ``host``."""
    address = _address(host)
    return address.is_loopback if address else host.lower() == "localhost"


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


def _same_origin(request: Request, *, must_say: bool) -> bool:
    """Whether a request comes from our own pages, or from no page at all; ``must_say``: nothing said is not enough."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site in {"same-origin", "none"}
    if origin is not None:
        return urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower() != ""
    return not must_say


def _too_many(wait_s: int) -> Response:
    return problem(429, f"too many wrong tokens; try again in {wait_s} s", {"Retry-After": str(wait_s)})


def _cookie_name(request: Request) -> str:
    """One for each port, since cookies do not know ports: two dashboards on a machine are two."""
    named = _HOST.fullmatch(request.headers.get("host", ""))
    return f"hpscan-{named['port']}" if named and named["port"] else "hpscan"


def _client(request: Request) -> str:
    """Who tries: an address, of IPv6 the network, since one client has all of it."""
    host = request.client.host if request.client else ""
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _digest(token: bytes) -> bytes:
    return hmac.digest(_PEPPER, token, "sha256")


_PEPPER = secrets.token_bytes(32)
