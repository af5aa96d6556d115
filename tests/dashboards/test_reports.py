"""The page of a report: links to files that there are, and the report as its files have it."""

import threading

from starlette.testclient import TestClient

from hpscan.content import report_page
from hpscan.dashboards import reading, reports
from hpscan.dashboards.downloads import REPORT_FILES
from hpscan.dashboards.launching import Launcher
from hpscan.dashboards.server import make_app
from hpscan.pages import Paragraph, Picture
from tests.processes import wait_for

from .conftest import called, parts_of, text_of


def made(reader, store, name):
    """What a page that waits for its report is sent when it is made."""
    with TestClient(make_app(reader, Launcher(store)), base_url="http://localhost") as client:

        def asked(shown=None):
            return called(client, "report.children", {"report-of.data": name, "report-shown.data": shown})

        told = wait_for(lambda: (found := asked()) and "report" in found and found, what="the report")
        shown = told["report-shown"]["data"]
        assert shown == reader.analysis(name)[0].read_at.isoformat()
        assert told["report-files"]["hidden"] is False
        assert "report" not in asked(shown)
        return told["report"]["children"]


def strings(value):
    if isinstance(value, dict):
        return [text for each in value.values() for text in strings(each)]
    if isinstance(value, list):
        return [text for each in value for text in strings(each)]
    return [value]


def test_every_file_that_is_offered_is_one_of_the_report(reader):
    links = [link for link in parts_of(reports.page(reader, "tiny"), "A") if link.className == "button"]
    assert links
    for link in links:
        file = link.href.removeprefix("/api/v1/sweeps/tiny/report/").removesuffix("?download=true")
        assert file in REPORT_FILES
        assert link.target == "_blank"
        assert not hasattr(link, "download")  # or the page that waits for the file would be saved in its place


def test_a_folder_s_name_is_quoted_in_its_links(reader, store):
    (store.root / "tiny").rename(store.root / "a/b?".replace("/", "#"))
    page = reports.page(reader, "a#b?")
    assert all("/a%23b%3F/" in link.href for link in parts_of(page, "A"))
    assert [link.href for link in parts_of(page, "Link")] == ["/", "/sweeps/a%23b%3F"]


def test_the_page_says_what_the_files_say(reader, store):
    told = strings(made(reader, store, "tiny"))
    blocks = [
        block for section in report_page(reader.analysed("tiny").outcome.result()).sections for block in section.blocks
    ]
    texts = [block.text for block in blocks if isinstance(block, Paragraph)]
    assert texts
    assert set(texts) <= set(told)
    pictures = [block.name for block in blocks if isinstance(block, Picture)]
    assert pictures
    for name in pictures:
        assert f"{name}.svg" in REPORT_FILES
        assert f"/api/v1/sweeps/tiny/report/{name}.svg?of={reader.version('tiny')}" in told


def test_a_sweep_without_a_report_says_why(reader, store, make_spec):
    store.save_spec(make_spec(name="new"))
    (store.root / "new" / "runs").mkdir()
    (store.root / "new" / "runs" / "pack-x.parquet").write_bytes(b"no parquet")
    told = strings(made(reader, store, "new"))
    assert "No report" in told
    assert any("pack-x.parquet" in str(text) for text in told)


def test_a_report_is_shown_with_its_time_while_a_newer_one_is_made(reader, store, make_spec, monkeypatch):
    assert "is being made" in text_of(reports.page(reader, "tiny"))
    wait_for(lambda: reader.analysis("tiny")[0], what="the report")
    assert "Of what was stored at" not in text_of(reports.page(reader, "tiny"))
    may_end = threading.Event()
    monkeypatch.setattr(reading, "analyze", lambda *_, **__: may_end.wait(60))
    store.save_spec(make_spec(notes="Anew."))
    reader._looked.clear()
    told = text_of(reports.page(reader, "tiny"))
    may_end.set()
    assert "Of what was stored at" in told
    assert "Best configuration" in told


def test_a_mistake_is_told_on_the_page_and_in_the_log(reader, monkeypatch, caplog):
    monkeypatch.setattr(reading, "analyze", lambda *_, **__: 1 // 0)
    reader.analysis("tiny")
    wait_for(lambda: reader.analysis("tiny")[0], what="the end")
    assert "Something went wrong here" in text_of(reports.page(reader, "tiny"))
    assert "ZeroDivisionError" in caplog.text
