"""Benchmarks are started by hand, and seldom: here it is seen that each can be, and as pages say."""

import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT))  # last, so that it is an installed hpscan that is tested
MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
NAMED = [
    ROOT / "Makefile",
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "benchmarks").glob("*.md"),
    *(ROOT / "benchmarks").glob("*.py"),
]
COMMANDS = sorted(
    {
        found
        for path in NAMED
        for found in re.findall(r"python -m benchmarks\.(\w+)([^\n`#;|]*)", path.read_text(encoding="utf-8"))
    }
)


@pytest.fixture
def told(monkeypatch, capsys):
    """What a benchmark's command line says to some words, and the exit status."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which some set as they are imported

    def run(module, *words):
        monkeypatch.setattr("sys.argv", [module, *words])
        with pytest.raises(SystemExit) as end:
            import_module(f"benchmarks.{module}").main()
        return end.value.code, "".join(capsys.readouterr())

    return run


@pytest.mark.parametrize("module", MODULES)
def test_every_module_is_imported_and_tells_how_it_is_used(module, told):
    loaded = import_module(f"benchmarks.{module}")
    if "argparse" in vars(loaded):
        code, usage = told(module, "--help")
        assert code == 0
        assert usage.startswith("usage: ")


@pytest.mark.parametrize(("module", "words"), COMMANDS, ids=["".join(each) for each in COMMANDS])
def test_the_commands_that_pages_name_have_these_options(module, words, told):
    assert module in MODULES
    options = set(re.findall(r"--[\w-]+", words))
    if options:
        assert options <= set(re.findall(r"--[\w-]+", told(module, "--help")[1]))


def test_every_page_of_the_results_has_its_benchmark():
    assert set(import_module("benchmarks.results").ORDER) <= set(MODULES)
    links = re.findall(r"\]\(([\w.]+)\)", (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8"))
    assert links
    assert all((ROOT / "benchmarks" / link).exists() for link in links)


@pytest.mark.parametrize("kinds", [["smooth"], ["rough", "held-out"]])
def test_sweeps_are_recorded_as_one_kind(kinds, told):
    code, said = told("adaptive", "--record", "store", "sweep", "--kind", *kinds)
    assert code == 2
    assert "--record writes one file" in said
