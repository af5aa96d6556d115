"""Launching by the page: what it says of a spec before, of its launch after, and of what goes wrong."""

import sys

import pytest
import yaml
from starlette.testclient import TestClient

from hpscan.dashboards import launching, submit
from hpscan.dashboards.callbacks import Pages
from hpscan.dashboards.launching import Launcher, viewer_may_launch
from hpscan.dashboards.reading import Reader
from hpscan.dashboards.server import make_app
from hpscan.spec_text import shipped_specs
from tests.processes import wait_for

from .conftest import called, parts_of, text_of


@pytest.fixture
def pages_of(store):
    made = []

    def make(**options):
        made.append(Launcher(store, **options))
        return Pages(None, Reader(store), made[-1])

    yield make
    for launcher in made:
        launcher.close()


@pytest.fixture
def says(monkeypatch):
    """Have launches run a line of Python in place of a sweep."""
    return lambda line: monkeypatch.setattr(launching, "_hpscan", lambda *_: [sys.executable, "-c", line])


def ended(pages, sweep="tiny"):
    wait_for(lambda: not pages.launcher.last(sweep).goes_on, what=f"the end of {sweep}")


def test_a_spec_is_counted_against_the_store(pages_of, tiny_raw):
    told, valid = submit._checked(pages_of(allowed=True), yaml.safe_dump(tiny_raw))
    assert valid
    assert text_of(told).split() == ["valid", "Sweep", "tiny", "Runs", "72", "To", "train", "12"]


def test_who_may_not_launch_is_told_the_command(pages_of, tiny_raw, store):
    command = f"hpscan launch spec.yaml --store {store.location}"
    assert command in text_of(submit._checked(pages_of(), yaml.safe_dump(tiny_raw))[0])
    pages = pages_of(allowed=True)
    mark = viewer_may_launch.set(False)
    try:
        assert command in text_of(submit._checked(pages, yaml.safe_dump(tiny_raw))[0])
        (button,) = (each for each in parts_of(submit.page(pages), "Button") if each.id == "launch")
        assert button.children is None  # there for its callback, and not to be seen
    finally:
        viewer_may_launch.reset(mark)


@pytest.mark.parametrize(
    ("changes", "names"),
    [({"batch_size": 0}, ["batch_size", "0"]), ({"name": "<b>x</b>"}, ["name", "<b>x</b>"]),
     ({"workload": {"trainable": "os:getcwd"}}, ["os:getcwd"])],
)  # fmt: skip
def test_what_cannot_be_launched_is_told_as_text_that_names_it(pages_of, tiny_raw, changes, names):
    told, valid = submit._checked(pages_of(allowed=True), yaml.safe_dump({**tiny_raw, **changes}))
    assert not valid
    assert all(name in text_of(told) for name in names)
    assert not parts_of(told, "Markdown")


@pytest.mark.parametrize("text", ["", "  \n"])
def test_nothing_is_no_mistake(pages_of, text):
    told, valid = submit._checked(pages_of(allowed=True), text)
    assert not valid
    assert "cannot" not in text_of(told)


def test_a_launch_is_listed_with_its_end_and_the_end_of_its_log(pages_of, tiny_raw, says):
    pages = pages_of(allowed=True)
    assert "Nothing was launched" in text_of(submit._launches(pages))
    says("print('first'); print('x' * 5000); print('<b>last</b>'); raise SystemExit(3)")
    pages.launcher.launch(yaml.safe_dump(tiny_raw))
    ended(pages)
    told = submit._launches(pages)
    (log,) = parts_of(told, "Pre")
    assert log.children.endswith("<b>last</b>\n")
    assert len(log.children) == 4000
    assert "failed" in text_of(told)
    assert not parts_of(told, "Button")


def test_a_running_launch_can_be_cancelled_by_who_may_launch(pages_of, tiny_raw, says):
    pages = pages_of(allowed=True)
    says("import time; time.sleep(60)")
    pages.launcher.launch(yaml.safe_dump(tiny_raw))
    (button,) = parts_of(submit._launches(pages), "Button")
    assert button.id == {"type": "cancel", "name": "tiny"}
    mark = viewer_may_launch.set(False)
    assert not parts_of(submit._launches(pages), "Button")
    viewer_may_launch.reset(mark)


def test_a_launch_is_interrupted_once_however_often_it_is_cancelled(pages_of, tiny_raw, says, tmp_path):
    pages, may_end, stored = pages_of(allowed=True), tmp_path / "may end", tmp_path / "stored"
    says(
        "import time, pathlib\ntry:\n    print('begun', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n"
        f"    while not pathlib.Path({str(may_end)!r}).exists(): time.sleep(0.01)\n    pathlib.Path({str(stored)!r}).touch()"
    )
    pages.launcher.launch(yaml.safe_dump(tiny_raw))
    wait_for(lambda: "begun" in pages.launcher.log("tiny"), what="its beginning")
    for _ in range(3):
        assert pages.launcher.cancel("tiny").goes_on
        assert "cancelling" in text_of(submit._launches(pages))
    may_end.touch()
    ended(pages)
    assert pages.launcher.last("tiny").status == "cancelled"
    assert stored.exists()


def test_a_job_server_that_does_not_answer_hides_no_launch(pages_of):
    pages = pages_of(allowed=True, address="http://127.0.0.1:1")
    pages.launcher._last["tiny"] = launching._Job("tiny", "http://127.0.0.1:1", "job")
    told = text_of(submit.page(pages))
    assert "tiny" in told
    assert "http://127.0.0.1:1" in told


def test_a_launch_by_the_page_starts_and_is_told_when_it_cannot(store, tiny_raw, says):
    says("import time; time.sleep(60)")
    with TestClient(make_app(Reader(store), Launcher(store, allowed=True)), base_url="http://localhost") as client:

        def launched(text):
            values = {"launch.n_clicks": 1, "spec.value": text}
            return str(called(client, "launched.children", values)["launched"]["children"])

        assert launched(yaml.safe_dump(tiny_raw)) == "Launched."
        assert "tiny: is being launched" in launched(yaml.safe_dump(tiny_raw))
        assert "batch_size" in launched(yaml.safe_dump({**tiny_raw, "batch_size": 0}))
        assert "spec" in launched(None)
        assert (
            called(client, "spec.value", {"shipped.value": "quickstart"})["spec"]["value"]
            == shipped_specs()["quickstart"]
        )
        assert called(client, "spec.value", {"shipped.value": "your own"}) == {}


def test_a_cancel_that_comes_too_late_is_told_and_no_mistake(store, tiny_raw, says, caplog):
    says("")
    launcher = Launcher(store, allowed=True)
    with TestClient(make_app(Reader(store), launcher), base_url="http://localhost") as client:
        launcher.launch(yaml.safe_dump(tiny_raw))
        wait_for(lambda: not launcher.last("tiny").goes_on, what="the end of it")
        one = {"id": {"type": "cancel", "name": "tiny"}}
        body = {
            "output": "tick.disabled", "outputs": {"id": "tick", "property": "disabled"},
            "inputs": [[{**one, "property": "n_clicks", "value": 1}]], "state": [[{**one, "property": "id", "value": one["id"]}]],
            "changedPropIds": ['{"name":"tiny","type":"cancel"}.n_clicks'],
        }  # fmt: skip
        answer = client.post("/_dash-update-component", json=body, headers={"origin": "http://localhost"})
    assert "tiny: its launch has ended" in answer.text
    assert not caplog.records
