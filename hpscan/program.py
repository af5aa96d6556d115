"""A task made ready for training: its gradients and its update, compiled or not, shared by the packs of a process."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from hpscan.optimizers import apply_average, apply_step
from hpscan.randomness import RandomLayer, initial_model, layer_keys
from hpscan.rewriting import Folding, pool_first, rectified_before_pooling
from hpscan.spec import Training
from hpscan.tasks import Task
from hpscan.workloads import WorkloadError

__all__ = ["Named", "Program", "check_task", "row_of"]

Named = dict[str, Tensor]


def row_of(named: Named, row: int) -> Named:
    """One run of stacked tensors, without the axis for runs."""
    return {name: value[row] for name, value in named.items()}


class _Compiled:
    """A compiled function that finds its graph by the shapes of its arguments.

    torch.compile would trace Python's bytecode, and check some hundred guards at every call, which for small networks takes as long
    as the step. Here a call is traced operation by operation, once for each signature: everything else that a graph depends on
    (the task, the optimizer's direction, the matmul mode) is fixed for the life of a program or part of the signature.
    """

    def __init__(self, function: Callable[..., Any], *, graphs: bool, stacked: bool) -> None:
        self.function = function
        # Stacked, convolutions are grouped ones, which take up to twice as long with the channels last.
        self.options: dict[str, Any] = {"layout_optimization": not stacked}
        self.graphs = graphs
        if graphs:
            self.options["triton.cudagraphs"] = True
        self.ready: dict[Hashable, Callable[..., Any]] = {}
        self.seconds = 0.0

    def __call__(self, *args: Any) -> Any:
        tensors: list[Tensor] = []
        signature = _taken_apart(args, tensors)
        if signature not in self.ready:
            start = time.perf_counter()
            try:
                self.ready[signature] = self._compile(args, tensors)
            finally:
                self.seconds += time.perf_counter() - start
        if self.graphs:  # what the last call returned may be overwritten
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return self.ready[signature](*tensors)

    def _compile(self, args: tuple[Any, ...], tensors: list[Tensor]) -> Callable[..., Any]:
        from torch._inductor import compile as compiled_for  # slow to import, as are its next
        from torch._subclasses.fake_tensor import FakeTensorMode
        from torch.fx.experimental.proxy_tensor import make_fx
        from torch.fx.experimental.symbolic_shapes import ShapeEnv

        results: list[Any] = []

        def flat(*given: Tensor) -> list[Tensor]:
            results.append(self.function(*_put_together(args, iter(given))))
            found: list[Tensor] = []
            _taken_apart(results[-1], found)
            return found

        # a model's own constants are real; without symbols for shapes, which nothing uses, torch would not look into its cache
        mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())
        fakes: list[Any] = [mode.from_tensor(tensor, static_shapes=True) for tensor in tensors]
        with torch.no_grad():  # what is to be differentiated is so within
            compiled = compiled_for(make_fx(flat)(*fakes), fakes, options=self.options)
        return lambda *given: _put_together(results[-1], iter(compiled(*given)))


def _taken_apart(value: Any, tensors: list[Tensor]) -> Hashable:
    """The types and shapes of nested values, whose tensors are appended; anything but tensors stands for itself."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return value.shape, value.stride(), value.dtype
    if isinstance(value, dict):
        return tuple([(name, _taken_apart(entry, tensors)) for name, entry in value.items()])
    if isinstance(value, list | tuple):
        return tuple([_taken_apart(entry, tensors) for entry in value])
    return value


def _put_together(value: Any, tensors: Iterator[Tensor]) -> Any:
    """Nested values with other tensors in place of theirs."""
    if isinstance(value, Tensor):
        return next(tensors)
    if isinstance(value, dict):
        return {name: _put_together(entry, tensors) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return tuple([_put_together(entry, tensors) for entry in value])
    return value


def check_task(task: Task, training: Training) -> None:
    """Raise WorkloadError if a task cannot be trained or judged as a spec wants it."""
    if training.label_smoothing and task.smoothed is None:
        raise WorkloadError("training.label_smoothing: the workload's task has no `smoothed` loss")
    if training.snapshots and task.average is None:
        raise WorkloadError("training.snapshots: the workload's task cannot `average` predictions")
    for name in {"loss"} | ({"error"} if task.error else set()):
        if name in task.metrics:
            raise WorkloadError(f"the workload's metrics: {name!r} is the task's own; give it another name")


def _check_own(one: nn.Module, other: nn.Module) -> None:
    """Raise WorkloadError if the models of two seeds share what training changes, or differ in what is not part of a state."""
    theirs = {id(tensor) for tensor in (*other.parameters(), *other.buffers())}
    for (prefix, module), counterpart in zip(one.named_modules(), other.modules(), strict=False):
        changed = {name: tensor for name, tensor in module.named_parameters(recurse=False) if tensor.requires_grad}
        changed |= dict(module.named_buffers(recurse=False)) if module.training else {}
        for name, tensor in changed.items():
            if id(tensor) in theirs:
                raise WorkloadError(
                    f"the workload's model: {prefix}{'.' if prefix else ''}{name} is the same tensor in every model that is made; "
                    "make or deep-copy each layer where `model` is called"
                )
        for name, tensor in vars(module).items():
            if not isinstance(tensor, Tensor) or tensor.requires_grad or f"{name}_orig" in module._parameters:  # noqa: SLF001
                continue  # what is computed of parameters, as by torch's old spectral_norm, is the run's own
            same = vars(counterpart).get(name)
            if not (isinstance(same, Tensor) and torch.equal(tensor, same)):
                raise WorkloadError(
                    f"the workload's model: {prefix}{'.' if prefix else ''}{name} is drawn, and neither parameter nor buffer; "
                    "give it to register_buffer, or every run has another's"
                )


def _further_places(model: nn.Module) -> dict[str, str]:
    """Where else a tied parameter or buffer stands, with the name it goes by.

    Not as ``functional_call`` would tie them: it puts a tensor into a module once for each name of that module, and what it
    puts back is, where there are several, no longer tied to other modules'.
    """
    named = {id(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    places = {
        f"{prefix}.{name}" if prefix else name: tensor
        for prefix, module in model.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())  # noqa: SLF001
        if tensor is not None
    }
    return {place: named[id(tensor)] for place, tensor in places.items() if named[id(tensor)] != place}


@dataclass
class Program:
    """A task made ready to be trained in this process; every pack that trains it shares what is compiled here."""

    task: Task
    training: Training
    device: torch.device
    compiled: bool
    cuda_graphs: bool = False
    rows_compiled: set[int] = field(default_factory=set)
    """Numbers of rows that the fused gradients were compiled for."""

    def __post_init__(self) -> None:
        torch.backends.mha.set_fastpath_enabled(False)  # nn.MultiheadAttention's has no batching rule
        self.template, self.frozen = (initial_model(self.task.model, seed).to(self.device) for seed in (0, 1))
        _check_own(self.template, self.frozen)
        self.rectified = rectified_before_pooling(self.template)
        """What a model that is trained alone has in another order; a compiler of stacked ones finds its own."""
        self.frozen.eval()
        pool_first(self.frozen, rectified_before_pooling(self.frozen))
        check_task(self.task, self.training)
        smoothing = self.training.label_smoothing
        self.loss = self.task.smoothed(smoothing) if smoothing and self.task.smoothed else self.task.loss
        self.trained = {name for name, parameter in self.template.named_parameters() if parameter.requires_grad}
        statistics = {name for name, buffer in self.template.named_buffers() if buffer.is_floating_point()}
        self.averaged = self.trained | statistics
        """What an average of the weights is taken of: BatchNorm's statistics go along."""
        self.places = _further_places(self.template)
        self.random_layers = [
            f"{name}.stream" if name else "stream"
            for name, module in self.template.named_modules()
            if isinstance(module, RandomLayer)
        ]
        # On a CPU, without gradients, grouped convolutions take three to six times as long as those of one run each, and
        # what becomes of the windows of a text, stacked, does not stay in the cache.
        slow = any(isinstance(module, nn.Conv2d | nn.Embedding) for module in self.template.modules())
        self.one_by_one = slow and self.device.type == "cpu"
        """Whether runs are judged one by one."""
        self.gradients = self._ready(vmap(grad_and_value(self._loss_of_one, has_aux=True)))
        """(gradients, (losses, buffers)) of K runs, from their parameters, buffers, inputs and targets, all stacked."""
        self.update = self._ready(apply_step)
        self.average = self._ready(apply_average)
        # a chunk is filled up to be compiled once, which would change what it is normalised by
        self.judging_compiles = self.one_by_one and not any(
            isinstance(module, _BatchNorm) and module.running_mean is None for module in self.frozen.modules()
        )
        """Whether how runs are judged can be compiled; stacked, it takes so little that this never pays."""
        tied = {*self.places, *self.places.values()}
        # in bfloat16, weights with a norm in them would be rounded otherwise
        self.folding = Folding(self.frozen, {}) if self.training.precision == "bf16" else Folding.of(self.frozen, tied)
        """What runs are judged by, one by one."""
        self.from_folded = self._ready(self._from_folded, stacked=False) if self.judging_compiles else self._from_folded

    def model(self, seed: int) -> nn.Module:
        """A model as a run's seed initialises it, in training."""
        return pool_first(initial_model(self.task.model, seed), self.rectified).to(self.device)

    def _ready(self, function: Callable[..., Any], *, stacked: bool = True) -> Callable[..., Any]:
        if not self.compiled:
            return function
        return _Compiled(function, graphs=self.cuda_graphs and self.device.type == "cuda", stacked=stacked)

    @property
    def wants_whole_chunks(self) -> bool:
        """Whether every number of examples that are judged at once would be compiled for anew."""
        return isinstance(self.from_folded, _Compiled)

    @property
    def compile_s(self) -> float:
        """Seconds spent on compiling so far."""
        ready = (self.gradients, self.update, self.average, self.from_folded)
        return sum(each.seconds for each in ready if isinstance(each, _Compiled))

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        if self.training.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def forward(self, model: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """Outputs in float32, or complex, for inputs as stored."""
        with self.autocast():
            outputs = model(inputs if self.task.prepare is None else self.task.prepare(inputs))
        if not isinstance(outputs, Tensor):
            raise WorkloadError(f"the workload's model: must return a tensor; got {type(outputs).__name__}")
        return outputs if outputs.is_complex() else outputs.float()

    def _loss_of_one(self, params: Named, buffers: Named, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Named]:
        """The training loss of one run, and its buffers after the forward pass."""
        # BatchNorm updates its statistics in place, which vmap refuses for captured tensors: work on copies.
        buffers = {name: buffer.clone() for name, buffer in buffers.items()}
        state = self._placed({**params, **buffers})  # in one dict, what a forward pass assigns to a buffer comes back
        with sdpa_kernel(SDPBackend.MATH):  # the fused attentions have no batching rule
            outputs = self.forward(lambda x: functional_call(self.template, state, (x,), tie_weights=False), inputs)
        return self.loss(outputs, targets), {name: state[name] for name in buffers}

    def outputs(self, state: Named, inputs: Tensor) -> Tensor:
        """Outputs in evaluation mode of one run, its parameters and buffers given together."""
        return self._outputs_of(self.frozen, state, inputs)

    def predict(self, state: Named, inputs: Tensor) -> Tensor:
        """What :meth:`outputs` gives, to rounding, without gradients and for no more than one run."""
        return self.from_folded(self.folding.state(state), inputs)

    def _from_folded(self, folded: Named, inputs: Tensor) -> Tensor:
        return self._outputs_of(self.folding.model, folded, inputs)

    def _outputs_of(self, model: nn.Module, state: Named, inputs: Tensor) -> Tensor:
        state, inputs = self._placed(state), inputs.clone()  # which a model may write into
        with sdpa_kernel(SDPBackend.MATH):
            return self.forward(lambda x: functional_call(model, state, (x,), tie_weights=False), inputs)

    def _placed(self, state: Named) -> Named:
        """A state with its tensors in every place where the model has them."""
        return {**state, **{place: state[name] for place, name in self.places.items()}}

    def first_average(self, state: Named) -> Named:
        """Where the average of the weights begins; nothing if none is asked for."""
        if self.training.ema is None:
            return {}
        return {name: value.clone() for name, value in state.items() if name in self.averaged}

    def streams(self, seeds: Sequence[int], steps: range) -> Tensor | None:
        """What the random layers draw from, shape (layers, steps, K); None without such layers."""
        if not self.random_layers:
            return None
        keys = {seed: layer_keys(seed, steps, len(self.random_layers)) for seed in set(seeds)}
        stacked = np.stack([keys[seed] for seed in seeds], axis=-1)
        return torch.from_numpy(np.ascontiguousarray(stacked.swapaxes(0, 1))).to(self.device)
