"""A user's workload, tried on a few examples before anything is trained: what would spoil every run is told once."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpscan.feed import on_device
from hpscan.program import Program
from hpscan.spec import Training
from hpscan.tasks import Judge, cross_entropy
from hpscan.workloads import Factory, Split, WorkloadError
from hpscan.workloads.user import user_code

__all__ = ["rehearse"]

FEW = 8
"""Examples of each split: the ones that tell most, and the first."""


def rehearse(workload: Factory, training: Training, batch_size: int, *, on_gpus: bool) -> None:
    """Train and judge a new model once with a few examples of each split, on this machine's CPU.

    What raises is tried again with as many examples as a step has, since a model may want them.

    Parameters
    ----------
    workload
        Whose model, loss and metrics are tried.
    training
        How the sweep trains.
    batch_size
        Examples of a step.
    on_gpus
        Whether runs may train on GPUs though this machine has none: what raises here need not raise there, and is let pass.

    Raises
    ------
    WorkloadError
        If every run would fail, diverge, or train on a loss that compares each output with every target.
    """
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        for n in (FEW, max(FEW, batch_size)):
            try:
                _try(workload, training, n)
            except WorkloadError as error:
                failure = error
            else:
                return
    if failure.__cause__ is None or not (on_gpus or torch.cuda.is_available()):
        raise failure


def _try(workload: Factory, training: Training, n: int) -> None:
    what = f"workload.factory: {workload.factory}"
    data, task = workload.load(), workload.task()
    with user_code(f"{what}: its model, as it is made,"):
        program = Program(task, training, torch.device("cpu"), compiled=False)
        model = program.model(0)
    for name, split in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        unsound = _unsound(split)
        few = _few(split, unsound, n)
        outputs, targets = _outputs(what, program, model, name, few)
        given = f"of {name} outputs {_shape(outputs)} and targets {_ranged(few.targets)}"
        if task.loss is cross_entropy:
            given += f" (classes are int64, 0 to {outputs.shape[-1] - 1})"
        for judge, function in task.judges.items():
            with user_code(f"{what}: its {judge}, {given},"):
                value: Any = function(outputs, targets)
            _check_value(f"{what}: its {judge}, {given}", value)
            if _spreads(function, outputs.detach(), targets):
                raise WorkloadError(
                    f"{what}: its {judge} compares each output with every target: {_remedy(outputs, targets)}"
                )
            if judge == "loss" and unsound and not math.isfinite(value):
                raise WorkloadError(
                    f"{what}: {name} {unsound[1]}, and its loss is {float(value)}: every run would diverge"
                )
            if judge == "loss" and name == "train":
                _check_gradient(f"{what}: its loss, {given}", value)


def _outputs(what: str, program: Program, model: nn.Module, name: str, few: Split) -> tuple[Tensor, Tensor]:
    """What a model in training makes of training examples, and in evaluation of others; and the targets."""
    with user_code(f"{what}: its {name} split, inputs {_told(few.inputs)}, targets {_told(few.targets)},"):
        inputs, targets = on_device(few, program.device)
        if name == "train" and program.task.augment is not None:
            inputs = program.task.augment(inputs, torch.Generator().manual_seed(0))
    float64 = "; the model's own numbers are float32" if few.inputs.dtype == np.float64 else ""
    with user_code(f"{what}: its model, of {name} inputs {_told(few.inputs)}{float64},"):
        if name == "train":
            return program.forward(model, inputs), targets
        with torch.no_grad():
            return program.outputs({**dict(model.named_parameters()), **dict(model.named_buffers())}, inputs), targets


def _check_value(what: str, value: Any) -> None:
    shape = value.shape if isinstance(value, Tensor) else np.shape(value)
    if value is None or shape != ():
        got = "None" if value is None else f"shape {tuple(shape)}"
        raise WorkloadError(f"{what}: must be one number, the mean over the examples; got {got}")


def _check_gradient(what: str, loss: Any) -> None:
    if not (isinstance(loss, Tensor) and loss.requires_grad):
        raise WorkloadError(f"{what}: has no gradient; make it of the outputs by torch's operations alone")
    with user_code(f"{what}, its gradient"):
        loss.backward()  # type: ignore[no-untyped-call]


def _few(split: Split, unsound: tuple[int, str] | None, n: int) -> Split:
    """``n`` examples: with the least and the largest target, what is no number, and the first."""
    each = split.targets.reshape(len(split.targets), -1)
    telling = [unsound[0]] if unsound else []
    if each.size and each.dtype.kind in "biuf":
        telling += [int(each.argmin()) // each.shape[1], int(each.argmax()) // each.shape[1]]
    rows = list(dict.fromkeys([*telling, *range(min(n, len(each)))]))[:n]
    return Split(split.inputs[rows], split.targets[rows])


def _unsound(split: Split) -> tuple[int, str] | None:
    """The first example that has nan or infinity, and what to call it."""
    for name, values in (("inputs", split.inputs), ("targets", split.targets)):
        with np.errstate(all="ignore"):
            sound = values.dtype.kind != "f" or np.isfinite(values.sum())  # much faster than to look at each
        if not sound:
            each = np.isfinite(values.reshape(len(values), -1)).all(1)
            if not each.all():
                return int(each.argmin()), f"{name} have nan or infinity, first in example {each.argmin()}"
    return None


def _spreads(judge: Judge, outputs: Tensor, targets: Tensor) -> bool:
    """Whether a judge gives what it gives of outputs and targets that are spread over one another, and not of pairs."""
    try:
        shape = torch.broadcast_shapes(outputs.shape, targets.shape)  # type: ignore[no-untyped-call]
        if shape in (outputs.shape, targets.shape):
            return False
        given, spread, paired = (
            float(judge(*pair))
            for pair in (
                (outputs, targets),
                torch.broadcast_tensors(outputs, targets),  # type: ignore[no-untyped-call]
                (outputs.squeeze(-1), targets.squeeze(-1)),
            )
        )
    except Exception:  # noqa: BLE001  (a judge may raise anything of shapes that are not its own)
        return False
    return bool(np.isclose(given, spread) and not np.isclose(given, paired))


def _remedy(outputs: Tensor, targets: Tensor) -> str:
    shapes = f"outputs have shape {_shape(outputs)} and targets {_shape(targets)}"
    return f"{shapes}; give the targets as {'targets[..., None]' if outputs.ndim > targets.ndim else 'targets[..., 0]'}"


def _shape(values: Any) -> str:
    """With n for the examples: ``(n, 3)``."""
    return f"({', '.join(['n', *map(str, values.shape[1:])])}{',' * (values.ndim == 1)})"


def _told(values: np.ndarray) -> str:
    """Shape and type: ``(n, 3) of float32``."""
    return f"{_shape(values)} of {values.dtype}"


def _ranged(values: np.ndarray) -> str:
    """The same with the range."""
    known = values.size and values.dtype.kind in "biuf"
    return _told(values) + (f", {values.min():.6g} to {values.max():.6g}" if known else "")
