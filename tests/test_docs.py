"""Whatever README and docs say can be typed is typed here: commands, specs and Python, page by page, in a folder of its own.

Sweeps that pages name are small here: the shipped specs on a tiny network, in files that have their names. A launch trains in this process, by the
worker's code but without Ray; the tests that are marked slow train through Ray, as users do. What can be run in neither way
is listed in ``ELSEWHERE``, with the reason and with what is checked of it.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import optuna
import pytest
import yaml
from markdown_it import MarkdownIt

from hpscan import cli
from hpscan.cluster import Slots
from hpscan.resources import PerPack
from hpscan.spec import Spec
from hpscan.spec_text import parse_yaml, shipped_specs
from hpscan.store import Store
from tests.test_docker import check_command
from tests.test_sources import ray_trial

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
LANGUAGES = {"console", "sh", "yaml", "python", "nginx", "text"}


# What a page holds


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str
    file: str | None
    """The file that the sentence before it says it is."""
    more: bool
    """Whether it is added to that file."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(path: Path) -> list[Block]:
    """The code of a page, in order; what is indented rather than fenced is text."""
    found, said = [], ""
    for token in MarkdownIt().parse(path.read_text(encoding="utf-8")):
        if token.type == "inline":
            said = token.content
        if token.type in {"fence", "code_block"}:
            said, before = "", said
            named = re.search(r"`([\w-]+\.(?:py|yaml))`[^`]*:$", before)
            language = token.info.strip() if token.type == "fence" else "text"
            page, line = str(path.relative_to(ROOT)), token.map[0] + 1
            found.append(Block(page, line, language, token.content, named and named[1], "too:" in before[-20:]))
    return found


def script(block: Block) -> str:
    """The shell's part of a block: of a console what stands after ``$``."""
    if block.language == "sh":
        return block.text
    lines, typed = [], False
    for line in block.text.splitlines():
        if line.startswith("$ ") or typed:
            lines.append(line.removeprefix("$ "))
            typed = line.endswith("\\")
    return "\n".join(lines)


VERDICT = re.compile(
    r"\b(tied|separable|unclear|evidence|together|after the other|apart|interact|interaction is)\b|on the edge"
)
"""What a small sweep may say otherwise."""


def shown(block: Block) -> list[str]:
    """What a console block shows as the answer, but for lines left out (…)."""
    if block.language != "console":
        return []
    lines, typed = [], False
    for line in block.text.splitlines():
        if line.startswith("$ ") or typed:
            typed = line.endswith("\\")
        elif line.strip(" …"):
            lines.append(line)
    return lines


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_block_says_what_it_is_and_no_text_hides_a_command(path):
    for block in blocks_of(path):
        assert block.language in LANGUAGES, f"{block}: say which language; known are {', '.join(sorted(LANGUAGES))}"
        if block.language == "text":
            assert not re.search(r"^\s*(\$ |hpscan |pip |make )", block.text, re.MULTILINE), f"{block}: is a command"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_within_a_sentence_is_known(path):
    tokens = MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8"))
    for token in (part for whole in tokens for part in whole.children or ()):
        if token.type == "code_inline" and token.content.startswith("hpscan "):
            check_command(shlex.split(token.content.replace("…", "").replace("COMMAND", "launch")))


# A folder in which all of it works

PLACEHOLDERS = {"SWEEP": "quickstart", "SWEEP_A": "quickstart", "SWEEP_B": "mine", "DIR": "out", "SPEC": "spec.yaml"}
"""What a reader is to put in, and what is put in here; RUN_ID and run_ids that look like one are those of a stored run."""
UNCOMPILED = {"compile": False, "strategy": "fused"}
RUN_IDS = ("RUN_ID", "3f9a52c1")
CSV = "Name,State,optimizer,variant,learning_rate,weight_decay,val/loss,val_loss\n" + "".join(
    f"run-{n},finished,AdamW,AdamW,{lr},{wd},{n / 10},{n / 10}\n"
    for n, (lr, wd) in enumerate((lr, wd) for lr in (0.001, 0.01, 0.1) for wd in (0.01, 0.1, 1.0))
)


def fewer(node: Any) -> Any:
    """A grid with four values an axis, and short budgets."""
    if not isinstance(node, dict):
        return node
    short = {"points": lambda _: 4, "steps": lambda _: [12, 24]}
    return {key: short.get(key, fewer)(value) for key, value in node.items()}


def small(name: str) -> Spec:
    """A shipped spec as the pages' commands find it here."""
    raw = yaml.safe_load(shipped_specs()[name])
    if not name.startswith("paper"):
        raw |= {
            "workload": {
                "name": "digits",
                "model": {"name": "normalised_mlp", "hidden": [8]},
                "train": 200 + len(name),
            },
            "grid": fewer(raw["grid"]),
            "seeds": [0, 1],
            "budget": {"steps": 24},
            "batch_size": 16,
            "resources": UNCOMPILED,
        }
    return Spec.validated(raw)


@dataclass
class Desk:
    """Where a page's commands run, and how."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    with_ray: bool
    names: dict[str, object] = field(default_factory=dict)
    """Of the page's Python."""
    servers: list[object] = field(default_factory=list)
    port: int | None = None
    """Of the last dashboard."""

    def run(self, block: Block) -> None:
        """Do what a block says."""
        text = block.text
        if block.file and block.language == "yaml" and not self.with_ray:
            text = yaml.safe_dump({**yaml.safe_load(text), "budget": {"steps": 50}, "resources": UNCOMPILED})
        if block.file:
            with (self.folder / block.file).open("a" if block.more else "w", encoding="utf-8") as file:
                file.write(text)
        if block.language == "yaml":
            check_yaml(block)
        elif block.language == "python" and not block.file:
            text = text.replace("127.0.0.1:8050", f"127.0.0.1:{self.port}")
            exec(compile("\n" * block.line + text, str(ROOT / block.page), "exec"), self.names)
        elif block.language in {"console", "sh"}:
            answers = "".join(self.command(words, block) for words in typed(script(block), self.folder))
            words = set(re.findall(r"[A-Za-z]{3,}", answers))
            for line in (line for line in shown(block) if not VERDICT.search(line)):
                missing = set(re.findall(r"[A-Za-z]{3,}", line)) - words
                assert not missing, f"{block}: {missing} is in the answer as written, not in the real one:\n{answers}"

    def command(self, words: list[str], block: Block) -> str:
        """Run one command; what it prints."""
        program = words[0]
        where = f"{block}: {shlex.join(words)}"
        if program != "hpscan":
            check = ELSEWHERE.get(program)
            assert check, f"{where}: {program} is not in ELSEWHERE"
            check[1](words, self.folder)
            return ""
        check_command(words)
        words = [self.filled(word) for word in words]
        words = words if self.with_ray else [sooner(word) for word in words]
        if words[1] in CLUSTER or "--address" in words or (words[1] == "doctor" and not self.with_ray):
            return ""
        if words[1] == "dashboard":
            words += ["--port", "0"]
        if self.with_ray and words[1] in {"launch", "refine", "doctor"} and "--dry-run" not in words:
            done = subprocess.run(
                [sys.executable, "-P", "-m", *words],
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=400,
                check=False,
            )
            assert done.returncode == 0, f"{where}\n{done.stderr}"
            return done.stdout
        self.monkeypatch.setattr("sys.argv", words)
        code = run_main()
        out, err = self.capsys.readouterr()
        assert code == 0, f"{where}\nexit code {code}\n{err}"
        return out

    def filled(self, word: str) -> str:
        """A word with what a reader is to put in."""
        if word in RUN_IDS:
            return Store(self.folder / "results").runs("quickstart", without=["config"])["run_id"].iloc[0][:12]
        if word.startswith("~/"):
            return str(self.folder / word[2:])
        return PLACEHOLDERS.get(word, word).replace("/shared/results", str(self.folder / "results"))

    def serve(self, app: Callable, listener: socket.socket) -> None:
        """Instead of serving until Ctrl-C: serve until the page is through, and say that it answers."""
        import uvicorn

        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        self.servers.append((server, thread))
        self.port = listener.getsockname()[1]
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=60) as answer:
            assert answer.status == 200

    def close(self) -> None:
        for server, thread in self.servers:
            server.should_exit = True
            thread.join(timeout=30)


def run_main() -> int:
    """Run the command line of ``sys.argv``; its exit code."""
    try:
        cli.main()
    except SystemExit as end:
        return end.code or 0
    return 0


def sooner(word: str) -> str:
    """A ``--set`` of budgets, at a twentieth of them."""
    lengths = re.match(r"(budget|grid)\.steps=|schedule=", word)
    return re.sub(r"\d{3,}", lambda steps: str(int(steps[0]) // 20), word) if lengths else word


CLUSTER = {"submit", "logs", "cancel"}
"""These, and whatever has ``--address``, need a cluster: their options are checked here; tests/e2e/test_cluster.py runs them.
``doctor`` starts Ray, and is run by the slow tests and by its own."""


def typed(text: str, folder: Path) -> list[list[str]]:
    """The commands of a script, as a shell would start them: every program only notes its words. An unknown one fails."""
    noted = folder / "noted"
    noted.unlink(missing_ok=True)
    programs = ["hpscan", *ELSEWHERE]
    functions = "".join(f'{name}() {{ note {name} "$@"; }}\n' for name in programs)
    note = 'note() { printf "%s\\0" "$#" "$@" >> "$NOTED"; }\n'
    done = subprocess.run(
        ["/bin/bash", "-c", f"set -eu\nPATH=\n{note}{functions}{text}\nwait\n"], cwd=folder, capture_output=True, text=True,
        env={"NOTED": str(noted), "HOME": str(folder)}, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"{text}\n{done.stderr}"
    words = noted.read_bytes().decode().split("\0") if noted.exists() else []
    found, at = [], 0
    while at < len(words) - 1:
        count = int(words[at])
        found.append(words[at + 1 : at + 1 + count])
        at += 1 + count
    return found


# What cannot be run here


def _target_exists(words: list[str], folder: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {word for word in words[1:] if "=" not in word} <= set(targets), words


def _extras_exist(words: list[str], folder: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        if named := re.fullmatch(r"(?:hpscan|\.)\[([\w,-]+)\]", word):
            assert set(named[1].split(",")) <= set(extras), words


def _parts_are_known(words: list[str], folder: Path) -> None:
    """Commands of hpscan's and Ray's after others' words, and files of the repository."""
    for at, word in enumerate(words[1:], 1):
        if word in {"hpscan", "ray"} and at + 1 < len(words) and not words[at + 1].startswith("hpscan"):
            check_command(words[at:])
        if re.match(r"(docker|docs|sweeps)/", word):
            assert (ROOT / word).exists(), words


def _ray_knows(words: list[str], folder: Path) -> None:
    check_command(words)


def _nothing(words: list[str], folder: Path) -> None:
    pass


ELSEWHERE: dict[str, tuple[str, Callable[[list[str], Path], None]]] = {
    "make": ("installs everything anew, or runs these tests", _target_exists),
    "pip": ("installs from an index", _extras_exist),
    "source": ("of a virtualenv that the reader has", _nothing),
    "ray": ("starts machines; tests/e2e/test_cluster.py does", _ray_knows),
    "ssh": ("no other machine", _nothing),
    "docker": ("no container engine; tests/test_docker.py reads its files", _parts_are_known),
    "kubectl": ("no Kubernetes; tests/test_docker.py reads its files", _parts_are_known),
    "sbatch": ("no Slurm; tests/test_docker.py runs slurm.sh with stubs", _parts_are_known),
    "systemd-run": ("no systemd", _parts_are_known),
    "openssl": ("makes a secret", _nothing),
    "base64": ("reads one", _nothing),
    "cat": ("reads one", _nothing),
    "chmod": ("of Ray's token", _nothing),
}
"""Programs that README and docs name and that are not started here: why, and what is checked of their words."""

NO_SPEC = {"scrape_configs": "Prometheus's"}
"""YAML that is not ours, by its first key."""


def check_yaml(block: Block) -> None:
    """A block of YAML is a spec, or fields of one; the same field again is another way to give it."""
    parts = re.split(r"^(?=\w+:)", block.text, flags=re.MULTILINE)
    pieces = [part for part in parts if re.match(r"\w+:", part)]
    assert pieces, f"{block}: holds no field"
    if pieces[0].split(":")[0] in NO_SPEC:
        yaml.safe_load(block.text)
        return
    ways: list[dict[str, str]] = [{}]
    for piece in pieces:
        name = piece.split(":")[0]
        if name in ways[-1]:
            ways.append({})
        ways[-1][name] = piece
    for way in ways:
        given = parse_yaml("".join(way.values()), str(block))
        whole = "workload" in given and "variants" in given
        Spec.validated(given if whole else {**yaml.safe_load(small("quickstart").to_yaml()), **given})


# The tests


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with what the pages' commands begin with; its store holds the sweeps that they read."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in shipped_specs():
        (folder / name).write_text(small(name).to_yaml(), encoding="utf-8")
    spec = small("quickstart").model_dump(mode="json")
    spec |= {"variants": ["sgdw", "adamw"], "grid": {"lr": [0.01, 0.05, 0.25], "wd": [0.001, 0.01, 0.1]}}
    for name, sweep in (("spec.yaml", "my-sweep"), ("mine.yaml", "mine")):
        (folder / name).write_text(yaml.safe_dump({**spec, "name": sweep, "seeds": [2, 3]}), encoding="utf-8")
    (folder / "wandb.csv").write_text(CSV, encoding="utf-8")
    trials = [
        ray_trial(folder / "ray_results" / "my_experiment", n, {"lr": lr, "optimizer": {"wd": wd}}, [{"val_loss": 0.5, "training_iteration": 1}])
        for n, (lr, wd) in enumerate((lr, wd) for lr in (0.01, 0.1) for wd in (0.01, 0.1))
    ]  # fmt: skip
    state = folder / "ray_results" / "my_experiment" / "experiment_state-2026-01-01_00-00-00.json"
    state.write_text(json.dumps({"trial_data": trials}))
    optuna.logging.disable_default_handler()
    study = optuna.create_study(storage=f"sqlite:///{folder}/study.db", study_name="mine")
    grid = {"lr": [0.01, 0.1], "wd": [0.1, 0.2]}
    for lr, wd in ((lr, wd) for lr in grid["lr"] for wd in grid["wd"]):
        study.add_trial(optuna.create_trial(
            params={"lr": lr, "wd": wd}, value=0.5,
            distributions={name: optuna.distributions.CategoricalDistribution(values) for name, values in grid.items()},
        ))  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def trained(prepared):
    """The same with these sweeps trained."""
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(prepared):
        patch_launch(patch)
        for name in ("quickstart", "mine.yaml"):
            patch.setattr("sys.argv", ["hpscan", "launch", name])
            assert run_main() == 0
    return prepared


def patch_launch(patch: pytest.MonkeyPatch) -> None:
    """Let a launch train in this process, by the worker's code and in the order of the searcher, without Ray."""
    from hpscan import launch
    from hpscan.course import Course
    from hpscan.searcher import AdaptiveSearcher, CourseSearcher
    from hpscan.worker import PackTrainable

    @contextmanager
    def connected(resources: object, *_: object) -> Iterator[Slots]:
        yield Slots(1, 1, PerPack())

    def tune(trials, scratch, on_pack, stop):
        course, places = trials.course, trials.places
        searcher = (
            CourseSearcher(course, places, on_pack) if isinstance(course, Course) else AdaptiveSearcher(course, places)
        )
        worker = object.__new__(PackTrainable)
        worker.setup({}, trials.assignment)
        while (config := searcher.suggest("here")) != searcher.FINISHED:
            worker.config = config
            on_pack(worker.step()["summary"])
            searcher.ended("here")
        return launch._Outcome(None, searcher.lost)

    patch.setattr("hpscan.launch.connected", connected)
    patch.setattr("hpscan.launch.is_client", lambda: False)
    patch.setattr("hpscan.launch.ray.put", lambda value: value)
    patch.setattr("hpscan.launch._tune", tune)
    patch.setattr("hpscan.worker._packs_on_this_node", lambda _: 1)


@pytest.fixture
def buckets(s3_port, aws, monkeypatch):
    """The buckets that pages name, with the sweeps in them where pages look: the function that fills them."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_port}")

    def fill(store: Path) -> None:
        from pyarrow import fs

        for bucket in ("bucket", "hpscan"):
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{s3_port}/{bucket}", method="PUT")).close()
            s3, path = fs.FileSystem.from_uri(f"s3://{bucket}/results")
            fs.copy_files(
                str(store), path, source_filesystem=fs.LocalFileSystem(), destination_filesystem=s3, use_threads=False
            )
            fs.copy_files(
                str(store),
                f"{bucket}/prefix",
                source_filesystem=fs.LocalFileSystem(),
                destination_filesystem=s3,
                use_threads=False,
            )

    return fill


CODE = [path for path in PAGES if any(block.language != "text" for block in blocks_of(path))]


@pytest.mark.parametrize(
    "how", ["here", pytest.param("through ray", marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_says_works(path, how, trained, buckets, tmp_path, monkeypatch, capsys):
    desk = Desk(tmp_path / "desk", monkeypatch, capsys, with_ray=how != "here")
    shutil.copytree(trained, desk.folder)
    monkeypatch.chdir(desk.folder)
    monkeypatch.setenv("HPSCAN_TOKEN", "token")
    monkeypatch.setenv("HOME", str(desk.folder))
    monkeypatch.setattr("hpscan.dashboards.server.serve", desk.serve)
    if "s3://" in path.read_text(encoding="utf-8"):
        buckets(desk.folder / "results")
    patch_launch(monkeypatch)
    with mpl.rc_context({"backend": "Agg"}):
        try:
            for block in blocks_of(path):
                desk.run(block)
        finally:
            desk.close()


# That it would be noticed


def block(text: str, language: str = "console") -> Block:
    return Block("page.md", 1, language, text, None, more=False)


def test_a_console_is_what_is_typed_and_what_is_shown():
    console = block("$ hpscan launch x \\\n    --set a=1\nx: 3 runs\n…\n$ hpscan status   # all\n")
    assert script(console) == "hpscan launch x \\\n    --set a=1\nhpscan status   # all"
    assert shown(console) == ["x: 3 runs"]


def test_commands_are_found_as_a_shell_would_start_them(tmp_path):
    text = "G='a b'\nhpscan launch x --set \"$G\"   # why\nX=1 hpscan status && hpscan logs y &\n"
    assert typed(text, tmp_path) == [
        ["hpscan", "launch", "x", "--set", "a b"],
        ["hpscan", "status"],
        ["hpscan", "logs", "y"],
    ]
    with pytest.raises(AssertionError, match="wget"):
        typed("wget x", tmp_path)


@pytest.mark.parametrize(
    "text", ["adaptive: yes please", "stop: never", "stop: diverged\nstop: {name: halving, rungs: [2]}"]
)
def test_yaml_that_is_no_spec_is_noticed(text):
    with pytest.raises(ValueError, match=r"adaptive|stop"):
        check_yaml(block(text, "yaml"))


def test_programs_that_are_not_started_are_named_on_some_page(tmp_path):
    text = "\n".join(script(found) for path in CODE for found in blocks_of(path) if found.language in {"console", "sh"})
    for program in ELSEWHERE:
        assert re.search(rf"(?<![\w-]){program} ", text), f"{program} is on no page: take it out of ELSEWHERE"
