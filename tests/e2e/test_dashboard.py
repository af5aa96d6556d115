"""The dashboard in a real browser, from an empty store through a sweep that is launched in it to its report."""

import json
import re
import urllib.request
from pathlib import Path

import pytest
import yaml
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from hpscan.grid import runs as runs_of
from hpscan.spec import Spec
from hpscan.store import METRICS, Store
from tests.browser import CHROMIUM, DRIVER, Browser
from tests.dashboards.conftest import result_of
from tests.e2e.conftest import SWEEP
from tests.processes import answers, end, free_port, started, wait_for

LAUNCHED = yaml.safe_dump(SWEEP)

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromium-driver"),
]


@pytest.fixture
def browser():
    browser = Browser()
    yield browser
    browser.driver.quit()


def served(folder, *options, env=None, port=None):
    """A dashboard of the store in a folder: its address and its process."""
    port = port or free_port()
    process = started(
        "dashboard", "--store", "results", "--port", port, *options, cwd=folder, env=env, log="dashboard.log"
    )
    wait_for(lambda: answers(port) or process.poll() is not None, what="the dashboard")
    assert process.poll() is None, Path(folder, "dashboard.log").read_text()
    return f"http://127.0.0.1:{port}", process


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A dashboard that may launch, on a store that is empty at first."""
    folder = tmp_path_factory.mktemp("dashboard")
    address, process = served(folder, "--allow-launch")
    yield address
    end(process)


def refine_picked(browser):
    """On a sweep's page, pick the first variant's best cell and have the grid about it refined."""
    browser.click(".numbers summary")
    browser.click(".numbers .pick")
    browser.until("One cell", "#details")
    browser.click("#refine")
    browser.until("finer by", "#refined")


def test_from_an_empty_store_through_a_launch_to_its_report(site, browser):
    browser.open(site)
    browser.until("No sweeps yet")
    assert "hpscan launch quickstart" in browser.text(".command")
    assert browser.violations() == []

    browser.click("#nav-launch")
    browser.write("#spec", LAUNCHED.replace("batch_size: 32", "batch_size: many"))
    browser.until("cannot be launched", "#checked")
    assert "batch_size" in browser.text("#checked")
    browser.write("#spec", LAUNCHED)
    browser.one("#checked .chip.good")
    assert "100" in browser.text("#checked")
    wait_for(lambda: browser.one("#launch").is_enabled(), what="the button")
    browser.click("#launch")
    browser.until("running", "#launches")

    # its page fills while it runs
    wait_for(lambda: urllib.request.urlopen(f"{site}/api/v1/sweeps").read().find(b'"sweep"') >= 0, what="the sweep")
    browser.open(f"{site}/sweeps/sweep")
    browser.until("to go", "#progress", timeout=120)
    browser.until("ended", "#progress", timeout=240)
    wait_for(lambda: browser.painted() >= 2, what="both maps")
    browser.until("100 completed", "#progress")

    # a cell, its curves, its snippet
    ActionChains(browser.driver).move_to_element(browser.map(0)).click().perform()
    browser.until("One cell", "#details")
    assert len(browser.all("#details .curves .scatterlayer .trace")) == 2
    assert "torch.optim.SGD(" in browser.text("#optimizer-code")
    assert "learning rate" in browser.text("#hovered")
    browser.driver.execute_script("window.scrollTo(0, 0)")
    ActionChains(browser.driver).move_to_element(browser.map(1)).key_down(Keys.SHIFT).click().key_up(
        Keys.SHIFT
    ).perform()
    browser.until("2 cells compared", "#details")

    # every choice is in the address, and the address is the choice
    browser.driver.execute_script("window.scrollTo(0, 0)")
    browser.click("label:has(input[value='torch'])")
    wait_for(lambda: "units=torch" in browser.driver.current_url, what="the address")
    browser.click("label:has(input[value=''])")
    browser.one("#choose-step .dash-slider-thumb").send_keys(Keys.ARROW_LEFT)
    browser.until("after 150 steps", "#step-words")
    wait_for(lambda: "step=150" in browser.driver.current_url, what="the address")
    browser.open(browser.driver.current_url)
    browser.until("after 150 steps", "#step-words")

    # refine what is chosen by keyboard
    browser.open(f"{site}/sweeps/sweep")
    refine_picked(browser)
    browser.click("#refined summary")
    refined = Spec.validated(yaml.safe_load(browser.text("#refined-code")))
    assert refined.adaptive is not None
    assert browser.violations() == []

    browser.open(f"{site}/sweeps/sweep/report")
    browser.until("Best configuration of each variant", "#report")
    for link in browser.all(".downloads a"):
        assert len(urllib.request.urlopen(link.get_attribute("href")).read()) > 100
    wait_for(
        lambda: browser.script("return [...document.images].every((image) => image.complete && image.naturalWidth)"),
        what="its pictures",
    )
    assert browser.violations() == []
    assert browser.complaints() == []


@pytest.fixture
def phone(browser):
    """A browser as narrow as a phone's."""
    browser.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 850, "deviceScaleFactor": 1, "mobile": True}
    )
    return browser


@pytest.mark.parametrize("path", ["/", "/compare?sweep=sweep", "/launch", "/sweeps/sweep", "/sweeps/sweep/report"])
def test_no_page_is_wider_than_a_phone(site, phone, path):
    phone.open(site + path)
    phone.one("h1")
    wait_for(lambda: "…" not in phone.text("main") or path == "/launch", what="the page")
    assert phone.script("return document.documentElement.scrollWidth") <= 390


def test_what_a_user_writes_is_text_and_makes_no_page_wider(tmp_path, phone):
    name, word = "n" * 100, "<img src=x onerror=alert(1)>\u202e" + "w" * 3000
    store, spec = Store(tmp_path / "results"), Spec.validated({**SWEEP, "name": name, "notes": word})
    store.save_spec(spec)
    rows = [row for run in runs_of(spec) if (row := result_of(run))]
    rows[0] |= {"state": "failed", "error": word} | dict.fromkeys(METRICS)
    store.save_pack(name, "p", rows, [])
    address, process = served(tmp_path)
    try:
        for path in ("/", f"/compare?sweep={name}", f"/sweeps/{name}", f"/sweeps/{name}/report"):
            phone.open(address + path)
            phone.one("h1")
            wait_for(lambda: "…" not in phone.text("main"), what="the page")
            assert phone.script("return document.documentElement.scrollWidth") <= 390, path
        assert word[:28] in phone.text("#report")
        phone.open(f"{address}/sweeps/{name}")
        refine_picked(phone)
        phone.script("for (const each of document.querySelectorAll('details')) each.open = true")
        assert phone.script("return document.documentElement.scrollWidth") <= 390
        assert phone.complaints() == []
    finally:
        end(process)


def test_the_system_s_theme_is_followed_until_one_is_chosen_which_is_kept(site, browser):
    def prefer(scheme):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def shows(theme):
        """Whether the page says so, and its ground is as dark as that."""
        red = browser.script(
            "return Number(getComputedStyle(document.documentElement).backgroundColor.match(/\\d+/)[0])"
        )
        return browser.script("return document.documentElement.dataset.theme") == theme == ("light", "dark")[red < 128]

    prefer("dark")
    browser.open(site)
    browser.one("#theme")
    assert shows("dark")
    prefer("light")
    wait_for(lambda: shows("light"), what="the system's theme")

    browser.click("#theme")
    wait_for(lambda: shows("dark"), what="the theme chosen")
    for path in ("", "/compare"):
        browser.open(site + path)
        browser.one("#theme")
        assert shows("dark")
    browser.until("Landscapes of several sweeps")
    assert browser.violations() == []

    browser.click("#theme")
    wait_for(lambda: shows("light"), what="the other theme")
    prefer("dark")  # what is chosen goes before what the system prefers
    browser.driver.refresh()
    browser.one("#theme")
    assert shows("light")


def test_a_page_that_is_not_there_says_so(site, browser):
    browser.open(f"{site}/sweeps/other")
    browser.until("not in the store")
    browser.open(f"{site}/nowhere")
    browser.until("no such page")


def test_a_broken_file_is_told_and_the_rest_is_shown(tmp_path, spec_file, browser):
    from tests.processes import hpscan

    path = spec_file(variants=["sgdw"], seeds=[0], budget={"steps": 20}, grid={"lr": [0.1, 0.2], "wd": [0.01, 0.02]})
    assert hpscan("launch", path, cwd=tmp_path).returncode == 0
    Path(tmp_path, "results", "sweep", "runs", "0123456789abcdef.parquet").write_bytes(b"not parquet")
    address, process = served(tmp_path)
    try:
        browser.open(f"{address}/sweeps/sweep")
        browser.until("Left out, broken", "#notice")
        wait_for(browser.painted, what="the map")
    finally:
        end(process)


def test_a_token_is_asked_for_and_a_viewer_may_not_launch(tmp_path, browser):
    env = {"HPSCAN_TOKEN": "a-long-secret-token", "HPSCAN_READ_TOKEN": "another-secret-token"}
    address, process = served(tmp_path, "--allow-launch", env=env)
    try:
        browser.open(f"{address}/launch")
        assert "/login" in browser.driver.current_url
        assert browser.violations() == []
        browser.one("input[type=password]").send_keys("wrong" + Keys.ENTER)
        wait_for(lambda: "/login" in browser.driver.current_url and browser.all("[role=alert]"), what="refusal")
        browser.one("input[type=password]").send_keys("another-secret-token" + Keys.ENTER)
        browser.until("only shows")
        assert not [each for each in browser.all("#launch") if each.is_displayed()]
        cookie = next(each for each in browser.driver.get_cookies() if "hpscan" in each["name"])
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        request = urllib.request.Request(
            f"{address}/api/v1/launch", data=json.dumps({"text": LAUNCHED}).encode(), method="POST",
            headers={"Authorization": "Bearer another-secret-token", "Content-Type": "application/json"},
        )  # fmt: skip
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request)
        browser.click("a[href='/logout']")
        browser.click("button")
        wait_for(lambda: "/logout" not in browser.driver.current_url, what="the end of the session")
        browser.open(f"{address}/")
        assert "/login" in browser.driver.current_url
    finally:
        end(process)


def test_a_page_says_that_it_is_not_answered_until_it_is(tmp_path, browser):
    address, process = served(tmp_path)
    browser.open(address)
    browser.until("No sweeps yet")
    end(process)
    browser.until("does not answer", "#lost")
    _, process = served(tmp_path, port=int(address.rpartition(":")[2]))
    try:
        wait_for(lambda: not [each for each in browser.all("#lost") if each.is_displayed()], what="silence")
        browser.script("fetch('/_dash-update-component', {method: 'POST', body: '['})")
        browser.until("must be a JSON object", "#lost")
    finally:
        end(process)


def test_who_is_signed_out_is_told_on_the_page(tmp_path, browser):
    address, process = served(tmp_path, env={"HPSCAN_TOKEN": "a-long-secret-token"})
    try:
        browser.open(address)
        browser.one("input[type=password]").send_keys("a-long-secret-token" + Keys.ENTER)
        browser.until("No sweeps yet")
        browser.driver.delete_all_cookies()
        browser.until("You are signed out", "#lost")
        assert browser.violations() == []
        browser.click("#lost a")
        wait_for(lambda: "/login" in browser.driver.current_url, what="the login")
    finally:
        end(process)


@pytest.mark.parametrize(
    ("path", "control", "name"),
    [("sweeps/one", "choose-metric", "Metric validation loss"), ("sweeps/one", "choose-maps", "Maps 2 selected sgd, sgdw"),
     ("compare", "choose-sweeps", "Sweeps 2 selected one, two"), ("launch", "shipped", "Start from your own")],
)  # fmt: skip
def test_a_dropdown_is_named_by_what_it_is_for(two_sweeps, browser, path, control, name):
    browser.open(f"{two_sweeps}/{path}")
    wait_for(lambda: browser.one(f"#{control}").accessible_name == name, timeout=30, what=name)


def test_nothing_is_fetched_from_elsewhere(site, browser):
    browser.open(f"{site}/")
    browser.one("h1")
    names = browser.script("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert len(names) > 5
    assert not [name for name in names if not re.match(rf"{re.escape(site)}/|data:", name)]


@pytest.fixture(scope="module")
def two_sweeps(tmp_path_factory):
    """A dashboard of two sweeps with known results, evaluated four times; of the second all losses are twice as large."""
    folder = tmp_path_factory.mktemp("two")
    store = Store(folder / "results")
    for factor, name in enumerate(("one", "two"), start=1):
        spec = Spec.validated({**SWEEP, "name": name})
        rows = [{**row, **{metric: factor * row[metric] for metric in METRICS}} for run in runs_of(spec) if (row := result_of(run)) and row["state"] == "completed"]  # fmt: skip
        points = [
            {"run_id": row["run_id"], "step": step, "val_loss": row["val_loss"] * 200 / step, "val_error": 0.5}
            for row in rows
            for step in (50, 100, 150, 200)
        ]
        store.save_spec(spec)
        store.save_pack(name, "p", rows, points)
    address, process = served(folder)
    yield address
    end(process)


def drawn(browser):
    """Of each map its values and the ends of its colours."""
    return browser.script(
        "return [...document.querySelectorAll('#maps .js-plotly-plot')].map((map) => map._fullData[1])"
        ".map((trace) => ({z: JSON.stringify([...trace.z].map((row) => [...row])), ends: [trace.zmin, trace.zmax]}))"
    )


def test_evaluations_play_until_they_are_held(two_sweeps, browser):
    browser.open(f"{two_sweeps}/sweeps/one")
    wait_for(lambda: browser.painted() >= 2, what="both maps")
    at_the_end = drawn(browser)[0]
    browser.click("#play")
    for step in (50, 100, 150):
        browser.until(f"after {step} steps", "#step-words")
    wait_for(lambda: drawn(browser)[0]["z"] != at_the_end["z"], what="an earlier map")
    browser.until("end of training", "#step-words")  # and from the beginning again
    browser.until("after 50 steps", "#step-words")
    browser.click("#play")
    browser.until("▶", "#play")
    held = browser.text("#step-words")
    ticks = "return document.querySelector('#read-at').textContent"
    looked = browser.script(ticks)
    wait_for(lambda: browser.script(ticks) != looked, what="the next look at the store")
    assert browser.text("#step-words") == held
    assert drawn(browser)[0]["ends"] == at_the_end["ends"]
    assert browser.complaints() == []


def test_sweeps_are_compared_on_one_scale(two_sweeps, browser):
    browser.open(f"{two_sweeps}/compare?sweep=one&sweep=two")
    wait_for(lambda: browser.painted() >= 4, what="all maps")
    assert [each.text.split(" · ")[0] for each in browser.all("#maps h2")] == ["one", "one", "two", "two"]
    maps = drawn(browser)
    assert len({tuple(each["ends"]) for each in maps}) == 1
    assert maps[0]["z"] != maps[2]["z"]
    browser.click("label:has(input[value='rank'])")
    wait_for(lambda: "scale=rank" in browser.driver.current_url, what="the address")
    assert "sweep=one&sweep=two" in browser.driver.current_url
    wait_for(lambda: drawn(browser)[0]["ends"] != maps[0]["ends"], what="ranks")
    assert browser.complaints() == []


def test_a_page_is_what_its_address_says(two_sweeps, browser):
    def maps(number):
        wait_for(lambda: len(browser.all("#maps article")) == number, what=f"{number} maps")

    browser.open(f"{two_sweeps}/compare?sweep=two")
    maps(2)
    browser.click("#nav-compare")
    maps(4)
    browser.driver.back()
    maps(2)
    browser.open(f"{two_sweeps}/sweeps/%E0%A4%A")
    browser.until("cannot be shown")
    assert browser.complaints() == []


def test_what_could_not_be_shown_is_forgotten_with_what_asked_for_it(two_sweeps, browser):
    browser.open(f"{two_sweeps}/sweeps/one")
    wait_for(lambda: browser.painted() >= 2, what="both maps")
    browser.script("dash_clientside.set_props('view', {data: {step: 7}})")
    browser.until("step: must be one of 50", "#notice")
    browser.script("dash_clientside.set_props('view', {data: {}})")
    wait_for(lambda: browser.script("return document.getElementById('notice').hidden"), what="silence")


def test_evaluations_are_offered_of_what_has_them(two_sweeps, browser):
    browser.open(f"{two_sweeps}/sweeps/one?step=100")
    browser.until("after 100 steps", "#step-words")
    for metric, is_offered in (("test_loss", False), ("val_error", True)):
        browser.script("dash_clientside.set_props('choose-metric', {value: arguments[0]})", metric)
        wait_for(lambda metric=metric: browser.driver.current_url.endswith(f"?metric={metric}"), what="the address")
        assert browser.script("return document.getElementById('reel').classList.contains('absent')") is not is_offered
        assert browser.script("return document.getElementById('notice').hidden")
    assert browser.text("#step-words") == "end of training"
    browser.one("#choose-step .dash-slider-thumb").send_keys(Keys.ARROW_LEFT)
    browser.until("after 150 steps", "#step-words")
    assert browser.complaints() == []


def test_a_page_of_a_spec_that_was_revised_comes_anew(tmp_path, browser):
    store = Store(tmp_path / "results")
    store.save_spec(Spec.validated({**SWEEP, "variants": ["sgd"]}))
    address, process = served(tmp_path)
    try:
        browser.open(f"{address}/sweeps/sweep?scale=rank")
        browser.until("sgd", "#maps")
        store.save_spec(Spec.validated(SWEEP))
        browser.until("sgdw", "#maps")
        assert browser.driver.current_url.endswith("?scale=rank")
    finally:
        end(process)


def test_a_spec_is_submitted_to_a_job_server(tmp_path, browser, cluster):
    cluster.add(cpus=2, jobs=True)
    address, process = served(tmp_path, "--allow-launch", "--address", cluster.jobs, env=cluster.env)
    try:
        browser.open(f"{address}/launch")
        browser.until(cluster.jobs)
        small = {"variants": ["sgdw"], "seeds": [0], "budget": {"steps": 20}, "grid": {"lr": [0.1, 0.2], "wd": [0.01, 0.02]}}  # fmt: skip
        browser.write("#spec", yaml.safe_dump({**SWEEP, **small}))
        wait_for(lambda: browser.one("#launch").is_enabled(), what="the button")
        browser.click("#launch")
        browser.until("succeeded", "#launches", timeout=300)
        assert "4 runs" in browser.text("#launches .log")
        browser.open(f"{address}/sweeps/sweep")
        browser.until("4 completed", "#progress")
    finally:
        end(process)
