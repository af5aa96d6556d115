"""What a reader must know before relying on a sweep, found in the sweep itself."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np

from hpscan import numerals
from hpscan.analysis import Analysis, VariantAnalysis
from hpscan.recommendation import less
from hpscan.store import Store
from hpscan.verdicts import STOPPED

__all__ = ["caveats", "command"]

Caveat = tuple[str, str, str]
"""What it is about, the text, and a command that would help."""


def caveats(analysis: Analysis) -> list[Caveat]:
    """The caveats of a sweep, those of single variants first; variants of which the same is to be said share one."""
    spec, shared = analysis.spec, dict[tuple[str, str], list[str]]()
    for variant in analysis.variants:
        for name, text, help_ in _of_variant(analysis, variant):
            shared.setdefault((text, help_), []).append(name)
    found = [(", ".join(names), text, help_) for (text, help_), names in shared.items()]
    if len(spec.seeds) == 1:
        text = "intervals rest on noise guessed from neighbouring cells, and differences may be noise."
        found.append(("One seed a cell", text, ""))
    noise = getattr(spec.workload, "label_noise", 0)
    if noise:
        text = f"{noise:.0%} of the training labels are random, on purpose; validation and test labels are clean."
        found.append(("Label noise", text, ""))
    augment = getattr(spec.workload, "augment", ())
    if augment:
        found.append(("Augmentation", f"training images are changed at random: {', '.join(augment)}.", ""))
    training = spec.training.model_dump(mode="json", exclude_defaults=True)
    if training:
        found.append(("Training options", f"{numerals.in_words(training)}; a training without them may differ.", ""))
    if spec.unknown:
        found.append(("Imported", f"the source does not say {', '.join(spec.unknown)}.", ""))
    how = "best cells are chosen by it and looked at again: expect a little less of them on new data."
    found.append((
        "Chosen on validation data",
        f"{numerals.metric_name(spec.metric)}; {how} The test set is used for nothing but reporting.", "",
    ))  # fmt: skip
    return found


def _of_variant(analysis: Analysis, variant: VariantAnalysis) -> list[Caveat]:
    shape, best, n_seeds = variant.landscape, variant.best, len(analysis.spec.seeds)
    found: list[Caveat] = []
    if best is not None and best.on_edge:
        refine = command(analysis.store, "refine", analysis.spec.name)
        text = "the best cell lies on the edge of the grid; a better one may lie beyond."
        more = ("", "") if analysis.spec.imported else (" Extend the grid:", refine)
        found.append((variant.name, text + more[0], more[1]))
    if best is not None and best.n_seeds < n_seeds:
        found.append((variant.name, f"the best cell has {best.n_seeds} of {n_seeds} seeds so far.", ""))
    uneven = np.unique(shape.known[shape.known > 0])
    if len(uneven) > 1:
        text = f"cells have between {uneven[0]} and {uneven[-1]} seeds; those with fewer are not compared."
        found.append((variant.name, text, ""))
    counts, total = shape.counts, sum(shape.counts.values())
    for state, verb in (
        ("missing", "are missing"),
        ("failed", "failed"),
        ("diverged", "diverged"),
        ("stopped", f"were stopped at a rung; {STOPPED}"),
    ):
        if counts[state]:
            of, share = total, ""
            if state == "diverged":  # what was not trained could not
                of -= counts["missing"]
                share = f" ({counts[state] / of:.0%})"
            found.append((variant.name, f"{counts[state]} of {of} runs{share} {verb}.", ""))
    ranked = shape.ranked()
    if len(ranked) > 1:
        behind = less(shape, ranked[1], shape, ranked[0])
        if behind.low <= 0.0:  # false where there is no interval
            text = "the best cell is ahead of the next by less than the noise; the middle of the basin is as good."
            found.append((variant.name, text, ""))
    return found


def command(store: Store, verb: str, *words: str) -> str:
    """A command line on this store, to be run from the folder that hpscan was run in; without a URI's keys and options."""
    location = store.files.shown()
    if store.is_local:
        path = Path(location).absolute()
        location = str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
    option = () if location == "results" else ("--store", location)
    return shlex.join(["hpscan", verb, *words, *option])
