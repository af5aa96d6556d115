"""Stands in for training where only the orchestration is measured: waits, and makes a metric up."""

import os
import time
from pathlib import Path


def stand_in(lr, wd, seed, *, seconds=0.0, folder=None):
    """A loss. With a ``folder``, notes there that it is begun, by which process, and that it was made; and raises in one cell
    while a file ``broken`` lies there."""
    if folder is not None:
        note(folder, "begun.log", os.getpid())
    time.sleep(seconds)
    if folder is not None:
        if Path(folder, "broken").exists() and (lr, wd) == (0.25, 0.25):
            raise ValueError("this cell raises")
        note(folder, "trained.log", f"{lr} {wd} {seed}")
    return abs(lr - 0.1) + wd


def note(folder, name, what):
    """Add a line in one write: lines of several processes do not mix."""
    log = os.open(Path(folder, name), os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(log, f"{what}\n".encode())
    os.close(log)


def train(config):
    """Yield what hpscan expects of a training function."""
    loss = stand_in(config["lr"], config["wd"], config["seed"], **config["args"])
    yield {"step": config["steps"], "val_loss": loss, "val_error": 0.5, "test_error": 0.5}
