"""A report tells everything it has to, in this order."""

import math
from dataclasses import replace

import pytest
import yaml

from hpscan.analysis import analyze
from hpscan.content import _tolerance, report_page, rise, separability
from hpscan.intervals import Interval
from hpscan.pages import Table
from hpscan.recommendation import Range
from hpscan.spec import Spec
from tests.curves import analysis_of

SECTIONS = [
    "", "Best configuration of each variant", "To know before relying on this", "Recommended: the middle of the basin",
    "Ready to paste", "sgd in torch", "sgdw in torch", "adamw in torch",
    "How separable learning rate and weight decay are", "Coupled less decoupled", "The basin, and the evidence",
    "One effective parameter?", "Slices through the best cell", "The best weight decay at each learning rate", "Cost", "Setting",
    "How to reproduce it", "The complete spec",
]  # fmt: skip


@pytest.fixture
def page(filled):
    return report_page(analyze(filled, "tiny"))


def table_of(page, title):
    """The table of a section, by its rows' names and its columns."""
    (table,) = [
        block
        for section in page.sections
        if section.title == title
        for block in section.blocks
        if isinstance(block, Table)
    ]
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_the_sections_are_these(page):
    assert page.title == "tiny: best configurations"
    assert [section.title for section in page.sections] == SECTIONS
    assert [picture.name for picture in page.pictures] == ["heatmaps", "separability", "collapse", "slices", "ridge"]


def test_every_table_is_as_wide_as_its_header(page):
    tables = [block for section in page.sections for block in section.blocks if isinstance(block, Table)]
    assert len(tables) == 5
    for table in tables:
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert all(at < len(table.columns) for at in table.wraps)


def test_the_answer_comes_first_in_plain_words(page):
    answer = {about: text for about, text, _ in page.sections[0].blocks[0].points}
    assert answer["sgdw"].startswith("tune lr and wd one after the other. Start from lr 2⁻⁴ ≈ 0.0625 and wd 2⁻⁶")
    assert answer["sgd"].startswith("tune lr and wd together.")
    assert "within 2 % of the best: any lr from 0.054 to 0.072" in answer["sgdw"]
    assert (
        answer["Between variants"] == "sgd's best cell is 0.000 [0.000, 0.000] worse than adamw's: no more than noise."
    )


def test_the_table_holds_the_best_cells(page):
    assert table_of(page, "Best configuration of each variant")["sgdw"] == {
        "variant": "sgdw", "lr": "2⁻⁴ ≈ 0.0625", "wd": "2⁻⁶ ≈ 0.0156", "decay": "decay η·λ (paper)",
        "trained": "12 steps, cosine", "validation loss": "1.010 [0.985, 1.035]", "test loss": "1.010 ± 0.006",
        "test error": "10.0 ± 0.0 %", "seeds": "3", "next cell": "+0.100 [+0.100, +0.100]",
    }  # fmt: skip


def test_what_is_recommended_says_how_far_it_reaches(page):
    sgdw = table_of(page, "Recommended: the middle of the basin")["sgdw"]
    assert sgdw["lr may move, octaves"] == "−0.2, +0.2"
    assert sgdw["an octave of wd costs"] == "+0.100 [+0.100, +0.100]"
    assert sgdw["within"] == "2 %"


def test_no_decay_is_infinitely_many_octaves_away():
    reach = Range(0.0, 0.1, (math.inf, 1.25), (False, True), Interval(0.0, 0.0, 0.0))
    assert _tolerance(reach) == "−∞, ≥ +1.2"
    assert _tolerance(replace(reach, octaves=(0.0, 1.7), is_open=(True, False))) == "edge, +1.7"
    assert _tolerance(replace(reach, octaves=(0.5, 0.0), is_open=(True, True))) == "≤ −0.5, edge"
    assert _tolerance(replace(reach, octaves=(0.0, 0.0), is_open=(False, False))) == "−0.0, +0.0"


def told_of(make_spec, size, **changes):
    """What is told of the separability of one leaning valley of values of a size: its tables' rows, in one."""

    def value(run):
        x, y = math.log2(run.cell.lr), math.log2(run.cell.wd)
        return size * (
            1 + 0.1 * (x + y + 9) ** 2 + 0.02 * (x + 4) ** 2 + 0.01 * math.sin(7 * x + 13 * y + 5 * run.seed)
        )

    grid = {"lr": {"log2": [-8, -2], "points": 7}, "wd": {"log2": [-8, -2], "points": 7}}
    analysis = analysis_of(make_spec(variants=["sgd"], grid=grid, seeds=3, **changes), value)
    tables = [block for section in separability([analysis]) for block in section.blocks if isinstance(block, Table)]
    return {column: text for table in tables for column, text in zip(table.columns, table.rows[0], strict=True)}


def test_every_regret_of_a_small_loss_has_digits_that_are_seen(make_spec):
    told = told_of(make_spec, 1e-5)
    for column in ("regret, mean", "regret, worst", "regret, one pass"):
        assert told[column].split()[0].strip("−0.").isdigit(), (column, told[column])


def test_every_regret_of_an_error_rate_is_in_percent(make_spec):
    told = told_of(make_spec, 0.1, metric="val_error")
    for column in ("regret, mean", "regret, worst", "regret, one pass"):
        assert told[column].endswith(" %"), (column, told[column])


def test_the_spec_is_shown_without_what_it_leaves_open(filled, page):
    (code,) = page.sections[-1].blocks
    assert Spec.validated(yaml.safe_load(code.text)) == filled.spec("tiny")
    assert "null" not in code.text


@pytest.mark.parametrize(
    ("metric", "text"), [("val_loss", "+0.004 [+0.001, +0.007]"), ("val_error", "+0.4 [+0.1, +0.7] %")]
)
def test_a_rise_of_an_error_rate_is_in_percent(metric, text):
    assert rise(Interval(0.004, 0.001, 0.007), metric) == text
