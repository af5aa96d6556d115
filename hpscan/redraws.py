"""Seeds that might have been: drawn about the surface that the seeds show, with their noise and their brink."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from hpscan.noise import Noise, fit_noise
from hpscan.surfaces import capped, mean_of_known

__all__ = ["Redraws"]

AT_ONCE = 500_000
"""Numbers in one batch."""
BATCHES = 24
"""The least number of batches where cells are hidden, the same ones throughout a batch."""
MOVES = ((0, 0), (0, 1), (0, -1), (1, 0), (1, -1))
"""(axis, steps) that a seed's brink may move by."""
CHANCES = (0.5, 0.125, 0.125, 0.125, 0.125)
"""How likely it is to: a standard deviation of half a step along either axis. Seeds whose runs diverge in the same
cells do not say that the next one's would: the grid does not show what happens between its points."""

Seeds = Float[np.ndarray, "seeds lrs wds"]


@dataclass(frozen=True, eq=False)
class Redraws:
    """New seeds about the mean surface of the old ones (a parametric bootstrap; Davison & Hinkley 1997, ch. 2).

    A run's value is that of its cell, with the noise that the seeds show (:func:`hpscan.noise.fit_noise`). Which runs
    diverge is no noise about a mean: a new seed diverges where one of the old ones did, drawn at random, or a step of
    the grid beside that. A run that is unknown stays so.
    """

    ceiling: float
    """What a diverged run counts as, and nothing is above."""
    unknown: Bool[np.ndarray, "seeds lrs wds"]
    diverged: Bool[np.ndarray, "moves seeds lrs wds"]
    levels: Float[np.ndarray, "moves lrs wds"]
    """The mean of a cell's other runs; where all diverged, that of the cell a move away, or the ceiling."""
    noise: Noise
    hidden: float
    """The share of the cells, in rows and columns of which anything is known, of which nothing is."""

    @classmethod
    def about(
        cls,
        z: Seeds,
        diverged: Bool[np.ndarray, "seeds lrs wds"],
        x: Float[np.ndarray, " lrs"],
        y: Float[np.ndarray, " wds"],
        ceiling: float,
    ) -> Redraws:
        """Of seeds capped at ``ceiling``, ``nan`` where a run is unknown."""
        others = np.where(diverged, np.nan, z)
        level = mean_of_known(others, (0,))
        known = ~np.isnan(z).all(axis=0)
        levels = np.stack([np.where(np.isnan(level), _moved(level, *move), level) for move in MOVES])
        return cls(
            ceiling=ceiling,
            unknown=np.isnan(z),
            diverged=np.stack([_moved(diverged, *move) for move in MOVES]),
            levels=np.where(np.isnan(levels), ceiling, levels),
            noise=fit_noise(others if diverged.any() else z, x, y, ceiling),
            hidden=1.0 - float(known[np.ix_(known.any(axis=1), known.any(axis=0))].mean()) if known.any() else 0.0,
        )

    @property
    def varies(self) -> bool:
        """Whether new seeds differ from one another at all."""
        return bool(self.noise.sd.any() or self.diverged.any())

    def seeds(self, rng: np.random.Generator, n: int) -> Float[np.ndarray, "n seeds lrs wds"]:
        """``n`` sweeps of as many seeds as there were, capped at the ceiling."""
        shape = (n, *self.unknown.shape)
        drawn = self.noise.draw(rng, n * shape[1]).reshape(shape)
        if self.diverged.any():
            moves = rng.choice(len(MOVES), size=shape[:2], p=CHANCES)
            drawn += self.levels[moves]
            drawn[self.diverged[moves, rng.integers(shape[1], size=shape[:2])]] = self.ceiling
        else:
            drawn += self.levels[0]
        drawn[:, self.unknown] = np.nan
        return capped(drawn, self.ceiling)

    def batches(
        self, rng: np.random.Generator, n: int
    ) -> Iterator[tuple[Float[np.ndarray, "some seeds lrs wds"], Bool[np.ndarray, "lrs wds"]]]:
        """``n`` sweeps in batches, and the cells to leave out of each: as large a share again as is unknown.

        What other cells would say is unknown as far as it changes when some that are known are left out.
        """
        several = max(AT_ONCE // self.unknown.size, 1)
        if self.hidden:
            several = min(several, -(-n // BATCHES))
        known = np.flatnonzero(~self.unknown.all(axis=0))
        for start in range(0, n, several):
            out = np.zeros(self.unknown[0].size, dtype=bool)
            out[rng.choice(known, size=round(self.hidden * len(known)), replace=False)] = True
            yield self.seeds(rng, min(several, n - start)), out.reshape(self.unknown.shape[1:])


def _moved(field: np.ndarray, axis: int, steps: int) -> np.ndarray:
    """A field over (..., lrs, wds) moved along one of the two axes; what comes in repeats the edge."""
    size = field.shape[axis - 2]
    return np.take(field, np.clip(np.arange(size) - steps, 0, size - 1), axis=axis - 2)
