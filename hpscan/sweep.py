"""A sweep of a store, opened to be looked at from Python: in a script, or in a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hpscan.analysis import Analysis, VariantAnalysis, analyze, status
from hpscan.landscape import Landscape, landscapes
from hpscan.separation import Separability, separability
from hpscan.spec import Spec, SpecError
from hpscan.store import Store
from hpscan.verdicts import Verdict
from hpscan.views import view

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

__all__ = ["Sweep", "SweepLandscape", "open_sweep"]


@dataclass(frozen=True, eq=False, repr=False)
class SweepLandscape(Landscape):
    """A landscape that can be tabulated and drawn; everything of :class:`hpscan.Landscape` besides."""

    def __repr__(self) -> str:
        first, second = self.axes
        size = f"{len(self.lr)} {first} × {len(self.wd)} {second} × {len(self.seeds)} seeds"
        return f"SweepLandscape({self.name!r}, {self.metric}, {size})"

    def to_frame(self) -> pd.DataFrame:
        """One row a run: its axes, seed, state and run_id, and every metric (inf where it diverged, nan where unknown)."""
        first, second = self.axes
        seeds, one, other = np.meshgrid(np.array(self.seeds), self.lr, self.wd, indexing="ij")
        columns = {
            "variant": self.variant, **dict(self.at), first: one.ravel(), second: other.ravel(), "seed": seeds.ravel(),
            "state": self.states.ravel(), "run_id": self.run_ids.ravel(),
        }  # fmt: skip
        return pd.DataFrame({**columns, **{metric: values.ravel() for metric, values in self.values.items()}})

    def to_xarray(self) -> xarray.Dataset:
        """Every metric and the state over (seed, lr, wd), or whatever the axes are; needs ``pip install 'hpscan[xarray]'``."""
        try:
            import xarray
        except ImportError:
            raise ImportError("to_xarray() needs xarray: pip install 'hpscan[xarray]'") from None
        dimensions = ("seed", *self.axes)
        cubes = {**self.values, "state": self.states.astype(str), "run_id": self.run_ids.astype(str)}
        return xarray.Dataset(
            {name: (dimensions, cube) for name, cube in cubes.items()},
            coords=dict(zip(dimensions, (list(self.seeds), self.lr, self.wd), strict=True)),
            attrs={"variant": self.variant, "metric": self.metric, **dict(self.at)},
        )

    def separability(self) -> Separability:
        """How separable the two axes are (:func:`hpscan.separability`)."""
        return separability(self)

    def verdict(self) -> Verdict:
        """What that says, in a word and a sentence."""
        return VariantAnalysis.of(self).verdict

    def plot(self) -> Figure:
        """Draw it as ``hpscan figures`` does, on a colour scale of its own."""
        from hpscan.notebook import landscape_chart

        return landscape_chart(VariantAnalysis.of(self))

    def _repr_html_(self) -> str:
        """The drawing and the verdict, for notebooks."""
        from hpscan.notebook import landscape_html

        return landscape_html(VariantAnalysis.of(self))


@dataclass(frozen=True, repr=False)
class Sweep:
    """A sweep of a store. Every call reads what the store holds by then."""

    store: Store
    name: str

    def __repr__(self) -> str:
        return f"Sweep({self.name!r})"

    @property
    def spec(self) -> Spec:
        """The spec as last launched."""
        return self.store.spec(self.name)

    @property
    def status(self) -> dict[str, Any]:
        """How far it is: runs by state, together and by variant, and what failed runs raised."""
        return status(self.store, self.name)

    def runs(self) -> pd.DataFrame:
        """One row a run of the spec that has ended; columns as in the store, without ``config``."""
        rows = self.store.runs(self.name, without=["config"])
        wanted = {run_id for shape in landscapes(self.spec, rows) for run_id in shape.run_ids.ravel()}
        return rows[rows["run_id"].isin(wanted)].reset_index(drop=True)

    def curves(self) -> pd.DataFrame:
        """One row a run and evaluation, with the run's variant, lr, wd and seed."""
        of_runs = self.runs()[["run_id", "variant", "lr", "wd", "seed"]]
        return of_runs.merge(self.store.curves(self.name), on="run_id")

    def landscapes(self) -> list[Landscape]:
        """One landscape over lr and wd for each variant, and for each value of further axes."""
        return landscapes(self.spec, self.store.runs(self.name, without=["config"]))

    def landscape(
        self,
        variant: str,
        metric: str | None = None,
        *,
        axes: tuple[str, str] = ("lr", "wd"),
        at: Mapping[str, float] | None = None,
        over: Mapping[str, str] | None = None,
    ) -> SweepLandscape:
        """The landscape of one variant.

        Parameters
        ----------
        variant
            Its name; or a panel's, such as ``sgd momentum=0.9``.
        metric
            What cells are compared by; the spec's by default. Test metrics are in ``to_frame()`` and in ``best().means``, but
            nothing is chosen by them.
        axes, at, over
            Two axes to lay it out over, and what becomes of others, as :func:`hpscan.view` has it.

        Raises
        ------
        SpecError
            If there is no such variant, metric, axis or value.
        """
        found = self.landscapes()
        shapes = [shape for shape in found if shape.name == variant] or [
            shape for shape in found if shape.variant == variant
        ]
        if not shapes:
            raise SpecError(f"variant: the sweep has {', '.join(shape.name for shape in found)}; got {variant!r}")
        metrics = [name for name in dict(shapes[0].values) if not name.startswith(("test_", "ensemble_test_"))]
        chosen = metric or shapes[0].metric
        if chosen not in metrics:
            raise SpecError(f"metric: must be one of {', '.join(metrics)}; got {chosen!r}")
        (shape,) = view([replace(shape, metric=chosen) for shape in shapes], axes, at, over)
        return SweepLandscape(**{field.name: getattr(shape, field.name) for field in fields(shape)})

    def analysis(
        self,
        axes: tuple[str, str] | None = None,
        at: Mapping[str, float] | None = None,
        over: Mapping[str, str] | None = None,
    ) -> Analysis:
        """Every number that ``hpscan analyze`` prints (:func:`hpscan.analyze`)."""
        return analyze(self.store, self.name, axes, at, over)

    def _repr_html_(self) -> str:
        """A table of the best cells, for notebooks."""
        from hpscan.notebook import landscapes_html

        return landscapes_html(self.name, self.spec.metric, self.landscapes())


def open_sweep(store: str | Path | Store, name: str) -> Sweep:
    """Open a sweep of a store, which is a path, a URI such as ``s3://bucket/prefix``, or a :class:`hpscan.Store`.

    Raises
    ------
    StoreError
        If there is no such sweep.
    """
    opened = store if isinstance(store, Store) else Store(store)
    opened.spec(name)
    return Sweep(opened, name)
