"""The heatmaps of a sweep over training: a GIF and, where there is ffmpeg, a film."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
from matplotlib.animation import AbstractMovieWriter, FFMpegWriter, FuncAnimation, PillowWriter
from matplotlib.artist import Artist
from PIL import Image

from hpscan import numerals
from hpscan.analysis import Analysis
from hpscan.evolution import evolution
from hpscan.figures import STYLE, draw_landscape, heatmaps
from hpscan.scales import shared_norm
from hpscan.spec import SpecError

__all__ = ["animation", "save_animation"]

FRAMES_A_SECOND = 6
HELD = 9
"""Frames for which the last one stays."""


class _GifWriter(PillowWriter):
    """One palette for all frames: without it every frame has its own, and the file twice the size."""

    def finish(self) -> None:
        every = [frame.convert("RGB") for frame in self._frames]  # type: ignore[attr-defined]
        some = [every[0], every[len(every) // 2], every[-1]]
        sample = Image.new("RGB", (every[0].width, len(some) * every[0].height))
        for number, frame in enumerate(some):
            sample.paste(frame, (0, number * frame.height))
        palette = sample.quantize(64, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)  # keeps the rare red
        first, *others = (frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in every)
        first.save(self.outfile, save_all=True, append_images=others, duration=int(1000 / self.fps), loop=0)


def animation(analysis: Analysis) -> FuncAnimation:
    """The :func:`~hpscan.figures.heatmaps` at each evaluation, on the colours of the last: a frame for each.

    Panels of other budgets are shown at the same share of theirs.

    Raises
    ------
    SpecError
        If curves do not have the sweep's metric, or a variant has no curve yet.
    """
    trained = [evolution(variant.landscape, analysis.curves) for variant in analysis.variants]
    if not all(trained):
        without = next(variant.name for variant, found in zip(analysis.variants, trained, strict=True) if not found)
        raise SpecError(f"{analysis.spec.name}: animation needs curves; {without} has none yet")
    n_frames = max(map(len, trained))
    figure = heatmaps(analysis)
    panels = [axes for axes in figure.axes if axes.images]
    norm = shared_norm(analysis.variants)

    def draw(frame: int) -> Sequence[Artist]:
        with mpl.rc_context(STYLE):
            for axes, variant, found in zip(panels, analysis.variants, trained, strict=True):
                step, shape = found[round(frame * (len(found) - 1) / max(1, n_frames - 1))]
                best = shape.best()
                axes.clear()
                draw_landscape(axes, replace(variant, landscape=shape, best=best), norm)
                *named, _, _ = axes.get_title(loc="left").split("\n")  # without the numbers of the whole training
                reached = "" if best is None else numerals.metric_value(shape.metric, best.means[shape.metric])
                told = [*named, f"step {step:,} of {found[-1][0]:,}", f"best so far {reached}"]
                axes.set_title("\n".join(told), loc="left")
        return panels

    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # or panels would move from frame to frame
    frames = [*range(n_frames), *[n_frames - 1] * HELD]
    return FuncAnimation(figure, draw, frames=frames, init_func=lambda: panels, cache_frame_data=False)


def save_animation(analysis: Analysis, folder: Path, name: str = "animation") -> list[Path]:
    """Write ``animation.gif`` and, where ffmpeg is on the path, ``animation.mp4``, or of another name; return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    writers: list[tuple[AbstractMovieWriter, str, int]] = [(_GifWriter(FRAMES_A_SECOND), "gif", 100)]
    if FFMpegWriter.isAvailable():
        writers.append((FFMpegWriter(FRAMES_A_SECOND), "mp4", 200))
    paths = []
    for writer, suffix, dpi in writers:
        path = folder / f"{name}.{suffix}"
        animation(analysis).save(path, writer=writer, dpi=dpi)
        paths.append(path)
    return paths
