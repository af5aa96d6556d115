"""The kinds of figure there are, and which a sweep calls for."""

import matplotlib as mpl
import numpy as np
import pytest

from hpscan import gallery
from hpscan.gallery import COMPARED, KINDS, check_kind, report_drawings, save_gallery, save_kind, save_metric
from hpscan.spec import SpecError
from tests.curves import analysis_of

mpl.use("Agg")


def bowl(run):
    u, v = np.log2(run.cell.lr) + 4, np.log2(run.cell.wd) + 4
    return 0.5 + 0.1 * u**2 + 0.1 * v**2 + 0.03 * run.seed


@pytest.fixture
def analysis(make_spec):
    return analysis_of(make_spec(variants=["sgd", "adamw"], seeds=[0, 1, 2]), bowl)


def test_every_kind_is_known_and_no_other():
    for kind in (*KINDS, *COMPARED, gallery.ANIMATION):
        check_kind(kind)
    with pytest.raises(SpecError, match=r"--kind heatmap: must be one of heatmaps, .*fig4, animation$"):
        check_kind("heatmap")


def test_a_report_has_the_landscapes_first_and_what_the_sweep_calls_for(analysis, make_spec):
    names = [drawing.name for drawing in report_drawings(analysis)]
    assert names[:2] == ["heatmaps", "separability"]
    assert {"slices", "curves"} <= set(names)
    assert len(names) == len(set(names))
    assert "scaling" not in names  # one budget, one batch size, one width
    several = analysis_of(
        make_spec(variants=["adamw"], grid={"lr": [0.01, 0.1], "wd": [0.01, 0.1], "steps": [12, 24, 48]}), bowl
    )
    assert "budgets" in [drawing.name for drawing in report_drawings(several)]
    diverged = analysis_of(make_spec(variants=["sgd"]), lambda run: np.inf)
    assert [drawing.name for drawing in report_drawings(diverged)] == ["heatmaps", "separability"]


def test_every_figure_of_a_report_can_be_drawn_and_is_told_to_those_who_do_not_see_it(analysis):
    for drawing in report_drawings(analysis):
        drawing.draw(analysis).draw_without_rendering()
        assert drawing.title
        assert drawing.alt.endswith(".")
        assert drawing.caption.endswith(".")


def test_a_kind_is_drawn_of_each_sweep_into_its_own_folder(analysis, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    saved = save_kind("curves", [analysis, analysis], folders)
    assert {path.parent for path in saved} == set(folders)
    assert {path.name for path in saved} == {f"curves.{suffix}" for suffix in ("png", "svg", "pdf")}
    assert all(path.stat().st_size > 0 for path in saved)


@pytest.mark.parametrize("kind", ["heatmaps", "curves", "animation"])
def test_a_kind_of_another_metric_leaves_that_of_the_sweeps_own(analysis, tmp_path, kind):
    own = save_kind(kind, [analysis], [tmp_path])
    other = save_kind(kind, [analysis], [tmp_path], metric="val_error")
    assert {path.stem for path in other} == {f"{kind}-val_error"}
    assert not {*own} & {*other}


def test_a_kind_that_a_sweep_has_no_data_for_is_refused_and_nothing_is_written(analysis, tmp_path):
    for kind in ("scaling", "budgets"):
        with pytest.raises(SpecError):
            save_kind(kind, [analysis], [tmp_path])
    assert list(tmp_path.iterdir()) == []


def test_the_gallery_is_every_figure_as_png_svg_and_pdf(analysis, tmp_path):
    saved = save_gallery(analysis, tmp_path)
    assert sorted(saved) == sorted(tmp_path.iterdir())
    stems = {path.stem for path in saved}
    assert {"heatmaps", "separability"} <= stems
    assert {path.suffix for path in saved} == {".png", ".svg", ".pdf"}
    assert len(saved) == 3 * len(stems)


def test_another_metrics_heatmaps_are_beside_the_specs(analysis, tmp_path):
    assert {path.stem for path in save_metric(analysis, tmp_path)} == {f"heatmaps-{analysis.spec.metric}"}
