"""A few of many: evenly spaced, so that a long run fits a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")

COLUMNS = 12
"""Iterations that a table shows; of a longer run as many, the first and the last among them."""


def evenly(items: Sequence[_T], count: int) -> list[_T]:
    """At most ``count`` items, evenly spaced, the first and the last among them.

    A single one is the first.
    """
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[0]]
    return [items[round(k * (len(items) - 1) / (count - 1))] for k in range(count)]


def spread(ranking: Sequence[_T], count: int) -> list[_T]:
    """At most ``count`` of some ranked items, evenly spaced; any beginning of them is, too.

    The highest, the lowest, the middle, then the middles of what is between.
    """
    picked = evenly(ranking, count)
    order = [0, len(picked) - 1]
    gaps = [(0, len(picked) - 1)]
    while gaps:
        low, high = gaps.pop(0)
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return [picked[n] for n in dict.fromkeys(order) if 0 <= n < len(picked)]


def label_every(count: int, most: int) -> int:
    """Every how many of ``count`` places gets a label, so that there are at most ``most``."""
    return max(1, math.ceil(count / most))
