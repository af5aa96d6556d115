"""What was trained, by what, and how to do it again."""

from __future__ import annotations

from hpscan import numerals
from hpscan.analysis import Analysis
from hpscan.caveats import command
from hpscan.pages import Block, Code, Facts, Paragraph, Points, Section
from hpscan.spec import Spec

__all__ = ["DECAY_ON", "reproducing", "setting", "setting_of", "spec_told"]

DECAY_ON = {"weights": "weight matrices only", "all": "every parameter"}


def setting(analysis: Analysis) -> Section:
    """The setting, what trained it, and the user's notes."""
    notes = analysis.spec.notes.strip()
    told: list[Block] = [Paragraph(notes)] if notes else []
    return Section("Setting", [Facts([*setting_of(analysis), *_provenance(analysis)]), *told])


def setting_of(analysis: Analysis) -> list[tuple[str, str]]:
    """What was trained, and how."""
    spec = analysis.spec
    training = spec.training.model_dump(mode="json", exclude_defaults=True)
    return [
        ("Workload", numerals.in_words(spec.workload.identity())),
        *([("Widths", " ".join(map(str, spec.grid.width)))] if spec.grid.width else []),
        *([("Training", numerals.in_words(training))] if training else []),
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
    """The commands that make it again."""
    spec, store = analysis.spec, analysis.store
    if spec.unknown:
        return []
    points = [("All of it", "save the spec below as spec.yaml;", command(store, "launch", "spec.yaml"))]
    for variant in analysis.variants:
        if variant.best is not None:
            run_id = variant.landscape.run_ids[0, *variant.best.index]
            again = command(store, "reproduce", str(run_id), "--sweep", spec.name)
            points.append((variant.name, "its best cell, first seed, and whether the stored metrics come back:", again))
    return [Section("How to reproduce it", [Points(points)])]


def spec_told(spec: Spec) -> Section:
    """The complete spec."""
    return Section("The complete spec", [Code(spec.to_yaml(nulls=False).rstrip(), "yaml")])
