"""Stands in for training where only the orchestration is measured: waits, and makes a metric up."""

import time


def train(config):
    time.sleep(config["args"].get("seconds", 0.0))
    yield {
        "step": config["steps"],
        "val_loss": abs(config["lr"] - 0.1) + config["wd"],
        "val_error": 0.5,
        "test_error": 0.5,
    }
