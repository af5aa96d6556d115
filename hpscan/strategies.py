"""Two ways to train the runs of a pack: all in one call (fused), or one run after another (loop).

Both hold the state of K runs, advance it by a number of steps, judge it on a split, and drop rows. Both give what
training each run alone would give, to rounding; a fused pack's rows never mix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import stack_module_state, vmap

from hpscan.diagnostics import measure
from hpscan.feed import Batch
from hpscan.memory import is_out_of_memory
from hpscan.optimizers import OPTIMIZERS, apply_average
from hpscan.program import Named, Program, row_of
from hpscan.randomness import initial_model, key
from hpscan.sharpness import sharpness
from hpscan.single import Single

__all__ = ["MIN_ROWS", "Fused", "Loop", "Strategy", "in_eights"]

MIN_ROWS = 8
"""Rows of a compiled pack at the least. From four rows on, the compiler's kernels round alike whatever the number of
rows; below, it vectorises some sums along another axis, and a run's last bits would depend on its pack.
They do where a product is of 512 multiplications or fewer: torch takes it to oneDNN once those of all rows are more than 4096."""


def in_eights(rows: int) -> int:
    """The rows of an uncompiled pack for so many runs: what torch does in vectors of eight floats leaves no rest, which it rounds otherwise."""
    return MIN_ROWS * math.ceil(rows / MIN_ROWS)


def _seed_generators(seed: int, device: torch.device) -> None:
    """What torch.manual_seed does, on the devices in use alone: it is called at every step."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


class Strategy(Protocol):
    """The state of K runs in training."""

    name: str
    measured: Tensor
    """What :func:`hpscan.diagnostics.measure` found of the last step that was to be measured."""

    @property
    def count(self) -> int:
        """Rows, idle copies included."""

    def advance(
        self, batches: Iterator[Batch], seeds: Sequence[int], steps: range, numbers: Tensor, *, measured: bool = False
    ) -> Tensor:
        """Take some steps, with numbers of shape (steps, numbers, K); the training losses, of shape (steps, K).

        The last of them is ``measured`` if that is wanted.
        """

    def outputs(self, inputs: Tensor) -> Tensor:
        """Outputs in evaluation mode, shape (K, examples, …)."""

    def sharpness(self, batches: Sequence[tuple[Tensor, Tensor]], most: int) -> Tensor:
        """What :func:`hpscan.sharpness.sharpness` finds, shape (K,)."""

    def keep(self, rows: list[int], capacity: int) -> None:
        """Keep the rows named, in ``capacity`` rows: the last is repeated to fill them."""

    def state(self) -> Any:
        """All that changes in training, as nested dicts and lists of tensors, which are not copies."""

    def restore(self, state: Any) -> None:
        """Go on from a state; raise ValueError if it is not one of this model with this number of rows."""

    @staticmethod
    def gathered(places: Sequence[tuple[Any, int]]) -> Any:
        """The state of runs that are rows of other states: (state, row) of each."""


def _row(state: Any, row: int) -> Any:
    """One row of every tensor of a state, with its axis."""
    if isinstance(state, Tensor):
        return state[row : row + 1]
    if isinstance(state, dict):
        return {name: _row(part, row) for name, part in state.items()}
    return [_row(part, row) for part in state]


def _stacked(states: list[Any]) -> Any:
    """States of one form, their tensors laid end to end."""
    first = states[0]
    if isinstance(first, Tensor):
        return torch.cat(states)
    if isinstance(first, dict):
        return {name: _stacked([state[name] for state in states]) for name in first}
    return [_stacked(list(parts)) for parts in zip(*states, strict=True)]


def _paired(own: Any, saved: Any) -> list[tuple[Tensor, Tensor]]:
    """The tensors of two states side by side."""
    pair = [list(_tensors(state)) for state in (own, saved)]
    one, other = ([(place, value.shape, value.dtype) for place, value in found] for found in pair)
    if one != other:
        raise ValueError("the state of another model, or of another number of runs")
    return [(mine, theirs) for (_, mine), (_, theirs) in zip(*pair, strict=True)]


def _tensors(state: Any, place: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(state, Tensor):
        yield place, state
    else:
        for name, part in state.items() if isinstance(state, dict) else enumerate(state):
            yield from _tensors(part, f"{place}/{name}")


def _parts(batch_size: int, accumulate: int) -> list[slice]:
    size = batch_size // accumulate
    return [slice(start, start + size) for start in range(0, batch_size, size)]


class Fused:
    """Every parameter is one tensor of shape (K, *shape); one call computes the gradients of all runs."""

    name = "fused"

    def __init__(self, program: Program, optimizer: str, decay_all: bool, seeds: Sequence[int], capacity: int) -> None:
        self.program = program
        models = {seed: initial_model(program.task.model, seed) for seed in set(seeds)}
        params, buffers = stack_module_state([models[seed] for seed in seeds])
        state = {name: value.detach().to(program.device) for name, value in {**params, **buffers}.items()}
        self.params: Named = {name: value for name, value in state.items() if name in program.trained}
        # what is not trained, parameters that the model has frozen among it
        self.buffers: Named = {name: value for name, value in state.items() if name not in program.trained}
        self.direction, n_moments = OPTIMIZERS[optimizer].direction, OPTIMIZERS[optimizer].n_moments
        self.moments = [[torch.zeros_like(value) for _ in range(n_moments)] for value in self.params.values()]
        self.decays = [decay_all or value.dim() > 2 for value in self.params.values()]  # axis 0 is the run
        self.averages = program.first_average(state)
        self.keep(list(range(len(seeds))), capacity)

    @property
    def count(self) -> int:
        """Rows, idle copies included."""
        return len(next(iter(self.params.values())))

    def keep(self, rows: list[int], capacity: int) -> None:
        """Keep the rows named, in ``capacity`` rows: the last is repeated to fill them."""
        index = torch.tensor(rows + rows[-1:] * (capacity - len(rows)), device=self.program.device)
        self.params, self.buffers, self.averages = (
            {name: value[index] for name, value in named.items()}
            for named in (self.params, self.buffers, self.averages)
        )
        self.moments = [[moment[index] for moment in moments] for moments in self.moments]

    def state(self) -> Any:
        """All that changes in training."""
        return {"params": self.params, "buffers": self.buffers, "averages": self.averages, "moments": self.moments}

    def restore(self, state: Any) -> None:
        """Go on from a state, its strides included: what is compiled, and how sums round, may depend on them."""
        for own, saved in _paired(self.state(), state):
            own.data = saved.to(own.device)

    @staticmethod
    def gathered(places: Sequence[tuple[Any, int]]) -> Any:
        """The rows named of several states."""
        return _stacked([_row(state, row) for state, row in places])

    def advance(
        self, batches: Iterator[Batch], seeds: Sequence[int], steps: range, numbers: Tensor, *, measured: bool = False
    ) -> Tensor:
        """Take some steps; the training losses, of shape (steps, K)."""
        program, ema = self.program, self.program.training.ema
        losses = torch.empty(len(steps), self.count, device=program.device)
        streams = program.streams(seeds, steps)
        thetas = list(self.params.values())
        for i, batch in enumerate(batches):
            if streams is not None:
                self.buffers.update(zip(program.random_layers, streams[:, i], strict=True))
            grads, losses[i] = self._gradients(batch)
            before = [theta.clone() for theta in thetas] if measured and i == len(steps) - 1 else None
            program.update(
                self.direction, thetas, grads, self.moments, self.decays, numbers[i], program.training.clip_norm
            )
            if before is not None:
                self.measured = measure(before, thetas, grads)
            if ema is not None:
                state = self._state()
                program.average(list(self.averages.values()), [state[name] for name in self.averages], ema)
        program.rows_compiled.add(self.count)
        return losses

    def _state(self) -> Named:
        return {**self.params, **self.buffers}

    def _gradients(self, batch: Batch) -> tuple[list[Tensor], Tensor]:
        inputs, targets = batch.stacked()
        parts = _parts(inputs.shape[1], self.program.training.accumulate)
        total: list[Tensor] = []
        losses: list[Tensor] = []
        for part in parts:
            data = (inputs[:, part], targets[:, part])
            grads, (loss, self.buffers) = self.program.gradients(self.params, self.buffers, *data)
            if self.program.cuda_graphs:  # a graph's outputs are overwritten by its next replay
                self.buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
            losses.append(loss)
            total = [t + g for t, g in zip(total, grads.values(), strict=True)] if total else list(grads.values())
        if len(parts) == 1:
            return total, losses[0]
        return [gradient / len(parts) for gradient in total], torch.stack(losses).mean(0)

    def outputs(self, inputs: Tensor) -> Tensor:
        """Outputs in evaluation mode, shape (K, examples, …)."""
        state = {**self._state(), **self.averages}
        with torch.no_grad():
            if not self.program.one_by_one:
                try:
                    # One copy of the inputs a run: shared inputs would make vmap fold the runs into one product, whose
                    # rounding depends on their number.
                    return vmap(self.program.outputs)(state, inputs.expand(self.count, *inputs.shape))
                except (RuntimeError, ValueError) as error:
                    if is_out_of_memory(error):
                        raise
                    self.program.one_by_one = True  # recurrent layers have a batching rule with gradients alone
            return torch.stack([self.program.predict(row_of(state, row), inputs) for row in range(self.count)])

    def sharpness(self, batches: Sequence[tuple[Tensor, Tensor]], most: int) -> Tensor:
        """The sharpness of what is evaluated, shape (K,)."""
        return sharpness(self.program, {**self._state(), **self.averages}, batches, fused=True, most=most)


class Loop:
    """One run after another, each a stock module; convolutions in channels-last format."""

    name = "loop"

    def __init__(self, program: Program, optimizer: str, decay_all: bool, seeds: Sequence[int], capacity: int) -> None:
        self.program = program
        self.direction = OPTIMIZERS[optimizer].direction
        n_moments = OPTIMIZERS[optimizer].n_moments
        self.singles = [self._single(program.model(seed), n_moments, decay_all) for seed in seeds]

    def _single(self, model: nn.Module, n_moments: int, decay_all: bool) -> Single:
        single = Single.of(model, n_moments, decay_all=decay_all)
        single.averages = self.program.first_average(single.state)
        return single

    @property
    def count(self) -> int:
        """Runs."""
        return len(self.singles)

    def keep(self, rows: list[int], capacity: int) -> None:
        """Keep the rows named; a loop has no idle rows."""
        self.singles = [self.singles[row] for row in rows]

    def state(self) -> Any:
        """All that changes in training, run by run."""
        return [
            {"state": single.state, "averages": single.averages, "moments": single.moments} for single in self.singles
        ]

    def restore(self, state: Any) -> None:
        """Go on from a state: in place, where the modules and their views are."""
        for own, saved in _paired(self.state(), state):
            own.copy_(saved)

    @staticmethod
    def gathered(places: Sequence[tuple[Any, int]]) -> Any:
        """The runs named of several states."""
        return [state[row] for state, row in places]

    def advance(
        self, batches: Iterator[Batch], seeds: Sequence[int], steps: range, numbers: Tensor, *, measured: bool = False
    ) -> Tensor:
        """Take some steps, a whole run at a time; the training losses, of shape (steps, K)."""
        losses = torch.empty(len(steps), self.count, device=self.program.device)
        streams = self.program.streams(seeds, steps)
        feed = list(batches)
        found: list[Tensor] = []
        for row, single in enumerate(self.singles):
            own = numbers[:, :, row : row + 1].contiguous()
            state = single.state
            layers = [state[name] for name in self.program.random_layers]
            with torch.random.fork_rng():
                for i, batch in enumerate(feed):
                    # A model that draws from torch's own generators draws by seed and step, too.
                    _seed_generators(key(seeds[row], f"step {steps[i]}"), self.program.device)
                    if streams is not None:
                        for j, layer in enumerate(layers):
                            layer.copy_(streams[j, i, row])
                    losses[i, row] = self._step(
                        single, batch, row, own[i], found if measured and i == len(steps) - 1 else None
                    )
        if measured:
            self.measured = torch.cat(found, 1)
        return losses

    def _step(
        self, single: Single, batch: Batch, row: int, numbers: Tensor, found: list[Tensor] | None = None
    ) -> Tensor:
        """One step of one run; what is measured of it is appended to ``found``."""
        program = self.program
        inputs, targets = batch.row(row)
        parts = _parts(len(inputs), program.training.accumulate)
        losses = []
        for grad in single.grads:
            grad.zero_()
        for part in parts:
            loss = program.loss(program.forward(single.model, inputs[part]), targets[part])
            (loss / len(parts) if len(parts) > 1 else loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        before = [] if found is None else [theta.clone() for theta in single.rows()[0]]
        self.update(single, numbers)
        if found is not None:
            found.append(measure(before, *single.rows()))
        if program.training.ema is not None:
            state, averages = single.state, single.averages
            apply_average(list(averages.values()), [state[name] for name in averages], program.training.ema)
        return torch.stack(losses).mean() if len(parts) > 1 else losses[0]

    def update(self, single: Single, numbers: Tensor) -> None:
        """Apply the gradients of one run."""
        program, clip = self.program, self.program.training.clip_norm
        program.update(self.direction, single.thetas, single.grads, single.moments, single.decays, numbers, clip)

    def outputs(self, inputs: Tensor) -> Tensor:
        """Outputs in evaluation mode, shape (K, examples, …)."""
        with torch.no_grad():
            states = [{**single.state, **single.averages} for single in self.singles]
            return torch.stack([self.program.predict(state, inputs) for state in states])

    def sharpness(self, batches: Sequence[tuple[Tensor, Tensor]], most: int) -> Tensor:
        """The sharpness of what is evaluated, shape (K,)."""
        states = ({**single.state, **single.averages} for single in self.singles)
        # channels last, torch's forward derivative of group_norm fails
        stacked = ({name: value.contiguous().unsqueeze(0) for name, value in state.items()} for state in states)
        return torch.cat([sharpness(self.program, state, batches, fused=False, most=most) for state in stacked])
