"""Whatever README and docs say can be typed is typed here: commands, specs and Python, page by page, in a folder of its own.

Sweeps that pages name are small here: the shipped specs on a tiny network, in files that have their names. A launch trains in this process, by the
worker's code but without Ray; the tests that are marked slow train through Ray, as users do. What can be run in neither way
is listed in ``desk.ELSEWHERE``, with the reason and with what is checked of it.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import urllib.request
from pathlib import Path

import matplotlib as mpl
import optuna
import pytest
import yaml
from markdown_it import MarkdownIt

from hpscan.spec_text import shipped_specs
from tests.blocks import ROOT, Block, blocks_of, script, shown
from tests.commands import check_command, typed
from tests.conftest import ray_trial
from tests.desk import ELSEWHERE, PROGRAMS, Desk, check_yaml, run_main, small
from tests.workers import patch_launch

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
CSV = "Name,State,optimizer,variant,learning_rate,weight_decay,val/loss,val_loss\n" + "".join(
    f"run-{n},finished,AdamW,AdamW,{lr},{wd},{n / 10},{n / 10}\n"
    for n, (lr, wd) in enumerate((lr, wd) for lr in (0.001, 0.01, 0.1) for wd in (0.01, 0.1, 1.0))
)
"""An export of W&B's."""
LANGUAGES = {"console", "sh", "yaml", "python", "nginx", "text"}


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


@pytest.fixture
def buckets(s3_port, aws, monkeypatch):
    """The buckets that pages name, with the sweeps in them where pages look: the function that fills them."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{s3_port}")

    def fill(store: Path) -> None:
        from pyarrow import fs

        for bucket in ("bucket", "hpscan"):
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{s3_port}/{bucket}", method="PUT")).close()
            s3, _ = fs.FileSystem.from_uri(f"s3://{bucket}")
            for prefix in ("results", "prefix"):
                fs.copy_files(str(store), f"{bucket}/{prefix}", fs.LocalFileSystem(), s3, use_threads=False)

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
    assert typed(text, tmp_path, PROGRAMS) == [
        ["hpscan", "launch", "x", "--set", "a b"],
        ["hpscan", "status"],
        ["hpscan", "logs", "y"],
    ]
    with pytest.raises(AssertionError, match="wget"):
        typed("wget x", tmp_path, PROGRAMS)


@pytest.mark.parametrize(
    "text", ["adaptive: yes please", "stop: never", "stop: diverged\nstop: {name: halving, rungs: [2]}"]
)
def test_yaml_that_is_no_spec_is_noticed(text):
    with pytest.raises(ValueError, match=r"adaptive|stop"):
        check_yaml(block(text, "yaml"))


def test_programs_that_are_not_started_are_named_on_some_page():
    text = "\n".join(script(found) for path in CODE for found in blocks_of(path) if found.language in {"console", "sh"})
    for program in ELSEWHERE:
        assert re.search(rf"(?<![\w-]){program} ", text), f"{program} is on no page: take it out of ELSEWHERE"
