"""The cluster of one new text among recent ones, without comparing the others again.

:func:`last_share` gives exactly what :func:`mmzero_env.diversity.shares` gives for the
last text. It follows close pairs outwards from that text. If the texts it reaches are
all close to each other, average linkage joins just these, whatever else there is;
otherwise the full clustering decides. What is known about a text (its n-grams, and
how far it is from others) is kept while the text is among the last :data:`KEPT`, so
an environment pays for a new text once, and not again for the whole window.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import count

from mmzero_env.diversity import MAX_TOKENS, ORDER, SMOOTHING, THRESHOLD, shares

KEPT = 512
"""Texts that are remembered: three fields of windows of 64 proposals, and room."""

# Distances this near to the threshold are left to the arithmetic of the full path.
_MARGIN = 1e-9
_FAR = math.inf
_serials = count()


class _Profile:
    """The n-grams of one text, and its distances to others that were asked for."""

    __slots__ = ("distances", "grams", "length", "repeats", "serial")

    def __init__(self, text: str) -> None:
        tokens = text.split(None, MAX_TOKENS)[:MAX_TOKENS]
        self.serial = next(_serials)
        self.length = len(tokens)
        self.grams = tuple(
            Counter(zip(*(tokens[k:] for k in range(n)), strict=False)) for n in range(1, ORDER + 1)
        )
        self.repeats = tuple(
            len(grams) < max(self.length - n, 0) for n, grams in enumerate(self.grams)
        )
        self.distances: dict[tuple[int, float], float] = {}

    def matches(self, other: _Profile, order: int) -> int:
        """Clipped matches of n-grams of one order."""
        own, theirs = self.grams[order - 1], other.grams[order - 1]
        common = own.keys() & theirs.keys()
        if self.repeats[order - 1] and other.repeats[order - 1]:
            return sum(min(own[gram], theirs[gram]) for gram in common)
        return len(common)


_profile = lru_cache(maxsize=KEPT)(_Profile)


def last_share(texts: Sequence[str], threshold: float = THRESHOLD) -> float:
    """The share of the last text's cluster among all texts.

    Args:
        texts: At least one text.
        threshold: As for :func:`mmzero_env.diversity.clusters`.

    Returns:
        ``shares(texts, threshold)[-1]``.

    Raises:
        UserError: As :func:`mmzero_env.diversity.clusters`.
    """
    joined = _joined(texts, threshold)
    return float(shares(texts, threshold)[-1]) if joined is None else joined / len(texts)


def _joined(texts: Sequence[str], threshold: float) -> int | None:
    """Size of the last text's cluster, or None if its surroundings do not settle it."""
    if not 0 < threshold < 1:
        return None
    profiles = [_profile(text) for text in texts]
    reached = [len(texts) - 1]
    others = set(range(len(texts) - 1))
    for index in reached:
        for other in sorted(others):
            distance = _between(profiles, index, other, threshold)
            if abs(distance - threshold) < _MARGIN:
                return None
            if distance < threshold:
                reached.append(other)
                others.discard(other)
    for at, index in enumerate(reached):
        for other in reached[:at]:
            if not _between(profiles, index, other, threshold) < threshold - _MARGIN:
                return None
    return len(reached)


def _between(profiles: Sequence[_Profile], i: int, j: int, threshold: float) -> float:
    earlier, later = profiles[min(i, j)], profiles[max(i, j)]
    key = (earlier.serial, threshold)
    distance = later.distances.get(key)
    if distance is None:
        distance = later.distances[key] = _distance(earlier, later, threshold)
    return distance


def _distance(hypothesis: _Profile, reference: _Profile, threshold: float) -> float:
    """1 - BLEU, or infinity as soon as it is sure to be above the threshold."""
    needed = 1 - threshold - 2 * _MARGIN
    if not hypothesis.length or not reference.length:
        return _FAR
    brevity = min(0.0, 1 - reference.length / hypothesis.length)
    if math.exp(brevity) < needed:
        return _FAR
    total = 0.0
    for order in range(ORDER, 0, -1):
        found = hypothesis.matches(reference, order)
        if order == 1 and not found:
            return _FAR
        possible = max(hypothesis.length - order + 1, 1)
        precision = (found or SMOOTHING) / possible
        total += math.log(precision)
        if order == ORDER and precision < needed**ORDER:
            return _FAR
    return 1 - math.exp(total / ORDER + brevity)
