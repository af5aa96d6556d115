"""How fast the dashboard is: queries, callbacks over HTTP, first paints in a browser, and fifty viewers at once.

    python -m benchmarks.dashboard --write benchmarks/dashboard.md

Needs Chromium with its driver, about 8 GB of disk and, the first time, ten minutes more: a store of 1,000,000 runs
(``benchmarks/million.py``) and the quickstart are made in ``--stores`` and used again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.meter import header, megabytes
from benchmarks.million import made
from benchmarks.viewer import Asked, Viewer
from hpscan.dashboards.maps import COMPUTING
from tests.browser import Browser
from tests.processes import HPSCAN, answers, end, free_port, started, wait_for

ROUNDS = 24
"""Times that each kind of callback is asked."""
TICK_S = 2.0
N_VIEWERS = 50
VIEWED_S = 600.0
PACK_S = 2.0
"""Between packs that land while viewers look."""


@dataclass(frozen=True)
class Stores:
    """What is looked at: the store of a million runs, and that of the quickstart."""

    million: Path
    quickstart: Path

    @classmethod
    def below(cls, folder: Path) -> Stores:
        """Both, made if they are not there."""
        quickstart = folder / "quickstart"
        if not (quickstart / "quickstart" / "spec.yaml").exists():
            subprocess.run([HPSCAN, "launch", "quickstart", "--store", quickstart], check=True)
        made(folder, compacted=True)
        return cls(folder / "compacted", quickstart)


@dataclass(frozen=True)
class Server:
    """A dashboard in a process of its own."""

    address: str
    pid: int

    def megabytes(self) -> float:
        """The memory it has now, with what it started."""
        return sum(megabytes(pid, "VmRSS") for pid in (self.pid, *_children(self.pid)))

    def cpu_s(self) -> float:
        """Seconds of CPU that it has had."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text(encoding="utf-8").split()]
    return found


@contextmanager
def served(store: Path) -> Iterator[Server]:
    """A dashboard of a store, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="hpscan-bench-") as folder:
        port = free_port()
        process = started("dashboard", "--store", store, "--port", port, cwd=folder, env={"OMP_NUM_THREADS": "1"})
        try:
            wait_for(lambda: answers(port), what="the dashboard")
            yield Server(f"http://127.0.0.1:{port}", process.pid)
        finally:
            end(process, signal.SIGKILL)


QUERY = """
import sys, time
from hpscan.dashboards.reading import Reader
from hpscan.store import Store
reader, took = Reader(Store(sys.argv[1])), []
for panel in sys.argv[3:]:
    start = time.perf_counter()
    reader.shape(sys.argv[2], panel).mean()
    took.append(time.perf_counter() - start)
print(*took)
"""


def queries(stores: Stores) -> list[str]:
    """A landscape of a million runs, read by a process that has read nothing before."""
    asked = ["adamw", "adamw-torch", "adamw"]
    found = []
    for _ in range(5):
        command = [sys.executable, "-c", QUERY, str(stores.million), "million", *asked]
        printed = subprocess.run(
            command, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        found.append([float(word) for word in printed.stdout.split()])
    cold, other, warm = np.median(found, axis=0)
    return [
        "| a landscape of 500 × 500 cells, 2 seeds, of a sweep of 1,000,000 runs, file cache warm | median s of 5 processes | target |",
        "|---|---|---|",
        f"| the first (of {min(row[0] for row in found):.2f} to {max(row[0] for row in found):.2f}) | {cold:.2f} | 1.00 |",
        f"| the sweep's second, its rows being read | {other:.2f} | |",
        f"| the same again | {warm:.5f} | 0.05 |",
    ]


def spread(asked: Sequence[Asked]) -> str:
    """Median, 95th percentile and most, in ms."""
    took = [1000 * each.seconds for each in asked]
    return f"{np.median(took):.0f} | {np.percentile(took, 95):.0f} | {max(took):.0f}"


KINDS = {
    '"map"}.figure': "a map", "hovered": "the cell under the pointer, its slices", "details": "picked cells: curves, runs, code",
    '"numbers"}': "a map's numbers, as they are known", "legend": "the legend", "version.data": "whether anything is new", "progress": "progress",
    "page.children": "a page", "sweeps.": "the list of sweeps", "steps.data": "evaluations and metrics on offer",
}  # fmt: skip
"""Callbacks by what they answer."""

CHOICES = [
    {}, {"scale": "rank"}, {"metric": "val_error"}, {"metric": "test_loss", "scale": "linear"}, {"shows": "se"}, {"units": "torch"},
    {"shows": "1", "iso": True}, {"metric": "weight_norm"},
]  # fmt: skip


def by_kind(asked: Sequence[Asked]) -> dict[str, list[Asked]]:
    """Requests by what they ask for, in the order of ``KINDS``."""
    found = {told: [each for each in asked if word in each.output] for word, told in KINDS.items()}
    return {told: some for told, some in found.items() if some}


async def choosing(address: str, path: str) -> list[Asked]:
    """What one viewer asks who chooses, points, and picks; nothing that is chosen was drawn before with that tolerance."""
    rng = np.random.default_rng(0)
    async with Viewer(address) as viewer:
        await viewer.open(path)
        plain, names = dict(viewer.value("view", "data")), viewer.names("figure", "map")
        for k in range(len(CHOICES) + ROUNDS):
            if k == len(CHOICES):
                viewer.asked = []
            await viewer.set("view", data={**plain, **CHOICES[k % len(CHOICES)], "tolerance": 3.0 + 0.25 * k})
            point = {"x": float(rng.uniform(-12, -3)), "y": float(rng.uniform(-12, -3))}
            await viewer.set(names[k % len(names)], hoverData={"points": [point]})
            await viewer.set("picked", data={"cells": [{**point, "name": json.loads(names[0])["name"]}]})
            await viewer.tick()
        return viewer.asked


def callbacks(stores: Stores) -> list[str]:
    """Each kind of callback, asked by one viewer over HTTP."""
    lines = [
        "| callbacks over HTTP, one viewer, from the request to the last byte | asked | median ms | 95 % | most | largest answer, kB |",
        "|---|---|---|---|---|---|",
    ]
    for store, sweep, size in (
        (stores.million, "wide", "300 × 300"),
        (stores.million, "million", "500 × 500"),
        (stores.quickstart, "quickstart", "quickstart"),
    ):
        with served(store) as server:
            asked = asyncio.run(choosing(server.address, f"/sweeps/{sweep}"))
        assert {each.status for each in asked} == {200}
        for told, some in by_kind(asked).items():
            lines.append(
                f"| {size}: {told} | {len(some)} | {spread(some)} | {max(each.size for each in some) / 1000:.1f} |"
            )
        lines.append(
            f"| **{size}: all** | {len(asked)} | {spread(asked)} | {max(each.size for each in asked) / 1000:.1f} |"
        )
    return lines


PAINTED = """
const seen = () => {
  if (!performance.getEntriesByName("meaningful").length && (%s))
    requestAnimationFrame(() => setTimeout(() => performance.mark("meaningful"), 0));
  else requestAnimationFrame(seen);
};
requestAnimationFrame(seen);
"""
MEANINGFUL = {
    "list": "document.querySelectorAll('.sweep .thumb img').length && [...document.images].every((image) => image.complete)",
    "maps": "document.querySelectorAll('#maps .card').length && [...document.querySelectorAll('#maps .card')].every((map) => map.querySelector('.hm image'))",
}


def paints(stores: Stores) -> list[str]:
    """When the first of what a page is for is painted in a headless Chromium: all thumbnails, or all maps."""
    lines = [
        "| seconds from the click to all maps, or all thumbnails, painted (first paint of anything) | server just started | once the maps' numbers are known, medians of 5 |",
        "|---|---|---|",
    ]
    pages = (
        ("list of sweeps (two, 1,360,000 runs)", stores.million, "/", "list"),
        ("the quickstart, 5 maps", stores.quickstart, "/sweeps/quickstart", "maps"),
        ("1,000,000 runs, 2 maps", stores.million, "/sweeps/million", "maps"),
    )
    for told, store, path, what in pages:
        with served(store) as server:
            first = painted(server.address + path, MEANINGFUL[what])
            settle(server.address + path, MEANINGFUL[what])
            later = np.median([painted(server.address + path, MEANINGFUL[what]) for _ in range(5)], axis=0)
        lines.append(f"| {told} | {first[0]:.2f} ({first[1]:.2f}) | {later[0]:.2f} ({later[1]:.2f}) |")
    return lines


def settle(url: str, meaningful: str) -> None:
    """Wait for the numbers of a page's maps: a process beside the server computes them, on a core of the browser's."""
    browser = Browser()
    try:
        browser.open(url)
        known = f"return Boolean({meaningful}) && !document.body.innerText.includes('{COMPUTING}')"
        wait_for(lambda: browser.script(known), timeout=300, what=url)
    finally:
        browser.driver.quit()


def painted(url: str, meaningful: str) -> tuple[float, float]:
    """Seconds to the first meaningful paint and to the first of anything, of a browser that has nothing of it yet."""
    browser = Browser()
    try:
        browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": PAINTED % meaningful})
        browser.open(url)
        at = "return performance.getEntriesByName('{}')[0]?.startTime"
        first = wait_for(lambda: browser.script(at.format("meaningful")), what=url)
        return first / 1000, browser.script(at.format("first-contentful-paint")) / 1000
    finally:
        browser.driver.quit()


class Running(threading.Thread):
    """A sweep whose packs land, one every ``PACK_S``, again and again from the beginning."""

    def __init__(self, whole: Path, store: Path) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.landed = 0
        self._from, self._to = whole / "quickstart", store / "quickstart"
        self._packs = sorted((self._from / "runs").glob("*.parquet"), key=lambda path: path.stat().st_mtime)
        for kind in ("runs", "curves"):
            (self._to / kind).mkdir(parents=True)
        shutil.copy(self._from / "spec.yaml", self._to)
        self._land(self._packs[0])

    def run(self) -> None:
        """Let them land until it is over."""
        while not self.over.wait(PACK_S):
            if self.landed % len(self._packs) == 0:
                for path in self._to.glob("*/*.parquet"):
                    path.unlink()
            self._land(self._packs[self.landed % len(self._packs)])

    def _land(self, pack: Path) -> None:
        for kind in ("curves", "runs"):
            whole = self._to / kind / f".{pack.name}"
            shutil.copyfile(self._from / kind / pack.name, whole)
            whole.rename(whole.with_name(pack.name))
        self.landed += 1


async def looking(address: str, path: str, until: float, delay: float) -> list[Asked]:
    """A page that is opened, and kept open."""
    await asyncio.sleep(delay)
    async with Viewer(address, parses=False) as viewer:
        await viewer.open(path)
        opened, viewer.asked = viewer.asked, []
        while time.perf_counter() < until:
            asked = time.perf_counter()
            await viewer.tick()
            await asyncio.sleep(max(0.0, TICK_S - (time.perf_counter() - asked)))
        return [*(replace(each, output=f"opened {each.output}") for each in opened), *viewer.asked]


async def together(server: Server, seconds: float) -> tuple[list[Asked], list[tuple[float, float]]]:
    """What all viewers ask, and the server's memory every five seconds."""
    begun = time.perf_counter()
    paths = (
        ["/sweeps/quickstart"] * (N_VIEWERS - 20)
        + ["/"] * 10
        + ["/sweeps/million"] * 5
        + ["/compare?sweep=quickstart&sweep=million"] * 5
    )
    pages = [looking(server.address, path, begun + seconds, 10 * k / len(paths)) for k, path in enumerate(paths)]
    memory: list[tuple[float, float]] = []

    async def watch() -> None:
        while True:
            memory.append((time.perf_counter() - begun, megabytes(server.pid, "VmRSS")))
            await asyncio.sleep(5)

    watching = asyncio.ensure_future(watch())
    asked = [each for some in await asyncio.gather(*pages) for each in some]
    watching.cancel()
    return asked, memory


def viewers(stores: Stores, seconds: float = VIEWED_S) -> list[str]:
    """Pages that are open at once while packs land."""
    with tempfile.TemporaryDirectory(prefix="hpscan-bench-", dir=stores.million.parent) as folder:
        store = Path(folder, "store")
        shutil.copytree(stores.million / "million", store / "million", copy_function=os.link)
        running = Running(stores.quickstart, store)
        with served(store) as server:
            asyncio.run(looking(server.address, "/sweeps/million", 0.0, 0.0))  # somebody has used it before
            before = server.cpu_s()
            running.start()
            asked, memory = asyncio.run(together(server, seconds))
            cpu, whole = server.cpu_s() - before, server.megabytes()
            running.over.set()
            running.join()
    assert {each.status for each in asked} <= {200, 204}
    opening = [each for each in asked if each.output.startswith("opened ")]
    open_pages = [each for each in asked if not each.output.startswith("opened ")]
    rate = len(asked) / seconds
    return [
        f"{N_VIEWERS} pages at once for {seconds / 60:.0f} minutes: {N_VIEWERS - 20} of the quickstart while it runs, 10 lists of sweeps, 5 of the sweep of "
        f"1,000,000 runs, 5 comparing the two. A pack landed every {PACK_S:g} s ({running.landed} did), and each page asked every {TICK_S:g} s: {rate:.0f} requests a second. The "
        f"server used {100 * cpu / seconds:.0f} % of a core for its answers; the viewers, which are one process, and the numbers, which another one computes, shared the two cores with it.",
        "",
        "| what was asked for | asked | median ms | 95 % | most |",
        "|---|---|---|---|---|",
        *(f"| {told} | {len(some)} | {spread(some)} |" for told, some in by_kind(open_pages).items()),
        f"| **all of open pages** | {len(open_pages)} | {spread(open_pages)} |",
        f"| opening the pages, all within 10 s | {len(opening)} | {spread(opening)} |",
        "",
        "| minute | " + " | ".join(str(k) for k in range(1, 1 + int(seconds // 60))) + " |",
        "|---" * (1 + int(seconds // 60)) + "|",
        "| the server's memory, MB | "
        + " | ".join(
            f"{max(mb for at, mb in memory if 60 * k <= at < 60 * k + 60):.0f}" for k in range(int(seconds // 60))
        )
        + " |",
        "",
        f"With the process that computes numbers {whole:.0f} MB at the end.",
    ]


MEASURES = (queries, callbacks, paints, viewers)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--stores", type=Path, default=Path(tempfile.gettempdir(), "bench-dashboard"))
    parser.add_argument("--only", choices=[measure.__name__ for measure in MEASURES])
    parser.add_argument("--seconds", type=float, default=VIEWED_S, help="how long the viewers look")
    options = parser.parse_args()
    stores = Stores.below(options.stores)
    parts = [[header("python -m benchmarks.dashboard", ("dash", "uvicorn", "pyarrow", "numpy"))]]
    for measure in MEASURES:
        if options.only in {None, measure.__name__}:
            parts.append(measure(stores, options.seconds) if measure is viewers else measure(stores))
            print("\n".join(parts[-1]), flush=True)
    if options.write:
        text = "# How fast the dashboard is\n\n" + "\n\n".join("\n".join(part) for part in parts) + "\n"
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
