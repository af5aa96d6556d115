"""What the API answers: the shape of every JSON document; what is not known or not finite is null."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from .admission import MOST_TEXT

__all__ = [
    "AnalysisAnswer",
    "BestCell",
    "Curve",
    "Curves",
    "LandscapeAnswer",
    "Later",
    "Launch",
    "Log",
    "Page",
    "PanelStates",
    "Run",
    "RunDetail",
    "ShippedSpec",
    "SpecText",
    "Status",
    "SweepSummary",
    "Validated",
    "ValidationText",
    "finite",
    "json_values",
]

T = TypeVar("T")

State = Literal["completed", "diverged", "stopped", "failed", "missing"]


class Page(BaseModel, Generic[T]):
    """Part of a list."""

    total: int = Field(description="Of the whole list.")
    offset: int
    limit: int
    items: list[T]


class BestCell(BaseModel):
    """The best cell so far, over all panels, chosen on validation."""

    panel: str
    lr: float
    wd: float
    metric: str
    mean: float | None
    n_seeds: int


class SweepSummary(BaseModel):
    """A sweep in the list."""

    name: str
    runs: int | None = Field(None, description="All that its spec asks for.")
    states: dict[State, int] | None = None
    progress: float | None = Field(None, ge=0, le=1, description="Share of the runs that have ended.")
    best: BestCell | None = None
    updated: datetime | None = Field(None, description="When its last run ended.")
    running: bool = Field(False, description="Whether runs are missing and a launch of it lives.")
    eta_s: float | None = Field(None, description="Seconds to the last run by the pace of late.")
    problem: str | None = Field(None, description="Why nothing else is known of it.")


class PanelStates(BaseModel):
    """How far one landscape is."""

    variant: str
    states: dict[State, int]


class Status(SweepSummary):
    """How far a sweep is."""

    metric: str
    panels: list[PanelStates]
    metrics: list[str] = Field(description="What its landscapes can show, its own metric first.")
    steps: list[int] = Field(description="Evaluations that its landscapes can be shown at.")
    errors: dict[str, int] = Field(description="What failed runs raised, and how many did.")
    broken: list[str] = Field(description="A line for each file that is left out.")
    version: str = Field(description="Changes whenever a file of it does.")
    read_at: datetime


class LandscapeAnswer(BaseModel):
    """One landscape. Arrays are by seed, first axis, second axis; ``mean`` by the axes alone."""

    sweep: str
    panel: str
    variant: str
    at: dict[str, float] = Field(description="Its value on each further axis.")
    metric: str
    step: int | None = Field(description="The evaluation; null for the end of training.")
    axes: list[str]
    first: list[float] = Field(description="Values of the first axis: the learning rate.")
    second: list[float] = Field(description="Values of the second axis: the weight decay.")
    seeds: list[int]
    mean: list[list[float | None]] = Field(description="Over seeds; null where none is known or one diverged.")
    values: list[list[list[float | None]]]
    states: list[list[list[State]]]
    best: BestCell | None


class Run(BaseModel):
    """A run; one that is missing has neither metrics nor times."""

    run_id: str
    panel: str
    lr: float
    wd: float
    seed: int
    state: State
    error: str | None = None
    steps_done: int | None = None
    wall_s: float | None = None
    finished_at: datetime | None = None
    metrics: dict[str, float | None] = {}


class RunDetail(Run):
    """A run with all that the store holds of it."""

    config: dict[str, Any] | None = Field(description="All that determines its result.")
    row: dict[str, Any] = Field(description="Every other column.")


class Curve(BaseModel):
    """The evaluations of a run."""

    run_id: str
    step: list[int]
    values: dict[str, list[float | None]]


class Curves(BaseModel):
    """The curves of those of the runs that have one."""

    curves: list[Curve]


class AnalysisAnswer(BaseModel):
    """What ``hpscan analyze --json`` prints."""

    sweep: str
    metric: str
    variants: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    scaling: list[dict[str, Any]]
    collapse: list[dict[str, Any]]


class ShippedSpec(BaseModel):
    """A spec that comes with hpscan."""

    name: str
    workload: str
    variants: list[str]
    runs: int
    notes: str


class SpecText(BaseModel):
    """A spec."""

    text: str = Field(max_length=MOST_TEXT, description="YAML.")


class ValidationText(SpecText):
    """A spec to check."""

    cost: bool = Field(
        True, strict=True, description="Whether to estimate what it costs, which takes seconds the first time."
    )


class Validated(BaseModel):
    """Whether a spec could be launched, and what that would mean."""

    valid: bool
    error: str | None = Field(None, description="One line: the field, the value, and what would be right.")
    sweep: str | None = None
    runs: int | None = None
    to_train: int | None = Field(None, description="Runs that the store lacks.")
    cost: str | None = None
    may_launch: bool = Field(description="Whether who asks may launch it here.")


class Later(BaseModel):
    """What is asked for is being made."""

    detail: str = Field(description="One line: what is being made.")


class Launch(BaseModel):
    """The last launch of a sweep from this server."""

    sweep: str
    status: Literal["running", "submitted", "succeeded", "failed", "cancelled"]
    how: str
    started_at: datetime
    exit_code: int | None = None


class Log(Launch):
    """The same with the end of what it printed."""

    text: str


def finite(value: Any) -> float | None:
    """A number, or None where it is none that JSON has."""
    number = float(value)
    return number if math.isfinite(number) else None


def json_values(value: Any) -> Any:
    """JSON values of whatever YAML or a table's row may hold."""
    if isinstance(value, Mapping):
        return {str(key): json_values(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [json_values(each) for each in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return finite(value)
    if hasattr(value, "item"):  # numpy's
        return json_values(value.item())
    return None if value != value else str(value)  # noqa: PLR0124  (NaT, which is not itself)
