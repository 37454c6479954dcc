"""pass@k of a set, with intervals over its items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np

from agents.probe import Estimate
from benchmarks.downstream.scoring import Verdict
from benchmarks.interval import Interval, over_items
from mmzero_env.errors import UserError

KS = (1, 8)


def pass_at(k: int, n: int, right: int) -> float:
    """The chance that of ``k`` answers at least one is right, estimated from ``n``.

    ``1 - C(n - right, k) / C(n, k)``, unbiased. Source: Chen et al. 2021 (arXiv 2107.03374),
    equation 1.

    Args:
        k: Answers that one may give.
        n: Answers that were graded, at least ``k``.
        right: How many of them were right.

    Raises:
        UserError: If fewer than ``k`` were graded.
    """
    if n < k:
        raise UserError(f"pass@{k} needs at least {k} answers an item, got {n}")
    return 1.0 - comb(n - right, k) / comb(n, k)


@dataclass(frozen=True)
class Graded:
    """One model on one set, with or without the pictures.

    Attributes:
        items: Places of the items in the set.
        verdicts: One row an item, one verdict a sample.
    """

    items: tuple[int, ...]
    verdicts: tuple[tuple[Verdict, ...], ...]

    def scores(self, k: int) -> list[float]:
        """pass@k of every item."""
        return [
            pass_at(k, len(row), sum(verdict.right for verdict in row)) for row in self.verdicts
        ]

    @property
    def ks(self) -> tuple[int, ...]:
        """Every k of :data:`KS` for which there are enough samples."""
        fewest = min(len(row) for row in self.verdicts)
        return tuple(k for k in KS if k <= fewest)

    def states(self) -> dict[str, int]:
        """How many answers there are of every state, all of them in the denominator."""
        counted = Counter(verdict.state for row in self.verdicts for verdict in row)
        return {state: counted[state] for state in ("answered", "no box", "empty", "failed")}

    def summary(self) -> dict[str, Any]:
        """Counts, and every pass@k with its 95 % interval over items."""
        # Wilson's interval: a bootstrap of items that are all right has no width.
        passes = {f"pass@{k}": vars(Estimate.share(np.array(self.scores(k)))) for k in self.ks}
        return {"items": len(self.items), "answers": self.states(), **passes}


def change(before: Graded, after: Graded) -> dict[str, Any]:
    """Paired differences of every pass@k over the same items, with 95 % intervals.

    By bootstrap over items; where no item differs, which has no spread, by the rule of three:
    ±3/n (Hanley and Lippman-Hand 1983).

    Raises:
        UserError: If the two were not asked the same items.
    """
    if before.items != after.items:
        raise UserError("two models can be compared on the same items only, came others")
    return {f"pass@{k}": _paired(before.scores(k), after.scores(k)).as_json() for k in after.ks}


def _paired(before: Sequence[float], after: Sequence[float]) -> Interval:
    apart = [b - a for a, b in zip(before, after, strict=True)]
    if any(apart):
        return over_items(apart)
    half = min(1.0, 3 / len(apart))
    return Interval(0.0, -half, half, len(apart))
