"""What the shell completes, asked for as bash does."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hpscan.spec_text import shipped_specs
from hpscan.store import Store
from hpscan.variants import VARIANTS

BIN = str(Path(sys.executable).parent)


@pytest.fixture
def folder(tmp_path, make_spec):
    """A folder with two sweeps in its store, one in another, and a spec."""
    for store, name in (("results", "first"), ("results", "fast"), ("other", "second")):
        Store(tmp_path / store).save_spec(make_spec(name=name))
    (tmp_path / "results" / "no-sweep").mkdir()
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "notes.txt").touch()
    return tmp_path


def run(words, cwd, **env):
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HPSCAN_")}
    return subprocess.run(
        words, cwd=cwd, env={**kept, "PATH": path, "HOME": str(cwd), **env}, capture_output=True, text=True, check=True
    )


def completed(line, cwd, **env):
    """What bash is told for a line whose last word is being typed."""
    words = shlex.split(line) + [""] * line.endswith(" ")
    asked = {"_HPSCAN_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    return run(["hpscan"], cwd, **asked, **env).stdout.split()


def test_sweeps_of_the_store_given(folder):
    assert completed("hpscan analyze ", folder) == ["fast", "first"]
    assert completed("hpscan report fi", folder) == ["first"]
    assert completed("hpscan compare first fa", folder) == ["fast"]
    assert completed("hpscan status --store other s", folder) == ["second"]
    assert completed("hpscan export s", folder, HPSCAN_STORE="other") == ["second"]
    assert completed("hpscan reproduce 3f9a --sweep f", folder) == ["fast", "first"]
    assert completed("hpscan analyze --store s3://bucket/prefix f", folder) == []
    assert completed("hpscan analyze --store nowhere f", folder) == []


def test_shipped_specs_and_files(folder):
    assert completed("hpscan launch ", folder) == [*sorted(shipped_specs()), "mine.yaml", "other/", "results/"]
    assert completed("hpscan launch mi", folder) == ["mine.yaml"]
    assert completed("hpscan submit results/first/", folder) == ["results/first/spec.yaml"]


def test_commands_options_and_variants(folder):
    assert {"launch", "logs"} == set(completed("hpscan l", folder))
    assert "--dry-run" in completed("hpscan launch quickstart --dry", folder)
    assert completed("hpscan import csv x.csv --variant adamw-t", folder) == ["adamw-torch"]
    assert set(completed("hpscan import csv x.csv --variant Mine=", folder)) >= {f"Mine={name}" for name in VARIANTS}


def test_completing_loads_nothing_heavy(folder):
    script = (
        "import atexit, sys\n"
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr))\n"
        "sys.argv = ['hpscan']\n"
        "from hpscan.cli import main\n"
        "main()"
    )
    asked = {"_HPSCAN_COMPLETE": "complete_bash", "COMP_WORDS": "hpscan\nanalyze\nf", "COMP_CWORD": "2"}
    done = run([sys.executable, "-P", "-c", script], folder, **asked)
    assert done.stdout.split() == ["fast", "first"]
    assert "hpscan.cli.completing" in done.stderr.split()
    assert {"torch", "ray", "pandas", "pyarrow", "matplotlib", "scipy"}.isdisjoint(done.stderr.split())


def test_what_is_shown_completes_in_a_real_bash(folder):
    ask = "COMP_WORDS=(hpscan analyze fi); COMP_CWORD=2; _hpscan_completion hpscan fi analyze; echo ${COMPREPLY[@]}"
    assert run(["bash", "-c", f'eval "$(hpscan --show-completion)"; {ask}'], folder).stdout.split() == ["first"]


def test_it_is_installed_for_bash(folder):
    run(["bash", "-c", "hpscan --install-completion; true"], folder)
    assert "hpscan" in (folder / ".bashrc").read_text()
    ask = "COMP_WORDS=(hpscan analyze fi); COMP_CWORD=2; _hpscan_completion hpscan fi analyze; echo ${COMPREPLY[@]}"
    assert run(["bash", "-c", f". ./.bashrc; {ask}"], folder).stdout.split() == ["first"]
