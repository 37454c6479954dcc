"""Near-duplicates among texts: exact BLEU-4 distances and average-linkage clusters.

The distance is ``1 - BLEU`` of the published Proposer reward (sentence BLEU-4 over
white-space tokens with the "method 1" smoothing of Chen and Cherry, 2014), taken
only with the earlier text as hypothesis and the later one as reference.

Two things make it fast and keep it exact:

* Clipped n-gram matches are ``sum_g min(a_g, b_g) = sum_g sum_k [a_g >= k][b_g >= k]``,
  an inner product of 0/1 vectors indexed by (n-gram, k): one sparse product.
* Average linkage never joins two clusters below the threshold unless some pair
  across them is below it. Clusters therefore lie inside the connected components of
  the graph of close pairs, and only those components need all their distances. A
  pair without a common 4-gram is close only if its hypothesis is very short, so most
  pairs are never scored. This second path is taken above :data:`DENSE_TEXTS` texts;
  it may break exact ties between merge heights differently.

Memory: 8 bytes a pair (twice, while it is linked) up to :data:`DENSE_TEXTS` texts;
above, a block of :data:`BLOCK` rows against all texts, plus the pairs of the largest
component.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from mmzero_env.errors import UserError

ORDER = 4
SMOOTHING = 0.1
"""Matches counted for an n-gram order without any (smoothing "method 1")."""

THRESHOLD = 0.25
"""Merge height of the published Proposer reward."""

DENSE_TEXTS = 2_048
"""Up to here one full matrix is linked, so that ties fall as in the published code."""

BLOCK = 256
PAIRS_AT_ONCE = 1 << 16

MAX_TOKENS = 4_096
"""Tokens of a text that are compared; the published runs write no longer texts."""


@dataclass(frozen=True, eq=False)
class _Grams:
    """Texts as 0/1 rows over (n-gram, k), for n = 1..4.

    Attributes:
        lengths: Tokens of every text, shape (n,).
        rows: One sparse matrix for every order, shape (n, features).
    """

    lengths: NDArray[np.int64]
    rows: tuple[csr_matrix, ...]


def distances(texts: Sequence[str]) -> NDArray[np.float64]:
    """All pairwise distances.

    Args:
        texts: ``n`` texts; letter case counts, the amount of white space does not.

    Returns:
        Shape (n, n), symmetric, zero diagonal. Entry (i, j) with i < j is
        ``1 - BLEU(hypothesis=i, reference=j)``.
    """
    grams = _grams(texts)
    size = len(texts)
    matrix = np.zeros((size, size))
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        scores = _scores(grams, slice(start, stop), slice(start, size))
        later = np.triu(np.ones(scores.shape, dtype=bool), k=1)
        matrix[start:stop, start:][later] = 1 - scores[later]
    return matrix + matrix.T


def similarities(hypotheses: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """BLEU of every hypothesis against every reference.

    Args:
        hypotheses: ``n`` texts.
        references: ``m`` texts.

    Returns:
        Shape (n, m), each in [0, 1].
    """
    count, total = len(hypotheses), len(hypotheses) + len(references)
    grams = _grams([*hypotheses, *references])
    blocks = [
        _scores(grams, slice(start, min(start + BLOCK, count)), slice(count, total))
        for start in range(0, count, BLOCK)
    ]
    return np.concatenate([np.zeros((0, len(references))), *blocks])


def clusters(texts: Sequence[str], threshold: float = THRESHOLD) -> NDArray[np.int64]:
    """Average-linkage clusters of near-duplicates.

    Args:
        texts: ``n`` texts.
        threshold: Merge height: clusters join while their mean distance is below it.

    Returns:
        Shape (n,), labels 0, 1, ... numbered by first appearance.

    Raises:
        UserError: If the threshold is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise UserError(f"expected a clustering threshold in (0, 1], got {threshold!r}")
    if len(texts) < 2:
        return np.zeros(len(texts), dtype=np.int64)
    if len(texts) <= DENSE_TEXTS:
        return _first_appearance(_linked(texts, threshold))
    return _first_appearance(_linked_by_component(texts, threshold))


def _linked_by_component(texts: Sequence[str], threshold: float) -> NDArray[np.int64]:
    """Average linkage component by component of the graph of close pairs."""
    size = len(texts)
    pairs = list(_close_pairs(_grams(texts), threshold))
    none = np.zeros(0, dtype=np.int64)
    left = np.concatenate([none, *(pair[0] for pair in pairs)])
    right = np.concatenate([none, *(pair[1] for pair in pairs)])
    graph = csr_matrix((np.ones(len(left)), (left, right)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    labels = component.astype(np.int64) * size
    order = np.argsort(component, kind="stable")
    bounds = np.flatnonzero(np.diff(component[order])) + 1
    for members in np.split(order, bounds):
        if len(members) > 2:
            labels[members] += _linked([texts[i] for i in members], threshold)
    return labels


def shares(texts: Sequence[str], threshold: float = THRESHOLD) -> NDArray[np.float64]:
    """The share of each text's cluster among all texts.

    Args:
        texts: ``n`` texts.
        threshold: As for :func:`clusters`.

    Returns:
        Shape (n,), each in [1/n, 1].

    Raises:
        UserError: As :func:`clusters`.
    """
    labels = clusters(texts, threshold)
    return np.bincount(labels)[labels] / max(len(texts), 1)


def similarity(hypothesis: str, reference: str) -> float:
    """Smoothed sentence BLEU-4 of one text against another, in [0, 1]."""
    return float(similarities([hypothesis], [reference])[0, 0])


def _linked(texts: Sequence[str], threshold: float) -> NDArray[np.int64]:
    grams = _grams(texts)
    size = len(texts)
    pairs = np.empty(size * (size - 1) // 2)
    at = 0
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        scores = _scores(grams, slice(start, stop), slice(start, size))
        later = 1 - scores[np.triu(np.ones(scores.shape, dtype=bool), k=1)]
        pairs[at : at + len(later)] = later
        at += len(later)
    tree = linkage(pairs, method="average")
    # Merges at exactly the threshold do not happen.
    return fcluster(tree, math.nextafter(threshold, 0), criterion="distance").astype(np.int64)


def _first_appearance(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _scores(grams: _Grams, rows: slice, columns: slice) -> NDArray[np.float64]:
    """BLEU of the texts of ``rows`` as hypotheses against those of ``columns``."""
    matches = np.stack([(m[rows] @ m[columns].T).toarray() for m in grams.rows])
    return _bleu(matches, grams.lengths[rows, None], grams.lengths[None, columns])


def _bleu(
    matches: NDArray[np.float64], hypothesis: NDArray[np.int64], reference: NDArray[np.int64]
) -> NDArray[np.float64]:
    """BLEU from clipped matches, shape (4, ...), and token counts that broadcast."""
    total = np.zeros(matches.shape[1:])
    for n in range(1, ORDER + 1):
        possible = np.maximum(hypothesis - n + 1, 1)
        counted = np.maximum(matches[n - 1].astype(np.float64), SMOOTHING)
        total += np.log(counted / possible)
    with np.errstate(divide="ignore"):
        brevity = np.minimum(0.0, 1 - reference / np.maximum(hypothesis, 1e-300))
    return np.where(matches[0] > 0, np.exp(total / ORDER + brevity), 0.0)


def _close_pairs(
    grams: _Grams, threshold: float
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Index pairs (i, j), i < j, closer than the threshold, block by block."""
    lengths = grams.lengths
    best = (SMOOTHING / np.maximum(lengths - ORDER + 1, 1)) ** (1 / ORDER)
    # Hypotheses so short that one match missing altogether does not set them apart.
    short = best > 1 - threshold - 1e-9
    words, last = grams.rows[0], grams.rows[-1]
    for start in range(0, len(lengths), BLOCK):
        common = (last[start : start + BLOCK] @ last.T).tocoo()
        left, right = common.row.astype(np.int64) + start, common.col.astype(np.int64)
        # A 4-gram precision below (1 - threshold)^4 cannot be made up elsewhere.
        needed = (1 - threshold) ** ORDER * np.maximum(lengths[left] - ORDER + 1, 1)
        keep = (left < right) & (common.data >= needed - 1e-6) & ~short[left]
        left, right = left[keep], right[keep]
        chosen = start + np.flatnonzero(short[start : start + BLOCK])
        if len(chosen):
            common = (words[chosen] @ words.T).tocoo()
            at, other = chosen[common.row], common.col.astype(np.int64)
            left = np.concatenate([left, at[at < other]])
            right = np.concatenate([right, other[at < other]])
        for at in range(0, len(left), PAIRS_AT_ONCE):
            i, j = left[at : at + PAIRS_AT_ONCE], right[at : at + PAIRS_AT_ONCE]
            matches = np.stack(
                [np.asarray(m[i].multiply(m[j]).sum(axis=1)).ravel() for m in grams.rows]
            )
            close = 1 - _bleu(matches, lengths[i], lengths[j]) < threshold
            yield i[close], j[close]


def _grams(texts: Sequence[str]) -> _Grams:
    vocabulary: dict[str, int] = {}
    ids: list[int] = []
    counts: list[int] = []
    for text in texts:
        tokens = text.split(None, MAX_TOKENS)[:MAX_TOKENS]
        counts.append(len(tokens))
        ids.extend(vocabulary.setdefault(token, len(vocabulary)) for token in tokens)
    lengths = np.array(counts, dtype=np.int64)
    words = np.array(ids, dtype=np.int64)
    owner = np.repeat(np.arange(len(texts)), lengths)
    rows: list[csr_matrix] = []
    gram = words
    for n in range(1, ORDER + 1):
        if n > 1:
            # Position t holds the n-gram that starts there; those that would cross
            # into the next text are dropped when the matrix is built.
            gram = gram[:-1] * max(len(vocabulary), 1) + words[n - 1 :]
            gram = np.unique(gram, return_inverse=True)[1].astype(np.int64)
        starts = np.arange(max(len(words) - n + 1, 0))
        inside = owner[starts] == owner[starts + n - 1]
        rows.append(_binary_rows(owner[starts][inside], gram[inside], len(texts)))
    return _Grams(lengths, tuple(rows))


def _binary_rows(owner: NDArray[np.int64], gram: NDArray[np.int64], size: int) -> csr_matrix:
    """Row i holds a 1 at (g, k) for k = 1..count of n-gram g in text i."""
    if not len(gram):
        return csr_matrix((size, 1))
    order = np.lexsort((gram, owner))
    owner, gram = owner[order], gram[order]
    new = np.r_[True, (owner[1:] != owner[:-1]) | (gram[1:] != gram[:-1])]
    position = np.arange(len(gram))
    repeat = position - position[new][np.cumsum(new) - 1]
    feature = np.unique(gram * (repeat.max() + 1) + repeat, return_inverse=True)[1]
    return csr_matrix(
        (np.ones(len(gram), dtype=np.float32), (owner, feature)),
        shape=(size, int(feature.max()) + 1),
    )
