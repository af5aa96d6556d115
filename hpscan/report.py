"""The best-config report as files: a page, the same as Markdown and PDF, and the numbers for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hpscan.analysis import Analysis
from hpscan.comparison import LANDSCAPES, check_comparable, comparison_page
from hpscan.comparison_charts import side_by_side
from hpscan.configs import cells, configs_as
from hpscan.content import report_page
from hpscan.figures import to_svg
from hpscan.files import write_whole
from hpscan.gallery import report_drawings
from hpscan.pages import Page, to_html, to_markdown, to_pdf
from hpscan.spec import SpecError

__all__ = ["DATA", "FORMATS", "PAGES", "check_formats", "save_comparison", "save_report"]

PAGES = {"html": "report.html", "md": "report.md", "pdf": "report.pdf"}
DATA: dict[str, tuple[str, Callable[[Analysis], str]]] = {
    "yaml": ("best_config.yaml", lambda analysis: configs_as("yaml", analysis.spec, analysis.planned)),
    "json": ("best_config.json", lambda analysis: configs_as("json", analysis.spec, analysis.planned)),
    "csv": ("landscape.csv", lambda analysis: cells(analysis.planned).to_csv(index=False, lineterminator="\n")),
}
FORMATS = (*PAGES, *DATA)
"""What there is, each a file of its own; Markdown has its figures beside it."""


def save_report(analysis: Analysis, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the report of a sweep in each of the :data:`FORMATS` asked for; return the paths, pages first."""
    content: dict[str, str | bytes] = {}
    if not PAGES.keys().isdisjoint(formats):
        svgs = {drawing.name: to_svg(drawing.draw(analysis)) for drawing in report_drawings(analysis)}
        content = _page_files(report_page(analysis), svgs, formats)
    content |= {name: tell(analysis) for name, tell in (DATA[each] for each in formats if each in DATA)}
    return _write(content, folder)


def save_comparison(analyses: Sequence[Analysis], folder: Path, formats: Sequence[str] = tuple(PAGES)) -> list[Path]:
    """Write the report across sweeps in those of :data:`PAGES` asked for; return the paths.

    Raises
    ------
    SpecError
        If they cannot be compared.
    """
    check_comparable(analyses)
    drawn = side_by_side(analyses, [analysis.spec.name for analysis in analyses])
    return _write(_page_files(comparison_page(analyses), {LANDSCAPES.name: to_svg(drawn)}, formats), folder)


def _page_files(page: Page, svgs: Mapping[str, bytes], formats: Sequence[str]) -> dict[str, str | bytes]:
    """A page in those of the formats that are pages: the content of each file."""
    ways: dict[str, Callable[[], str | bytes]] = {
        "html": lambda: to_html(page, svgs),
        "md": lambda: to_markdown(page),
        "pdf": lambda: to_pdf(page, svgs),
    }
    content = {PAGES[each]: ways[each]() for each in formats if each in PAGES}
    return content | ({f"{name}.svg": svg for name, svg in svgs.items()} if "md" in formats else {})


def _write(content: Mapping[str, str | bytes], folder: Path) -> list[Path]:
    """Write files, all of them made before the first is written; return their paths."""
    for name, text in content.items():
        write_whole(folder / name, text if isinstance(text, bytes) else text.encode())
    return [folder / name for name in content]


def check_formats(given: Sequence[str], known: Sequence[str] = FORMATS) -> list[str]:
    """The formats asked for, as ``html,md`` or one by one; raises SpecError for one that there is not."""
    wanted = [name.strip() for text in given for name in text.split(",")]
    for name in wanted:
        if name not in known:
            raise SpecError(f"--format {name}: must be of {', '.join(known)}")
    return wanted
