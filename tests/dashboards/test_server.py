"""The server as a whole: pages, guard and API around one store, and real pages' callbacks inside it."""

import asyncio
import base64
import hashlib
import platform
import re
import socket

import pytest
import uvicorn
import yaml
from dash import Dash, Input, Output, html
from fastapi.responses import PlainTextResponse
from starlette.testclient import TestClient

from hpscan.dashboards.launching import Launcher, NotAllowedError
from hpscan.dashboards.origins import Hosts
from hpscan.dashboards.reading import Reader
from hpscan.dashboards.server import ServerError, bound, make_app, serve, share_arenas
from hpscan.dashboards.tokens import Tokens

from .conftest import bearer, no_pages

TOKENS = Tokens("full-token", "read-token")


def dash_pages(server, reader, launcher, *, signed_in):
    """A page with a callback that asks for a launch."""
    app = Dash(__name__, server=server, backend="fastapi", enable_mcp=False, add_log_handler=False)
    app.layout = html.Div([html.Button(id="ask"), html.P(id="told")])

    @app.callback(Output("told", "children"), Input("ask", "n_clicks"))
    async def tell(_):
        try:
            return await asyncio.to_thread(launcher.launch, "x")
        except NotAllowedError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  (whatever it is, it was allowed to ask)
            return f"allowed: {type(error).__name__}"

    return app.csp_hashes()


@pytest.fixture
def with_dash(store):
    launcher = Launcher(store, allowed=True)
    app = make_app(Reader(store), launcher, pages=dash_pages, tokens=TOKENS)
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
        yield client


@pytest.fixture
def with_pages(store):
    app = make_app(Reader(store), Launcher(store), tokens=TOKENS)
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def asked(client, token):
    body = {
        "output": "told.children", "outputs": {"id": "told", "property": "children"}, "state": [],
        "inputs": [{"id": "ask", "property": "n_clicks", "value": 1}], "changedPropIds": ["ask.n_clicks"],
    }  # fmt: skip
    answer = client.post("/_dash-update-component", json=body, headers=bearer(token))
    assert answer.status_code == 200, answer.text
    return answer.json()["response"]["told"]["children"]


def test_a_viewer_cannot_launch_through_a_callback_either(with_dash):
    assert asked(with_dash, "full-token") == "allowed: SpecError"
    assert "neither launch nor cancel" in asked(with_dash, "read-token")


def test_pages_and_api_are_beside_each_other(with_dash):
    page = with_dash.get("/sweeps/tiny", headers=bearer("read-token"))
    assert "<html" in page.text
    assert with_dash.get("/api/v1/sweeps", headers=bearer("read-token")).json()["total"] == 1
    unknown = with_dash.get("/api/v1/nothing", headers=bearer("read-token"))
    assert unknown.headers["content-type"] == "application/problem+json"


def test_every_inline_script_of_the_pages_is_allowed_by_its_hash(with_pages):
    page = with_pages.get("/", headers=bearer("full-token"))
    policy = page.headers["content-security-policy"]
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", page.text, re.DOTALL)
    inline = [text for attributes, text in scripts if "src=" not in attributes and "json" not in attributes]
    assert inline
    for text in inline:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert "unsafe-eval" not in policy
    assert "http" not in policy


def test_nothing_is_loaded_from_elsewhere(with_pages):
    page = with_pages.get("/", headers=bearer("full-token")).text
    sources = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert sources
    assert all(source.startswith("/") and not source.startswith("//") for source in sources)


def test_the_pages_are_the_dashboards_own_by_default(with_pages):
    assert "<title>hpscan</title>" in with_pages.get("/", headers=bearer("read-token")).text
    layout = with_pages.get("/_dash-layout", headers=bearer("read-token"))
    assert "Sign out" in layout.text


def test_what_the_pages_are_told_of_tokens(store):
    seen = []

    def pages(server, reader, launcher, *, signed_in):
        seen.append(signed_in)
        return ()

    make_app(Reader(store), Launcher(store), pages=pages)
    make_app(Reader(store), Launcher(store), pages=pages, tokens=TOKENS)
    assert seen == [False, True]


def test_the_names_that_are_allowed_are_those_given(serve):
    client = serve(hosts=Hosts.of("127.0.0.1", ["dash.example.org"]))
    for host, status in (("dash.example.org", 200), ("evil.example", 400)):
        assert client.get("/healthz", headers={"host": host}).status_code == status


def test_large_answers_are_packed_and_small_ones_are_not(client):
    large = client.get("/api/openapi.json", headers={"accept-encoding": "gzip"})
    assert large.headers["content-encoding"] == "gzip"
    plain = client.get("/api/openapi.json", headers={"accept-encoding": "identity"})
    assert plain.text == large.text
    assert "content-encoding" not in client.get("/healthz", headers={"accept-encoding": "gzip"}).headers


def test_metrics_are_not_for_everybody(serve):
    client = serve(tokens=TOKENS)
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers=bearer("read-token")).status_code == 200
    assert client.get("/healthz").json() == {"status": "ok"}


def test_a_mistake_in_a_route_is_a_problem_that_says_nothing_of_it(store):
    class Broken(Reader):
        def sweeps(self):
            raise ZeroDivisionError("a secret")

    app = make_app(Broken(store), Launcher(store), pages=no_pages)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        answer = client.get("/api/v1/sweeps")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


def test_launches_end_with_the_server(store, tiny_raw):
    launcher = Launcher(store, allowed=True)
    with TestClient(make_app(Reader(store), launcher, pages=no_pages), base_url="http://localhost") as client:
        long = {**tiny_raw, "name": "long", "budget": {"steps": 400_000}, "resources": {"compile": False}}
        assert client.post("/api/v1/launch", json={"text": yaml.safe_dump(long)}).status_code == 202
        assert launcher.running() == ["long"]
    assert launcher.running() == []


def test_a_long_answer_is_cut_off_in_time(store):
    def pages(server, reader, launcher, *, signed_in):
        @server.get("/slow")
        async def slow():
            await asyncio.Event().wait()
            return PlainTextResponse("never")

        return ()

    app = make_app(Reader(store), Launcher(store), pages=pages, time_limit_s=0.05)
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/slow").status_code == 504


def test_a_port_that_is_taken_is_told_in_one_line():
    with bound("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ServerError, match=f"--port {port}.*in use"):
            bound("127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "256.1.1.1", "a" * 300, "203.0.113.7"])
def test_an_address_that_is_not_ours_is_told_in_one_line(host):
    with pytest.raises(ServerError) as told:
        bound(host, 0)
    assert host in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("named", "client"), [(None, "127.0.0.1"), ("127.0.0.1", "10.0.0.9"), ("10.0.0.1", "127.0.0.1")]
)
def test_who_asks_is_believed_of_a_proxy_that_is_named_and_of_nobody_else(monkeypatch, named, client):
    async def told(scope, receive, send):
        await PlainTextResponse(scope["client"][0])(scope, receive, send)

    configs = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: configs.append(server.config))
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    if named:
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", named)
    serve(told, None)
    configs[0].load()
    asking = TestClient(configs[0].loaded_app, client=("127.0.0.1", 5))
    assert asking.get("/", headers={"x-forwarded-for": "10.0.0.9"}).text == client


def test_ipv6_is_bound_where_there_is_some():
    try:
        listener = bound("::1", 0)
    except ServerError:
        pytest.skip("no IPv6 here")
    assert listener.family is socket.AF_INET6
    listener.close()


def test_threads_share_their_memory_where_glibc_is_asked():
    assert share_arenas() == (platform.libc_ver()[0] == "glibc")
