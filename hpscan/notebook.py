"""What a notebook shows of a sweep and of a landscape."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

from hpscan import numerals
from hpscan.analysis import VariantAnalysis
from hpscan.figures import STYLE, add_legend, draw_landscape
from hpscan.landscape import Landscape
from hpscan.scales import colour_bar, shared_norm

__all__ = ["Drawing", "landscape_chart", "landscape_html", "landscapes_html"]


class Drawing(Figure):
    """A figure that notebooks show as it is: matplotlib's own needs pyplot for that."""

    def _repr_png_(self) -> bytes:
        image = io.BytesIO()
        with mpl.rc_context(STYLE):
            self.savefig(image, format="png", dpi=80)
        return image.getvalue()


def landscape_chart(variant: VariantAnalysis) -> Drawing:
    """One landscape with its numbers, on a colour scale of its own."""
    with mpl.rc_context(STYLE):
        drawing = Drawing(figsize=(4.6, 4.3), layout="constrained")
        axes = drawing.subplots(squeeze=False)
        norm = shared_norm([variant])
        draw_landscape(axes[0, 0], variant, norm)
        colour_bar(drawing, norm, axes, [variant])
        add_legend(drawing, [variant])
    return drawing


def landscape_html(variant: VariantAnalysis) -> str:
    """The chart of a landscape, and the state of its runs."""
    shape = variant.landscape
    picture = base64.b64encode(landscape_chart(variant)._repr_png_()).decode()
    alt = f"{shape.metric} of {shape.name} over {shape.axes[0]} and {shape.axes[1]}"
    told = f"{shape.name}: {_states(shape)}. {variant.verdict.sentence}"
    return f'<img alt="{escape(alt)}" src="data:image/png;base64,{picture}"><p>{escape(told)}</p>'


def landscapes_html(name: str, metric: str, landscapes: Iterable[Landscape]) -> str:
    """A sweep as a table: the best cell of each landscape."""
    titles = ("", "cells", "runs", "best lr", "best wd", numerals.metric_name(metric), "seeds")
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    rows = ("".join(f"<td>{escape(cell)}</td>" for cell in _row(shape)) for shape in landscapes)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<p><b>{escape(name)}</b></p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _row(shape: Landscape) -> list[str]:
    own = [shape.name, f"{len(shape.lr)} × {len(shape.wd)}", _states(shape)]
    best = shape.best()
    if best is None:
        return [*own, *["—"] * 4]
    value = numerals.metric_value(shape.metric, best.means[shape.metric], best.standard_errors[shape.metric])
    edge = " (on the edge)" if best.on_edge else ""
    return [*own, numerals.power(best.lr), numerals.power(best.wd) + edge, value, str(best.n_seeds)]


def _states(shape: Landscape) -> str:
    return ", ".join(f"{count} {state}" for state, count in shape.counts.items() if count)
