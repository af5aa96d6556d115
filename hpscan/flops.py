"""How many floating-point operations a step of training takes."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from hpscan.workloads import PackedWorkload

__all__ = ["flop_per_run_step"]


def flop_per_run_step(workload: PackedWorkload, inputs: np.ndarray) -> float | None:
    """Operations of a forward and backward pass of one run on a batch, counted by torch on tensors without storage.

    None where the model needs real numbers.
    """
    task = workload.task()
    counter = FlopCounterMode(display=False)
    try:
        batch = torch.from_numpy(inputs)
        batch = batch if task.prepare is None else task.prepare(batch)
        with torch.device("meta"):
            model = task.model()
        with counter:
            model(batch.to("meta")).sum().backward()
    except Exception:  # noqa: BLE001  (whatever a user's model does with numbers that are not there)
        return None
    return float(counter.get_total_flops())
