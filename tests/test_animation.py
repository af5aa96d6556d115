import subprocess
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.animation import FFMpegWriter
from PIL import Image

from hpscan.animation import FRAMES_A_SECOND, HELD, animation, save_animation
from hpscan.spec import SpecError
from tests.curves import Recorded, analysis_of

mpl.use("Agg")


@pytest.fixture
def analysis(make_spec):
    return analysis_of(make_spec(variants=["sgdw"]), lambda run: 1 + run.cell.wd + 0.01 * run.seed, steps=(4, 8, 12))


def test_a_frame_shows_the_landscape_at_its_evaluation(analysis, tmp_path):
    film = animation(analysis)
    shape = analysis.variants[0].landscape
    film._draw_frame(1)
    (axes,) = [axes for axes in film._fig.axes if axes.images]
    np.testing.assert_allclose(np.exp(axes.images[0].get_array()), shape.mean() + 0.4)
    assert axes.get_title(loc="left").split("\n")[1:] == ["step 8 of 12", "best so far 1.409"]
    film._draw_was_started = True  # or it warns that nobody looked at it


def test_a_gif_holds_a_frame_for_each_evaluation(analysis, tmp_path):
    path = save_animation(analysis, tmp_path)[0]
    assert path.name == "animation.gif"
    with Image.open(path) as gif:
        assert gif.n_frames in {3, 3 + HELD}  # frames that are alike may be joined


@pytest.mark.skipif(not FFMpegWriter.isAvailable(), reason="no ffmpeg")
def test_a_film_is_written_where_there_is_ffmpeg(analysis, tmp_path):
    path = save_animation(analysis, tmp_path)[1]
    assert path.name == "animation.mp4"
    told = subprocess.run(["ffmpeg", "-i", path], capture_output=True, text=True, check=False).stderr
    seconds = (3 + HELD) / FRAMES_A_SECOND
    assert f"Duration: 00:00:0{seconds:.2f}" in told
    assert "Video: h264" in told


def test_a_sweep_without_curves_says_so(analysis):
    without = replace(analysis, store=Recorded(analysis.curves[:0]))
    with pytest.raises(SpecError, match="tiny: animation needs curves; sgdw has none yet"):
        animation(without)
