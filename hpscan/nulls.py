"""Is there anything there: permutation tests of a surface, of either axis and of their interaction, against noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float

from hpscan.surfaces import ROUNDING, additive_fit, ranks

__all__ = ["PERMUTATIONS", "additive_residuals", "centred_ranks", "p_value"]

PERMUTATIONS = 999
ALIKE, AS_GOOD, FEW = 0.7, 0.9, 0.025
"""The correlation from which seeds agree so well that a move may leave them so; what share of the agreement a move leaves
then; and the share of the moves that may, before they are too few to tell."""
DRAWS = 199
"""Sweeps of noise that are drawn then."""

Seeds = Float[np.ndarray, "seeds lrs wds"]


def centred_ranks(z: Seeds, within: tuple[int, ...]) -> Seeds:
    """Ranks within each seed (and within its rows or columns), less their mean; 0 where a run is unknown.

    ``within`` are the axes that are ranked over: (1, 2) for the whole surface, (2,) for weight decay at each learning
    rate, (1,) for the learning rate at each weight decay. Ranks need no numbers for what diverged: it comes last, tied.
    """
    moved = np.moveaxis(z, within, range(-len(within), 0))
    cells = moved.reshape(-1, int(np.prod([z.shape[axis] for axis in within])))
    return np.moveaxis(ranks(cells).reshape(moved.shape), range(-len(within), 0), within)


def additive_residuals(z: Float[np.ndarray, "*batch seeds lrs wds"], cells: np.ndarray) -> np.ndarray:
    """What no f(lr) + g(wd) of its own explains of each seed, on the given cells; 0 elsewhere and where unknown.

    ``cells`` are the same for all seeds or those of each; which runs are unknown is the same throughout a batch.
    """
    found = np.zeros(z.shape)
    fits: dict[bytes, Callable[[np.ndarray], np.ndarray]] = {}
    answers = np.broadcast_to(cells, z.shape[-3:]) & ~np.isnan(z.reshape(-1, *z.shape[-3:])[0])
    for seed, here in enumerate(answers):
        if here.tobytes() not in fits:
            fits[here.tobytes()] = additive_fit(here)
        fit = fits[here.tobytes()]
        flat = np.where(here, z[..., seed, :, :], 0.0).reshape(*z.shape[:-3], here.size)
        left = flat - fit(flat)
        left -= fit(left)  # what solving the normal equations has lost of its digits
        # or seeds would agree on how a sum is rounded
        left[np.abs(left) <= ROUNDING * np.abs(flat).max(axis=-1, keepdims=True)] = 0.0
        found[..., seed, :, :] = left.reshape(*z.shape[:-3], *here.shape)
    return found


def p_value(
    fields: Seeds,
    rng: np.random.Generator,
    of_noise: Callable[[int], Float[np.ndarray, "n seeds lrs wds"]] | None = None,
    *,
    moved: bool = True,
) -> float:
    """How often chance would make seeds agree as well as they do: the p-value of centred fields, one a seed.

    The statistic is Σ_{s≠t} ⟨r_s, r_t⟩, 0 on average where seeds have nothing in common; on ranks of the whole surface
    it is Friedman's (1937). The null distribution shifts every seed's field around the torus by random steps along
    both axes and mirrors it at random: that breaks the agreement of seeds and keeps how a seed's noise hangs
    together from cell to cell, which permuting cells one by one would not, and so find structure in smooth noise.
    Where seeds have holes in common, moved fields have fewer cells in common than those that were seen: what the null
    distribution has is scaled by the root of the ratio, as the spread of a sum of so many products is.

    A few seeds of a small grid that agree well are moved onto themselves too often for that to tell anything: of ranks
    that are the same in every column, a torus of n rows has 2n arrangements, and n where they are symmetric. Then
    ``of_noise``, which makes the fields of so many sweeps of nothing but noise, gives the null distribution. So it does
    where fields are not to be ``moved``: about holes that seeds have in common a fit leaves little in some cells and much in others, in the same ones of all seeds, and what hangs together in
    one seed does in another; moved, the one meets the other, and their products vary less than those that were seen.

    For a single seed the statistic is Σ r_a r_b over neighbouring cells (Moran 1950) and all known cells are permuted,
    which takes noise to be independent from cell to cell. ``nan`` if nothing is known or nothing varies.
    """
    if not fields.any():
        return math.nan
    seen = fields[[bool(field.any()) for field in fields]]
    if len(seen) > 1:
        own = (seen**2).sum()
        observed = float((seen.sum(axis=0) ** 2).sum() - own)
        by_chance = _by_moves(seen, rng) if moved or of_noise is None else np.zeros(0)
        alike = observed >= ALIKE * (len(seen) - 1) * own
        too_few = not moved or (alike and np.mean(by_chance >= AS_GOOD * observed) >= FEW)
        if of_noise is not None and too_few:
            drawn = of_noise(DRAWS)
            by_chance = (drawn.sum(axis=1) ** 2).sum(axis=(-1, -2)) - (drawn**2).sum(axis=(-1, -2, -3))
    else:
        observed = float(_neighbours(seen)[0])
        known = seen[0] != 0
        permuted = np.zeros((PERMUTATIONS, *known.shape))
        permuted[:, known] = rng.permuted(np.tile(seen[0][known], (PERMUTATIONS, 1)), axis=1)
        by_chance = _neighbours(permuted)
    return float(1 + np.sum(by_chance >= observed - ROUNDING * (fields**2).sum())) / (1 + len(by_chance))


def _by_moves(seen: Seeds, rng: np.random.Generator) -> Float[np.ndarray, " n"]:
    """How well seeds agree that are moved around the torus."""
    moves = [_moves(field.shape, rng) for field in seen]
    there = (seen != 0.0).astype(float)
    here = there.sum(axis=0)
    n_products = np.maximum(_agreement(there, moves).round(), 1.0)
    return _agreement(seen, moves) * np.sqrt((here * (here - 1.0)).sum() / n_products)


def _moves(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where a field begins, moved around the torus at random, and which way it goes from there; (permutations, 2) of each."""
    starts = np.stack([rng.integers(size, size=PERMUTATIONS) for size in shape], axis=-1)
    return starts, rng.choice([-1, 1], size=(2, PERMUTATIONS)).T


def _agreement(fields: Seeds, moves: Sequence[tuple[np.ndarray, np.ndarray]]) -> Float[np.ndarray, " n"]:
    """Σ_{s≠t} ⟨f_s, f_t⟩ of moved fields.

    The product of two depends on how the one lies to the other alone, so that all there are, 4 n_x n_y, are convolutions
    of the two, the one mirrored along both axes, either or none.
    """
    shape = fields.shape[1:]
    waves = np.fft.rfft2(fields)
    upside_down = waves[:, -np.arange(shape[0])]
    mirrored = np.stack([waves, upside_down.conj(), upside_down, waves.conj()], axis=1)  # neither, y, x, both
    found = np.zeros(PERMUTATIONS)
    for one, other in combinations(range(len(fields)), 2):
        (start, way), (its_start, its_way) = moves[one], moves[other]
        same = way == its_way
        x, y = ((its_start - np.where(same, 1, -1) * start) % shape).T
        products = np.fft.irfft2(mirrored[one] * waves[other], s=shape)
        found += 2.0 * products[2 * same[:, 0] + same[:, 1], x, y]
    return found


def _neighbours(fields: Float[np.ndarray, "n lrs wds"]) -> Float[np.ndarray, " n"]:
    one, other = fields[:, 1:] * fields[:, :-1], fields[:, :, 1:] * fields[:, :, :-1]
    return one.sum(axis=(-1, -2)) + other.sum(axis=(-1, -2))
