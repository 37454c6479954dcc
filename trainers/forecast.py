"""Robust trends of short, noisy series: the arithmetic behind warnings.

A window of a step metric holds about ten values with a standard error of several
hundredths and now and then an outlier. The slope is therefore the median of the slopes
of all pairs (Theil 1950, Sen 1968) and its significance Mann's rank test (1945),
neither of which assumes a distribution of the noise. Nothing here knows what the values mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from scipy import stats

Direction = Literal[-1, 1]
"""1 for a rise, -1 for a fall."""


def line(values: Sequence[float]) -> tuple[float, float]:
    """The Theil-Sen line through equally spaced values.

    Args:
        values: At least two finite numbers in their order.

    Returns:
        Its value at the first and at the last of them.
    """
    slope, intercept, _, _ = stats.theilslopes(values)
    return float(intercept), float(intercept + slope * (len(values) - 1))


def p_value(values: Sequence[float], direction: Direction) -> float:
    """Mann's one-sided test for a trend: Kendall's tau against the order.

    Exact without ties, by the normal approximation with them.

    Args:
        values: At least two finite numbers in their order. Six in perfect order have
            p = 1/720, three at best 1/6.
        direction: The trend that is tested for.

    Returns:
        The chance of so large a tau without a trend; 1 if all values are equal.
    """
    if len(set(values)) == 1:
        return 1.0
    side = "greater" if direction > 0 else "less"
    return float(stats.kendalltau(range(len(values)), values, alternative=side).pvalue)
