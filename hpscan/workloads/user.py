"""A user's own code: a factory of data and model for the packed engine, or a plain training function."""

from __future__ import annotations

import filecmp
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator

from hpscan._model import Model
from hpscan.errors import at, first_line
from hpscan.workloads.base import Data, Split, UserWorkload, WorkloadError

if TYPE_CHECKING:
    from hpscan.tasks import Task

__all__ = ["Factory", "Trainable", "user_code"]

Reference = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
"""``module:function``."""


class _UserCode(Model):
    args: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments; they are part of a run's identity, the code is not: change an argument when you change it."""
    folder: str | None = None
    """Where the module is imported from; filled in at launch with the working directory."""

    _field: ClassVar[str]
    """The field that holds the reference."""

    @field_validator("args")
    @classmethod
    def _as_json(cls, args: dict[str, Any]) -> dict[str, Any]:
        """They are hashed, stored and sent as JSON."""
        for name, value in args.items():
            try:
                json.dumps(value, sort_keys=True, allow_nan=False)
            except (TypeError, ValueError):
                raise ValueError(
                    f"{name}: must be text, a number, true, false, null, or lists and mappings of these; "
                    f"got {value}, a {type(value).__name__}; put it in quotes"
                ) from None
        return args

    @property
    def width_path(self) -> tuple[str, ...]:
        """Where the width stands: the argument of that name, if there is one."""
        width = self.args.get("width")
        return ("args", "width") if isinstance(width, int) and not isinstance(width, bool) else ()

    def identity(self) -> dict[str, Any]:
        """The function and its arguments."""
        return self.model_dump(mode="json", include={"name", self._field, "args"})

    def _placed(self) -> Self:
        """The same workload with its folder."""
        return self.model_copy(update={"folder": str(self._absolute_folder())})

    def _absolute_folder(self) -> Path:
        return Path(self.folder or ".").absolute()

    def function(self) -> Callable[..., Any]:
        """Import the function.

        Raises
        ------
        WorkloadError
            If there is no such module or function, importing it raises, or this process has had another module of that name.
        """
        module, _, name = getattr(self, self._field).partition(":")
        folder = str(self._absolute_folder())
        if folder not in sys.path:
            sys.path.insert(0, folder)
            importlib.invalidate_caches()
        with user_code(f"workload.{self._field}: importing {module!r} from {folder}"):
            found = getattr(importlib.import_module(module), name, None)
        self._check_whose(module.partition(".")[0], Path(folder))
        if not callable(found):
            raise WorkloadError(f"workload.{self._field}: {module!r} in {folder} has no function {name!r}")
        return found

    def _check_whose(self, name: str, folder: Path) -> None:
        """Raise WorkloadError if a folder's module is not the one that this process has by its name."""
        had = getattr(sys.modules[name], "__file__", None)
        own = [path for path in (folder / f"{name}.py", folder / name / "__init__.py") if path.is_file()]
        if had and own and not any(filecmp.cmp(path, had, shallow=False) for path in own):  # a cluster's is a copy
            raise WorkloadError(
                f"workload.{self._field}: {name!r} in {folder}: this process has another module of that name, {had}; "
                "rename one, or launch from a process of its own"
            )


class Factory(_UserCode):
    """``factory`` returns an :class:`hpscan.UserWorkload`, to be trained by the packed engine."""

    name: Literal["factory"] = "factory"
    factory: Reference
    """``module:function`` in the folder of the launch; it returns a ``hpscan.UserWorkload``."""
    train: int | None = None
    """Training examples, filled in at launch."""

    _field: ClassVar[str] = "factory"

    @property
    def n_train(self) -> int:
        """Training examples."""
        return self.train or len(self.load().train.targets)

    def resolved(self) -> Self:
        """The same workload with its folder and the number of its training examples."""
        placed = self._placed()
        return placed.model_copy(update={"train": placed.n_train})

    def example(self, n: int) -> np.ndarray:
        """The first ``n`` training inputs, repeated if there are fewer."""
        return np.resize(self.load().train.inputs[:n], (n, *self.load().train.inputs.shape[1:]))

    def load(self) -> Data:
        """What the factory's ``load`` returns."""
        return _loaded(*self._call())

    def task(self) -> Task:
        """The factory's task."""
        return _made(*self._call()).task

    def _call(self) -> tuple[str, str | None, str]:
        """What tells one call of a factory from another: the function, its folder, its arguments as JSON."""
        return self.factory, self.folder, json.dumps(self.args, sort_keys=True)


class Trainable(_UserCode):
    """``trainable`` is called with each run's config and yields its metrics; one run at a time, by its own means."""

    name: Literal["trainable"] = "trainable"
    trainable: Reference
    """``module:function`` in the folder of the launch; it trains one run and yields metrics."""

    _field: ClassVar[str] = "trainable"

    @property
    def n_train(self) -> int:
        """Unknown: a budget in epochs needs a workload that says how many examples there are."""
        raise WorkloadError("budget: must be in steps for a trainable, whose training set hpscan does not know")

    def resolved(self) -> Self:
        """The same workload with its folder; the function must exist."""
        placed = self._placed()
        placed.function()
        return placed


@lru_cache(maxsize=4)
def _made(reference: str, folder: str | None, args: str) -> UserWorkload:
    """Call a factory, once for each set of arguments (JSON) in a process."""
    config = Factory(factory=reference, folder=folder, args=json.loads(args))
    function = config.function()
    with user_code(f"workload.factory: {reference} with args {args}"):
        made = function(**config.args)
    if not isinstance(made, UserWorkload):
        raise WorkloadError(f"workload.factory: {reference} must return hpscan.UserWorkload; got {type(made).__name__}")
    return made


@lru_cache(maxsize=1)
def _loaded(reference: str, folder: str | None, args: str) -> Data:
    """Load a factory's data, once in a process."""
    made = _made(reference, folder, args)
    with user_code(f"workload.factory: load of {reference}"):
        data = made.load()
    if not isinstance(data, Data):
        raise WorkloadError(f"workload.factory: load of {reference} must return hpscan.Data; got {type(data).__name__}")
    for name in ("train", "validation", "test"):
        split: Split = getattr(data, name)
        for part in (split.inputs, split.targets):
            if not isinstance(part, np.ndarray):
                raise WorkloadError(
                    f"workload.factory: {name} of {reference} must hold NumPy arrays; got a {type(part).__name__}"
                )
        if not len(split.inputs) == len(split.targets) > 0:
            raise WorkloadError(
                f"workload.factory: {name} of {reference} must hold as many inputs as targets, at least one; "
                f"got {len(split.inputs)} and {len(split.targets)}"
            )
    return data


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Turn whatever a user's code raises into one line that says where in it."""
    try:
        yield
    except WorkloadError:  # says all of it
        raise
    except (Exception, SystemExit) as error:
        raise WorkloadError(
            f"{what} raised {type(error).__name__}: {first_line(error, 'no message')}{at(error)}"
        ) from error
