"""The documents that the API answers, filled from what the reader gives."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from hpscan.files import StoreError
from hpscan.landscape import Best, Landscape, recorded
from hpscan.spec import Spec, SpecError

from .answers import BestCell, Curve, ShippedSpec, SweepSummary, finite, json_values
from .reading import Reader, UnknownError

__all__ = ["curve", "landscape", "planned_runs", "run_fields", "shipped", "status_fields", "summary"]


def summary(reader: Reader, sweep: str) -> SweepSummary:
    """A sweep in the list; one that cannot be read hides none of the others."""
    try:
        return SweepSummary(**status_fields(reader, sweep))
    except (StoreError, SpecError, UnknownError) as error:
        return SweepSummary(name=sweep, problem=str(error))


def status_fields(reader: Reader, sweep: str) -> dict[str, Any]:
    """How far a sweep is: the fields of its summary."""
    found, pace = reader.status(sweep), reader.pace(sweep)
    runs, missing = found["runs"], found["states"]["missing"]
    best = reader.best(sweep)
    return {
        "name": sweep,
        "runs": runs,
        "states": found["states"],
        "progress": (runs - missing) / runs if runs else 1.0,
        "best": _best(*best) if best else None,
        "updated": pace.last,
        "running": pace.is_running,
        "eta_s": pace.eta_s,
    }


def _best(shape: Landscape, best: Best) -> BestCell:
    return BestCell(
        panel=shape.name,
        lr=best.lr,
        wd=best.wd,
        metric=shape.metric,
        mean=finite(best.means[shape.metric]),
        n_seeds=best.n_seeds,
    )


def landscape(sweep: str, shape: Landscape, step: int | None) -> dict[str, Any]:
    """A landscape as JSON values, the fields of a :class:`LandscapeAnswer`."""
    best = shape.best()
    return {
        "sweep": sweep,
        "panel": shape.name,
        "variant": shape.variant,
        "at": dict(shape.at),
        "metric": shape.metric,
        "step": step,
        "axes": list(shape.axes),
        "first": shape.lr.tolist(),
        "second": shape.wd.tolist(),
        "seeds": list(shape.seeds),
        "mean": _with_nulls(shape.mean()),
        "values": _with_nulls(shape.z),
        "states": shape.states.tolist(),
        "best": _best(shape, best).model_dump() if best else None,
    }


def _with_nulls(values: np.ndarray) -> Any:
    known = values.astype(object)
    known[~np.isfinite(values)] = None
    return known.tolist()


def planned_runs(reader: Reader, sweep: str) -> pd.DataFrame:
    """Every run that the spec asks for, trained or not: one row each."""

    def lay_out() -> pd.DataFrame:
        parts, shapes = [], reader.shapes(sweep)
        names = [shape.name for shape in shapes]
        for shape in shapes:
            seeds, lr, wd = np.meshgrid(np.array(shape.seeds), shape.lr, shape.wd, indexing="ij")
            columns = {"run_id": shape.run_ids, "lr": lr, "wd": wd, "seed": seeds, "state": shape.states}
            part = pd.DataFrame({name: column.ravel() for name, column in columns.items()})
            part["panel"] = pd.Categorical([shape.name], categories=names).repeat(len(part))
            parts.append(part)
        every = pd.concat(parts, ignore_index=True)
        return every.astype({"state": "category"})

    return reader.kept(sweep, "planned runs", lay_out)


def run_fields(reader: Reader, sweep: str, page: pd.DataFrame) -> list[dict[str, Any]]:
    """Some of the planned runs, with what the store holds of them."""
    rows = reader.runs(sweep, page["run_id"].tolist()).set_index("run_id")
    metrics = recorded(rows)
    told: list[dict[str, Any]] = []
    for planned in page.to_dict("records"):
        run_id = planned["run_id"]
        row: Mapping[str, Any] = json_values(rows.loc[run_id].to_dict()) if run_id in rows.index else {}
        whole = {"steps_done": None if row.get("steps_done") is None else int(row["steps_done"])}
        further = {name: row.get(name) for name in ("error", "wall_s", "finished_at")}
        known = {name: row[name] for name in metrics if row}
        told.append({**{str(name): value for name, value in planned.items()}, **whole, **further, "metrics": known})
    return told


def curve(run_id: str, rows: pd.DataFrame) -> Curve:
    """The evaluations of one run, from its rows."""
    values = {
        str(name): _with_nulls(column.to_numpy(dtype=np.float64))
        for name, column in rows.items()
        if pd.api.types.is_float_dtype(column) and column.notna().any()
    }
    return Curve(run_id=run_id, step=rows["step"].tolist(), values=values)


@lru_cache(maxsize=64)
def shipped(name: str) -> ShippedSpec:
    """A spec that comes with hpscan, counted."""
    spec = Spec.load(name)
    return ShippedSpec(
        name=name,
        workload=spec.workload.name,
        variants=list(spec.variants),
        runs=spec.n_runs,
        notes=spec.notes.strip(),
    )
