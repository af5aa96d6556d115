"""What was trained, by what, and how to do it again; of an imported sweep, as far as its source says."""

from __future__ import annotations

from hpscan import numerals
from hpscan.analysis import Analysis
from hpscan.caveats import command
from hpscan.pages import Block, Code, Facts, Paragraph, Points, Section
from hpscan.spec import Spec

__all__ = ["DECAY_ON", "reproducing", "setting", "setting_of", "spec_told"]

DECAY_ON = {"weights": "weight matrices only", "all": "every parameter"}
OF_LAUNCHES = ("evaluations", "adaptive", "stop", "resources")
"""Fields of a spec that say how hpscan trains: nothing of a sweep that it did not train."""


def setting(analysis: Analysis) -> Section:
    """The setting, what trained it, and the user's notes."""
    notes = analysis.spec.notes.strip()
    told: list[Block] = [Paragraph(notes)] if notes else []
    return Section("Setting", [Facts([*setting_of(analysis), *_provenance(analysis)]), *told])


def setting_of(analysis: Analysis) -> list[tuple[str, str]]:
    """What was trained, and how."""
    spec = analysis.spec
    options = spec.training.model_dump(mode="json", exclude_defaults=True)
    training = "unknown" if "training" in spec.unknown else numerals.in_words(options)
    return [
        ("Workload", numerals.in_words(spec.workload.identity())),
        *([("Widths", " ".join(map(str, spec.grid.width)))] if spec.grid.width else []),
        *([("Training", training)] if training else []),
        (
            "Budget",
            f"{numerals.budgets(spec)}, {'unknown' if 'schedule' in spec.unknown else spec.schedule.name} schedule",
        ),
        ("Seeds", ", ".join(map(str, spec.seeds))),
        ("Decay on", "unknown" if "decay_on" in spec.unknown else DECAY_ON[spec.decay_on]),
    ]


def _provenance(analysis: Analysis) -> list[tuple[str, str]]:
    """What trained the runs; several values where they differ."""
    frame = analysis.frame
    columns = {
        "Host": "host", "Processor": "device_name", "Device": "device", "Matmul mode": "matmul_mode",
        "Strategy": "strategy", "Compiled": "compiled", "hpscan": "hpscan_version", "torch": "torch_version", "Ray": "ray_version",
        "Python": "python_version", "Commit": "git_commit",
    }  # fmt: skip
    rows = [(title, ", ".join(sorted(map(str, frame[name].dropna().unique())))) for title, name in columns.items()]
    return [(title, value) for title, value in rows if value]


def reproducing(analysis: Analysis) -> list[Section]:
    """The commands that make it again; none of results that were trained elsewhere."""
    spec, store = analysis.spec, analysis.store
    if spec.imported:
        return []
    points = [("All of it", "save the spec below as spec.yaml;", command(store, "launch", "spec.yaml"))]
    for variant in analysis.variants:
        if variant.best is not None:
            run_id = variant.landscape.run_ids[0, *variant.best.index]
            again = command(store, "reproduce", str(run_id), "--sweep", spec.name)
            points.append((variant.name, "its best cell, first seed, and whether the stored metrics come back:", again))
    return [Section("How to reproduce it", [Points(points)])]


def spec_told(spec: Spec) -> Section:
    """The complete spec, or as much of it as the source of an imported sweep says."""
    title = "The spec, as far as its source says it" if spec.imported else "The complete spec"
    placeholders = (*spec.unknown, *OF_LAUNCHES) if spec.imported else ()
    return Section(title, [Code(spec.to_yaml(nulls=False, without=placeholders).rstrip(), "yaml")])
