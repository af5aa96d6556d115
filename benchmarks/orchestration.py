"""What orchestration costs: Ray's share of a sweep, planning and reading 100,000 runs, many workers, two nodes.

    python benchmarks/orchestration.py [--write benchmarks/orchestration.md]

Real command lines in processes of their own. Where only the orchestration is measured, ``noop.py`` stands in for
training and the table says so.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import ray
import torch

from hpscan.grid import packs, runs
from hpscan.spec import Spec
from hpscan.store import Store, ended

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
WIDE = "grid={lr: {log2: [-9, 0], points: 50}, wd: {log2: [-12, 0], points: 50}}"
NOOP = ["--set", "workload={trainable: 'noop:train'}", "--set", "resources.pack_size=256"]


def hpscan(*arguments: str | Path, cwd: Path = HERE) -> tuple[float, int, str]:
    """Run the command line: seconds, the process's greatest memory in MB, what it printed."""
    start = time.perf_counter()
    child = subprocess.Popen(
        [BIN / "hpscan", *map(str, arguments)], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert child.stdout is not None
    printed = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(printed)
    return time.perf_counter() - start, usage.ru_maxrss // 1024, printed


def share_of_orchestration(store: Path) -> list[str]:
    """How long workers of a real sweep did something else than train, once they were up."""
    sweep = ["launch", "quickstart", "--set", "seeds=2", "--store", store]
    hpscan(*sweep, "--set", "name=warm")  # fills the compile cache
    seconds, _, _ = hpscan(*sweep)
    rows = Store(store).runs("quickstart")
    by_pack = rows.groupby("pack_id").agg(
        end=("finished_at", "max"), busy=("wall_s", "max"), compile=("compile_s", "max")
    )
    began = (by_pack["end"] - pd.to_timedelta(by_pack["busy"], unit="s")).min()
    window = (by_pack["end"].max() - began).total_seconds()
    trained = by_pack["busy"].sum()
    workers = 2
    start_up = seconds - window
    return [
        f"Quickstart with 2 seeds, {len(rows):,} runs in {len(by_pack)} packs, two workers: {seconds:.1f} s in all, of which "
        f"{start_up:.1f} s before the first pack began and after the last ended (interpreter, Ray, torch in the workers, "
        f"loading compiled code, analysis). In the {window:.1f} s between, the workers trained {100 * trained / workers / window:.1f} % of "
        f"the time; the rest, {100 - 100 * trained / workers / window:.1f} %, is orchestration, writing and the last round's tail.",
    ]


def hundred_thousand(store: Path) -> list[str]:
    """Planning, pricing, reading and showing 100,000 runs."""
    lines = ["| 100,000 runs (50 × 50 cells, 5 variants, 8 seeds) | seconds |", "|---|---|"]
    spec = Spec.load("quickstart", [WIDE, "seeds=8", "name=wide"])
    start = time.perf_counter()
    planned = packs(runs(spec), spec.resources.most_runs, (), 64)
    lines.append(f"| plan ({len(planned):,} packs) | {time.perf_counter() - start:.1f} |")
    seconds, _, _ = hpscan("launch", "quickstart", "--set", WIDE, "--set", "seeds=8", "--dry-run", "--store", store)
    lines.append(f"| `hpscan launch --dry-run` | {seconds:.1f} |")
    opened = Store(store)
    opened.save_spec(spec)
    rng = np.random.default_rng(0)
    now = datetime.now(UTC)
    for pack in planned:
        rows = [
            {
                "run_id": run.run_id, "variant": run.cell.variant, "lr": run.cell.lr, "wd": run.cell.wd, "seed": run.seed,
                "config": "{}", "state": "completed", "val_loss": rng.random(), "val_error": 0.1, "test_error": 0.1,
                "finished_at": now,
            }
            for run in pack.runs
        ]  # fmt: skip
        opened.save_pack("wide", pack.pack_id, rows, [])
    for what in ("one file a pack", "compacted"):
        start = time.perf_counter()
        found = len(ended(opened.runs("wide")))
        assert found == len(runs(spec))
        lines.append(f"| resume scan, {what} | {time.perf_counter() - start:.1f} |")
        if what == "one file a pack":
            seconds, _, _ = hpscan("compact", "wide", "--store", store)
            lines.append(f"| `hpscan compact` | {seconds:.1f} |")
    seconds, _, _ = hpscan("status", "wide", "--store", store)
    lines.append(f"| `hpscan status`, compacted | {seconds:.1f} |")
    return lines


def driver_memory(store: Path) -> list[str]:
    """The driver's memory at the end of sweeps of different size; no training."""
    lines = ["| runs, no training | wall s | driver MB | files |", "|---|---|---|---|"]
    for seeds, grid in ((1, "grid={lr: {log2: [-9, 0], points: 10}, wd: {log2: [-12, 0], points: 20}}"), (8, WIDE)):
        seconds, megabytes, _ = hpscan(
            "launch",
            "quickstart",
            *NOOP,
            "--set",
            grid,
            "--set",
            f"seeds={seeds}",
            "--set",
            f"name=noop{seeds}",
            "--store",
            store,
        )
        folder = store / f"noop{seeds}"
        n_files = sum(path.is_file() for path in folder.rglob("*"))
        lines.append(f"| {len(Store(store).runs(folder.name)):,} | {seconds:.0f} | {megabytes} | {n_files:,} |")
    return lines


def many_workers(store: Path, n_workers: int = 32) -> list[str]:
    """How busy many workers are kept; logical CPUs, waiting instead of training."""
    hpscan(
        "launch", "quickstart", *NOOP, "--set", f"resources.workers={n_workers}", "--set", "seeds=5", "--set", "name=many",
        "--set", "workload.args={seconds: 0.25}", "--set", "resources.pack_size=16", "--store", store,
    )  # fmt: skip
    rows = Store(store).runs("many")
    by_pack = rows.groupby("pack_id").agg(end=("finished_at", "max"), busy=("wall_s", "sum"))
    by_pack["start"] = by_pack["end"] - pd.to_timedelta(by_pack["busy"], unit="s")
    starts = by_pack["start"].sort_values()
    # from the moment all workers are up until the last round's first pack ends
    up, last_round = starts.iloc[n_workers - 1], by_pack["end"].sort_values().iloc[-n_workers]
    inside = (by_pack["end"].clip(upper=last_round) - by_pack["start"].clip(lower=up)).dt.total_seconds().clip(lower=0)
    share = inside.sum() / n_workers / (last_round - up).total_seconds()
    return [
        f"{n_workers} workers on logical CPUs, {len(rows):,} runs of 0.25 s in {len(by_pack)} packs (no training): busy "
        f"{100 * share:.1f} % of the time from when all were up until the last round."
    ]


@contextmanager
def raylets(n_nodes: int, folder: Path) -> Iterator[str]:
    """A cluster of nodes of one CPU each on loopback; its address."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for node in range(n_nodes):
            place = (
                ["--address", "127.0.0.1:6401"] if node else ["--head", "--port", "6401", "--include-dashboard=false"]
            )
            with (folder / f"node-{node}.log").open("wb") as log:
                command = [BIN / "ray", "start", *place, "--block", "--num-cpus", "1", "--node-ip-address", "127.0.0.1",
                           "--disable-usage-stats"]  # fmt: skip
                started.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
            while "Ray runtime started" not in (folder / f"node-{node}.log").read_text(errors="replace"):
                time.sleep(0.1)
        yield "127.0.0.1:6401"
    finally:
        for process in started:
            for entry in Path("/proc").glob("[0-9]*"):
                try:
                    if os.getsid(int(entry.name)) == process.pid:
                        os.kill(int(entry.name), signal.SIGKILL)
                except OSError:
                    continue
            process.wait()


def two_nodes(folder: Path) -> list[str]:
    """The training of a sweep on one node of one core and on two."""
    rates = {}
    sweep = [
        "launch",
        "quickstart",
        "--set",
        "seeds=2",
        "--set",
        "variants=[sgdw, adamw]",
        "--set",
        "resources.strategy=fused",
    ]
    for n_nodes in (1, 2):
        with raylets(n_nodes, folder) as address:
            for turn in ("cold", "warm"):
                store = folder / f"{n_nodes}-{turn}"
                hpscan(*sweep, "--address", address, "--store", store)
            rows = Store(store).runs("quickstart")
        by_pack = rows.groupby("pack_id").agg(end=("finished_at", "max"), busy=("wall_s", "max"))
        window = (
            by_pack["end"].max() - (by_pack["end"] - pd.to_timedelta(by_pack["busy"], unit="s")).min()
        ).total_seconds()
        rates[n_nodes] = len(rows) / window
    return [
        f"Two raylets of one core each: {rates[2] / rates[1]:.2f} × the runs a second of one ({rates[1]:.1f}, {rates[2]:.1f})."
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    header = f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, Ray {ray.__version__}, torch {torch.__version__}."
    parts = [[header]]
    with tempfile.TemporaryDirectory(prefix="hpscan-bench-") as scratch:
        for measure in (hundred_thousand, share_of_orchestration, two_nodes, driver_memory, many_workers):
            folder = Path(scratch, measure.__name__)
            folder.mkdir()
            parts.append(measure(folder))
            print("\n".join(parts[-1]), flush=True)
    if options.write:
        text = "# What orchestration costs\n\n" + "\n\n".join("\n".join(part) for part in parts) + "\n"
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
