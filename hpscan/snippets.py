"""A configuration as code: what of ``torch.optim`` takes the same steps, and a training loop to paste."""

from __future__ import annotations

import math
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from hpscan.grid import Panel, Recipe
from hpscan.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Cyclic,
    InverseSqrt,
    Linear,
    Schedule,
    Step,
    WarmupStableDecay,
)  # fmt: skip
from hpscan.spec import Spec
from hpscan.variants import VARIANTS, Decay

__all__ = ["torch_optimizer", "torch_snippet"]

NEEDED = frozenset({"budget", "batch_size", "schedule", "decay_on", "optimizer", "training"})
"""Fields of a spec without which a training is not determined."""
TORCH_CLASSES = {"sgd": "SGD", "adam": "Adam", "amsgrad": "Adam", "nadam": "NAdam", "adagrad": "Adagrad"}
DECAY_IS = {
    Decay.L2: "decay in the gradient",
    Decay.PAPER: "decay in the paper's form",
    Decay.TORCH: "decay in torch's form",
    Decay.NORMALISED: "decay in the paper's normalised form",
}

_ENVIRONMENT = Environment(  # noqa: S701  (Python, no HTML: only numbers and words of this package are filled in)
    loader=PackageLoader("hpscan"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def _stock(panel: Panel) -> tuple[str, dict[str, Any]] | None:
    """The class of ``torch.optim`` with the panel's direction, and its settings; None where torch has none."""
    variant = VARIANTS[panel.variant]
    settings: dict[str, Any] = dict(panel.settings)
    if variant.optimizer not in TORCH_CLASSES:
        return None
    if variant.optimizer == "sgd" and panel.recipe.momentum_form == "paper":
        return None
    if "beta1" in settings:
        settings = {"betas": [settings.pop("beta1"), settings.pop("beta2")], **settings}
    if "nesterov" in settings:  # without momentum it changes nothing, and torch refuses it
        settings["nesterov"] = bool(settings["nesterov"] and settings["momentum"])
    if variant.optimizer == "amsgrad":
        settings["amsgrad"] = True
    decoupled = variant.decay is not Decay.L2
    if variant.optimizer == "nadam" and decoupled:
        settings["decoupled_weight_decay"] = True
    name = TORCH_CLASSES[variant.optimizer]
    return f"torch.optim.{'AdamW' if name == 'Adam' and decoupled else name}", settings


def _restarts(panel: Panel) -> list[int]:
    """Ends of the periods that the decay goes by, where there are several."""
    ends = panel.recipe.restarts()
    return ends if VARIANTS[panel.variant].decay is Decay.NORMALISED and len(ends) > 2 else []


def _by_hand(panel: Panel) -> bool:
    """Whether torch's class cannot decay as the variant does: SGD has no decoupled decay, and none follows restarts."""
    variant = VARIANTS[panel.variant]
    return bool(_restarts(panel)) or (variant.decay is not Decay.L2 and variant.optimizer in {"sgd", "adagrad"})


def _weight_decay(panel: Panel, lr: float, wd: float) -> float:
    """Torch's weight_decay for λ, before any division by the root of a restart's steps."""
    decay = VARIANTS[panel.variant].decay
    if decay is Decay.NORMALISED and not _restarts(panel):
        return wd / (lr * math.sqrt(panel.recipe.steps))
    return wd / lr if decay in (Decay.PAPER, Decay.NORMALISED) else wd


def torch_optimizer(panel: Panel, lr: float, wd: float) -> dict[str, Any] | None:
    """The class of ``torch.optim`` that takes the same steps, and its arguments; None where torch has none.

    Its decoupled decay is lr_t · weight_decay. The paper's η_t λ is that with weight_decay = λ/α, a normalised one with
    λ/(α √T), under any schedule that multiplies both.
    """
    stock = _stock(panel)
    if stock is None or _by_hand(panel):
        return None
    name, settings = stock
    return {"class": name, "lr": lr, "weight_decay": _weight_decay(panel, lr, wd), **settings}


def torch_snippet(spec: Spec, panel: Panel, lr: float, wd: float) -> str | None:
    """Python that trains a cell of a panel with stock torch: the source of ``train(model, batches, loss_function)``.

    Decay that torch's class does not have is taken off by hand before each step. Model, data and loss are the
    caller's. Only numbers of the spec get into the code, none of its text. None where ``torch.optim`` has no such
    optimizer, or where the spec of an imported sweep does not say what is needed.
    """
    stock = _stock(panel)
    if stock is None or not NEEDED.isdisjoint(spec.unknown):
        return None
    variant, recipe = VARIANTS[panel.variant], panel.recipe
    name, settings = stock
    by_hand, decay_all = _by_hand(panel), recipe.decay_on == "all"
    if "betas" in settings:
        settings["betas"] = tuple(settings["betas"])
    weight_decay = float(_weight_decay(panel, lr, wd))
    grouped = weight_decay > 0 and not by_hand and not decay_all
    decay = {} if grouped else {"weight_decay": "weight_decay" if weight_decay and not by_hand else 0.0}
    multiplier, scheduler = _scheduler(recipe)
    body = _ENVIRONMENT.get_template("snippet.py.j2").render(
        recipe=recipe,
        training=recipe.training,
        variant=variant,
        lr=float(lr),
        wd=float(wd),
        convention=DECAY_IS[variant.decay],
        conversion=_conversion(panel),
        weight_decay=weight_decay,
        restarts=_restarts(panel),
        by_hand=by_hand,
        decay_all=decay_all,
        optimizer=_call(name, "groups" if grouped else "model.parameters()", lr=float(lr), **decay, **settings),
        multiplier=multiplier,
        scheduler=scheduler,
    )
    standard = "".join(f"import {module}\n" for module in ("itertools", "math") if f"{module}." in body)
    return f"{standard}\nimport torch\n\n\n{body}".lstrip()


def _conversion(panel: Panel) -> str:
    """How torch's weight_decay follows from wd, in words; empty where they are the same."""
    match VARIANTS[panel.variant].decay:
        case Decay.PAPER:
            return "wd / lr: torch's form takes off lr_t * weight_decay, the paper's eta_t * wd"
        case Decay.NORMALISED if _restarts(panel):
            return "wd / lr, to be divided by the root of the steps of each restart"
        case Decay.NORMALISED:
            return "wd / (lr * sqrt(steps)): torch's form takes off lr_t * weight_decay, this eta_t * wd / sqrt(steps)"
    return ""


def _call(function: str, first: str, **arguments: Any) -> str:
    """A call as code, its arguments on a line of their own where it is long."""
    inside = ", ".join([first, *(f"{name}={value}" for name, value in arguments.items())])
    return f"{function}({inside})" if len(function) + len(inside) <= 80 else f"{function}(\n        {inside}\n    )"


def _scheduler(recipe: Recipe) -> tuple[list[str], str]:
    """The lines of a function ``multiplier(step)``, and the call that makes the scheduler; empty where not needed.

    Torch's own class where it has the same multipliers.
    """
    schedule, steps = recipe.schedule, recipe.steps
    package = "torch.optim.lr_scheduler"
    if not schedule.warmup:
        match schedule:
            case Constant():
                return [], ""
            case Cosine():
                return [], _call(f"{package}.CosineAnnealingLR", "optimizer", T_max=steps)
            case CosineRestarts() if (first := max(1.0, schedule.first)) % 1 == schedule.mult % 1 == 0:
                periods = {"T_0": int(first), "T_mult": int(schedule.mult)}
                return [], _call(f"{package}.CosineAnnealingWarmRestarts", "optimizer", **periods)
            case Linear():
                ends = {"start_factor": 1.0, "end_factor": schedule.final}
                return [], _call(f"{package}.LinearLR", "optimizer", **ends, total_iters=steps)
            case Step():
                drops = {"milestones": schedule.drops(steps), "gamma": schedule.factor}
                return [], _call(f"{package}.MultiStepLR", "optimizer", **drops)
            case _:
                pass
    warmup = math.ceil(schedule.warmup)
    lines = _formula(schedule, max(1, steps - warmup))
    if warmup and any("step" in line for line in lines):
        lines = [f"step -= {warmup}", *lines]
    if warmup:
        lines = [f"if step < {schedule.warmup}:", f"    return min(1.0, (step + 1) / {schedule.warmup})", *lines]
    return lines, _call(f"{package}.LambdaLR", "optimizer", lr_lambda="multiplier")


def _formula(schedule: Schedule, steps: int) -> list[str]:
    """The lines that return η after the warmup; ``step`` and ``steps`` count from its end, as in the schedules."""
    before: list[str] = []
    match schedule:
        case Constant():
            eta = "1.0"
        case Cosine():
            eta = f"0.5 * (1.0 + math.cos(math.pi * step / {steps}))"
        case CosineRestarts():
            first = max(1.0, schedule.first)
            before = [
                f"start, end, length = 0.0, {first}, {first}",
                "while step >= round(end):",
                f"    length *= {schedule.mult}",
                "    start, end = end, end + length",
            ]
            eta = "0.5 * (1.0 + math.cos(math.pi * (step - round(start)) / (round(end) - round(start))))"
        case Cyclic():
            phase = f"(step / {max(1.0, schedule.cycle)}) % 1.0"
            eta = f"{schedule.low} + {1.0 - schedule.low} * (1.0 - abs(2.0 * ({phase}) - 1.0))"
        case Linear():
            eta = f"1.0 - {1.0 - schedule.final} * step / {steps}"
        case WarmupStableDecay():
            eta = f"min(1.0, (1.0 - step / {steps}) / {schedule.decay})"
        case InverseSqrt():
            warmup = math.ceil(schedule.warmup)
            eta = f"math.sqrt({warmup} / ({warmup} + step + 1))"
        case Step():
            eta = f"{schedule.factor} ** sum(step >= drop for drop in {schedule.drops(steps)})"
    return [*before, f"return {eta}"]
