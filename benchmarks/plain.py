"""The grids that are compared, and one run of them at a time in plain torch: the loop as most people write it, and the fastest that we can make of it.

Both start from a run's own initialisation and see its own batches, so that their metrics are those of hpscan to
rounding; ``torch.optim`` and nothing of hpscan's engine trains them.
"""

from __future__ import annotations

import time
from functools import cache, lru_cache
from threading import Lock

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from hpscan.grid import Run, runs
from hpscan.hardware import prepare_worker
from hpscan.randomness import batches, initial_model
from hpscan.spec import Spec
from hpscan.workloads import Data

GRID = "{{lr: {{log2: [{}, {}], points: 9}}, wd: {{log2: [{}, {}], points: 9}}}}"
WORKLOADS = {
    "mlp": ("MLP on the digits: the quickstart", "quickstart", []),
    "cnn": (
        "CNN on Fashion-MNIST: `fashion_mnist_cnn`, two variants, 9 × 9 cells, 200 steps", "fashion_mnist_cnn",
        ["variants=[sgd, adamw-torch]", "budget.steps=200", "evaluations=1",
         f"grid={{variants: {{sgd: {GRID.format(-8, 0, -11, 1)}, adamw-torch: {GRID.format(-12, -4, -7, 5)}}}}}"],
    ),
    "gpt": (
        "GPT on *Alice*: `charlm`, two variants, 9 × 9 cells, 300 steps", "charlm",
        ["variants=[adam, adamw-torch]", "budget.steps=300", "evaluations=1",
         f"grid={{variants: {{adam: {GRID.format(-11, -3, -16, -4)}, adamw-torch: {GRID.format(-11, -3, -7, 5)}}}}}"],
    ),
}  # fmt: skip


INITIALISING = Lock()
"""torch's generator is one for all threads: two that initialise at once get one another's numbers, silently."""


def optimizer_of(run: Run, model: torch.nn.Module, *, fused: bool) -> torch.optim.Optimizer:
    """The ``torch.optim`` optimizer of a run; weights decay, biases and gains do not."""
    cell, settings = run.cell, dict(run.cell.settings)
    wd = {"sgdw": 0.0, "adamw": cell.wd / cell.lr}.get(cell.variant, cell.wd)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": wd},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    options = {"fused": True} if fused else {}
    if cell.variant in {"sgd", "sgdw"}:
        return torch.optim.SGD(groups, lr=cell.lr, momentum=settings["momentum"], **options)
    kind = torch.optim.Adam if cell.variant == "adam" else torch.optim.AdamW
    return kind(groups, lr=cell.lr, betas=(settings["beta1"], settings["beta2"]), eps=settings["eps"], **options)


def set_rate(optimizer: torch.optim.Optimizer, run: Run, step: int) -> float:
    """Set the learning rate of a step; its schedule multiplier."""
    eta = run.recipe.schedule.multiplier(step, run.recipe.steps)
    for group in optimizer.param_groups:
        group["lr"] = run.cell.lr * eta
    return eta


def decay_by_hand(run: Run, optimizer: torch.optim.Optimizer, eta: float) -> None:
    """SGDW, which ``torch.optim`` does not have: decay as the step would see it."""
    if run.cell.variant == "sgdw":
        with torch.no_grad():
            torch._foreach_mul_(optimizer.param_groups[0]["params"], 1.0 - eta * run.cell.wd)


def train_stock(run: Run, data: Data) -> float:
    """Train a run as most people would write it; its validation loss. Judged on all three splits at the end, as hpscan's are."""
    torch.set_num_threads(1)
    recipe, task = run.recipe, run.recipe.workload.task()
    with INITIALISING:
        model = initial_model(task.model, run.seed)
    optimizer = optimizer_of(run, model, fused=False)
    prepare = task.prepare or (lambda x: x)
    splits = [
        (torch.tensor(part.inputs), torch.tensor(part.targets)) for part in (data.train, data.validation, data.test)
    ]
    inputs, targets = splits[0]
    order = batches(run.seed, len(targets), recipe.batch_size)
    for step in range(recipe.steps):
        eta = set_rate(optimizer, run, step)
        batch = torch.from_numpy(next(order))
        optimizer.zero_grad()
        logits = model(prepare(inputs[batch]))
        F.cross_entropy(logits.flatten(0, -2), targets[batch].flatten()).backward()
        if recipe.training.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.training.clip_norm)
        decay_by_hand(run, optimizer, eta)
        optimizer.step()
    model.eval()
    losses = []
    with torch.no_grad():
        for x, y in splits:
            logits = torch.cat([model(prepare(part)) for part in x.split(1024)])
            losses.append(F.cross_entropy(logits.flatten(0, -2), y.flatten()).item())
            (logits.argmax(-1) != y).float().mean().item()
    return losses[1]


class Tuned:
    """What a process keeps between runs of one workload: data on one tensor, one module, its compiled gradient."""

    def __init__(self, run: Run, data: Data, *, compiled: bool) -> None:
        mode = prepare_worker().matmul_mode  # one thread, freed memory kept: as hpscan's workers have it
        self.task = run.recipe.workload.task()
        self.model = initial_model(self.task.model, 0)
        prepare = self.task.prepare or (lambda x: x)
        self.splits = [
            (prepare(torch.tensor(part.inputs)).contiguous(), torch.tensor(part.targets))
            for part in (data.train, data.validation, data.test)
        ]
        # the compiler plans layouts itself, and does worse with this one
        if not compiled and any(isinstance(module, torch.nn.Conv2d) for module in self.model.modules()):
            self.model = self.model.to(memory_format=torch.channels_last)
            self.splits = [(x.to(memory_format=torch.channels_last), y) for x, y in self.splits]
        self.parameters = list(self.model.parameters())
        self.loss = torch.compile(self._loss, dynamic=False, fullgraph=True) if compiled else self._loss
        # the mode that is better for stacked products is slower for some single ones
        seconds = {each: self._seconds(run, each) for each in ("highest", mode)}
        torch.set_float32_matmul_precision(min(seconds, key=lambda each: seconds[each]))

    def _seconds(self, run: Run, mode: str, steps: int = 20) -> float:
        """CPU-seconds of some gradients in a matmul mode."""
        torch.set_float32_matmul_precision(mode)
        inputs, targets = (part[: run.recipe.batch_size] for part in self.splits[0])
        self.loss(inputs, targets).backward()  # compiles, if it does
        start = time.process_time()
        for _ in range(steps):
            self.loss(inputs, targets).backward()
        return time.process_time() - start

    def _loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.model(inputs).flatten(0, -2), targets.flatten())

    def train(self, run: Run) -> float:
        """Train a run; its validation loss."""
        recipe = run.recipe
        self.model.load_state_dict(initial_model(self.task.model, run.seed).state_dict())
        self.model.train()
        optimizer = optimizer_of(run, self.model, fused=True)
        inputs, targets = self.splits[0]
        order = batches(run.seed, len(targets), recipe.batch_size)
        for step in range(recipe.steps):
            eta = set_rate(optimizer, run, step)
            batch = torch.from_numpy(next(order))
            optimizer.zero_grad()
            self.loss(inputs.index_select(0, batch), targets.index_select(0, batch)).backward()
            if recipe.training.clip_norm:
                torch.nn.utils.clip_grad_norm_(self.parameters, recipe.training.clip_norm, foreach=True)
            decay_by_hand(run, optimizer, eta)
            optimizer.step()
        self.model.eval()
        losses = []
        with torch.inference_mode():
            for x, y in self.splits:
                logits = torch.cat([self.model(part) for part in x.split(1024)])
                losses.append(F.cross_entropy(logits.flatten(0, -2), y.flatten()).item())
                (logits.argmax(-1) != y).float().mean().item()
        return losses[1]


@cache
def data_of(workload: str) -> Data:
    """The data of a workload, read once a process."""
    return planned(workload)[0].recipe.workload.load()


@lru_cache(maxsize=1)
def tuned(workload: str, *, compiled: bool) -> Tuned:
    """The one of this process."""
    return Tuned(planned(workload)[0], data_of(workload), compiled=compiled)


@cache
def planned(workload: str) -> list[Run]:
    """Every run of a workload's grid, in hpscan's order."""
    _, name, overrides = WORKLOADS[workload]
    return runs(Spec.load(name, overrides))


def entry(run: Run, loss: float) -> tuple[str, float | None, float]:
    return run.run_id, loss if np.isfinite(loss) else None, time.time()


def stock(workload: str, place: int) -> tuple[str, float | None, float]:
    """Train the run at a place of the list in the plain loop."""
    run = planned(workload)[place]
    return entry(run, train_stock(run, data_of(workload)))


def fast(workload: str, place: int, compiled: bool) -> tuple[str, float | None, float]:
    """Train the run at a place of the list in the tuned loop."""
    run = planned(workload)[place]
    return entry(run, tuned(workload, compiled=compiled).train(run))
