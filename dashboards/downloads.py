"""Files made of a sweep: landscapes as tables, reports and figures, each made once for what the store then holds."""

from __future__ import annotations

import io
import tempfile
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any

from hpscan.analysis import Analysis
from hpscan.figures import save_figure
from hpscan.gallery import report_drawings
from hpscan.landscape import Landscape
from hpscan.report import DATA, PAGES, save_report
from hpscan.sweep import SweepLandscape

from .making import Made
from .reading import Reader, UnknownError

__all__ = ["DRAWN", "REPORT_FILES", "TABLES", "report_file", "table"]

TABLES = {
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.file",
}
"""The formats of a landscape as a table, one row a run."""

DRAWN = (
    "heatmaps", "separability", "conventions", "scaling", "budgets", "collapse", "slices", "ridge", "curves", "landscapes",
)  # fmt: skip
"""Figures of a report; a sweep has those that it calls for. ``landscapes`` are its heatmaps."""

_KINDS = {
    "html": "text/html; charset=utf-8",
    "md": "text/markdown; charset=utf-8",
    "pdf": "application/pdf",
    "yaml": "application/yaml",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
}
_FORMATS = {**{name: kind for kind, name in PAGES.items()}, **{name: kind for kind, (name, _) in DATA.items()}}
_FIGURES = [f"{name}.{kind}" for name in DRAWN for kind in ("svg", "png", "pdf")]

REPORT_FILES = {name: _KINDS[name.rpartition(".")[2]] for name in (*_FORMATS, *_FIGURES)}
"""Every file of a report that can be had, with its media type."""

_drawing = threading.Lock()
"""matplotlib's settings are of the whole process."""


def table(shape: Landscape, kind: str) -> bytes:
    """A landscape as a table in one of the :data:`TABLES`."""
    parts: dict[str, Any] = {each.name: getattr(shape, each.name) for each in fields(Landscape)}
    frame = SweepLandscape(**parts).to_frame()
    if kind == "csv":
        return frame.to_csv(index=False, lineterminator="\n").encode()
    out = io.BytesIO()
    if kind == "parquet":
        frame.to_parquet(out, index=False)
    else:
        frame.to_feather(out, compression="uncompressed")
    return out.getvalue()


def report_file(reader: Reader, sweep: str, analysed: Made[Analysis], name: str) -> bytes:
    """One of the :data:`REPORT_FILES`.

    Raises
    ------
    UnknownError
        If the sweep does not call for that figure.
    BeingMadeError
        While it takes longer than a request may.
    """
    figure, _, kind = name.rpartition(".")
    if name in _FORMATS:
        return reader.made_of(analysed, sweep, name, lambda analysis: _page(analysis, name))
    if figure == "landscapes":
        figure = "heatmaps"
    drawn = reader.made_of(analysed, sweep, figure, lambda analysis: _figure(analysis, figure))
    if kind not in drawn:
        raise UnknownError(f"{figure}: {sweep} does not call for this figure")
    return drawn[kind]


def _page(analysis: Analysis, name: str) -> bytes:
    with _drawing, tempfile.TemporaryDirectory(prefix="hpscan-report-") as folder:
        save_report(analysis, Path(folder), [_FORMATS[name]])
        return Path(folder, name).read_bytes()


def _figure(analysis: Analysis, name: str) -> dict[str, bytes]:
    with _drawing, tempfile.TemporaryDirectory(prefix="hpscan-report-") as folder:
        for drawing in report_drawings(analysis):
            if drawing.name == name:
                paths = save_figure(drawing.draw(analysis), Path(folder), name)
                return {path.suffix[1:]: path.read_bytes() for path in paths}
    return {}
