"""Landscapes at the size of a word."""

from __future__ import annotations

import base64
import io

import numpy as np
from matplotlib import colormaps
from matplotlib.image import imsave

from hpscan.landscape import Landscape

__all__ = ["MOST", "thumbnail"]

MOST = 96
"""Pixels along an axis; larger grids are thinned."""
UNKNOWN, DIVERGED = (0.55, 0.58, 0.62, 0.15), (0.55, 0.58, 0.62, 0.55)


def thumbnail(shape: Landscape) -> str:
    """A landscape as an image's URL, a pixel a cell, bright where the metric is good: ``data:image/png;…``."""
    z = shape.mean()
    z = z[:: -(-z.shape[0] // MOST), :: -(-z.shape[1] // MOST)]
    finite = np.isfinite(z)
    order = np.sort(z[finite])
    shares = np.searchsorted(order, np.where(finite, z, 0.0)) / max(len(order) - 1, 1)
    pixels = colormaps["viridis_r"](np.clip(shares, 0.0, 1.0))
    pixels[np.isnan(z)], pixels[np.isinf(z)] = UNKNOWN, DIVERGED
    png = io.BytesIO()
    imsave(png, np.flipud(pixels), format="png")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
