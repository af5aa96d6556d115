"""What is released: the wheel, the sdist, their metadata, and the files that tell GitHub and citers of them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml

import hpscan

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOLDERS = {"hpscan": "hpscan", "dashboards": "hpscan/dashboards", "sweeps": "hpscan/sweeps"}
"""Where the files of the repository lie in the wheel."""
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def tracked() -> list[str]:
    """The files that git knows, as far as they are still there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


SHIPPED = {
    f"{FOLDERS[top]}/{rest}": name for name in tracked() for top, _, rest in [name.partition("/")] if top in FOLDERS
}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> dict[str, Path]:
    """A wheel and an sdist of the files that git knows, and the wheel of that sdist."""
    folder = tmp_path_factory.mktemp("built")
    for name in tracked():
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    build = [sys.executable, "-P", "-m", "build", "--no-isolation"]
    for options in (["--wheel", "--sdist", "--outdir", "dist"], ["--outdir", "again"]):
        subprocess.run([*build, *options, "source"], cwd=folder, check=True, capture_output=True, text=True)
        shutil.rmtree(folder / "source" / "build", ignore_errors=True)
    (wheel,), (sdist,) = folder.glob("dist/*.whl"), folder.glob("dist/*.tar.gz")
    return {"wheel": wheel, "sdist": sdist, "wheel of the sdist": next(folder.glob("again/*.whl"))}


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(built):
    names = {name for name in names_in(built["wheel"]) if ".dist-info/" not in name}
    assert names == set(SHIPPED)
    for needed in ("dashboards/assets/style.css", "templates/page.typ", "workloads/texts/", "sweeps/quickstart.yaml"):
        assert any(name.startswith(f"hpscan/{needed}") for name in names), needed


def test_the_sdist_builds_the_same_wheel(built):
    assert names_in(built["wheel of the sdist"]) == names_in(built["wheel"])


def test_the_sdist_holds_what_it_takes_to_build_and_nothing_else(built):
    with tarfile.open(built["sdist"]) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    beside = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "MANIFEST.in"}
    made = {"PKG-INFO", "setup.cfg"}
    assert {name for name in names if not name.startswith("hpscan.egg-info/")} == {*SHIPPED.values(), *beside, *made}


def test_the_version_has_one_place():
    assert hpscan.__version__ == metadata("hpscan")["Version"] == PROJECT["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]


def test_all_brings_what_every_other_extra_brings():
    extras = PROJECT["optional-dependencies"]
    assert extras["all"] == [f"hpscan[{','.join(sorted(set(extras) - {'all', 'dev', 'docs'}))}]"]
    assert "hpscan[all]" in extras["dev"]


def test_every_extra_that_is_named_anywhere_is_there():
    for name in (name for name in tracked() if not name.startswith("tests/")):
        if name.endswith((".md", ".py", ".yaml", ".yml", ".ipynb")) or name.startswith(("docker/", "Makefile")):
            for given in re.findall(r"\bhpscan\[([a-z,]+)\]", (ROOT / name).read_text()):
                assert set(given.split(",")) <= set(PROJECT["optional-dependencies"]), name


def schema_check(schema: str, *paths: Path) -> None:
    command = [sys.executable, "-P", "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_citation_is_valid():
    schema_check("vendor.citation-file-format", ROOT / "CITATION.cff")


def test_workflows_are_valid_and_their_jobs_end():
    schema_check("vendor.github-workflows", *WORKFLOWS)
    schema_check("custom.github-workflows-require-timeout", *WORKFLOWS)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_workflows_run_is_sound_shell(path):
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        for step in job["steps"]:
            if "run" in step:
                shellcheck = [str(Path(sys.executable).parent / "shellcheck"), "--shell=bash", "-"]
                done = subprocess.run(shellcheck, input=step["run"], capture_output=True, text=True, check=False)
                assert done.returncode == 0, done.stdout


def test_workflows_test_every_python_that_the_metadata_name():
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    jobs = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == named


def test_pre_commit_runs_what_make_lint_runs():
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"].replace(".venv/bin", "$(BIN)") for hook in hooks] == recipe.replace("\t", "").splitlines()


ENV = {name: value for name, value in os.environ.items() if not name.startswith(("HPSCAN_", "PYTHON"))}
TINY = {
    "name": "tiny",
    "workload": {"name": "digits", "model": {"name": "normalised_mlp", "hidden": [8]}, "train": 200},
    "variants": ["sgdw", "adamw"],
    "grid": {"lr": {"log2": [-6, -2], "points": 3}, "wd": {"log2": [-8, -2], "points": 3}},
    "seeds": [0, 1],
    "budget": {"steps": 12},
    "batch_size": 16,
    "resources": {"workers": 1, "compile": False},
}


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_wheel_works_in_an_empty_environment(built, tmp_path):
    """The base first, then with the dashboard; nothing of the checkout is within its reach."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env/bin/python"

    def install(what: str) -> None:
        pip = [python, "-P", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", what]
        subprocess.run(pip, cwd=tmp_path, env=ENV, check=True)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [tmp_path / "env/bin/hpscan", *words], cwd=tmp_path, env=ENV, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    install(str(built["wheel"]))
    assert run("--version").stdout == f"hpscan {PROJECT['version']}\n"
    assert "launch" in run("--help").stdout
    assert "quickstart" in run("specs").stdout
    run("launch", "tiny.yaml")
    assert "heatmaps.svg" in run("figures", "tiny").stdout
    told = run("report", "tiny")
    assert told.stderr == "hpscan: no PDF, which needs Typst: pip install 'hpscan[report]'\n"
    assert "report.html" in told.stdout
    refused = subprocess.run(
        [tmp_path / "env/bin/hpscan", "dashboard"], cwd=tmp_path, env=ENV, capture_output=True, text=True, check=False
    )
    assert (refused.returncode, refused.stderr) == (
        2,
        "hpscan: the dashboard is not installed: pip install 'hpscan[dashboard]'\n",
    )

    install(f"{built['wheel']}[dashboard]")
    assert "report.pdf" in run("report", "tiny").stdout
    server = subprocess.Popen(
        [tmp_path / "env/bin/hpscan", "dashboard", "--port", "0"],
        cwd=tmp_path,
        env=ENV,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = re.search(r"http://\S+", server.stdout.readline())[0]
        for path in ("/healthz", "/", "/assets/style.css"):
            with urllib.request.urlopen(url + path, timeout=60) as answer:
                assert answer.status == 200, path
    finally:
        server.terminate()
        server.communicate(timeout=30)
