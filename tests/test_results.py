"""The commands that show what is in a store."""

import json
import sys

from hpscan.store import Store
from tests.conftest import assert_refused


def test_specs_are_listed(hpscan):
    code, out, _ = hpscan("specs", "--json")
    (quickstart,) = [spec for spec in json.loads(out) if spec["name"] == "quickstart"]
    assert code == 0
    assert quickstart["runs"] > 800
    out = hpscan("specs")[1]
    assert (
        "\nquickstart: 2985 runs of 400 steps on digits; sgd, sgdw, adam, adamw, adamw-torch\n  Coupled against" in out
    )
    assert "Needs GPUs." in out
    assert max(map(len, out.splitlines())) <= 120
    assert len(out.splitlines()) < 60


def test_a_broken_file_is_named_and_its_runs_are_missing(hpscan, tmp_path, make_spec):
    store = Store(tmp_path / "results")
    store.save_spec(make_spec())
    (tmp_path / "results" / "tiny" / "runs").mkdir()
    (tmp_path / "results" / "tiny" / "runs" / "pack-x.parquet").write_text("nonsense")
    code, out, err = hpscan("analyze", "tiny")
    assert code == 0
    assert "Not the whole sweep: 72 missing of 72 runs" in out
    assert "pack-x.parquet: " in err
    assert "trained again" in err
    assert err.count("\n") == 1


def test_axes_are_parsed_and_refused_in_one_line(hpscan, tmp_path, make_spec):
    Store(tmp_path / "results").save_spec(make_spec())
    assert_refused(hpscan("analyze", "tiny", "--at", "lr"), "--at: must be AXIS=VALUE; got 'lr'")
    assert_refused(hpscan("analyze", "tiny", "--at", "lr=high"), "--at lr: must be a number; got 'high'")
    assert_refused(
        hpscan("analyze", "tiny", "--axes", "lr", "depth"), "the sweep has no axis 'depth'; its axes are lr, wd"
    )
    assert hpscan("analyze", "tiny", "--axes", "wd", "lr")[0] == 0


def test_units_that_are_none_and_sweeps_that_have_none_are_refused(hpscan, tmp_path, make_spec):
    Store(tmp_path / "results").save_spec(make_spec(variants=["sgd"]))
    assert_refused(hpscan("figures", "tiny", "--convention", "keras"), "--convention keras: must be torch or paper")
    assert_refused(hpscan("figures", "tiny", "--convention", "torch"), "tiny: no variant has a form in torch's units")


def test_kinds_of_figure_that_there_are_not_or_that_lack_data_are_refused(hpscan, tmp_path, make_spec):
    Store(tmp_path / "results").save_spec(make_spec())
    known = "heatmaps, separability, conventions, scaling, budgets, collapse, slices, ridge, curves, "
    known += "fig2, fig3, fig1, fig4, animation"
    assert_refused(hpscan("figures", "tiny", "--kind", "violin"), f"--kind violin: must be one of {known}")
    for kind in (
        "conventions",
        "scaling",
        "budgets",
        "collapse",
        "slices",
        "ridge",
        "fig3",
        "fig1",
        "fig4",
        "animation",
    ):
        assert_refused(hpscan("figures", "tiny", "--kind", kind), f"{kind}")
    both = hpscan("figures", "tiny", "--kind", "ridge", "--convention", "torch")
    assert_refused(both, "--convention torch: re-draws heatmaps; leave out --kind ridge")


def test_each_sweep_has_a_folder_of_its_own(hpscan, tmp_path, make_spec):
    for name in ("one", "other"):
        Store(tmp_path / "results").save_spec(make_spec(name=name, variants=["sgd"]))
    code, out, _ = hpscan("figures", "one", "other", "--kind", "separability", "--out", "drawn")
    assert code == 0
    assert {path.rpartition("/")[0] for path in out.split()} == {"drawn/one", "drawn/other"}


def test_figures_are_drawn_in_the_units_asked_for(hpscan, tmp_path, make_spec):
    Store(tmp_path / "results").save_spec(make_spec(grid={"lr": [0.25, 0.5], "wd": [0.25, 0.5]}))
    code, out, _ = hpscan("figures", "tiny", "--convention", "torch")
    assert code == 0
    assert out.split() == [f"results/tiny/figures/heatmaps-torch.{suffix}" for suffix in ("png", "svg", "pdf")]


def test_figures_of_another_metric_have_its_name(hpscan, filled):
    for option, drawn in (("--convention=torch", "heatmaps-torch"), ("--kind=slices", "slices")):
        code, out, _ = hpscan("figures", "tiny", option, "--metric", "val_error", "--store", filled.location)
        assert code == 0
        assert {path.rpartition("/")[2] for path in out.split()} == {
            f"{drawn}-val_error.{suffix}" for suffix in ("png", "svg", "pdf")
        }


def test_scaling_is_a_table_of_its_own(hpscan, tmp_path, make_spec):
    grid = {"lr": [0.25, 0.5], "wd": [0.25, 0.5], "steps": [4, 8]}
    Store(tmp_path / "results").save_spec(make_spec(variants=["adamw"], grid=grid))
    _, out, _ = hpscan("analyze", "tiny")
    assert "exponent" in out
    assert json.loads(hpscan("analyze", "tiny", "--json")[1])["scaling"][0]["axis"] == "steps"
    assert json.loads(hpscan("specs", "--json")[1])[0]["steps"]


def test_without_typst_a_report_is_written_but_for_its_pdf(hpscan, tmp_path, make_spec, monkeypatch):
    Store(tmp_path / "results").save_spec(make_spec())
    monkeypatch.setitem(sys.modules, "typst", None)
    code, out, err = hpscan("report", "tiny", "--format", "html")
    assert (code, err) == (0, "")
    code, out, err = hpscan("report", "tiny")
    assert (code, err) == (0, "hpscan: no PDF, which needs Typst: pip install 'hpscan[report]'\n")
    assert "report.html" in out
    assert "report.pdf" not in out
    assert_refused(hpscan("report", "tiny", "--format", "pdf"), "pip install 'hpscan[report]'")
