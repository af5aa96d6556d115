"""A model rewritten so that fewer passes over its activations give the same: what its own code calls is looked at, never changed.

A small convolutional network on a CPU waits for memory more than for arithmetic.
"""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.fusion import fuse_conv_bn_weights

from hpscan.randomness import RandomLayer

__all__ = ["Folding", "pool_first", "rectified_before_pooling"]

Pair = tuple[str, str]
"""The names of a module and of the one that takes what it gives."""


def rectified_before_pooling(model: nn.Module) -> list[Pair]:
    """The ReLUs that a max-pool, and nothing else, follows in the model's present mode."""
    pairs = _pairs(model, (nn.ReLU,), (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d))
    return [(relu, pool) for relu, pool in pairs if not model.get_submodule(pool).return_indices]


def pool_first(model: nn.Module, pairs: list[Pair]) -> nn.Module:
    """Have ReLUs follow their max-pools, in place; the model, changed.

    The largest of rectified values is the rectified largest, and the gradient takes the same way: the same to the bit, of
    a fraction of the values.
    """
    for relu, pool in pairs:
        model.set_submodule(pool, nn.Sequential(model.get_submodule(pool), nn.ReLU(inplace=True)))
        model.set_submodule(relu, nn.Identity())
    return model


@dataclass(frozen=True)
class Folding:
    """A model in evaluation mode whose convolutions have the BatchNorm behind them in their weights: Jacob et al. 2018, section 3.2.

    Once its statistics stand still, the norm is a factor and a shift of each channel. The same to rounding.
    """

    model: nn.Module
    norms: dict[str, tuple[str, float]]
    """Of each such convolution, by name: the norm, and its ε."""

    @classmethod
    def of(cls, model: nn.Module, tied: Container[str]) -> Folding:
        """Fold what can be folded; a model in which nothing can is kept as it is.

        Parameters
        ----------
        model
            In evaluation mode; it is left as it is.
        tied
            Names of parameters and buffers that stand in several places.
        """
        pairs = [
            (conv, norm)
            for conv, norm in _pairs(model, (nn.Conv1d, nn.Conv2d, nn.Conv3d), _NORMS)
            if model.get_submodule(norm).running_mean is not None
            and not any(name in tied for name in _held(model, conv, norm))
        ]
        if not pairs:
            return cls(model, {})
        folded, norms = copy.deepcopy(model), {}
        for conv_name, norm_name in pairs:
            conv, norm = folded.get_submodule(conv_name), folded.get_submodule(norm_name)
            assert isinstance(conv, _ConvNd)
            assert isinstance(norm, _BatchNorm)
            conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels))
            folded.set_submodule(norm_name, nn.Identity())
            norms[conv_name] = norm_name, norm.eps
        return cls(folded, norms)

    def state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state that :attr:`model` has where the model that was folded has this one."""
        folded = dict(state)
        for conv, (norm, eps) in self.norms.items():
            mean, variance = (folded.pop(f"{norm}.{name}") for name in ("running_mean", "running_var"))
            gain, shift = (folded.pop(f"{norm}.{name}", None) for name in ("weight", "bias"))
            weight, bias = folded[f"{conv}.weight"], folded.get(f"{conv}.bias")
            fused = fuse_conv_bn_weights(weight, bias, mean, variance, eps, gain, shift)
            folded[f"{conv}.weight"], folded[f"{conv}.bias"] = (each.detach() for each in fused)
        return folded


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def _held(model: nn.Module, *names: str) -> list[str]:
    """The names of all parameters and buffers of some modules."""
    modules = ((name, model.get_submodule(name)) for name in names)
    return [
        f"{name}.{own}" for name, module in modules for own, _ in (*module.named_parameters(), *module.named_buffers())
    ]


def _pairs(model: nn.Module, first: tuple[type[nn.Module], ...], then: tuple[type[nn.Module], ...]) -> list[Pair]:
    """The pairs of modules of just these types that are always called one upon the other, and nothing else in between.

    None where the forward pass cannot be traced.
    """
    if not all(any(type(module) in kinds for module in model.modules()) for kinds in (first, then)):
        return []
    with suppress(Exception), torch.random.fork_rng(devices=[]):  # whatever a user's model does that cannot be traced
        before = torch.get_rng_state()
        graph = _Tracer().trace(copy.deepcopy(model))  # a forward pass may change its module
        if torch.equal(before, torch.get_rng_state()):  # or another pass may go another way
            return _found(model, graph, first, then)
    return []


class _Tracer(fx.Tracer):
    """Dropout is a call like any other, not what it draws."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        drops = isinstance(m, RandomLayer) and not list(m.children())
        return drops or super().is_leaf_module(m, module_qualified_name)


def _found(
    model: nn.Module, graph: fx.Graph, first: tuple[type[nn.Module], ...], then: tuple[type[nn.Module], ...]
) -> list[Pair]:
    places = Counter(map(id, dict(model.named_modules(remove_duplicate=False)).values()))
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    calls: dict[str, list[fx.Node]] = defaultdict(list)
    for node in graph.nodes:
        if node.op == "call_module":
            calls[str(node.target)].append(node)

    def is_one(name: str, kinds: tuple[type[nn.Module], ...]) -> bool:
        module = model.get_submodule(name)
        hooked = module._forward_hooks or module._forward_pre_hooks  # noqa: SLF001
        return type(module) in kinds and places[id(module)] == 1 and name not in read and not hooked

    def before(node: fx.Node) -> str | None:
        """The module that a call takes its only argument from, if nothing else does."""
        given = node.args[0] if len(node.args) == 1 and not node.kwargs else None
        if isinstance(given, fx.Node) and given.op == "call_module" and len(given.users) == 1:
            return str(given.target)
        return None

    pairs = []
    for name, nodes in calls.items():
        sources = {before(node) for node in nodes}
        source = sources.pop()
        if sources or source is None or len(calls[source]) != len(nodes):
            continue
        if is_one(source, first) and is_one(name, then) and not _writes_elsewhere(model, calls[source]):
            pairs.append((source, name))
    return pairs


def _writes_elsewhere(model: nn.Module, calls: list[fx.Node]) -> bool:
    """Whether a module may write into what others read, being one that works in place."""
    if not getattr(model.get_submodule(str(calls[0].target)), "inplace", False):
        return False
    fresh = (_ConvNd, _BatchNorm)  # whose outputs are no views
    given = [call.args[0] if call.args else None for call in calls]
    return not all(
        isinstance(node, fx.Node)
        and len(node.users) == 1
        and node.op == "call_module"
        and isinstance(model.get_submodule(str(node.target)), fresh)
        for node in given
    )
