"""A desk at which a page is followed: its commands are run in a folder, its YAML is read, its Python is run.

Sweeps that pages name are small here. A launch trains in this process or, where the desk is one ``with_ray``, as users' do.
"""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import threading
import tomllib
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpscan import cli
from hpscan.spec import Spec
from hpscan.spec_text import parse_yaml, shipped_specs
from hpscan.store import Store
from tests.blocks import ROOT, Block, script, shown
from tests.commands import check_command, typed

VERDICT = re.compile(
    r"\b(tied|separable|unclear|evidence|together|after the other|apart|interact|interaction is)\b|on the edge"
)
"""What a small sweep may say otherwise."""
PLACEHOLDERS = {"SWEEP": "quickstart", "SWEEP_A": "quickstart", "SWEEP_B": "mine", "DIR": "out", "SPEC": "spec.yaml"}
"""What a reader is to put in, and what is put in here; RUN_ID and run_ids that look like one are those of a stored run."""
UNCOMPILED = {"compile": False, "strategy": "fused"}
RUN_IDS = ("RUN_ID", "3f9a52c1")


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
            "schedule": "cosine",
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
            answers = "".join(self.command(words, block) for words in typed(script(block), self.folder, PROGRAMS))
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
PROGRAMS = ("hpscan", *ELSEWHERE)

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
