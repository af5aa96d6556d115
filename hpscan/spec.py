"""The spec: the YAML file that describes a sweep, validated before anything runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from hpscan._model import Model, accept_name
from hpscan.axes import Grid
from hpscan.schedules import Cosine, Schedule
from hpscan.variants import known_variant
from hpscan.workloads import Digits

__all__ = ["Budget", "Hyperparameters", "Resources", "Spec", "SpecError", "shipped_specs"]

Value = TypeVar("Value", int, str)


class SpecError(ValueError):
    """A spec that cannot be used; the message is one line that names the field, the value and what would be right."""


class Budget(Model):
    """How long a run trains: ``steps``, or ``epochs`` of the training set."""

    steps: int | None = Field(default=None, ge=1)
    epochs: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_of(self) -> Budget:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self

    def in_steps(self, n_train: int, batch_size: int) -> int:
        """The budget in optimizer steps; an epoch is ``n_train / batch_size`` of them, at least one step in all."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * n_train / batch_size))


class Hyperparameters(Model):
    """What every run of a sweep shares of its optimizer."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)


class Resources(Model):
    """Where and how packs run; never part of a run's identity."""

    workers: int | None = Field(default=None, ge=1)
    """Packs that train at once; by default one a CPU core."""
    pack_size: int = Field(default=32, ge=1)
    """Runs a pack holds at most."""
    compile: bool = True
    """Compile the training step where the machine has a C++ compiler."""

    @property
    def workers_here(self) -> int:
        """``workers``, or one for every core that this process may use."""
        return self.workers or len(os.sched_getaffinity(0))


class Spec(Model):
    """A sweep: what to train, over which grid, for how long."""

    name: str
    """The sweep's folder in the store."""
    notes: str = ""
    workload: Annotated[Digits, BeforeValidator(accept_name)]
    variants: tuple[Annotated[str, Field(strict=True)], ...]
    grid: Grid
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    budget: Budget
    batch_size: int = Field(ge=1)
    schedule: Annotated[Schedule, BeforeValidator(accept_name)] = Cosine()
    optimizer: Hyperparameters = Hyperparameters()
    decay_on: Literal["weights", "all"] = "weights"
    """``weights``: tensors of two or more axes; ``all``: biases and norms too, as in the paper's code."""
    metric: Literal["val_loss", "val_error"] = "val_loss"
    """What the landscape shows and the best cell is chosen by."""
    evaluations: int = Field(default=8, ge=1)
    """Evaluations a run, equally spaced; the last one is at the end of the budget."""
    resources: Resources = Resources()

    @field_validator("name")
    @classmethod
    def _folder_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise ValueError(f"must be a folder name of letters, digits, '.', '_' and '-'; got {name!r}")
        return name

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
        return list(range(seeds)) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("must hold at least one seed; got none")
        return _no_repeats(seeds)

    @model_validator(mode="after")
    def _axes_given(self) -> Spec:
        for variant in self.variants:
            self.grid.axes(variant)
        return self

    @model_validator(mode="after")
    def _fits_the_data(self) -> Spec:
        if self.batch_size > self.workload.train:
            raise ValueError(
                f"batch_size: must be at most workload.train ({self.workload.train}); got {self.batch_size}"
            )
        if self.batch_size < 2 and self.workload.model == "normalised_mlp":
            raise ValueError(f"batch_size: must be at least 2 for BatchNorm to have a variance; got {self.batch_size}")
        return self

    @property
    def steps(self) -> int:
        """The budget in optimizer steps."""
        return self.budget.in_steps(self.workload.train, self.batch_size)

    @classmethod
    def load(cls, source: str, overrides: Iterable[str] = ()) -> Spec:
        """Read a spec from a file or by the name of a shipped one.

        Parameters
        ----------
        source
            A path, or a name that :func:`shipped_specs` lists.
        overrides
            ``dotted.key=value`` strings with YAML values, applied in order.

        Raises
        ------
        SpecError
            In one line: the file is absent or not YAML, a key is unknown, or a value is out of range.
        """
        raw = _parse(_read(source), source)
        for override in overrides:
            _override(raw, override)
        return cls.validated(raw)

    @classmethod
    def validated(cls, raw: Mapping[str, Any]) -> Spec:
        """Validate a mapping; raises :class:`SpecError` where pydantic would raise its own."""
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise SpecError(_one_line(error)) from None

    def to_yaml(self) -> str:
        """The complete spec, defaults included, in the order of its fields."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def shipped_specs() -> dict[str, str]:
    """The specs that come with hpscan: name → YAML text."""
    folder = resources.files("hpscan.sweeps")
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name)
    return {entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8") for entry in files}


def _no_repeats(values: tuple[Value, ...]) -> tuple[Value, ...]:
    repeated = sorted({value for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"must not repeat a value; {', '.join(map(str, repeated))} is given more than once")
    return values


def _read(source: str) -> str:
    path = Path(source)
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise SpecError(f"spec {source!r}: cannot be read: {reason}") from None
    shipped = shipped_specs()
    if source in shipped:
        return shipped[source]
    raise SpecError(f"spec {source!r}: no such file, and no shipped spec of that name ({', '.join(shipped)})")


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, where YAML's own loader keeps the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    problem="a key must be a plain word", problem_mark=key_node.start_mark
                )
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"key {key_node.value!r} is given twice", problem_mark=key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        raw = yaml.load(text, _UniqueKeyLoader)  # noqa: S506  (a SafeLoader)
    except (yaml.YAMLError, ValueError) as error:  # PyYAML lets ValueError through for, say, a 13th month
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise SpecError(
            f"spec {source!r}: not YAML{where}: {getattr(error, 'problem', None) or str(error).splitlines()[0]}"
        ) from None
    if not isinstance(raw, dict):
        raise SpecError(f"spec {source!r}: must be a mapping of fields such as `name:`; got {type(raw).__name__}")
    return raw


def _override(raw: dict[str, Any], override: str) -> None:
    """Set one ``dotted.key=value`` in place."""
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        raise SpecError(f"--set {override!r}: must be key=value, e.g. seeds=[1, 2]")
    *parents, last = dotted.strip().split(".")
    for parent in parents:
        below = raw.setdefault(parent, {})
        if isinstance(below, str):  # the short form of {name: …}
            below = raw[parent] = accept_name(below)
        if not isinstance(below, dict):
            raise SpecError(f"--set {override!r}: `{parent}` holds {below!r}, which has no keys below it")
        raw = below
    try:
        raw[last] = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError):
        raise SpecError(f"--set {override!r}: {text!r} is not a YAML value") from None


def _one_line(error: ValidationError) -> str:
    """The first problem of a validation error, as ``field``: what is wrong; got value."""
    problems = error.errors(include_url=False)
    first = problems[0]
    tags = {"constant", "cosine", "step", "digits"}
    field = ".".join(str(part) for part in first["loc"] if part not in tags)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        message = "missing; a spec must give it"
    elif first["type"] != "value_error":
        message = f"{message[0].lower()}{message[1:].replace('nput should', 'nput must')}; got {first['input']!r}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"`{field}`: {message}{more}" if field else f"{message}{more}"
