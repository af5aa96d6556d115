"""What Ray Tune asks for the next pack of a sweep, and how it keeps workers from one round to the next."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from hpscan.course import Course
from hpscan.grid import Pack
from hpscan.progress import PackSummary
from hpscan.rounds import AdaptiveRounds
from hpscan.worker import order

__all__ = ["AdaptiveSearcher", "CourseSearcher", "KeptWorkers", "PackSearcher"]


HAND_OUTS = 3
"""How often a pack is handed out before it counts as lost."""


class PackSearcher(Searcher):
    """Hands out packs, and once more those that Tune dropped.

    It drops a trial, in silence or as an error and however many failures it allows, whose worker dies while being
    handed over from the pack before.
    """

    def __init__(self, places: Mapping[str, int]) -> None:
        super().__init__()
        self.places = places
        """Of runs in the assignment."""
        self.queue: deque[Pack] = deque()
        self.handed: dict[str, Pack] = {}
        """What is in training, by trial."""
        self.drops: Counter[tuple[str, int]] = Counter()
        self.lost: list[str] = []
        """Why packs are lost for good."""

    def more(self) -> list[Pack]:
        """The packs after those in the queue, which is empty; none yet, or none at all if nothing is in training."""
        raise NotImplementedError

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next pack; None while it depends on those in training."""
        if not self.queue:
            self.queue.extend(self.more())
        if not self.queue:
            return None if self.handed else Searcher.FINISHED
        self.handed[trial_id] = pack = self.queue.popleft()
        return order(pack, self.places)

    def ended(self, trial_id: str) -> None:
        """Note that a pack is stored."""
        self.handed.pop(trial_id, None)

    def dropped(self, trial_id: str, why: str) -> None:
        """Hand a pack out again that did not come to its end."""
        pack = self.handed.pop(trial_id)
        key = pack.pack_id, pack.end
        self.drops[key] += 1
        if self.drops[key] < HAND_OUTS:
            self.queue.appendleft(pack)
        else:
            self.lost.append(why)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: of a trial that Tune drops it is not called."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: what is missing is computed from the store."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into a state that we never restore; a terminal cannot be pickled."""
        return {}


class AdaptiveSearcher(PackSearcher):
    """Hands out the packs of an adaptive sweep, one round after another.

    A round is chosen when the one before the last has ended, while the last one trains: workers have something to do
    meanwhile, and Tune keeps them with what they have compiled.
    """

    def __init__(self, rounds: AdaptiveRounds, places: Mapping[str, int]) -> None:
        super().__init__(places)
        self.rounds = rounds
        self.last: set[str] = set()
        """The run_ids of the last round, whatever of it has ended."""
        self.blind = True
        self.waiting = False
        """Whether there is nothing to choose until the last round has ended."""

    def more(self) -> list[Pack]:
        """The next round, if what it is chosen by has ended."""
        earlier = any(pack.runs[0].run_id not in self.last for pack in self.handed.values())
        chosen = self._choose() if not self.waiting and not earlier else []
        if not chosen and not self.handed and self.last:
            self.last = set()  # it may have opened new questions
            chosen = self._choose()
        return chosen

    def _choose(self) -> list[Pack]:
        chosen = self.rounds.next(self.last)
        self.waiting = not chosen or self.blind  # the first round is all there is to choose the second by
        self.blind = False
        if chosen:
            self.last = {run.run_id for pack in chosen for run in pack.runs}
        return chosen


class CourseSearcher(PackSearcher):
    """Hands out the packs of a course."""

    def __init__(self, course: Course, places: Mapping[str, int], on_pack: Callable[[PackSummary], None]) -> None:
        super().__init__(places)
        self.course, self.on_pack = course, on_pack
        self.queue.extend(course.packs())

    def more(self) -> list[Pack]:
        """The next round, if the last one has ended."""
        return [] if self.handed else self.course.proceed(self.on_pack)


class KeptWorkers(FIFOScheduler):
    """Keeps workers that wait for a round to end: Tune would keep one and start the others anew, compiling included."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keeping = False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Reserve room in Tune's cache of idle workers, of which it has no setting."""
        super().on_trial_add(tune_controller, trial)
        if not self.keeping:
            self.keeping = True
            tune_controller._actor_cache.increase_max(trial.placement_group_factory, by=1_000_000)  # noqa: SLF001
