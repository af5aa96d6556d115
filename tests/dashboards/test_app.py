"""The pages around their content: addresses, the first visit, what goes wrong."""

import re
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
from plotly.offline import get_plotlyjs_version
from starlette.testclient import TestClient

from hpscan.dashboards import app, maps, overview, reports
from hpscan.dashboards.cells import best_cells
from hpscan.dashboards.launching import Launcher
from hpscan.dashboards.reading import Pace, Reader, UnknownError
from hpscan.dashboards.server import make_app
from hpscan.store import Store

from .conftest import parts_of, text_of


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


def test_the_shipped_part_of_plotly_is_of_the_version_that_is_installed():
    bundle = Path(app.__file__).with_name("assets") / "plotly-cartesian.min.js"
    with bundle.open(encoding="utf-8") as lines:
        assert f"plotly.js (cartesian - minified) v{get_plotlyjs_version()}" in "".join(islice(lines, 6))


def test_a_page_allows_its_inline_scripts_and_no_others(client):
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert re.search(r"script-src 'self'( 'sha256-[\w+/=]+')+;", policy)
    assert "websocket" not in answer.text


def test_an_empty_store_says_what_to_run(tmp_path):
    page = overview.page(Reader(Store(tmp_path)))
    assert "No sweeps yet" in text_of(page)
    assert f"hpscan launch quickstart --store {tmp_path}" in text_of(page)


def test_the_list_tells_progress_the_best_and_each_landscape(reader):
    page = overview.page(reader)
    told = text_of(page)
    assert "incomplete" in told  # nothing has landed of late
    assert "12 to go" in told
    assert "adamw, lr 2⁻⁴, wd 2⁻⁶" in told
    assert len(parts_of(page, "Img")) == 3


def test_a_sweep_without_a_readable_spec_does_not_hide_the_others(reader, store):
    (store.root / "broken").mkdir()
    (store.root / "broken" / "spec.yaml").write_text("name: [", encoding="utf-8")
    told = text_of(overview.page(reader))
    assert "tiny" in told


def test_a_page_of_a_sweep_has_a_map_of_each_panel(reader):
    page = maps.page(reader, ["tiny"], "")
    assert [graph.id["name"] for graph in parts_of(page, "Graph") if isinstance(graph.id, dict)] == [
        "tiny/sgd", "tiny/sgdw", "tiny/adamw",
    ]  # fmt: skip
    assert all(graph.figure["data"] for graph in parts_of(page, "Graph") if isinstance(graph.id, dict))


def test_an_address_chooses_maps_and_what_they_show(reader):
    page = maps.page(reader, ["tiny"], "?map=tiny%2Fsgdw&shows=se&step=6")
    assert [graph.id["name"] for graph in parts_of(page, "Graph") if isinstance(graph.id, dict)] == ["tiny/sgdw"]
    view = next(part for part in parts_of(page, "Store") if part.id == "view").data
    assert (view["shows"], view["step"]) == ("se", 6)
    assert "after 6 steps" in text_of(page)


def test_a_comparison_is_of_the_sweeps_it_names_or_of_some(reader):
    assert maps.compared(reader, "?sweep=b&sweep=a&sweep=b") == ["b", "a"]
    assert maps.compared(reader, "") == ["tiny"]


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


def test_a_sweep_runs_while_runs_end_and_its_rest_takes_as_long_as_they_did():
    import pandas as pd

    now = pd.Timestamp("2026-01-01T12:00:00Z")
    ends = pd.Series([now - pd.Timedelta(seconds=s) for s in (100, 50, 20)])
    pace = Pace.of(ends, 6, now.to_pydatetime())
    assert pace.is_running
    assert pace.eta_s == pytest.approx(6 * 100 / 3)
    assert not Pace.of(ends, 0, now.to_pydatetime()).is_running
    assert not Pace.of(ends, 6, (now + pd.Timedelta(hours=1)).to_pydatetime()).is_running
    assert Pace.of(ends.iloc[:0], 6, now.to_pydatetime()) == Pace(None, is_running=False, eta_s=None)


@pytest.mark.parametrize("query", ["?shows=se", "?shows=n", "?shows=0", "?metric=test_loss"])
def test_a_legend_explains_only_marks_that_are_drawn(reader, query):
    assert "ten best" in text_of(maps.page(reader, ["tiny"], ""))
    assert "ten best" not in text_of(maps.page(reader, ["tiny"], query))
