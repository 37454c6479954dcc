"""Means over seeds and items with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mmzero_env.errors import UserError

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Attributes:
        mean: Mean of the values.
        low: Lower end; equals ``mean`` for a single value, which has no interval.
        high: Upper end.
        n: Number of values.
    """

    mean: float
    low: float
    high: float
    n: int

    def as_json(self) -> dict[str, float | int]:
        """``{"mean", "low", "high", "n"}``."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}

    def text(self, digits: int = 3, *, signed: bool = False) -> str:
        """``".645 [.630, .661]"``; a single value has no brackets."""

        def short(value: float) -> str:
            shown = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
            return shown.replace("0.", ".", 1) if abs(value) < 1 else shown

        if self.n < 2:
            return short(self.mean)
        return f"{short(self.mean)} [{short(self.low)}, {short(self.high)}]"


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean of one value a seed with Student's interval.

    ``mean ± t(0.975, n - 1) s / sqrt(n)``. Source: Student (1908); the interval that is exact
    for independent normal values, and honest (wide) for three.

    Raises:
        UserError: If there is no value.
    """
    found, mean = _mean(values)
    n = len(found)
    if n < 2:
        return Interval(mean, mean, mean, n)
    half = float(special.stdtrit(n - 1, (1 + LEVEL) / 2) * found.std(ddof=1) / n**0.5)
    return Interval(mean, mean - half, mean + half, n)


def over_items(values: Sequence[float], *, seed: int = 0, draws: int = 2000) -> Interval:
    """Mean over items with a percentile bootstrap interval over items.

    Source: Efron (1979). For many items whose scores have any distribution.

    Args:
        values: One score an item.
        seed: Of the resampling.
        draws: Resamplings.

    Raises:
        UserError: If there is no value.
    """
    found, mean = _mean(values)
    n = len(found)
    if n < 2:
        return Interval(mean, mean, mean, n)
    rng = np.random.default_rng(seed)
    # Counts of how often each item is drawn: one product gives all means.
    counts = rng.multinomial(n, np.full(n, 1 / n), size=draws)
    low, high = np.quantile(counts @ found / n, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high), n)


def over_seeds_and_items(scores: NDArray[np.float64]) -> Interval:
    """Mean of scores of the same items under several seeds, for other seeds and other items.

    Seeds and items are crossed and both are random, so the variance of the mean is
    ``(MS_seed + MS_item - MS_rest) / (S I)``, with the degrees of freedom of Satterthwaite. Source:
    Cornfield and Tukey (1956), the two-way random model without replication; Satterthwaite (1946).
    One seed leaves the items alone, as a normal interval.

    Args:
        scores: Shape (seeds, items), float64.

    Raises:
        UserError: If there is no score.
    """
    if scores.ndim != 2 or not scores.size:
        raise UserError(f"expected scores of seeds by items, got an array of shape {scores.shape}")
    seeds, items = scores.shape
    mean = float(scores.mean())
    if seeds == 1:
        alone = over_seeds(list(scores[0]))
        return Interval(mean, alone.low, alone.high, items)
    by_seed, by_item = scores.mean(axis=1), scores.mean(axis=0)
    ms_seed = items * float(by_seed.var(ddof=1))
    ms_item = seeds * float(by_item.var(ddof=1)) if items > 1 else 0.0
    rest = scores - by_seed[:, None] - by_item[None, :] + mean
    freedom = max((seeds - 1) * (items - 1), 1)
    ms_rest = float((rest**2).sum()) / freedom
    # The estimate may fall below zero by chance; the larger of its two parts is what is left.
    spread = max(ms_seed + ms_item - ms_rest, ms_seed, ms_item)
    if spread == 0:
        return Interval(mean, mean, mean, scores.size)
    parts = ms_seed**2 / (seeds - 1) + ms_item**2 / max(items - 1, 1) + ms_rest**2 / freedom
    half = float(special.stdtrit(spread**2 / parts, (1 + LEVEL) / 2)) * (
        (spread / scores.size) ** 0.5
    )
    return Interval(mean, mean - half, mean + half, scores.size)


def _mean(values: Sequence[float]) -> tuple[NDArray[np.float64], float]:
    if not values:
        raise UserError("an interval needs at least one value, got none")
    found = np.asarray(values, float)
    return found, float(found.mean())
