"""The spec: the YAML file that describes a sweep, validated before anything runs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import product
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from hpscan._model import Model, accept_name, numbers
from hpscan.axes import MOST_VALUES, Grid
from hpscan.refusals import refusal
from hpscan.resources import Resources
from hpscan.sampling import AdaptiveOption
from hpscan.schedules import Cosine, CosineRestarts, Schedule
from hpscan.spec_text import SpecError, override_field, parse_yaml, read_source, write_yaml
from hpscan.stopping import Diverged, Stop
from hpscan.variants import OPTIMIZER_SETTINGS, VARIANTS, known_variant
from hpscan.workloads import Factory, Imported, Trainable, Workload, at_width

__all__ = [
    "Budget",
    "Hyperparameters",
    "Spec",
    "SpecError",
    "Training",
    "is_validation",
]

Value = TypeVar("Value", int, str)


class Budget(Model):
    """How long a run trains: ``steps``, or ``epochs`` of the training set (n_train / batch_size steps each)."""

    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_of(self) -> Budget:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self

    @property
    def length(self) -> float:
        """Whichever is given."""
        return self.steps if self.steps is not None else self.epochs or 0.0


Share = Annotated[float, Field(ge=0, lt=1)]


class Hyperparameters(Model):
    """The optimizer's settings; what is not given is the optimizer's own default, and an axis of the grid goes first."""

    momentum: Share | None = None
    nesterov: bool | None = None
    betas: Annotated[tuple[Share, Share], BeforeValidator(numbers)] | None = None
    eps: float | None = Field(default=None, gt=0)
    momentum_form: Literal["torch", "paper"] = "torch"
    """Where SGD has its learning rate: ``torch`` outside the momentum buffer, ``paper`` inside (Algorithm 1)."""

    def settings(self, variant: str) -> dict[str, float]:
        """Every setting that the optimizer of a variant reads."""
        given: dict[str, float | None] = {"momentum": self.momentum, "nesterov": self.nesterov, "eps": self.eps}
        given["beta1"], given["beta2"] = self.betas or (None, None)
        own = OPTIMIZER_SETTINGS[VARIANTS[variant].optimizer]
        return {**own, **{name: float(value) for name, value in given.items() if name in own and value is not None}}


class Training(Model):
    """What else is done in a run's training; everything is off by default."""

    clip_norm: float | None = Field(default=None, gt=0)
    """Bound on the norm of the whole gradient, as ``torch.nn.utils.clip_grad_norm_`` has it."""
    label_smoothing: Share = 0.0
    """Of the training loss; metrics are without."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights and of BatchNorm's statistics, which is what is evaluated."""
    accumulate: int = Field(default=1, ge=1)
    """Equal parts in which a batch is taken, their gradients averaged before the step."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """``bf16``: the forward pass under autocast; ``tf32``: float32 products may use TF32 on GPUs that have it."""
    snapshots: bool = False
    """Judge the weights at the end of each restart, and the average of their predictions: Huang et al. 2017."""
    sharpness: bool = False
    """Find the top eigenvalue of the Hessian of the training loss at the end (:mod:`hpscan.sharpness`)."""


class Spec(Model):
    """A sweep: what to train, over which grid, for how long."""

    name: str
    """The sweep's folder in the store."""
    notes: str = ""
    """For people; the report shows them."""
    workload: Workload
    """Data and model."""
    variants: tuple[Annotated[str, Field(strict=True)], ...]
    """Optimizers with a decay convention, such as ``sgd``, ``sgdw``, ``adam``, ``adamw``, ``adamw-torch``; a landscape each."""
    grid: Grid
    """Learning rates, weight decays and any further axes."""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = (0,)
    """Of every cell; ``3`` is short for 0, 1 and 2."""
    budget: Budget
    """How long each run trains."""
    batch_size: int = Field(ge=1)
    """Examples a step."""
    schedule: Annotated[Schedule, BeforeValidator(accept_name)] = Cosine()
    """The learning rate's multiplier over training."""
    optimizer: Hyperparameters = Hyperparameters()
    """Settings of all variants."""
    training: Training = Training()
    """Clipping, smoothing, averaging and so on."""
    decay_on: Literal["weights", "all"] = "weights"
    """``weights``: tensors of two or more axes; ``all``: biases and norms too, as in the paper's code."""
    metric: str = "val_loss"
    """What the landscape shows and the best cell is chosen by, the less the better: ``val_loss``, ``val_error`` or
    another validation metric of the workload, with snapshots also ``ensemble_val_loss`` and so on."""
    evaluations: int = Field(default=8, ge=1)
    """Evaluations a run, equally spaced; the last one is at the end of the budget."""
    adaptive: AdaptiveOption = None
    """Train only the cells that tell most of the best one and of the basin; all of them by default."""
    stop: Annotated[Stop, BeforeValidator(accept_name)] = Diverged()
    """What ends a run early: only that it diverged, or successive halving. No part of a run's identity."""
    resources: Resources = Resources()
    """Workers, GPUs and packs. No part of a run's identity."""

    @field_validator("name")
    @classmethod
    def _folder_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError(f"must be a folder name of letters, digits, '.', '_' and '-'; got {name!r}")
        return name

    @field_validator("metric")
    @classmethod
    def _on_validation(cls, metric: str) -> str:
        if not is_validation(metric):
            raise ValueError(f"must be a validation metric, such as val_loss or val_error; got {metric!r}")
        return metric

    @field_validator("variants")
    @classmethod
    def _variants(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("must name at least one variant; got an empty list")
        for name in names:
            known_variant(name)
        return _no_repeats(names)

    @field_validator("seeds", mode="before")
    @classmethod
    def _seed_count(cls, seeds: Any) -> Any:
        """``seeds: 3`` means 0, 1 and 2."""
        if not isinstance(seeds, int) or isinstance(seeds, bool):
            return numbers(seeds)
        if seeds > MOST_VALUES:
            raise ValueError(f"must be at most {MOST_VALUES}; got {seeds}")
        return list(range(seeds))

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("must hold at least one seed; got none")
        return _no_repeats(seeds)

    @model_validator(mode="after")
    def _axes_given(self) -> Spec:
        self.grid.check(self.variants)
        return self

    @model_validator(mode="after")
    def _recipes(self) -> Spec:
        axes = self.grid.recipe()
        for unit, other in (("steps", "epochs"), ("epochs", "steps")):
            if unit in axes and getattr(self.budget, unit) is None:
                raise ValueError(f"grid.{unit}: the budget is in {other}; give grid.{other}, or the budget in {unit}")
        budgets: dict[tuple[float, ...], float] = {}
        for point in self.points():
            spec = self.at(point)
            spec._check_batches("grid.batch_size" if "batch_size" in axes else "batch_size")  # noqa: SLF001
            spec._check_warmup()  # noqa: SLF001
            if "epochs" in axes and spec.examples_known:
                rest = tuple(value for name, value in point.items() if name != "epochs")
                if budgets.get((*rest, spec.steps)):
                    both = f"{budgets[*rest, spec.steps]:g} and {point['epochs']:g}"
                    raise ValueError(f"grid.epochs: {both} are both {spec.steps} steps")
                budgets[*rest, spec.steps] = point["epochs"]
        return self

    def _check_batches(self, field: str) -> None:
        parts = self.training.accumulate
        if self.batch_size % parts:
            raise ValueError(f"training.accumulate: must divide the batch size, {self.batch_size}; got {parts}")
        model = getattr(self.workload, "model", None)
        if self.batch_size < 2 * parts and getattr(model, "batch_norm", False):
            raise ValueError(
                f"{field}: must be at least {2 * parts} for BatchNorm to have a variance; got {self.batch_size}"
            )
        if self.examples_known and self.batch_size > self.workload.n_train:
            raise ValueError(
                f"{field}: must be at most the {self.workload.n_train} training examples of the workload; "
                f"got {self.batch_size}"
            )

    def _check_warmup(self) -> None:
        unit = "steps" if self.budget.epochs is None else "epochs"
        budget = getattr(self.budget, unit)
        if self.schedule.warmup >= budget:
            raise ValueError(
                f"schedule.warmup: must be shorter than the budget, {budget:g} {unit}, being in {unit}, too; "
                f"got {self.schedule.warmup:g}"
            )

    @property
    def examples_known(self) -> bool:
        """Whether the number of training examples is known without calling a user's code."""
        return not (
            isinstance(self.workload, Trainable | Imported)
            or (isinstance(self.workload, Factory) and not self.workload.train)
        )

    @property
    def unknown(self) -> tuple[str, ...]:
        """Fields that are placeholders: an imported sweep's source does not say them."""
        return self.workload.unknown if isinstance(self.workload, Imported) else ()

    @property
    def imported(self) -> bool:
        """Whether its results were trained elsewhere, so that it cannot be launched."""
        return isinstance(self.workload, Imported)

    @model_validator(mode="after")
    def _restarts(self) -> Spec:
        if self.training.sharpness and isinstance(self.workload, Trainable):
            raise ValueError(
                "training.sharpness: must be false for a trainable, whose model hpscan does not see; got true"
            )
        if self.metric.startswith("ensemble_") and not self.training.snapshots and not self.unknown:
            raise ValueError(f"metric: {self.metric} is of snapshots' predictions; set training.snapshots: true")
        if self.training.snapshots and not isinstance(self.schedule, CosineRestarts):
            raise ValueError(
                f"training.snapshots: are taken at restarts; schedule must be cosine_restarts, got {self.schedule.name}"
            )
        return self

    @model_validator(mode="after")
    def _rungs(self) -> Spec:
        if self.stop.name == "diverged":
            return self
        if self.adaptive:
            raise ValueError("stop: halving stops cells of a whole grid; give `diverged`, or leave `adaptive` out")
        if self.workload.name == "trainable":
            raise ValueError("stop: a trainable is trained to its end and cannot pause at rungs; give `diverged`")
        if self.metric not in {"val_loss", "val_error"}:
            raise ValueError(f"stop: runs are compared at rungs by val_loss or val_error; metric is {self.metric}")
        for spec in map(self.at, self.points()):
            spec.stop.steps(spec.steps if spec.examples_known else spec.evaluations, spec.evaluations)
        return self

    def points(self) -> list[dict[str, float]]:
        """Every combination of values of the recipe's axes, by name; one empty one where the grid has none."""
        axes = self.grid.recipe()
        return [dict(zip(axes, map(float, values), strict=True)) for values in product(*axes.values())]

    @property
    def n_runs(self) -> int:
        """Runs of the whole grid."""
        axes = [(*self.grid.axes(variant), *self.grid.further(variant).values()) for variant in self.variants]
        return sum(math.prod(map(len, each)) for each in axes) * len(self.points()) * len(self.seeds)

    def at(self, point: Mapping[str, float]) -> Spec:
        """The spec with the budget, batch size and width of one of its :meth:`points`."""
        changes: dict[str, Any] = {}
        for unit in ("steps", "epochs"):
            if unit in point:
                changes["budget"] = Budget.model_validate({unit: point[unit]})
        if "batch_size" in point:
            changes["batch_size"] = int(point["batch_size"])
        if "width" in point:
            if isinstance(self.workload, Factory | Trainable) and not self.workload.width_path:
                raise ValueError(
                    "grid.width: goes before a whole number `width` in workload.args, as in args: {width: 32}; "
                    f"got args {self.workload.args}"
                )
            try:
                changes["workload"] = at_width(self.workload, int(point["width"]))
            except ValidationError as error:
                raise ValueError(f"grid.width: {refusal(error)}") from None
            except ValueError as error:
                raise ValueError(f"grid.width: {error}") from None
        return self.model_copy(update=changes)

    @property
    def steps(self) -> int:
        """The budget in optimizer steps."""
        return max(1, round(self.budget.length * self._steps_per_unit))

    @property
    def schedule_in_steps(self) -> Schedule:
        """The schedule with its lengths, which are in the budget's unit, in steps."""
        return self.schedule.in_steps(self._steps_per_unit)

    @property
    def _steps_per_unit(self) -> float:
        return 1.0 if self.budget.steps is not None else self.workload.n_train / self.batch_size

    def resolved(self) -> Spec:
        """The spec as launched: a workload of the user's spelt out, so that it means the same from any folder.

        Raises
        ------
        WorkloadError
            If the user's code cannot be imported or raises.
        """
        workload = self.workload.resolved()
        return self if workload == self.workload else self.validated({**self.model_dump(), "workload": workload})

    @classmethod
    def load(cls, source: str, overrides: Iterable[str] = ()) -> Spec:
        """Read a spec from a file or by the name of a shipped one.

        Parameters
        ----------
        source
            A path, or a name that :func:`hpscan.spec_text.shipped_specs` lists.
        overrides
            ``dotted.key=value`` strings with YAML values, applied in order.

        Raises
        ------
        SpecError
            In one line: the file is absent or not YAML, a key is unknown, or a value is out of range.
        """
        raw = parse_yaml(read_source(source), source)
        for override in overrides:
            override_field(raw, override)
        return cls.validated(raw)

    @classmethod
    def validated(cls, raw: Mapping[str, Any]) -> Spec:
        """Validate a mapping; raises :class:`SpecError` where pydantic would raise its own."""
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise SpecError(refusal(error)) from None

    def to_yaml(self, *, nulls: bool = True, without: Collection[str] = ()) -> str:
        """The complete spec, defaults included, in the order of its fields; without its ``nulls`` it reads back as the same.

        Fields may be left out for people to read it ``without`` them.
        """
        return write_yaml(self.model_dump(mode="json", exclude_none=not nulls, exclude=set(without)))


def is_validation(metric: str) -> bool:
    """Whether the cells of a sweep may be chosen by a metric."""
    return re.fullmatch(r"(ensemble_)?val_\w+", metric) is not None


def _no_repeats(values: tuple[Value, ...]) -> tuple[Value, ...]:
    repeated = sorted(value for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise ValueError(f"must not repeat a value; {', '.join(map(str, repeated))} is given more than once")
    return values
