"""What importing costs: a fresh interpreter, and a look at what it loaded."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

import hpscan

HEAVY = {
    "torch", "ray", "optuna", "sklearn", "scipy", "matplotlib", "pandas", "pyarrow", "dash", "plotly", "fastapi", "uvicorn",
    "torch._dynamo",
}  # fmt: skip


def loaded_by(code):
    """The heavy packages in sys.modules after running ``code``."""
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    return HEAVY & set(done.stdout.split())


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import hpscan", set()),
        ("import hpscan.cli", set()),
        ("from hpscan.spec import Spec; Spec.load('quickstart')", set()),
        ("from hpscan.grid import runs", set()),
        ("import hpscan.snippets", set()),
        ("import hpscan.store", {"pandas", "pyarrow"}),
        ("import hpscan.analysis", {"pandas", "pyarrow"}),
        ("import hpscan.report", {"pandas", "pyarrow", "matplotlib"}),
        ("from hpscan import open_sweep", {"pandas", "pyarrow"}),
        ("import hpscan.importing", {"pandas", "pyarrow"}),
        ("import hpscan.exporting", {"pandas", "pyarrow"}),
        ("import hpscan.dashboards.launching", {"pandas", "pyarrow"}),
        ("import hpscan.dashboards.server", {"pandas", "pyarrow", "matplotlib", "fastapi", "uvicorn"}),
        (
            "import hpscan.dashboards.app",
            {"pandas", "pyarrow", "matplotlib", "fastapi", "uvicorn", "dash", "plotly"},
        ),
        ("import hpscan.engine", {"torch"}),
        ("import torch; from hpscan.operations import Operations\nwith Operations(): torch.ones(2) + 1", {"torch"}),
        ("import hpscan.reproduce", {"torch", "pandas", "pyarrow"}),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code, allowed):
    assert loaded_by(code) <= allowed


def test_every_public_name_can_be_had():
    for name in hpscan.__all__:
        assert getattr(hpscan, name) is not None
    assert set(hpscan._HOMES) == set(hpscan.__all__) - {"__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = hpscan.nonsense


def test_no_public_name_is_a_modules_too():
    """Importing the module anywhere would put it in the name's place."""
    assert [name for name in hpscan.__all__ if find_spec(f"hpscan.{name}")] == []


def test_the_command_line_says_help_and_version_before_anything_heavy_is_loaded():
    for option in ("--help", "--version"):
        main = f"import contextlib, hpscan.cli; sys.argv = ['hpscan', '{option}']"
        assert loaded_by(f"{main}\nwith contextlib.suppress(SystemExit): hpscan.cli.main()") == set()
