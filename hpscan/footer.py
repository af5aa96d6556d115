"""The line below every figure: workload, budget, seeds, metric and the conventions of its weight decays."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hpscan import numerals
from hpscan.analysis import Analysis
from hpscan.spec import Spec
from hpscan.variants import VARIANTS, Decay

__all__ = ["CONVENTIONS", "add_footer", "setting"]

CONVENTIONS = {
    Decay.L2: "L2 in the gradient",
    Decay.PAPER: "decay η·λ (paper)",
    Decay.TORCH: "decay η·lr·λ (torch)",
    Decay.NORMALISED: "decay η·λ/√T (normalised)",
}
SIZE = 5.5
"""Points; a character is 0.56 of that wide."""
LINE_IN = 1.3 * SIZE / 72


def setting(analyses: Sequence[Analysis], variants: Iterable[str]) -> str:
    """``digits, normalised_mlp · 400 steps of batch 32 · cosine schedule · 5 seeds · validation loss, mean over seeds · …``.

    What differs between sweeps is joined by "or".
    """
    specs = [analysis.spec for analysis in analyses]
    names = list(dict.fromkeys(variants))
    conventions = {
        words: ", ".join(name for name in names if VARIANTS[name].decay is decay)
        for decay, words in CONVENTIONS.items()
    }
    parts = [
        _either(_workload(spec) for spec in specs),
        _either(numerals.budgets(spec) for spec in specs),
        _either("unknown" if "schedule" in spec.unknown else spec.schedule.name.replace("_", " ") for spec in specs)
        + " schedule",
        _either(f"{len(spec.seeds)} seed{'s' if len(spec.seeds) > 1 else ''}" for spec in specs),
        _either(f"{numerals.metric_name(spec.metric)}, mean over seeds" for spec in specs),
        "; ".join(f"{told}: {words}" for words, told in conventions.items() if told)
        + (
            ""
            if all(spec.decay_on == "weights" or "decay_on" in spec.unknown for spec in specs)
            else "; biases and gains decay, too"
        ),
    ]
    return " · ".join(parts)


def add_footer(figure: Figure, analyses: Sequence[Analysis], variants: Iterable[str]) -> None:
    """Write the :func:`setting` below a figure, which grows by as much; called when all else is drawn."""
    columns = int(figure.get_figwidth() * 72 / (0.56 * SIZE))
    lines = textwrap.wrap(setting(analyses, variants), columns, break_on_hyphens=False)
    own = len(lines) * LINE_IN + 0.08
    height = figure.get_figheight() + own
    figure.set_figheight(height)
    legends_in = 0.0
    if figure.legends:  # those outside know of the whole figure only, and of nothing below them
        legends_in = max(legend.get_window_extent().height for legend in figure.legends) / figure.dpi + 0.12
        for legend in figure.legends:
            legend.set_bbox_to_anchor((0.0, own / height, 1.0, 1.0 - own / height), figure.transFigure)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    taken = (own + legends_in) / height
    engine.set(rect=(0.0, taken, 1.0, 1.0 - taken))
    figure.text(0.04 / figure.get_figwidth(), 0.04 / height, "\n".join(lines), fontsize=SIZE, color="#505050")


def _workload(spec: Spec) -> str:
    identity = spec.workload.identity()
    model = identity.get("model")
    named = [str(identity["name"]), *([str(model["name"])] if model else [])]
    noise = getattr(spec.workload, "label_noise", 0)
    return ", ".join([*named, *([f"{noise:.0%} of the labels random"] if noise else [])])


def _either(told: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(told))
