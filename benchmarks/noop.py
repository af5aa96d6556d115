"""Stands in for training where only the orchestration is measured: waits, and makes a metric up."""

import os
import time
from pathlib import Path


def stand_in(lr, wd, seed, *, seconds=0.0, folder=None):
    """A loss. With a ``folder``, notes there that it was made, and raises in one cell while a file ``broken`` lies there."""
    time.sleep(seconds)
    if folder is not None:
        if Path(folder, "broken").exists() and (lr, wd) == (0.25, 0.25):
            raise ValueError("this cell raises")
        note = os.open(Path(folder, "trained.log"), os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        os.write(note, f"{lr} {wd} {seed}\n".encode())  # one write: lines of several processes do not mix
        os.close(note)
    return abs(lr - 0.1) + wd


def train(config):
    """Yield what hpscan expects of a training function."""
    loss = stand_in(config["lr"], config["wd"], config["seed"], **config["args"])
    yield {"step": config["steps"], "val_loss": loss, "val_error": 0.5, "test_error": 0.5}
