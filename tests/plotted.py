"""What a browser is sent of a chart, read back as Plotly would."""

import base64

import numpy as np


def array(sent):
    found = np.frombuffer(base64.b64decode(sent["bdata"]), dtype=f"<{sent['dtype']}")
    return found.reshape([int(size) for size in sent["shape"].split(",")]) if "shape" in sent else found


def trace(figure, name):
    return next(each for each in figure["data"] if each.get("name") == name)
