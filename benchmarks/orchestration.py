"""What orchestration costs: Ray's share of a sweep, planning and reading 100,000 runs, many workers, two nodes.

What a sweep costs as it grows is measured in ``growth.py``.

    python -m benchmarks.orchestration [--write benchmarks/orchestration.md] [--only two_nodes]

Real command lines in processes of their own. Where only the orchestration is measured, ``noop.py`` stands in for
training and the table says so.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.meter import header, metered
from hpscan.grid import packs, runs
from hpscan.spec import Spec
from hpscan.store import Store, ended
from tests.processes import HPSCAN, Cluster

HERE = Path(__file__).parent
GRID = "grid={{lr: {{log2: [-9, 0], points: {}}}, wd: {{log2: [-12, 0], points: {}}}}}"
WIDE = GRID.format(50, 50)
NOOP = ["--set", "workload={trainable: 'noop:train'}", "--set", "resources.pack_size=256"]


def hpscan(*arguments: str | Path, env: dict[str, str] | None = None) -> float:
    """Run the command line; seconds."""
    return metered([HPSCAN, *map(str, arguments)], cwd=HERE, env=env).wall_s


def busy(rows: pd.DataFrame) -> pd.DataFrame:
    """When each pack began and ended."""
    packs = rows.groupby("pack_id").agg(
        end=("finished_at", "max"),
        together=("wall_s", "max"),
        apart=("wall_s", "sum"),
        strategy=("strategy", "first"),
        choice_s=("choice_s", "first"),
        runs=("run_id", "size"),
    )
    # runs of a trainable train one after another; those of a pack together, and each has the time of all
    seconds = packs["together"].where(packs["strategy"] != "trainable", packs["apart"])
    return packs.assign(seconds=seconds, start=packs["end"] - pd.to_timedelta(seconds, unit="s"))


def share_of_orchestration(folder: Path) -> list[str]:
    """How long workers of a real sweep did something else than train, once they were up."""
    store, workers, found = folder / "store", 2, []
    sweep = ["launch", "quickstart", "--set", "seeds=2", "--store", store]
    hpscan(*sweep, "--set", "name=warm")  # fills the compile cache
    for name in ("one", "two", "three"):
        seconds = hpscan(*sweep, "--set", f"name={name}")
        rows = Store(store).runs(name)
        packs = busy(rows)
        # a worker chooses how to train before its first pack of an optimizer; by that pack it is known
        first = packs.sort_values("start").drop_duplicates("choice_s")
        up = first["start"].iloc[workers - 1]
        window = (packs["end"].max() - up).total_seconds()
        trained = (packs["end"] - packs["start"].clip(lower=up)).dt.total_seconds().clip(lower=0).sum()
        shares = [100 * part / workers / window for part in (trained, first["choice_s"].iloc[workers:].sum())]
        found.append((100 - sum(shares), shares, seconds, window, packs["seconds"].median()))
    # the machine is not equally fast all the time
    low, (rest, shares, seconds, window, a_pack), high = sorted(found)
    return [
        f"Quickstart with 2 seeds, {len(rows):,} runs in {len(packs)} packs of {a_pack:.2f} s, two workers, a "
        f"warm compile cache: {seconds:.1f} s. Start-up, until both workers trained (interpreter, Ray, torch and the choice of a "
        f"strategy in the workers), and the end (Ray down, analysis) took {seconds - window:.1f} s of it. In the {window:.1f} s "
        f"between, the workers trained {shares[0]:.1f} % of the time and spent {shares[1]:.1f} % on choosing how to train a second "
        f"optimizer and loading its code; orchestration, writing and the last round's tail are the other {rest:.1f} %. That is the "
        f"median of three sweeps; the others had {low[0]:.1f} % and {high[0]:.1f} %.",
    ]


def hundred_thousand(store: Path) -> list[str]:
    """Planning, pricing, reading and showing 100,000 runs."""
    lines = ["| 100,000 runs (50 × 50 cells, 5 variants, 8 seeds) | seconds |", "|---|---|"]
    spec = Spec.load("quickstart", [WIDE, "seeds=8", "name=wide"])
    start = time.perf_counter()
    planned = packs(runs(spec), spec.resources.most_runs, (), 64)
    lines.append(f"| plan ({len(planned):,} packs) | {time.perf_counter() - start:.1f} |")
    seconds = hpscan("launch", "quickstart", "--set", WIDE, "--set", "seeds=8", "--dry-run", "--store", store)
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
            seconds = hpscan("compact", "wide", "--store", store)
            lines.append(f"| `hpscan compact` | {seconds:.1f} |")
    seconds = hpscan("status", "wide", "--store", store)
    lines.append(f"| `hpscan status`, compacted | {seconds:.1f} |")
    return lines


def many_workers(store: Path, n_workers: int = 64) -> list[str]:
    """How busy many workers are kept; logical CPUs, waiting instead of training."""
    hpscan(
        "launch", "quickstart", *NOOP, "--set", f"resources.workers={n_workers}", "--set", "seeds=14", "--set", "name=many",
        "--set", "workload.args={seconds: 2}", "--set", "resources.pack_size=16", "--store", store,
    )  # fmt: skip
    rows = Store(store).runs("many")
    packs = busy(rows)
    starts, ends = packs["start"].sort_values(), packs["end"].sort_values()
    # from the moment all workers are up until the last round's first pack ends
    up, last_round = starts.iloc[n_workers - 1], ends.iloc[-n_workers]
    inside = (packs["end"].clip(upper=last_round) - packs["start"].clip(lower=up)).dt.total_seconds().clip(lower=0)
    share = inside.sum() / n_workers / (last_round - up).total_seconds()
    tail = (ends.iloc[-1] - last_round).total_seconds()
    return [
        f"{n_workers} workers on logical CPUs of two cores, {len(rows):,} runs of 2 s in {len(packs)} packs (waiting, no "
        f"training): busy {100 * share:.1f} % of the {(last_round - up).total_seconds():.0f} s from when all were up until the "
        f"first of them had nothing more to do; the last ended {tail:.0f} s after that, a pack taking "
        f"{packs['seconds'].median():.0f} s.",
    ]


def two_nodes(folder: Path) -> list[str]:
    """The training of a sweep on one node of one core and on two."""
    rates = {}
    sweep = [
        "launch", "quickstart", "--set", "variants=[sgd, sgdw]", "--set", "budget.steps=1200",
        "--set", "resources.strategy=fused",
    ]  # fmt: skip
    for n_nodes in (1, 2):
        cluster = Cluster(folder)
        try:
            for _ in range(n_nodes):
                cluster.add(cpus=1)
            for turn in ("cold", "warm"):
                store = folder / f"{n_nodes}-{turn}"
                hpscan(*sweep, "--address", cluster.address, "--store", store, env=cluster.env)
        finally:
            cluster.end()
        packs = busy(Store(store).runs("quickstart"))
        up = packs["start"].sort_values().iloc[n_nodes - 1]
        inside = (packs["end"] - packs["start"].clip(lower=up)).dt.total_seconds().clip(lower=0)
        runs_inside = (packs["runs"] * inside / packs["seconds"]).sum()
        rates[n_nodes] = runs_inside / (packs["end"].max() - up).total_seconds()
    return [
        f"Two raylets of one core each, real training: {rates[2] / rates[1]:.2f} × the runs a second of one "
        f"({rates[1]:.1f}, {rates[2]:.1f}), from when all workers are up until the last run has ended."
    ]


MEASURES = (hundred_thousand, share_of_orchestration, two_nodes, many_workers)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--only", choices=[measure.__name__ for measure in MEASURES])
    options = parser.parse_args()
    parts = [[header("python -m benchmarks.orchestration")]]
    with tempfile.TemporaryDirectory(prefix="hpscan-bench-") as scratch:
        for measure in MEASURES:
            if options.only not in {None, measure.__name__}:
                continue
            folder = Path(scratch, measure.__name__)
            folder.mkdir()
            parts.append(measure(folder))
            print("\n".join(parts[-1]), flush=True)
    if options.write:
        text = "# What orchestration costs\n\n" + "\n\n".join("\n".join(part) for part in parts) + "\n"
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
