"""Callbacks run beside each other, and know who asks."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from dash import Dash, Input, Output, html
from starlette.testclient import TestClient

from hpscan.dashboards.callbacks import Pages
from hpscan.dashboards.launching import Launcher
from hpscan.dashboards.reading import Reader
from hpscan.dashboards.server import make_app
from hpscan.dashboards.tokens import Tokens

from .conftest import bearer, called


@pytest.fixture
def asked(store):
    """A client of a server with one callback, of ``ask``'s output ``told``."""
    clients = []

    def make(ask, **options):
        def pages(server, reader, launcher, *, signed_in):
            app = Dash(__name__, server=server, backend="fastapi", enable_mcp=False, add_log_handler=False)
            app.layout = html.Div([html.Button(id="button"), html.P(id="told")])
            made = Pages(app, reader, launcher)
            assert made.callback(Output("told", "children"), Input("button", "n_clicks"))(lambda n: ask(made, n))
            return app.csp_hashes()

        app = make_app(Reader(store), Launcher(store, allowed=True), pages=pages, **options)
        client = TestClient(app, base_url="http://localhost")
        clients.append(client.__enter__())
        return lambda n: called(client, "told.children", {"button.n_clicks": n})["told"]["children"], client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


def test_who_waits_makes_nobody_else_wait(asked):
    both = threading.Barrier(2, timeout=20)
    call, client = asked(lambda _, n: both.wait() >= 0 and n)
    with ThreadPoolExecutor(2) as beside:
        waiting = [beside.submit(call, n) for n in (1, 2)]
        assert client.get("/healthz").status_code == 200
        assert [each.result() for each in waiting] == [1, 2]


def test_a_callback_knows_what_asked_for_it(asked):
    call, _ = asked(lambda pages, _: pages.triggered())
    assert call(1) == "button"


def test_a_callback_knows_whether_who_asks_may_launch(asked):
    call, client = asked(lambda pages, _: str(pages.launcher.may_launch), tokens=Tokens("full-token", "read-token"))
    for token, may in (("full-token", "True"), ("read-token", "False"), ("full-token", "True")):
        client.headers.update(bearer(token))
        assert call(1) == may
