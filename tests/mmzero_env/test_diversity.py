from __future__ import annotations

import math
import time
from collections import Counter

import numpy as np
import pytest

from mmzero_env import diversity
from mmzero_env.diversity import clusters, distances, shares, similarities, similarity
from mmzero_env.errors import UserError


def slow_bleu(hypothesis: list[str], reference: list[str]) -> float:
    """Sentence BLEU-4 with smoothing method 1, straight from its definition."""

    def grams(tokens: list[str], n: int) -> Counter[tuple[str, ...]]:
        return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))

    logs = 0.0
    for n in range(1, 5):
        own = grams(hypothesis, n)
        hits = (own & grams(reference, n)).total()
        if n == 1 and hits == 0:
            return 0.0
        logs += math.log((hits or 0.1) / max(own.total(), 1)) / 4
    return math.exp(logs + min(0.0, 1 - len(reference) / len(hypothesis)))


def random_texts(count: int, length: int, vocabulary: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    words = rng.integers(0, vocabulary, size=(count, length))
    return [" ".join(f"w{word}" for word in row[: 1 + rng.integers(length)]) for row in words]


def near_copies(bases: int, copies: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    texts: list[str] = []
    for _ in range(bases):
        base = rng.integers(0, 900, size=int(rng.integers(30, 60)))
        for _ in range(copies):
            row = base.copy()
            row[rng.random(len(row)) < 0.05] = rng.integers(0, 900)
            texts.append(" ".join(f"w{word}" for word in row))
    return [texts[i] for i in rng.permutation(len(texts))]


def test_distances_follow_the_definition() -> None:
    texts = [*random_texts(20, 12, 5, seed=1), "", "a", "a a a a a", "b b a a a a"]
    matrix = distances(texts)
    tokens = [text.split() for text in texts]
    for i in range(len(texts)):
        assert matrix[i, i] == 0
        for j in range(i + 1, len(texts)):
            expected = 1 - slow_bleu(tokens[i], tokens[j])
            assert matrix[i, j] == matrix[j, i] == pytest.approx(expected, abs=1e-12)


def test_three_equal_tokens_are_not_at_distance_zero() -> None:
    assert similarity("red green blue", "red green blue") == pytest.approx(0.1**0.25)
    assert similarity("red green blue gold", "red green blue gold") == pytest.approx(1.0)


def test_clusters_are_numbered_by_first_appearance() -> None:
    one, other = "the red bar is tall today", "seven boats near the old pier"
    assert clusters([other, one, other, one, one]).tolist() == [0, 1, 0, 1, 1]
    assert shares([other, one, other, one, one]).tolist() == [0.4, 0.6, 0.4, 0.6, 0.6]


@pytest.mark.parametrize("texts", [[], ["alone"]])
def test_fewer_than_two_texts(texts: list[str]) -> None:
    assert clusters(texts).tolist() == [0] * len(texts)
    assert shares(texts).tolist() == [1.0] * len(texts)


def published_labels(texts: list[str], threshold: float) -> list[int]:
    """Average linkage straight from its definition, numbered by first appearance."""
    tokens = [text.split() for text in texts]
    apart = np.zeros((len(texts), len(texts)))
    for i in range(len(texts)):
        for j in range(i + 1, len(texts)):
            apart[i, j] = apart[j, i] = 1 - slow_bleu(tokens[i], tokens[j])
    groups = [[i] for i in range(len(texts))]
    while len(groups) > 1:
        height, a, b = min(
            (apart[np.ix_(groups[a], groups[b])].mean(), a, b)
            for a in range(len(groups))
            for b in range(a + 1, len(groups))
        )
        if height >= threshold:
            break
        groups[a] += groups.pop(b)
    owner = {i: min(group) for group in groups for i in group}
    return [sorted(set(owner.values())).index(owner[i]) for i in range(len(texts))]


@pytest.mark.parametrize("threshold", [0.25, 0.5])
def test_clusters_are_those_of_the_published_computation(threshold: float) -> None:
    texts = [*near_copies(8, 4, seed=6), *random_texts(20, 6, 4, seed=7)]
    assert clusters(texts, threshold).tolist() == published_labels(texts, threshold)


def test_similarities_are_the_same_numbers() -> None:
    texts = near_copies(3, 3, seed=8)
    found = similarities(texts[:4], texts[4:])
    assert found.shape == (4, 5)
    assert np.array_equal(1 - found, distances(texts)[:4, 4:])
    assert similarities([], texts).shape == (0, 9)
    assert similarities(texts, []).shape == (9, 0)


def test_only_the_beginning_of_a_very_long_text_counts() -> None:
    start = " ".join(f"w{number}" for number in range(diversity.MAX_TOKENS))
    assert similarity(start + " end of one", start + " another end") == pytest.approx(1.0)


@pytest.mark.parametrize("threshold", [0.1, 0.25, 0.4, 0.5, 0.7])
def test_both_paths_give_the_same_clusters(
    threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*near_copies(25, 4, seed=2), *random_texts(40, 8, 300, seed=3)]
    full = clusters(texts, threshold)
    monkeypatch.setattr(diversity, "DENSE_TEXTS", 1)
    monkeypatch.setattr(diversity, "BLOCK", 17)
    monkeypatch.setattr(diversity, "PAIRS_AT_ONCE", 10)
    by_component = clusters(texts, threshold)
    assert by_component.tolist() == full.tolist()
    assert 25 < full.max() + 1 < len(texts)


def test_blocks_do_not_change_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = near_copies(6, 3, seed=4)
    whole = distances(texts)
    monkeypatch.setattr(diversity, "BLOCK", 5)
    assert np.array_equal(distances(texts), whole)


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5, float("nan")])
def test_impossible_threshold_is_refused(threshold: float) -> None:
    with pytest.raises(UserError, match="threshold"):
        clusters(["a", "b"], threshold)


def test_three_thousand_texts_are_no_burden() -> None:
    texts = near_copies(1500, 2, seed=5)
    start = time.process_time()
    labels = clusters(texts)
    assert time.process_time() - start < 8.0
    assert 1500 <= labels.max() + 1 < 3000
