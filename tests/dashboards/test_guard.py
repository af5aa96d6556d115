"""Who is let in, to do what, from where; and what is told to browsers of every answer."""

import asyncio
import re
import threading
from urllib.parse import urlencode

import anyio.to_thread
import httpx
import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from hpscan.dashboards.guard import Guard
from hpscan.dashboards.launching import viewer_may_launch
from hpscan.dashboards.login import local
from hpscan.dashboards.origins import Hosts
from hpscan.dashboards.tokens import Attempts, Tokens

from .conftest import bearer, is_problem

FULL, READ = "full-token-of-the-tests", "read-token-of-the-tests"
BASE = "http://localhost:8050"
BOTH, HERE = Tokens(FULL, READ), Hosts.of()
PAGE = {"accept": "text/html,*/*"}


async def told(scope, receive, send):
    """What is behind the guard: says what came to it."""
    request = Request(scope, receive)
    body = await request.body()
    answer = {"path": scope["path"], "bytes": len(body), "may_launch": viewer_may_launch.get()}
    await JSONResponse(answer)(scope, receive, send)


@pytest.fixture
def client_of(clock):
    def make(app=told, tokens=BOTH, hosts=HERE, client=("10.0.0.1", 5), base=BASE, **options):
        guard = Guard(app, tokens=tokens, hosts=hosts, clock=clock, **options)
        return httpx.AsyncClient(transport=httpx.ASGITransport(guard, client=client), base_url=base)

    return make


@pytest.fixture
def ask(client_of):
    """One request of a fresh client."""

    def make(method, path, *, headers=None, content=None, **options):
        async def go():
            async with client_of(**options) as client:
                return await client.request(method, path, headers=headers, content=content)

        return asyncio.run(go())

    return make


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8050", "127.0.0.1:8050", "[::1]:8050", "LOCALHOST:1", "localhost."]
)
def test_loopback_is_asked_by_its_names(ask, host):
    assert ask("GET", "/", headers={"host": host}, tokens=Tokens()).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8050", "10.0.0.1", "localhost.evil.example", "a@localhost", "localhost/x", "",
     "localhost?x", "localhost#x", "localhost:x", "[::1", "localhost:8050:1", "127.0.0.1\\x", "ｌocalhost"],
)  # fmt: skip
def test_a_name_that_was_made_to_point_here_is_refused(ask, host):
    answer = ask("GET", "/healthz", headers={"host": host.encode()}, tokens=Tokens())
    assert "--allowed-host" in is_problem(answer, 400)


def test_without_tokens_everybody_here_may_do_everything(ask):
    assert ask("POST", "/api/v1/launch", tokens=Tokens()).json()["may_launch"]
    assert ask("GET", "/login", tokens=Tokens()).headers["location"] == "/"


@pytest.mark.parametrize("path", ["/api/v1/sweeps", "/metrics", "/assets/style.css", "/_dash-layout", "/"])
def test_a_program_without_a_token_is_told_that_it_needs_one(ask, path):
    answer = ask("GET", path)
    is_problem(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_browser_without_a_token_is_sent_to_the_login(ask):
    answer = ask("GET", "/sweeps/tiny?metric=val_error&map=a%20b", headers=PAGE)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2Fsweeps%2Ftiny%3Fmetric%3Dval_error%26map%3Da%2520b"
    assert ask("GET", "/api/docs", headers=PAGE).status_code == 303
    is_problem(ask("GET", "/api/v1/sweeps", headers=PAGE), 401)
    is_problem(ask("POST", "/", headers=PAGE), 401)


def test_health_needs_no_token(ask):
    assert ask("GET", "/healthz").status_code == 200
    for path in (f"{BASE}//healthz", "/healthz%3Fx", "/healthz/", "/healthz/x", "/healthz%2F..%2Fapi", "/HEALTHZ"):
        is_problem(ask("GET", path), 401)
    is_problem(ask("POST", "/healthz"), 401)


def test_the_token_opens_everything(ask):
    for token, may in ((FULL, True), (READ, False)):
        answer = ask("GET", "/api/v1/sweeps", headers=bearer(token))
        assert (answer.status_code, answer.json()["may_launch"]) == (200, may)


@pytest.mark.parametrize("token", ["", "x", FULL[:-1], FULL + "x", FULL.upper(), "full", "None", "ü"])
def test_a_wrong_token_opens_nothing(ask, token):
    is_problem(ask("GET", "/", headers={"authorization": f"Bearer {token}".encode("latin-1")}), 401)
    is_problem(ask("GET", "/", headers={"authorization": b"Bearer "}, tokens=Tokens(full=FULL)), 401)
    is_problem(ask("GET", "/", headers={"authorization": b"Basic eDp5"}), 401)


@pytest.mark.parametrize("path", ["/api/v1/launch", "/api/v1/sweeps/tiny/cancel", "/", "/anything"])
def test_the_read_only_token_changes_nothing(ask, path):
    assert "neither launch nor cancel" in is_problem(ask("POST", path, headers=bearer(READ)), 403)
    assert ask("POST", path, headers=bearer(FULL)).status_code == 200


@pytest.mark.parametrize("path", ["/_dash-update-component", "/api/v1/validate"])
def test_the_read_only_token_may_ask_what_there_is(ask, path):
    answer = ask("POST", path, headers=bearer(READ), content=b"{}")
    assert answer.json() == {"path": path, "bytes": 2, "may_launch": False}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),  # no browser
        ({"origin": BASE}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:3000"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": BASE}, 403),
        ({"origin": "http://evil.example", **bearer("x")}, 403),
    ],
)
def test_another_sites_page_changes_nothing_on_loopback(ask, headers, status):
    for path in ("/api/v1/launch", "/_dash-update-component"):
        assert ask("POST", path, headers=headers, tokens=Tokens()).status_code == status


def test_a_bearer_token_cannot_be_sent_by_another_sites_page(ask):
    headers = {**bearer(FULL), "sec-fetch-site": "cross-site", "origin": "http://evil.example"}
    assert ask("POST", "/api/v1/launch", headers=headers).status_code == 200


def signed_in(client, token=FULL, onward="/", **headers):
    content = urlencode({"token": token, "next": onward}).encode()
    kind = {"content-type": "application/x-www-form-urlencoded"}
    return client.post("/login", content=content, headers={"origin": str(client.base_url), **kind, **headers})


def test_who_signs_in_has_a_cookie_until_they_sign_out(client_of):
    async def go():
        async with client_of() as client:
            page = await client.get("/login?next=/sweeps/tiny")
            assert page.status_code == 200
            assert 'value="/sweeps/tiny"' in page.text
            assert not re.search(r"<script|src=|https?:", page.text)
            entered = await signed_in(client, onward="/sweeps/tiny?metric=val_error")
            assert (entered.status_code, entered.headers["location"]) == (303, "/sweeps/tiny?metric=val_error")
            cookie = entered.headers["set-cookie"]
            assert cookie.startswith("hpscan-8050=full.")
            assert "HttpOnly" in cookie
            assert "SameSite=strict" in cookie
            assert "Secure" not in cookie
            assert FULL not in cookie
            assert (await client.get("/")).json()["may_launch"]
            assert (await client.get("/login?next=/x")).headers["location"] == "/x"
            is_problem(await client.post("/api/v1/launch"), 403)
            assert (await client.post("/api/v1/launch", headers={"origin": BASE})).status_code == 200
            kept = client.cookies["hpscan-8050"]
            assert (await client.get("/logout")).status_code == 200
            assert (await client.get("/")).status_code == 200
            left = await client.post("/logout", headers={"origin": BASE})
            assert (left.status_code, left.headers["location"]) == (303, "/login")
            is_problem(await client.get("/"), 401)
            client.cookies.set("hpscan-8050", kept)
            is_problem(await client.get("/"), 401)

    asyncio.run(go())


def test_a_viewer_signs_in_and_changes_nothing(client_of):
    async def go():
        async with client_of() as client:
            assert (await signed_in(client, READ)).status_code == 303
            assert (await client.get("/")).json()["may_launch"] is False
            is_problem(await client.post("/api/v1/launch", headers={"origin": BASE}), 403)
            asked = await client.post("/_dash-update-component", headers={"origin": BASE})
            assert asked.json()["may_launch"] is False

    asyncio.run(go())


def test_the_cookie_is_for_https_where_it_was_got_by_https(client_of):
    async def go():
        async with client_of(base="https://localhost") as client:
            entered = await signed_in(client)
            assert "; Secure" in entered.headers["set-cookie"]
            assert entered.headers["set-cookie"].startswith("hpscan=")

    asyncio.run(go())


@pytest.mark.parametrize(
    "change", [lambda c: c.replace("read.", "full."), lambda c: c[:-4] + "AAAA", lambda c: "full.x"]
)
def test_a_cookie_that_was_changed_opens_nothing(client_of, change):
    async def go():
        async with client_of() as client:
            await signed_in(client, READ)
            client.cookies.set("hpscan-8050", change(client.cookies.pop("hpscan-8050")))
            is_problem(await client.get("/"), 401)

    asyncio.run(go())


def test_a_cookie_of_another_server_opens_nothing(client_of):
    async def go():
        async with client_of() as one, client_of() as other:
            await signed_in(one)
            other.cookies.set("hpscan-8050", one.cookies["hpscan-8050"])
            is_problem(await other.get("/"), 401)

    asyncio.run(go())


def test_another_sites_page_signs_nobody_in_or_out(client_of):
    async def go():
        async with client_of() as client:
            is_problem(await signed_in(client, origin="http://evil.example"), 403)
            await signed_in(client)
            is_problem(await client.post("/logout", headers={"origin": "http://evil.example"}), 403)
            assert (await client.get("/")).status_code == 200
            is_problem(await client.put("/login"), 405)

    asyncio.run(go())


@pytest.mark.parametrize(
    "path",
    ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/\t/evil.example", "\\\\evil",
     "/a\nb", "", "evil", "/login?next=/", "/logout", "/ /evil"],
)  # fmt: skip
def test_a_login_goes_on_to_nothing_but_our_own_pages(client_of, path):
    assert local(path) == "/"

    async def go():
        async with client_of() as client:
            assert (await signed_in(client, onward=path)).headers["location"] == "/"

    asyncio.run(go())


def test_what_is_gone_on_to_is_no_markup(ask):
    page = ask("GET", "/login", headers=PAGE).text
    assert "<form" in page
    page = ask("GET", '/login?next=/"><script>alert(1)</script>').text
    assert "<script" not in page


def test_who_follows_a_link_from_a_mail_arrives_with_their_cookie(ask):
    """A strict cookie is not sent then; it is on the request that our own page makes at once."""
    answer = ask("GET", "/sweeps/tiny?a=1&b=2", headers={**PAGE, "sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert 'content="0;url=/sweeps/tiny?a=1&amp;b=2"' in answer.text
    assert ask("GET", "/sweeps/tiny", headers={**PAGE, "sec-fetch-site": "same-origin"}).status_code == 303
    strange = ask("GET", f"{BASE}//evil.example/x", headers={**PAGE, "sec-fetch-site": "cross-site"})
    assert 'url=/"' in strange.text


def test_a_login_of_many_fields_is_refused(ask):
    assert "fields" in is_problem(ask("POST", "/login", content=b"a=1&" * 50), 400)


def test_wrong_tokens_have_to_wait(client_of, clock):
    async def go():
        async with client_of() as client:
            for _ in range(Attempts.MOST_OF_CLIENT):
                assert (await signed_in(client, "wrong")).status_code == 401
            answer = await signed_in(client)
            assert answer.status_code == 429
            assert 0 < int(answer.headers["retry-after"]) <= 60
            is_problem(await client.get("/", headers=bearer(FULL)), 429)
            clock.now += 61
            assert (await signed_in(client)).status_code == 303

    asyncio.run(go())


def test_wrong_bearer_tokens_have_to_wait_too(client_of):
    async def go():
        async with client_of() as client:
            for _ in range(Attempts.MOST_OF_CLIENT):
                is_problem(await client.get("/", headers=bearer("wrong")), 401)
            answer = await client.get("/", headers=bearer("wrong"))
            is_problem(answer, 429)
            assert int(answer.headers["retry-after"]) > 0

    asyncio.run(go())


def test_programs_with_wrong_tokens_lock_nobody_out_of_the_login(client_of):
    async def go():
        async with client_of(client=("10.0.1.1", 1)) as right:
            for number in range(Attempts.MOST_IN_ALL):
                transport = httpx.ASGITransport(right._transport.app, client=(f"10.0.0.{number}", 1))
                async with httpx.AsyncClient(transport=transport, base_url=BASE) as wrong:
                    is_problem(await wrong.get("/", headers=bearer("wrong")), 401)
            assert (await signed_in(right)).status_code == 303

    asyncio.run(go())


def test_a_client_of_ipv6_is_its_network(client_of):
    async def go():
        async with client_of(client=("2001:db8::1", 1)) as one:
            guard = one._transport.app
            for _ in range(Attempts.MOST_OF_CLIENT):
                await signed_in(one, "wrong")
            for address, status in (("2001:db8::ffff", 429), ("2001:db8:0:1::1", 303)):
                transport = httpx.ASGITransport(guard, client=(address, 1))
                async with httpx.AsyncClient(transport=transport, base_url=BASE) as other:
                    assert (await signed_in(other)).status_code == status

    asyncio.run(go())


def test_every_answer_tells_browsers_what_it_is_not_for(ask):
    for path, headers in (("/", bearer(FULL)), ("/", {}), ("/login", PAGE), ("/", {"host": "evil"})):
        found = ask("GET", path, headers=headers, script_hashes=["'sha256-abc='"]).headers
        policy = dict(part.split(" ", 1) for part in found["content-security-policy"].split("; "))
        assert policy["default-src"] == "'self'"
        assert policy["script-src"] == "'self' 'sha256-abc='"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
        assert found["x-content-type-options"] == "nosniff"
        assert found["referrer-policy"] == "same-origin"
        assert found["cross-origin-opener-policy"] == "same-origin"


def test_a_stricter_policy_of_an_answer_stays(ask):
    strict = HTMLResponse("x", headers={"Content-Security-Policy": "sandbox"})
    assert ask("GET", "/", app=strict, tokens=Tokens()).headers["content-security-policy"] == "sandbox"


def test_a_large_request_is_refused_whether_it_says_so_or_not(client_of):
    async def pieces():
        for _ in range(20):
            yield b"x" * 100

    async def go():
        async with client_of(tokens=Tokens(), most_body=1000) as client:
            assert (await client.post("/", content=b"x" * 1000)).json()["bytes"] == 1000
            is_problem(await client.post("/", content=b"x" * 1001), 413)
            is_problem(await client.post("/", content=pieces()), 413)
        async with client_of() as client:
            is_problem(await client.post("/login", content=b"x" * 10_000), 413)

    asyncio.run(go())


def test_an_answer_that_does_not_begin_in_time_is_not_waited_for(ask):
    free = threading.Event()

    async def slow(scope, receive, send):
        await anyio.to_thread.run_sync(lambda: free.wait(30))
        await Response("late")(scope, receive, send)

    threading.Timer(1.0, free.set).start()
    assert "took longer" in is_problem(ask("GET", "/", app=slow, tokens=Tokens(), time_limit_s=0.05), 504)


def test_an_answer_that_has_begun_may_take_its_time(ask):
    async def long(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await asyncio.sleep(0.1)
        await send({"type": "http.response.body", "body": b"b"})

    assert ask("GET", "/", app=long, tokens=Tokens(), time_limit_s=0.02).text == "ab"


@pytest.mark.parametrize(
    ("headers", "let_in"),
    [
        ([(b"host", b"localhost:8050")], False),
        ([(b"host", b"localhost:8050"), (b"authorization", b"Bearer " + FULL.encode())], True),
        ([(b"host", b"evil.example"), (b"authorization", b"Bearer " + FULL.encode())], False),
    ],
)
def test_websockets_are_guarded_alike(headers, let_in):
    sent, passed = [], []

    async def app(scope, receive, send):
        passed.append(scope["path"])

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "websocket", "path": "/_dash-ws", "scheme": "ws", "headers": headers, "query_string": b""}
    guard = Guard(app, tokens=Tokens(FULL), hosts=Hosts.of())
    asyncio.run(guard(scope, receive, send))
    assert bool(passed) is let_in
    assert sent == ([] if let_in else [{"type": "websocket.close", "code": 1008}])
