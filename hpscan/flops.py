"""How many floating-point operations a step of training takes."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from hpscan.workloads import PackedWorkload

__all__ = ["flop_per_run_step"]


def flop_per_run_step(workload: PackedWorkload, batch_size: int) -> float | None:
    """Operations of a forward and backward pass of one run, counted by torch on tensors without storage.

    None where the model needs real numbers.
    """
    task = workload.task()
    counter = FlopCounterMode(display=False)
    try:
        inputs = torch.from_numpy(workload.example(batch_size))
        inputs = inputs if task.prepare is None else task.prepare(inputs)
        with torch.device("meta"):
            model = task.model()
        with counter:
            model(inputs.to("meta")).sum().backward()
    except Exception:  # noqa: BLE001  (whatever a user's model does with numbers that are not there)
        return None
    return float(counter.get_total_flops())
