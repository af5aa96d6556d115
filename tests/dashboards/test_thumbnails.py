import base64
import io

import matplotlib.image
import numpy as np

from hpscan.dashboards.thumbnails import MOST, thumbnail
from tests.conftest import landscape_of


def pixels(url):
    head, content = url.split(",")
    assert head == "data:image/png;base64"
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(content)))


def test_a_pixel_is_a_cell_with_the_greatest_learning_rate_above_and_the_best_brightest():
    z = np.array([[[3.0, 2.0, 4.0], [5.0, 1.0, np.inf]]])
    found = pixels(thumbnail(landscape_of(z)))
    assert found.shape == (2, 3, 4)
    assert np.unravel_index(found[..., :3].sum(axis=-1).argmax(), (2, 3)) == (0, 1)
    assert found[0, 2, 3] < 1  # diverged: no colour of the scale


def test_what_is_not_known_yet_is_nearly_clear():
    found = pixels(thumbnail(landscape_of(np.full((1, 2, 2), np.nan))))
    assert found[..., 3].max() < 0.3


def test_large_grids_are_thinned():
    assert max(pixels(thumbnail(landscape_of(np.ones((1, 300, 200))))).shape[:2]) <= MOST
