"""Results that were trained elsewhere: a workload that can be looked at and not trained."""

from __future__ import annotations

from typing import Any, Literal, NoReturn

from hpscan._model import Model
from hpscan.workloads.base import WorkloadError

__all__ = ["Imported"]


class Imported(Model):
    """What ``hpscan import`` writes as the workload of a sweep."""

    name: Literal["imported"] = "imported"
    kind: Literal["csv", "optuna", "ray"]
    source: str
    """The file, folder or storage, as it was given."""
    width: int | None = None
    unknown: tuple[str, ...] = ()
    """Fields of the spec that the source does not say; what stands there is a placeholder."""

    @property
    def width_path(self) -> tuple[str, ...]:
        """Where the width stands, if the source has one."""
        return () if self.width is None else ("width",)

    def identity(self) -> dict[str, Any]:
        """Where the results came from."""
        return self.model_dump(mode="json", exclude={"unknown"}, exclude_none=True)

    @property
    def n_train(self) -> int:
        """Unknown: a budget in epochs needs a workload that says how many examples there are."""
        raise WorkloadError("budget: must be in steps for an imported sweep, whose training set hpscan does not know")

    def resolved(self) -> NoReturn:
        """Refuse to be launched."""
        raise WorkloadError(
            f"workload: imported from {self.source}, there is nothing here to train; analyze, figures, report and export read it"
        )
