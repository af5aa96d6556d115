"""Sweeps compared: what differs, how the best moves, and what carries over."""

import math
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from hpscan.analysis import analyze
from hpscan.comparison import _paid, check_comparable, comparison_page
from hpscan.grid import runs
from hpscan.pages import Points, Table
from hpscan.report import save_comparison
from hpscan.spec import SpecError
from hpscan.store import METRICS, Store

GRID = {"lr": {"log2": [-6, -2], "points": 5}, "wd": {"log2": [-8, -4], "points": 5}}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def swept(store, make_spec):
    """Store a sweep whose sgdw has a bowl about (lr, wd), in powers of two, and diverges above a learning rate."""

    def sweep(name, *, lr, wd, diverges=99, **changes):
        spec = make_spec(**{"name": name, "variants": ["sgdw"], "seeds": [0, 1, 2], "grid": GRID, **changes})
        store.save_spec(spec)
        rows = []
        for run in runs(spec):
            x, y = math.log2(run.cell.lr), math.log2(run.cell.wd)
            diverged = x > diverges
            value = 1 + 0.1 * ((x - lr) ** 2 + (y - wd) ** 2) + 0.01 * run.seed
            rows.append({
                "run_id": run.run_id, "variant": run.cell.variant, "lr": run.cell.lr, "wd": run.cell.wd, "seed": run.seed,
                "state": "diverged" if diverged else "completed", "finished_at": datetime.now(UTC),
                **({} if diverged else dict.fromkeys(METRICS, value)),
            })  # fmt: skip
        store.save_pack(name, f"{name}-pack", rows, [])
        return analyze(store, name)

    return sweep


def blocks(page, title, kind):
    return next(
        block
        for section in page.sections
        if section.title == title
        for block in section.blocks
        if isinstance(block, kind)
    )


def test_how_the_best_moves_and_what_that_costs(swept):
    page = comparison_page([swept("a", lr=-4, wd=-6), swept("b", lr=-3, wd=-7, budget={"steps": 48})])
    answer = {about: text for about, text, _ in blocks(page, "", Points).points}
    assert answer["From a to b"] == "what is recommended moves by these octaves: sgdw lr +1.0, wd −1.0."
    assert answer["a · sgdw"].startswith("tune lr and wd one after the other.")
    carried = blocks(page, "What carries over", Table).rows
    assert carried == [
        ["sgdw", "a", "2⁻⁴", "2⁻⁶", "b", "+0.200 [+0.200, +0.200]"],
        ["sgdw", "b", "2⁻³", "2⁻⁷", "a", "+0.200 [+0.200, +0.200]"],
    ]
    assert blocks(page, "What differs", Table).rows == [
        ["Budget", "12 steps of batch 16, cosine schedule", "48 steps of batch 16, cosine schedule"]
    ]
    assert [row[0] for row in blocks(page, "Best configuration of each variant", Table).rows] == [
        "a · sgdw",
        "b · sgdw",
    ]


def test_a_cell_that_diverges_there_or_is_not_there_says_so(swept):
    elsewhere = {"lr": {"log2": [-6.5, -2.5], "points": 5}, "wd": {"log2": [-8, -4], "points": 5}}
    one, other = swept("a", lr=-3, wd=-6), swept("b", lr=-5, wd=-6, diverges=-3.5)
    third = swept("c", lr=-4.5, wd=-6, grid=elsewhere)
    paid = {
        (row[1], row[4]): row[5]
        for row in blocks(comparison_page([one, other, third]), "What carries over", Table).rows
    }
    assert paid["a", "b"] == "diverges"
    assert paid["a", "c"] == paid["c", "a"] == "—"


def test_variants_that_only_some_have_are_shown_too(swept, tmp_path):
    both = [swept("a", lr=-4, wd=-6), swept("b", lr=-4, wd=-6, variants=["sgd", "sgdw"])]
    paths = save_comparison(both, tmp_path / "out")
    assert [path.name for path in paths] == ["report.html", "report.md", "report.pdf", "landscapes.svg"]
    text = (tmp_path / "out/report.md").read_text()
    assert text.startswith("# a against b: the sweeps compared")
    assert "Their grids, seeds or variants only." in text


def test_what_cannot_be_compared_is_refused(swept):
    one, other = swept("a", lr=-4, wd=-6), swept("b", lr=-4, wd=-6, metric="val_error")
    with pytest.raises(SpecError, match="needs two different sweeps or more; got a"):
        check_comparable([one])
    with pytest.raises(SpecError, match="needs two different sweeps or more; got a, a"):
        check_comparable([one, one])
    with pytest.raises(SpecError, match=r"a by val_loss, b by val_error\. Choose one with --metric"):
        check_comparable([one, other])
    by_test = [replace(each, spec=each.spec.model_copy(update={"metric": "test_loss"})) for each in (one, other)]
    with pytest.raises(SpecError, match="--metric test_loss: best cells are chosen by a validation metric"):
        check_comparable(by_test)


def test_cells_of_little_decay_are_told_apart(make_landscape):
    z = np.array([[[2.0, 1.8, 1.0, 0.5], [2.0, 1.9, 1.5, 1.2]]]) + np.array([0, 0.01])[:, None, None]
    shape = replace(make_landscape(z), wd=np.array([0.0, 2.0**-30, 2.0**-28, 2.0**-26]))
    variant = SimpleNamespace(landscape=shape, best=shape.best())
    assert _paid(variant, float(shape.lr[0]), 2.0**-28).value == pytest.approx(0.5)
