"""The documentation site: built strictly, from nowhere but this folder, and complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pydantic import BaseModel

import hpscan
from hpscan.cli import app
from hpscan.spec import Spec
from hpscan.spec_text import shipped_specs

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built by the command of `make docs`; it fails on a dead link, a missing anchor or a page that no menu has."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-P", "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={
            **os.environ,
            "NO_MKDOCS_2_WARNING": "1",
            "https_proxy": "http://127.0.0.1:1",
            "http_proxy": "http://127.0.0.1:1",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Loads(HTMLParser):
    """What a browser would fetch to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "link" and not {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch"} & set(
            (given["rel"] or "").split()
        ):
            return
        names = {"link": ["href"], "a": []}.get(tag, ["src", "srcset", "data", "poster"])
        self.found += [given[name] for name in names if given.get(name)]


def test_pages_load_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert loads.found
        for url in loads.found:
            assert not re.match(r"(https?:)?//", url), f"{page.name} loads {url}"
            if not url.startswith("data:") and page.name != "404.html":
                assert (page.parent / url.split("?")[0]).exists(), f"{page.name} loads {url}, which is not there"


def test_stylesheets_load_nothing_from_elsewhere(site):
    for sheet in site.rglob("*.css"):
        for url in re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", sheet.read_text(encoding="utf-8")):
            assert not re.match(r"(https?:)?//", url), f"{sheet.name} loads {url}"


def test_every_command_and_option_is_in_the_reference(site):
    from typer.main import get_command

    page = (site / "reference" / "cli.html").read_text(encoding="utf-8")
    for name, command in get_command(app).commands.items():
        assert f'id="{name}"' in page
        for option in (option for parameter in command.params for option in parameter.opts if option.startswith("--")):
            assert f"<code>{option}</code>" in page, f"{name} {option}"


def test_every_field_of_a_spec_is_in_the_reference(site):
    page = (site / "reference" / "spec.html").read_text(encoding="utf-8")
    for name in Spec.model_json_schema()["$defs"]:
        assert f'id="{name.lower()}"' in page
    for model in (Spec, Spec.model_fields["resources"].annotation, Spec.model_fields["training"].annotation):
        assert issubclass(model, BaseModel)
        for field in model.model_fields:
            assert f"<td><code>{field}</code></td>" in page, field
    assert "by default as many as fit" in page, "what the code says of a field is missing"


def test_every_public_name_and_shipped_spec_is_in_the_reference(site):
    page = (site / "reference" / "api.html").read_text(encoding="utf-8")
    for name in set(hpscan.__all__) - {"__version__"}:
        assert re.search(rf'id="hpscan\.(\w+\.)*{name}"', page), name
    page = (site / "reference" / "specs.html").read_text(encoding="utf-8")
    for name in shipped_specs():
        assert f'id="{name}"' in page


def test_pages_of_the_root_lead_to_pages_here(site):
    page = (site / "readme.html").read_text(encoding="utf-8")
    assert 'href="cluster.html"' in page
    assert 'href="benchmarks/engine.html"' in page
    assert 'href="example.html"' in page
    assert 'href="reference/files.html"' in (site / "cluster.html").read_text(encoding="utf-8")


def test_searching_finds_every_page(site):
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    for page in ("start", "concepts", "reproduction", "reference/spec"):
        assert f'"{page}.html"' in index
