"""Policies over a handful of strategies, and how they learn."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Context = tuple[str, ...]
Floats = NDArray[np.float64]


@dataclass
class Softmax:
    """Policies over strategies, one a context.

    Attributes:
        strategies: Their names.
        logits: One row a context; changed by learning.
    """

    strategies: tuple[str, ...]
    logits: dict[Context, Floats]

    def probabilities(self, context: Context, offsets: Mapping[int, float] | None = None) -> Floats:
        """How likely each strategy is.

        Args:
            context: Where.
            offsets: What a situation adds to the logits, by strategy.
        """
        values = self.logits[context].copy()
        for strategy, offset in (offsets or {}).items():
            values[strategy] += offset
        values = np.exp(values - values.max())
        return values / values.sum()

    def play(
        self, context: Context, offsets: Mapping[int, float], n: int, rng: random.Random
    ) -> Play:
        """Draw the strategies of ``n`` completions."""
        shares = self.probabilities(context, offsets)
        drawn = rng.choices(range(len(shares)), shares.tolist(), k=n)
        return Play(context, shares, tuple(drawn))

    def mass(self, names: Sequence[str]) -> float:
        """Probability of some strategies together, mean over the contexts."""
        places = [self.strategies.index(name) for name in names]
        return float(np.mean([self.probabilities(c)[places].sum() for c in self.logits]))


@dataclass(frozen=True)
class Play:
    """How a request was answered.

    Attributes:
        context: Row of the policy.
        probabilities: Of every strategy, in that situation.
        strategies: The strategy of each completion.
    """

    context: Context
    probabilities: Floats
    strategies: tuple[int, ...]


def learn(policy: Softmax, groups: Sequence[tuple[Play, Sequence[float]]], rate: float) -> int:
    """One policy-gradient step on groups of completions.

    ``logits[c] += rate / G sum_g (1/n) sum_i A_i (e_i - p)`` over the ``G`` groups that are not
    all alike, with ``A = (r - mean) / (std + 1e-6)`` in the group (std with n - 1), ``e_i`` the
    unit vector of the strategy played and ``p`` the probabilities: REINFORCE (Williams, 1992) with
    the advantages of GRPO (arXiv 2402.03300), without clipping and without KL.

    Args:
        policy: Is changed.
        groups: How each prompt was answered, and the reward of each completion.
        rate: Step size.

    Returns:
        How many groups taught something.
    """
    steps: list[tuple[Context, Floats]] = []
    for play, rewards in groups:
        values = np.asarray(rewards, float)
        if len(values) < 2 or np.ptp(values) < 1e-12:
            continue
        advantages = (values - values.mean()) / (values.std(ddof=1) + 1e-6)
        ones = np.eye(len(play.probabilities))[list(play.strategies)]
        steps.append((play.context, advantages @ (ones - play.probabilities) / len(values)))
    for context, step in steps:
        policy.logits[context] += rate / len(steps) * step
    return len(steps)
