"""How figures show a metric: in colours that several landscapes share, and in ticks that tell its values apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter

from hpscan import numerals
from hpscan.analysis import VariantAnalysis
from hpscan.landscape import FURTHER
from hpscan.surfaces import CUT

__all__ = ["COLORS", "MetricTicks", "Scale", "colour_bar", "shared_norm"]

COLORS = "viridis_r"  # bright basin, dark slopes; readable in grey and by the colour-blind
LINEAR = {"gap", "sharpness"}  # may be negative


class Scale(Normalize):
    """Colours that are linear in the logarithm of a metric, or in the metric itself where that may be negative."""

    def __init__(self, low: float, high: float, *, metric: str, linear: bool) -> None:
        super().__init__(low, high)
        self.metric, self.linear = metric, linear

    def of(self, z: np.ndarray) -> np.ndarray:
        """What colours are linear in."""
        if self.linear:
            return z
        return np.log(np.maximum(z, 1e-12)) if self.metric in FURTHER else _logarithm(z)

    def values(self, at: np.ndarray) -> np.ndarray:
        """The metric at places of the scale."""
        return at if self.linear else np.exp(at)

    @property
    def ends(self) -> np.ndarray:
        """The metric where the scale begins and where it ends."""
        return self.values(np.array([self.vmin, self.vmax], dtype=float))


class MetricTicks(Formatter):
    """Ticks of an axis of a metric, with as many digits as tell them apart."""

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def __call__(self, value: float, pos: int | None = None) -> str:
        """One value alone, as under the pointer."""
        return numerals.metric_value(self.metric, value)

    def format_ticks(self, values: Iterable[float]) -> list[str]:
        """All ticks of an axis."""
        return numerals.scale_labels(self.metric, list(values))


def shared_norm(variants: Sequence[VariantAnalysis]) -> Scale:
    """Colours of landscapes that are seen together, from the best cell to the :data:`~hpscan.surfaces.CUT` quantile.

    They are linear in the logarithm of the metric, or in the metric where some cell's is negative. Of a diagnostic, which is not better where it is less, they reach over all but its extremes.
    """
    metric = variants[0].landscape.metric
    means = [variant.landscape.mean() for variant in variants]
    linear = metric in LINEAR or any((mean < 0.0).any() for mean in means)
    scale = Scale(0.0, 1.0, metric=metric, linear=linear)
    pooled = np.concatenate([scale.of(mean).ravel() for mean in means])
    finite = pooled[np.isfinite(pooled)]
    if not len(finite):
        return scale
    low, high = (float(end) for end in np.quantile(finite, (0.02, 0.98) if metric in FURTHER else (0.0, CUT)))
    scale.vmin, scale.vmax = low, high if high > low else low + 1.0
    return scale


def colour_bar(figure: Figure, norm: Scale, grid: np.ndarray, variants: Sequence[VariantAnalysis]) -> None:
    """Add the bar of a :func:`shared_norm` beside a grid of axes, if any cell has a colour."""
    if not any(np.isfinite(variant.landscape.mean()).any() for variant in variants):
        return
    metric = variants[0].landscape.metric
    extend = "both" if metric in FURTHER else "max"
    bar = figure.colorbar(ScalarMappable(norm, COLORS), ax=grid, extend=extend, shrink=0.8, aspect=30, pad=0.02)
    scale = "linear" if norm.linear else "log"
    reach = "96 % of the cells" if metric in FURTHER else f"cut at the {CUT:.0%} quantile"
    bar.set_label(f"{numerals.metric_name(metric)}, mean over seeds\n({scale} scale, {reach})")
    bar.outline.set_visible(False)
    at = np.linspace(float(norm.vmin or 0), float(norm.vmax or 0), 6)
    bar.set_ticks(at.tolist(), labels=numerals.scale_labels(metric, norm.values(at).tolist()))


def _logarithm(z: np.ndarray) -> np.ndarray:
    """The logarithm of a metric; an error of exactly 0 counts as 1 in 10⁴, or as the least that there is."""
    return np.log(np.maximum(z, min(1e-4, z[z > 0].min(initial=1e-4))))
