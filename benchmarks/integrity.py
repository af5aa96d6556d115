"""What a grid ends with when something happens to it: hpscan, Ray Tune and Optuna, the installed versions, real processes.

    python -m benchmarks.integrity [--only killed]

A run takes a quarter of a second of sleep and makes its metric up; it notes in a file that it was trained. Each tool is
used as its documentation says: Ray Tune restores where there is something to restore, Optuna's GridSampler has a fixed
seed, one storage and goes on with the same study. What is counted is what a user reads afterwards in a fresh process:
``ResultGrid.get_dataframe()``, ``Study.trials``, ``Store.runs()``. (Ray Tune also leaves a folder a trial, in which a failed one has its error.)

``--only`` measures one scenario again; the others' outcomes are kept in ``integrity.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks.meter import OF_CONTENDERS, header
from benchmarks.noop import stand_in
from tests.processes import HPSCAN, end, started, wait_for

HERE = Path(__file__).parent
KEPT = HERE / "integrity.json"
SECONDS = 0.25
WD = (0.125, 0.25, 0.5)
NARROW, WIDE = (0.125, 0.25, 0.5), (0.125, 0.25, 0.5, 1.0)
Cell = tuple[float, float, int]
"""lr, wd and seed."""


@dataclass(frozen=True)
class Grid:
    """What is asked for: lr × wd × seeds."""

    lr: tuple[float, ...] = NARROW
    seeds: tuple[int, ...] = (0, 1)

    @property
    def cells(self) -> set[Cell]:
        return set(product(self.lr, WD, self.seeds))


class Tool:
    """How a tool trains a grid under one name in a folder, and what can be read of it afterwards."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, grid: Grid, workers: int, *, again: bool) -> list[str]:
        """A command that trains; ``again`` where there is something to go on from."""
        place = ["--folder", str(self.folder), "--workers", str(workers)]
        axes = ["--lr", *map(str, grid.lr), "--seeds", *map(str, grid.seeds)]
        return [sys.executable, "-m", "benchmarks.integrity", "--child", self.name, *place, *axes, *["--again"] * again]

    def start(self, grid: Grid, workers: int = 2, *, again: bool = False) -> list[subprocess.Popen]:
        command, *arguments = self.command(grid, workers, again=again)
        return [started(*arguments, command=command, cwd=HERE.parent, log=str(self.folder / "out.log"))]

    def run(self, grid: Grid, workers: int = 2, *, again: bool = False) -> int:
        """Train to the end; the worst exit status."""
        return finished(self.start(grid, workers, again=again))

    def trained(self) -> list[str]:
        """A line for every training that came to its end."""
        return self._noted("trained.log")

    def begun(self) -> list[str]:
        """The process of every training that was begun."""
        return self._noted("begun.log")

    def _noted(self, name: str) -> list[str]:
        log = self.folder / name
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    def read(self) -> list[tuple[Cell, bool]]:
        """Every result that a user finds, in a fresh process: its cell and whether it is one or a failure."""
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.integrity", "--child", self.name, "--read", "--folder", str(self.folder)],
            cwd=HERE.parent, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return [(tuple(cell), good) for cell, good in json.loads(done.stdout.splitlines()[-1])]


def finished(processes: list[subprocess.Popen]) -> int:
    """Wait for processes, leave nothing of them behind; the worst exit status."""
    statuses = [process.wait(timeout=900) for process in processes]
    for process in processes:
        end(process)
    return max(statuses, key=abs)


class Hpscan(Tool):
    name = "hpscan"

    def command(self, grid: Grid, workers: int, *, again: bool) -> list[str]:
        spec = {
            "name": "sweep", "variants": ["sgd"], "grid": {"lr": list(grid.lr), "wd": list(WD)}, "seeds": list(grid.seeds),
            "workload": {"trainable": "noop:train", "folder": str(HERE), "args": {"seconds": SECONDS, "folder": str(self.folder)}},
            "budget": {"steps": 1}, "batch_size": 1, "resources": {"workers": workers, "pack_size": 2},
        }  # fmt: skip
        (self.folder / "spec.yaml").write_text(json.dumps(spec), encoding="utf-8")
        place = [str(self.folder / "spec.yaml"), "--store", str(self.folder / "store")]
        return [HPSCAN, "launch", *place, *["--retry-failed"] * again]

    @staticmethod
    def results(folder: Path) -> list[tuple[Cell, bool]]:
        from hpscan.store import Store

        rows = Store(folder / "store").runs("sweep")
        return [((row.lr, row.wd, int(row.seed)), row.state == "completed") for row in rows.itertuples()]


def objective(config, folder):
    """Ray Tune's trainable."""
    return {"loss": stand_in(config["lr"], config["wd"], config["seed"], seconds=SECONDS, folder=folder)}


class RayTune(Tool):
    name = "Ray Tune"

    @staticmethod
    def train(options: argparse.Namespace) -> None:
        import ray
        from ray import tune

        ray.init(address="local", num_cpus=options.workers, include_dashboard=False, log_to_driver=False)
        place, trainable = options.folder / "ray" / "sweep", tune.with_parameters(objective, folder=str(options.folder))
        space = {
            "lr": tune.grid_search(options.lr), "wd": tune.grid_search(list(WD)), "seed": tune.grid_search(options.seeds)
        }  # fmt: skip
        if options.again and tune.Tuner.can_restore(str(place)):
            tuner = tune.Tuner.restore(str(place), trainable, param_space=space, restart_errored=True)
        else:
            run = tune.RunConfig(name="sweep", storage_path=str(place.parent), verbose=0)
            tuner = tune.Tuner(trainable, param_space=space, run_config=run)
        tuner.fit()

    @staticmethod
    def results(folder: Path) -> list[tuple[Cell, bool]]:
        from ray import tune

        place = folder / "ray" / "sweep"
        grid = tune.Tuner.restore(str(place), tune.with_parameters(objective, folder=str(folder))).get_results()
        table = grid.get_dataframe()
        good = [((row["config/lr"], row["config/wd"], int(row["config/seed"])), True) for _, row in table.iterrows()
                if row.get("loss") == row.get("loss")]  # fmt: skip
        bad = [result.config for result in grid if result.error and result.config]
        return good + [((config["lr"], config["wd"], config["seed"]), False) for config in bad]


class Optuna(Tool):
    name = "Optuna"

    def start(self, grid: Grid, workers: int = 2, *, again: bool = False) -> list[subprocess.Popen]:
        """A process for each worker: n_jobs is threads, which share one core in Python code."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study(self.folder)  # made before the workers start, as documented for several processes
        return [process for _ in range(workers) for process in super(Optuna, self).start(grid, 1, again=again)]

    @staticmethod
    def train(options: argparse.Namespace) -> None:
        import optuna

        def loss(trial):
            lr = trial.suggest_float("lr", 0, 2)
            wd, seed = trial.suggest_float("wd", 0, 2), trial.suggest_int("seed", 0, 9)
            return stand_in(lr, wd, seed, seconds=SECONDS, folder=options.folder)

        space = {"lr": options.lr, "wd": list(WD), "seed": options.seeds}
        study(options.folder, optuna.samplers.GridSampler(space, seed=0)).optimize(loss, catch=(ValueError,))

    @staticmethod
    def results(folder: Path) -> list[tuple[Cell, bool]]:
        states = {"COMPLETE": True, "FAIL": False}
        return [
            ((trial.params["lr"], trial.params["wd"], trial.params["seed"]), states[trial.state.name])
            for trial in study(folder).trials
            if trial.state.name in states and len(trial.params) == 3
        ]


def study(folder: Path, sampler=None):
    """The one study of a folder."""
    import optuna

    return optuna.create_study(
        storage=f"sqlite:///{folder}/study.db", study_name="sweep", sampler=sampler, load_if_exists=True
    )


TOOLS: dict[str, type[Tool]] = {tool.name: tool for tool in (Hpscan, RayTune, Optuna)}


def raises(tool: Tool) -> tuple[Grid, int]:
    """One cell raises, for both seeds."""
    (tool.folder / "broken").touch()
    return Grid(), tool.run(Grid())


def mended(tool: Tool) -> tuple[Grid, int]:
    """One cell raises; the bug is mended and the grid launched again."""
    raises(tool)
    (tool.folder / "broken").unlink()
    return Grid(), tool.run(Grid(), again=True)


def killed(tool: Tool) -> tuple[Grid, int]:
    """Everything is killed (SIGKILL) after 8 of 18 trainings, and launched again."""
    processes = tool.start(Grid())
    wait_for(lambda: len(tool.trained()) >= 8, timeout=600, what="8 trainings")
    for process in processes:
        end(process)
    return Grid(), tool.run(Grid(), again=True)


def worker_killed(tool: Tool) -> tuple[Grid, int]:
    """One of two workers is killed (SIGKILL) in a training, after 8 of 18; nobody does anything about it."""
    processes = tool.start(Grid())
    wait_for(lambda: len(tool.trained()) >= 8, timeout=600, what="8 trainings")
    before = len(tool.begun())
    wait_for(lambda: len(tool.begun()) > before, what="a training to be begun")
    os.kill(int(tool.begun()[-1]), signal.SIGKILL)
    return Grid(), finished(processes)


def extended(tool: Tool) -> tuple[Grid, int]:
    """A finished grid is launched again with one learning rate more: 24 cells instead of 18."""
    tool.run(Grid())
    return Grid(lr=WIDE), tool.run(Grid(lr=WIDE), again=True)


def same_again(tool: Tool) -> tuple[Grid, int]:
    """The same script once more, under the same name."""
    tool.run(Grid())
    return Grid(), tool.run(Grid())


def another_seed(tool: Tool) -> tuple[Grid, int]:
    """Seed 0, then the same script with seed 1, under the same name."""
    tool.run(Grid(seeds=(0,)))
    return Grid(), tool.run(Grid(seeds=(1,)))


def eight_workers(tool: Tool) -> tuple[Grid, int]:
    """Nothing happens, with eight workers."""
    return Grid(), tool.run(Grid(), workers=8)


SCENARIOS = (raises, mended, killed, worker_killed, extended, same_again, another_seed, eight_workers)


COLUMNS = (
    "cells asked",
    "with a result",
    "failed, and said which",
    "lost",
    "doubled results",
    "trainings",
    "exit status",
)


def outcome(scenario: Callable[[Tool], tuple[Grid, int]], tool: Tool) -> dict[str, int]:
    """What a scenario ends with."""
    grid, status = scenario(tool)
    found = tool.read()
    good = Counter(cell for cell, is_good in found if is_good)
    failed = {cell for cell, is_good in found if not is_good} - set(good)
    lost = len(grid.cells - set(good) - failed)
    doubled = sum(good.values()) - len(good)
    numbers = (len(grid.cells), len(set(good) & grid.cells), len(failed), lost, doubled, len(tool.trained()), status)
    return dict(zip(COLUMNS, numbers, strict=True))


def page(kept: dict[str, dict[str, dict[str, int]]]) -> str:
    """The outcomes by scenario and tool, as Markdown."""
    lines = [f"| what happens | | {' | '.join(COLUMNS)} |", "|---|---|" + "---|" * len(COLUMNS)]
    sums: dict[str, Counter[str]] = {name: Counter() for name in TOOLS}
    for scenario in SCENARIOS:
        told = (scenario.__doc__ or "").rstrip(".")
        for name, ended in kept.get(scenario.__name__, {}).items():
            sums[name].update(ended)
            lines.append(f"| {told} | {name} | {' | '.join(str(ended[column]) for column in COLUMNS)} |")
            told = ""
    short = "; ".join(
        f"{name} lost {total['lost']} cells and doubled {total['doubled results']} results of {total['cells asked']}"
        for name, total in sums.items()
    )
    title, about = "# What a grid ends with when something happens to it", (__doc__ or "").split("\n\n")[2].strip()
    short = f"In short: over {len(kept)} scenarios {short}."
    if left := [(scenario.__doc__ or "").rstrip(".") for scenario in SCENARIOS if scenario.__name__ not in kept]:
        lines += ["", f"Not measured yet: {'; '.join(left)}."]
    return "\n".join([title, "", header("python -m benchmarks.integrity"), "", short, "", about, "", *lines]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[scenario.__name__ for scenario in SCENARIOS])
    for hidden in ("--child", "--folder", "--workers", "--lr", "--seeds", "--again", "--read"):
        kinds = {"--folder": {"type": Path}, "--workers": {"type": int}, "--lr": {"type": float, "nargs": "+"},
                 "--seeds": {"type": int, "nargs": "+"}}  # fmt: skip
        switch = {"action": "store_true"} if hidden in {"--again", "--read"} else {}
        parser.add_argument(hidden, help=argparse.SUPPRESS, **kinds.get(hidden, switch))
    options = parser.parse_args()
    os.environ |= OF_CONTENDERS
    if options.child:
        tool = TOOLS[options.child]
        print(json.dumps(tool.results(options.folder)) if options.read else tool.train(options))
        return
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if options.only and KEPT.exists() else {}
    for scenario in SCENARIOS:
        if options.only not in {None, scenario.__name__}:
            continue
        kept[scenario.__name__] = {}
        for name, kind in TOOLS.items():
            with tempfile.TemporaryDirectory(prefix="hpscan-integrity-") as folder:
                kept[scenario.__name__][name] = outcome(scenario, kind(Path(folder)))
            print(scenario.__name__, name, kept[scenario.__name__][name], flush=True)
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        KEPT.with_suffix(".md").write_text(page(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
