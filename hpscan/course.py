"""The rounds of a sweep whose runs stop at rungs, or its only round: the packs of each, from what is stored when it begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hpscan.grid import Pack, Run, packs
from hpscan.progress import PackSummary
from hpscan.rungs import Round, next_round
from hpscan.spec import Spec
from hpscan.store import Store

__all__ = ["Course"]


@dataclass
class Course:
    """The rounds of a launch, each planned from what is stored when it begins."""

    spec: Spec
    store: str
    """Its location."""
    every: Sequence[Run]
    """The spec's runs, in order."""
    workers: int
    round: Round
    """The one that is next."""
    tried: set[tuple[str, int]] = field(default_factory=set)
    """Runs and the steps they were to come to: what a worker could not do is not tried again in the same launch."""

    def packs(self) -> list[Pack]:
        """The packs of the round."""
        done, legs = self.round.done, self.round.legs
        if legs is not None:
            done = done | {run_id for run_id, leg in legs.items() if (run_id, leg.until) in self.tried}
        kept = Store(self.store).checkpoints(self.spec.name)
        return packs(self.every, self.spec.resources.most_runs, done, self.workers, legs, checkpoints=kept)

    def proceed(self, on_pack: Callable[[PackSummary], None]) -> list[Pack]:
        """Store which runs stop, and go on to the next round; its packs, none if the sweep is through."""
        if self.round.legs is None:
            return []
        self.tried |= {(run_id, leg.until) for run_id, leg in self.round.legs.items()}
        store = Store(self.store, on_broken=lambda _: None)  # whoever launched has been told
        self.round = next_round(self.spec, store)
        if self.round.stopped:
            store.stop(self.spec.name, self.round.stopped)
            on_pack(PackSummary(f"rung {len(self.tried)}", "", {"stopped": len(self.round.stopped)}, None))
        planned = self.packs()
        named = {source for pack in planned for source in pack.sources} | {pack.name for pack in planned}
        store.keep_checkpoints(self.spec.name, named)
        return planned
