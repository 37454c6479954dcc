"""How two lists of numbers go together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[np.float64]

_CONSTANT = 1e-12
"""A spread up to this is rounding."""


def correlation(a: Values, b: Values) -> float | None:
    """Pearson's correlation; None for fewer than two pairs or where one does not vary."""
    if not _vary(a, b):
        return None
    return float(np.corrcoef(a, b)[0, 1])


def rank_correlation(a: Values, b: Values) -> float | None:
    """Spearman's rank correlation; None where :func:`correlation` is.

    Source: Spearman (1904): Pearson's correlation of the ranks, ties sharing their mean rank.
    """
    if not _vary(a, b):
        return None
    # Half a second of imports, which the report would pay without using it.
    from scipy.stats import rankdata

    return correlation(rankdata(a), rankdata(b))


def _vary(a: Values, b: Values) -> bool:
    return np.size(a) > 1 and np.ptp(a) >= _CONSTANT and np.ptp(b) >= _CONSTANT
