"""A reward as a waterfall: each term starts where the one before it ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mmzero_env.record import RewardRecord

CLAMPED = "held by the design's limits"
"""Name of the step from the sum of the terms to the reward, where the two differ."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Bar:
    """One term.

    Attributes:
        name: Its name, in words.
        value: What it adds.
        start: Left end, in percent of the width.
        width: In percent of the width.
        sign: ``"pos"`` or ``"neg"``; ``"sum"`` for the reward itself.
    """

    name: str
    value: float
    start: float
    width: float
    sign: str


@dataclass(frozen=True)
class Waterfall:
    """A reward with its terms.

    Attributes:
        value: The reward.
        bars: The terms that add something, in the order of the design, then the reward.
        zeros: Names of the terms that add nothing.
        zero: Where 0 lies, in percent of the width.
    """

    value: float
    bars: tuple[Bar, ...]
    zeros: tuple[str, ...]
    zero: float


def waterfall(reward: RewardRecord) -> Waterfall:
    """The waterfall of a recorded reward."""
    steps = [(name.replace("_", " "), value) for name, value in reward["terms"].items() if value]
    rest = reward["value"] - sum(value for _, value in steps)
    if abs(rest) > _ROUNDING:
        steps.append((CLAMPED, rest))
    ends = [0.0, reward["value"], *(end for *_, end in _spans(steps))]
    low, high = min(ends), max(ends)
    scale = 100 / (high - low) if high > low else 0.0

    def bar(name: str, value: float, ends: tuple[float, float], sign: str) -> Bar:
        return Bar(name, value, (min(ends) - low) * scale, abs(ends[1] - ends[0]) * scale, sign)

    bars = [
        bar(name, value, (start, end), "pos" if value > 0 else "neg")
        for name, value, start, end in _spans(steps)
    ]
    bars.append(bar("reward", reward["value"], (0.0, reward["value"]), "sum"))
    zeros = tuple(n.replace("_", " ") for n, value in reward["terms"].items() if not value)
    return Waterfall(reward["value"], tuple(bars), zeros, -low * scale)


def _spans(steps: list[tuple[str, float]]) -> Iterator[tuple[str, float, float, float]]:
    at = 0.0
    for name, value in steps:
        yield name, value, at, at + value
        at += value
