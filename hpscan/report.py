"""The best-config report: one Markdown text, and the same as a self-contained HTML page."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from hpscan import numerals
from hpscan.analysis import Analysis, VariantAnalysis
from hpscan.figures import FIGURES
from hpscan.gallery import further_pictures, save_gallery
from hpscan.scaling import Scaling
from hpscan.variants import VARIANTS
from hpscan.verdicts import Pair

__all__ = ["save_report"]

CAPTIONS = {
    "heatmaps": (
        "The landscapes: one panel a variant, all on one colour scale. Where learning rate and weight decay separate, "
        "the bright basin stands upright: the best weight decay is the same at every learning rate. Where they are "
        "tied, it leans."
    ),
    "separability": (
        "Separability in numbers, with 95 % intervals over seeds. Squares: variants whose shrink depends on "
        "the learning rate; circles: the paper's decoupled decay."
    ),
}

DECAY_ON = {"weights": "weight matrices only", "all": "every parameter"}


def save_report(analysis: Analysis, folder: Path) -> list[Path]:
    """Write ``report.html``, ``report.md`` and the figures into ``folder``; return the paths, the page first."""
    drawn = save_gallery(analysis, folder)
    environment = Environment(
        loader=PackageLoader("hpscan"),
        undefined=StrictUndefined,
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["md"] = _markdown_safe
    content = _content(analysis)
    further = further_pictures(analysis)
    images = {name: _data_uri(folder / f"{name}.svg") for name in [*FIGURES, *(picture.name for picture in further)]}
    paths = [folder / "report.html", folder / "report.md"]
    for path in paths:
        text = environment.get_template(f"{path.name}.j2").render(
            **content, images=images, captions=CAPTIONS, further=further
        )
        path.write_text(text, encoding="utf-8")
    return [*paths, *drawn]


def _content(analysis: Analysis) -> dict[str, Any]:
    spec, states = analysis.spec, analysis.states
    return {
        "name": spec.name,
        "notes": spec.notes.strip(),
        "answer": [_sentence(variant, spec.metric) for variant in analysis.variants],
        "pairs": [(f"{pair.coupled} against {pair.decoupled}", pair.verdict.sentence) for pair in analysis.pairs],
        "differences": [_difference(pair) for pair in analysis.pairs],
        "metric": spec.metric,
        "rows": [_row(variant, spec.metric) for variant in analysis.variants],
        "scalings": [_scaling(scaling) for scaling in analysis.scalings],
        "warnings": _warnings(analysis),
        "states": {state: count for state, count in states.items() if count},
        "n_runs": sum(states.values()),
        "setting": _setting(analysis),
        "provenance": _provenance(analysis),
        "spec_yaml": spec.to_yaml(),
    }


def _sentence(variant: VariantAnalysis, metric: str) -> tuple[str, str]:
    """A variant, and what its landscape says in words."""
    best, numbers = variant.best, variant.separability
    if best is None:
        return variant.name, "no cell has a result to compare."
    told = variant.verdict.sentence
    if variant.verdict.word == "no evidence":
        return variant.name, told
    slope = numerals.interval(numbers.contour_slope, sign=True)
    cost = numerals.metric_value(metric, numbers.independent_tuning_regret.value)
    return variant.name, f"{told[:-1]} (contour slope {slope}; tuning each alone costs {cost} on average)."


def _row(variant: VariantAnalysis, metric: str) -> dict[str, Any]:
    best, numbers = variant.best, variant.separability
    row = {
        "variant": variant.name,
        "rule": VARIANTS[variant.landscape.variant].rule,
        "slope": numerals.interval(numbers.contour_slope, sign=True),
        "interaction": numerals.interval(numbers.interaction_share),
        "regret": numerals.interval(numbers.independent_tuning_regret, 3),
        "worst": numerals.metric_value(metric, numbers.worst_regret) if math.isfinite(numbers.worst_regret) else "—",
        "one_pass": numerals.interval(numbers.one_pass_regret, 3),
        "tilt": numerals.interval(numbers.tilt, sign=True),
        "trend": numerals.interval(numbers.best_wd_trend, sign=True),
        "agreement": numerals.interval(numbers.rank_agreement, sign=True),
        "extent_lr": numerals.extent(numbers.extents[0]),
        "extent_wd": numerals.extent(numbers.extents[1]),
        "p_values": [
            "—" if math.isnan(p) else f"{p:.3f}"
            for p in (
                numbers.evidence.surface,
                numbers.evidence.first,
                numbers.evidence.second,
                numbers.evidence.interaction,
            )
        ],
        "verdict": variant.verdict.word,
    }
    blank = dict.fromkeys(("lr", "wd", "validation", "test_loss", "test_error", "n"), "—")
    metric_mean = variant.best_metric
    if best is None or metric_mean is None:
        return {**row, **blank}
    return {
        **row,
        "lr": numerals.quantity(best.lr),
        "wd": numerals.quantity(best.wd),
        "validation": numerals.metric_interval(metric, metric_mean),
        "test_loss": numerals.metric_value("test_loss", best.means["test_loss"], best.standard_errors["test_loss"]),
        "test_error": numerals.metric_value("test_error", best.means["test_error"], best.standard_errors["test_error"]),
        "n": str(best.n_seeds),
    }


def _scaling(scaling: Scaling) -> dict[str, Any]:
    return {
        "name": scaling.name,
        "axis": scaling.axis,
        "quantity": scaling.symbol,
        "best": numerals.optima(scaling),
        "exponent": numerals.interval(scaling.exponent, sign=True),
        "predictions": numerals.predictions(scaling),
    }


def _difference(pair: Pair) -> dict[str, str]:
    return {
        "pair": f"{pair.coupled} − {pair.decoupled}",
        "slope": numerals.interval(pair.contour_slope, sign=True),
        "interaction": numerals.interval(pair.interaction_share, sign=True),
        "regret": numerals.interval(pair.independent_tuning_regret, 3, sign=True),
        "verdict": pair.verdict.word,
    }


def _warnings(analysis: Analysis) -> list[str]:
    """What a reader must know before believing the table."""
    spec, warnings = analysis.spec, []
    for variant in analysis.variants:
        best, counts = variant.best, variant.landscape.counts
        if best is not None and best.on_edge:
            warnings.append(f"{variant.name}: the best cell lies on the edge of the grid; a better one may lie beyond.")
        if best is not None and best.n_seeds < len(spec.seeds):
            warnings.append(f"{variant.name}: the best cell has {best.n_seeds} of {len(spec.seeds)} seeds so far.")
        warnings += [
            f"{variant.name}: {counts[state]} of {sum(counts.values())} runs {verb}."
            for state, verb in (
                ("missing", "are missing"),
                ("failed", "failed"),
                ("diverged", "diverged"),
                ("stopped", "were stopped early"),
            )
            if counts[state]
        ]
    if len(spec.seeds) == 1:
        warnings.append(
            "One seed a cell: intervals rest on noise guessed from neighbouring cells, and differences may be noise."
        )
    noise = getattr(spec.workload, "label_noise", 0)
    if noise:
        warnings.append(
            f"{noise:.0%} of the training labels are random, on purpose; validation and test labels are clean."
        )
    return warnings


def _setting(analysis: Analysis) -> list[tuple[str, str]]:
    spec = analysis.spec
    training = spec.training.model_dump(mode="json", exclude_defaults=True)
    return [
        ("Workload", _in_words(spec.workload.identity())),
        *([("Widths", " ".join(map(str, spec.grid.width)))] if spec.grid.width else []),
        *([("Training", _in_words(training))] if training else []),
        (
            "Budget",
            f"{numerals.budgets(spec)}, {'unknown' if 'schedule' in spec.unknown else spec.schedule.name} schedule",
        ),
        ("Seeds", ", ".join(map(str, spec.seeds))),
        ("Decay on", "unknown" if "decay_on" in spec.unknown else DECAY_ON[spec.decay_on]),
        ("Chosen by", f"{spec.metric}, mean over seeds; the test set is used for nothing but reporting"),
    ]


def _in_words(config: Mapping[str, Any]) -> str:
    """A config on one line: ``name digits, model (name normalised_mlp, hidden 32 32)``."""

    def text(value: Any) -> str:
        if isinstance(value, Mapping):
            return f"({_in_words(value)})"
        return " ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)

    return ", ".join(f"{key} {text(value)}" for key, value in config.items())


def _provenance(analysis: Analysis) -> list[tuple[str, str]]:
    """What trained the runs; several values where they differ."""
    frame = analysis.frame
    columns = {
        "Host": "host", "Processor": "device_name", "Device": "device", "Matmul mode": "matmul_mode",
        "Strategy": "strategy", "Compiled": "compiled", "hpscan": "hpscan_version", "torch": "torch_version", "Ray": "ray_version",
        "Python": "python_version", "Commit": "git_commit",
    }  # fmt: skip
    rows = [(title, ", ".join(sorted(map(str, frame[name].dropna().unique())))) for title, name in columns.items()]
    seconds = float(frame["device_s"].sum())
    rows += [("Training time", f"{seconds:.0f} core-seconds")] if seconds else []
    return [(title, value) for title, value in rows if value]


def _data_uri(path: Path) -> Markup:
    return Markup("data:image/svg+xml;base64,") + base64.b64encode(path.read_bytes()).decode()


def _markdown_safe(text: str) -> str:
    """Escape what Markdown would read as markup, so that a spec's text stays text."""
    return "".join(f"\\{character}" if character in "\\`*_[]<>|#" else character for character in text)
