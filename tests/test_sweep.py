"""A sweep opened from Python, and what a notebook shows of it."""

import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import hpscan
from hpscan.analysis import VariantAnalysis
from hpscan.landscape import Landscape, landscapes
from hpscan.notebook import landscape_html, landscapes_html
from hpscan.separation import separability
from hpscan.spec import SpecError
from hpscan.store import StoreError


@pytest.fixture
def sweep(filled):
    return hpscan.open_sweep(filled, "tiny")


def test_a_store_is_opened_by_path_and_an_unknown_sweep_refused(sweep):
    assert hpscan.open_sweep(sweep.store.root, "tiny").spec == sweep.spec
    with pytest.raises(StoreError, match="sweep 'absent': not in the store"):
        hpscan.open_sweep(sweep.store.root, "absent")


def test_its_tables_are_the_stores(sweep):
    assert len(sweep.runs()) == 200
    assert sweep.status["states"]["missing"] == 25
    assert sweep.curves().empty
    assert {"run_id", "variant", "lr", "wd", "seed", "step", "val_loss"} <= set(sweep.curves())
    assert [variant.name for variant in sweep.analysis().variants] == ["sgd", "sgdw", "adamw"]


def test_a_landscape_is_the_one_of_analyze_and_agrees_with_it(sweep):
    shape = sweep.landscape("sgdw")
    assert isinstance(shape, Landscape)
    (own,) = [found for found in sweep.analysis().variants if found.name == "sgdw"]
    assert shape.best() == own.best
    assert shape.separability() == own.separability == separability(shape)
    assert shape.verdict() == own.verdict


def test_a_frame_has_one_row_a_run_and_every_metric(sweep):
    frame = sweep.landscape("sgd").to_frame()
    assert len(frame) == 75
    stored = sweep.runs().set_index("run_id")
    known = frame[frame["state"] == "completed"].set_index("run_id")
    np.testing.assert_array_equal(known["val_loss"], stored.loc[known.index, "val_loss"])
    assert (frame.loc[frame["state"] == "diverged", "val_loss"] == np.inf).all()
    for name in ("lr", "wd", "seed"):
        np.testing.assert_array_equal(known[name], stored.loc[known.index, name])


def test_named_axes_and_the_table_say_the_same(sweep):
    shape = sweep.landscape("adamw", "val_error")
    cube, frame = shape.to_xarray(), shape.to_frame()
    assert cube["val_error"].dims == ("seed", "lr", "wd")
    assert cube.attrs == {"variant": "adamw", "metric": "val_error"}
    for _, row in frame.sample(20, random_state=0).iterrows():
        at = cube.sel(lr=row["lr"], wd=row["wd"], seed=row["seed"])
        assert at["run_id"] == row["run_id"]
        np.testing.assert_equal(float(at["val_error"]), row["val_error"])


def test_without_xarray_one_line_says_how_to_get_it(sweep, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match=r"needs xarray: pip install 'hpscan\[xarray\]'"):
        sweep.landscape("sgd").to_xarray()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adam"], "variant: the sweep has sgd, sgdw, adamw; got 'adam'"),
        (["sgd", "val_f1"], "metric: must be one of"),
        (["sgd", "test_error"], "metric: must be one of train_loss"),
    ],
)
def test_what_it_has_not_is_refused(sweep, arguments, message):
    with pytest.raises(SpecError, match=message):
        sweep.landscape(*arguments)


def test_other_axes_and_single_panels(filled, make_spec):
    filled.save_spec(make_spec(variants=["sgd"], grid={"lr": [0.1, 0.2], "wd": [0.1], "momentum": [0.0, 0.9]}))
    sweep = hpscan.open_sweep(filled, "tiny")
    assert sweep.landscape("sgd", axes=("momentum", "lr")).axes == ("momentum", "lr")
    assert sweep.landscape("sgd momentum=0.9").at == (("momentum", 0.9),)
    assert sweep.landscape("sgd", at={"momentum": 0.0}).at == (("momentum", 0.0),)
    assert {"momentum", "lr", "wd"} <= set(sweep.landscape("sgd momentum=0").to_frame())
    with pytest.raises(SpecError, match="several values of momentum"):
        sweep.landscape("sgd")


class Text(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = set(), [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_notebooks_show_a_table_and_a_drawing(sweep):
    table = Text(sweep._repr_html_())
    assert {"table", "th", "td"} <= table.tags
    assert {"sgdw", "2⁻⁴", "2⁻⁶", "72 completed, 3 diverged"} <= set(table.words)
    drawing = sweep.landscape("sgdw")._repr_html_()
    assert "img" in Text(drawing).tags
    assert "can be tuned one after the other" in drawing
    assert sweep.landscape("sgdw").plot()._repr_png_().startswith(b"\x89PNG")
    assert repr(sweep.landscape("sgdw")) == "SweepLandscape('sgdw', val_loss, 5 lr × 5 wd × 3 seeds)"


def test_a_sweep_of_nothing_is_shown_too(sweep):
    empty = landscapes(sweep.spec, sweep.runs().iloc[:0])
    assert "—" in Text(landscapes_html("tiny", "val_loss", empty)).words
    assert "75 missing" in landscape_html(VariantAnalysis(empty[0], empty[0].best(), separability(empty[0])))


def test_what_a_name_holds_is_text(sweep):
    shape = replace(sweep.landscape("sgd"), name="<script>alert(1)</script>")
    for shown in (shape._repr_html_(), landscapes_html("<b>", "val_loss", [shape])):
        assert "script" not in Text(shown).tags
