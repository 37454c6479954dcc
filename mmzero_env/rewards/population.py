"""Terms over a population of proposals: balance of types, near-duplicates, repetition.

Sources and conventions are those of :mod:`mmzero_env.rewards.terms`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from mmzero_env.diversity import shares, similarities
from mmzero_env.leaks import words
from mmzero_env.near_duplicates import last_share

Fields = Sequence[tuple[float, Sequence[str]]]
"""For each text field its weight and the texts of all proposals."""

FEWEST_FIGURES = 5
"""Figures that a caption must state to be compared by them."""

CACHED_CHARS = 4_000
MOST_CHARS = 20_000
"""Longer captions are read again every time, and no further than this."""


def over_representation(types: Sequence[str], allowed: float) -> list[float]:
    """By how much each proposal's content type is over-represented in the batch.

    ``(f - a) / (1 - a)`` where ``f`` is the share of the type and ``a`` the allowed
    share, if ``f > a``; else 0. All 0 if the batch has one type only. Source:
    ``proposer_reward.py``, CONTENT_TYPE_OVER_REP_THRESHOLD.

    Args:
        types: Content type of every well-formed proposal of the batch.
        allowed: Share up to which nothing happens, below 1.

    Returns:
        One value in [0, 1] a proposal.
    """
    counts = Counter(types)
    if len(counts) < 2:
        return [0.0] * len(types)
    excess = {name: (n / len(types) - allowed) / (1 - allowed) for name, n in counts.items()}
    return [max(0.0, excess[name]) for name in types]


def crowding(fields: Fields, cluster_threshold: float) -> list[float]:
    """How crowded each proposal's clusters of near-duplicates are.

    ``clip(sum_f w_f (share_f - 1/M) M, -1, 1)`` over the text fields, with
    ``share_f`` the share of the proposal's own cluster among ``M`` proposals. 0 for
    one proposal. It saturates early: a cluster of two in every field is a full 1.
    Source: ``proposer_reward.py``, DIV_W_CAPTION, DIV_W_EASY_Q, DIV_W_HARD_Q.

    Args:
        fields: For each field its weight and the texts of all ``M`` proposals.
        cluster_threshold: Merge height of the clustering.

    Returns:
        One value in [0, 1] a proposal.
    """
    return _compared(fields, cluster_threshold, lambda sizes: 1.0)


def last_crowding(fields: Fields, cluster_threshold: float) -> float:
    """The last value of :func:`crowding`, found from the last proposal alone."""
    size = _size(fields)
    if size < 2:
        return 0.0
    total = 0.0
    for weight, texts in fields:
        if weight:
            total += weight * (round(last_share(texts, cluster_threshold) * size) - 1.0)
    return min(max(total, -1.0), 1.0)


def novelty(fields: Fields, cluster_threshold: float) -> list[float]:
    """How much rarer than usual each proposal is: negative for a frequent one.

    ``clip(sum_f w_f (mean share_f - share_f) M, -1, 1)``, the mean over the ``M``
    proposals of the batch. Source: a reading of the paper, which gives unusual
    proposals a bonus and frequent ones a penalty; measured against ``1/M``, as in
    :func:`crowding`, no proposal could earn the bonus.

    Args:
        fields: As for :func:`crowding`.
        cluster_threshold: As for :func:`crowding`.

    Returns:
        One value in [-1, 1] a proposal.
    """
    crowded = _compared(fields, cluster_threshold, lambda sizes: float(sizes.mean()))
    return [0.0 - value for value in crowded]


def cluster_share(texts: Sequence[str], cluster_threshold: float) -> list[float]:
    """The share of each text's cluster of near-duplicates, ``|C| / B``.

    0 for a lone text, which repeats nobody. Source: R-Zero (arXiv 2508.05004,
    repetition penalty: ``B`` questions of the batch) and VisPlay (arXiv 2511.15661,
    equation 6: ``B`` questions about one picture); clusters are average-linkage on
    1 - BLEU up to a height of 0.5 in the published code of both.

    Args:
        texts: ``B`` texts.
        cluster_threshold: Merge height of the clustering.

    Returns:
        One value in [0, 1] a text.
    """
    if len(texts) < 2:
        return [0.0] * len(texts)
    return shares(texts, cluster_threshold).tolist()


def last_cluster_share(texts: Sequence[str], cluster_threshold: float) -> float:
    """The last value of :func:`cluster_share`, found from the last text alone."""
    return last_share(texts, cluster_threshold) if len(texts) > 1 else 0.0


def repetition(captions: Sequence[str], remembered: Sequence[str], enough: float) -> list[float]:
    """How similar each caption is to one of earlier steps.

    The largest BLEU of the caption (hypothesis) against a remembered caption
    (reference); the search ends at the first one above ``enough``. Source:
    ``proposer_reward.py``, CROSS_STEP_PENALTY_WEIGHT, where ``enough`` is 0.9.

    Args:
        captions: Captions of the batch.
        remembered: Captions of earlier steps, oldest first.
        enough: 1 never ends the search early and gives the true maximum.

    Returns:
        One value in [0, 1] a caption.
    """
    if not captions or not remembered:
        return [0.0] * len(captions)
    found: list[float] = []
    for row in similarities(captions, remembered):
        above = np.flatnonzero(row > enough)
        found.append(float(row[above[0]] if len(above) else row.max()))
    return found


def paraphrases(captions: Sequence[str], remembered: Sequence[str], overlap: float) -> list[float]:
    """1 for a caption that states the figures of another one, else 0.

    Two captions are paraphrases if ``|A & B| / |A | B|`` of their sets of figures reaches
    ``overlap``; a figure is a word or number with a digit, in the normal form of
    :func:`mmzero_env.leaks.words`. BLEU does not see a paraphrase, since hardly a run of
    four words survives one; the data do. A caption with fewer than
    :data:`FEWEST_FIGURES` figures is not compared: few are shared by chance. Ours.

    Args:
        captions: Captions of the batch; each is compared with all others.
        remembered: Captions of earlier steps, which are compared with as well.
        overlap: Share of common figures from which one is taken for the other.

    Returns:
        0.0 or 1.0 a caption.
    """
    return _alike([_figures(text) for text in (*captions, *remembered)], len(captions), overlap)


def last_paraphrase(captions: Sequence[str], remembered: Sequence[str], overlap: float) -> float:
    """The value of :func:`paraphrases` of the last caption, compared with all others."""
    return _alike(
        [_figures(text) for text in (captions[-1], *captions[:-1], *remembered)], 1, overlap
    )[0]


def _alike(figures: Sequence[frozenset[str]], count: int, overlap: float) -> list[float]:
    """For each of the first sets whether another one is like it."""
    places: dict[str, int] = {}
    rows, columns = [], []
    for row, found in enumerate(figures):
        if len(found) >= FEWEST_FIGURES:
            rows += [row] * len(found)
            columns += [places.setdefault(each, len(places)) for each in found]
    shape = (len(figures), max(len(places), 1))
    table = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape)
    sizes = np.asarray(table.sum(1)).ravel()
    common = (table[:count] @ table.T).toarray()
    either = sizes[:count, None] + sizes - common
    shares = np.divide(common, either, out=np.zeros_like(common), where=either > 0)
    shares[np.arange(count), np.arange(count)] = 0
    # Single precision holds neither .6 nor 3/5; a hair is less than any step of a share.
    return [float(row.any()) for row in shares >= overlap - 1e-6]


def _figures(caption: str) -> frozenset[str]:
    """The figures of a caption."""
    return _known_figures(caption) if len(caption) <= CACHED_CHARS else _read_figures(caption)


def _read_figures(caption: str) -> frozenset[str]:
    found = words(caption[:MOST_CHARS])
    return frozenset(word for word in found if any(char.isdigit() for char in word))


# A window's captions are asked for again with every new episode.
_known_figures = lru_cache(maxsize=1024)(_read_figures)


def _size(fields: Fields) -> int:
    return len(fields[0][1]) if fields else 0


def _compared(
    fields: Fields,
    cluster_threshold: float,
    usual: Callable[[NDArray[np.float64]], float],
) -> list[float]:
    """Weighted excess of each proposal's cluster sizes over a usual size."""
    size = _size(fields)
    if size < 2:
        return [0.0] * size
    total = np.zeros(size)
    for weight, texts in fields:
        if weight:
            sizes = np.rint(shares(texts, cluster_threshold) * size)
            total += weight * (sizes - usual(sizes))
    return [float(value) for value in np.clip(total, -1, 1)]
