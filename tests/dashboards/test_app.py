"""The pages around their content: addresses, the first visit, what goes wrong."""

import json
import re
import shutil
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from plotly.offline import get_plotlyjs_version
from starlette.testclient import TestClient

from hpscan.dashboards import app, maps, reports
from hpscan.dashboards.cells import best_cells
from hpscan.dashboards.launching import Launcher
from hpscan.dashboards.reading import Reader, UnknownError
from hpscan.dashboards.remembered import ASKED
from hpscan.dashboards.server import make_app
from hpscan.files import StoreError
from hpscan.store import Store

from .conftest import called, is_problem, parts_of

PAGE, AT = {"id": "page", "property": "children"}, {"id": "at", "property": "data"}


@pytest.fixture
def client(store):
    with TestClient(make_app(Reader(store), Launcher(store)), base_url="http://localhost") as client:
        yield client


@pytest.mark.parametrize("path", ["/launch", "/", "/sweeps/tiny"])
def test_whatever_page_is_asked_for_first_has_its_styles_and_scripts(client, path):
    page = client.get(path).text
    for asset in re.findall(r'(?:src|href)="(/[^"]+)"', page):
        assert client.get(asset).status_code == 200
    assert "/assets/style.css" in page
    assert "/assets/hpscan.js" in page
    assert "/assets/plotly-cartesian.min.js" in page


@pytest.mark.parametrize("path", ["dash/none.js", "other/x.js", "dash/%2e%2e/%2e%2e/x.js", "dash/..%2f..%2fdash.py", "dash/%00.js", "dash/"])  # fmt: skip
def test_a_script_that_is_not_there_is_not_found(client, path):
    is_problem(client.get(f"/_dash-component-suites/{path}"), 404)


def test_the_shipped_part_of_plotly_is_of_the_version_that_is_installed():
    bundle = Path(app.__file__).with_name("assets") / "plotly-cartesian.min.js"
    with bundle.open(encoding="utf-8") as lines:
        assert f"plotly.js (cartesian - minified) v{get_plotlyjs_version()}" in "".join(islice(lines, 6))


def test_a_page_allows_its_inline_scripts_and_no_others(client):
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert re.search(r"script-src 'self'( 'sha256-[\w+/=]+')+;", policy)
    assert "websocket" not in answer.text


def test_a_sweep_that_is_not_there_is_an_error_of_one_line(reader):
    with pytest.raises(UnknownError, match="'other': not in the store"):
        maps.page(reader, ["other"], "")
    with pytest.raises(UnknownError, match="'other': not in the store"):
        reports.page(reader, "other")


def test_the_best_cells_can_be_chosen_by_keyboard(reader):
    shape = reader.shape("tiny", "sgdw")
    buttons = parts_of(best_cells(shape, "tiny/sgdw"), "Button")
    assert [button.id["cell"] for button in buttons] == [f"{i},{j}" for i, j in shape.ranked()[:5]]


def test_what_a_callback_meets_is_told_and_a_mistake_is_logged(monkeypatch, caplog):
    told = {}
    monkeypatch.setattr(app, "set_props", lambda name, props: told.update({name: props["children"]}))
    monkeypatch.setattr(
        app, "ctx", SimpleNamespace(response=SimpleNamespace(set_header=lambda *header: told.update([header])))
    )
    app._told(UnknownError("sweep 'x': not in the store y"))
    assert told == {"notice": "sweep 'x': not in the store y", "Cache-Control": "no-store"}
    assert not caplog.records
    app._told(ZeroDivisionError("secret"))
    assert "secret" not in told["notice"]
    assert "secret" in caplog.text


@pytest.fixture
def look(store):
    """What a page is told that asks whether there is anything new, as itself having been told before."""
    reader = Reader(store)
    version = reader.version("tiny")
    with TestClient(make_app(reader, Launcher(store)), base_url="http://localhost") as client:

        def ask(path="/sweeps/tiny", query="", **known):
            shown = {"version.data": version, "counted.data": "0", "planned.data": None, "notice.children": None}
            values = {"at.data": [path, query], **shown, **known}
            return called(client, "version.data", values, trigger="tick.n_intervals")

        ask.reader = reader
        yield ask


def test_a_store_that_can_be_read_again_is_not_said_to_be_unreadable(look, monkeypatch):
    def refuse():
        raise StoreError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(look.reader, "sweeps", refuse)
        told = look()["notice"]
        assert told == {"children": "The store cannot be read: no answer", "hidden": False}
    assert look(**{"notice.children": told["children"]})["notice"]["hidden"]
    assert "notice" not in look(**{"notice.children": "Something went wrong here"})


def planned(client, path, query=""):
    """The mark of what a page was laid out for."""
    values = {"url.pathname": path, "url.search": query}
    page = called(client, "page.children", values)["page"]["children"]
    return next(part["props"].get("data") for part in page if part.get("props", {}).get("id") == "planned")


@pytest.mark.parametrize("change", [{"seeds": [0]}, {"variants": ["sgd", "sgdw"]}, {"budget": {"steps": 24}}])
def test_a_page_of_a_spec_that_was_revised_is_laid_out_anew(look, client, store, make_spec, change):
    before = planned(client, "/sweeps/tiny")
    assert "revised" not in look(**{"planned.data": before})
    store.save_spec(make_spec(resources={"workers": 1}))
    look.reader._looked.clear()
    assert "revised" not in look(**{"planned.data": before})
    store.save_spec(make_spec(**change))
    look.reader._looked.clear()
    assert look(**{"planned.data": before})["revised"]["data"] != before


@pytest.mark.parametrize(
    ("path", "query"),
    [("/", ""), ("/sweeps/other", ""), ("/sweeps/tiny", "?step=7"), ("/compare", "?sweep=other"), ("/nowhere", "")],
)
def test_a_page_that_shows_no_spec_is_not_laid_out_anew_for_ever(look, client, path, query):
    assert "revised" not in look(path, query, **{"planned.data": planned(client, path, query)})


@pytest.mark.parametrize("query", ["", "?metric=none"])
def test_a_view_that_cannot_be_shown_leads_to_one_that_can(client, query):
    path = "/sweeps/tiny" if query else "/sweeps/other"
    told = json.dumps(called(client, "page.children", {"url.pathname": path, "url.search": query})["page"]["children"])
    assert told.count("cannot be shown") == 1
    assert (f'"href": "{path}"' in told) is bool(query)


def test_a_page_of_a_sweep_that_is_gone_says_so(look, client, store):
    before = planned(client, "/sweeps/tiny")
    shutil.rmtree(store.root / "tiny")
    assert look(**{"planned.data": before})["revised"]["data"] == ""


@pytest.mark.parametrize("path", ["/", "/compare", "/launch", "/sweeps/other"])
@pytest.mark.parametrize("allowed", [True, False])
def test_the_key_in_a_store_s_address_is_on_no_page(monkeypatch, path, allowed):
    store = Store("s3://KEY:SECRET@bucket/p?endpoint_override=http://127.0.0.1:1&region=us-east-1")
    monkeypatch.setattr(Store, "sweeps", lambda _: [])
    monkeypatch.setattr(Store, "version", lambda *_: "")
    with TestClient(make_app(Reader(store), Launcher(store, allowed=allowed)), base_url="http://localhost") as client:
        told = client.get("/_dash-layout").text
        told += json.dumps(called(client, "page.children", {"url.pathname": path, "url.search": ""}))
        told += client.get("/api/v1/sweeps/other").text
    assert "s3://bucket/p" in told
    assert "SECRET" not in told


@pytest.mark.parametrize(
    "asked",
    [
        {"output": "nothing.here"}, {"output": ["page"]}, {"output": None}, {"inputs": []}, {"inputs": [1, 2]}, {"state": 5}, {"changedPropIds": 5},
        {"outputs": []}, {"outputs": [AT, PAGE]}, {"outputs": [PAGE, AT, PAGE, AT]}, {"outputs": [[PAGE], AT]}, {"outputs": [1, 2]},
        {"outputs": [PAGE, {"id": {"type": "at"}, "property": "data"}]}, {"outputs": [PAGE, {"id": "at"}]}, {"outputs": PAGE}, {"outputs": None},
    ],
    ids=str,
)  # fmt: skip
def test_what_no_page_of_this_server_asks_is_refused_in_one_line(client, asked):
    places = [{"id": "url", "property": name, "value": "/"} for name in ("pathname", "search")]
    page = {"output": "..page.children...at.data..", "outputs": [PAGE, AT], "inputs": places, "changedPropIds": []}
    told = [
        client.post(ASKED, json=body, headers={"origin": str(client.base_url)}) for body in (page, {**page, **asked})
    ]
    assert told[0].status_code == 200
    assert "reload the page" in is_problem(told[1], 400)
