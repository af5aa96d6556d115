"""The example notebook runs, and holds what running it shows."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from hpscan.grid import runs
from hpscan.spec import Spec
from hpscan.store import Store
from tests.conftest import result_of

EXAMPLE = Path(__file__).parents[1] / "docs" / "example.ipynb"


@pytest.mark.slow
def test_every_cell_runs_on_a_sweep_like_the_quickstart(tmp_path):
    axis = {"log2": [-6, -2], "points": 5}
    spec = Spec.load("quickstart")
    spec = Spec.validated({**spec.model_dump(mode="json"), "grid": {"lr": axis, "wd": axis}, "seeds": [0, 1]})
    store = Store(tmp_path / "results")
    every = runs(spec)
    curves = [{"run_id": run.run_id, "step": step, "val_loss": 1.0} for run in every for step in (200, 400)]
    store.save_pack(spec.name, "p", [result_of(run) for run in every], curves)
    store.save_spec(spec)
    notebook = nbformat.read(EXAMPLE, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()


def test_it_was_run_from_top_to_bottom_and_shows_figures():
    cells = [cell for cell in nbformat.read(EXAMPLE, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not any(output.output_type == "error" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert sum("data:image/png" in output.get("data", {}).get("text/html", "") for output in outputs) == 1
    assert EXAMPLE.stat().st_size < 300_000
