"""The published diversity computation and ours side by side: same labels, how much faster.

    python -m benchmarks.diversity              # n = 200 and 600, one run
    python -m benchmarks.diversity --large      # also time and memory at n = 10,000

The published computation is one sentence BLEU a pair (nltk's, smoothing "method 1") and
average-linkage clustering of the matrix (scikit-learn's). If these two packages are not
installed, a plain re-creation stands in, which is quicker than nltk: pair by pair in
Python with counters, then scipy's linkage. The first line says which one ran.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from mmzero_env.diversity import ORDER, SMOOTHING, THRESHOLD, clusters

Bleu = Callable[[list[str], list[str]], float]


def captions(count: int, length: int, rng: np.random.Generator) -> list[str]:
    """Texts of about so many words out of 1,500; a third are near-copies of others."""
    bases = max(1, 2 * count // 3)
    made: list[NDArray[np.int64]] = []
    for number in range(count):
        if number < bases:
            made.append(rng.integers(0, 1500, int(rng.integers(length - 5, length + 6))))
        else:
            copy = made[int(rng.integers(bases))].copy()
            copy[rng.random(len(copy)) < 0.04] = rng.integers(0, 1500)
            made.append(copy)
    order = rng.permutation(count)
    return [" ".join(f"w{word}" for word in made[i]) for i in order]


def plain_bleu(hypothesis: list[str], reference: list[str]) -> float:
    """Sentence BLEU-4 with smoothing "method 1", from its definition."""
    logs = 0.0
    for n in range(1, ORDER + 1):
        own = Counter(zip(*(hypothesis[k:] for k in range(n)), strict=False))
        theirs = Counter(zip(*(reference[k:] for k in range(n)), strict=False))
        hits = sum((own & theirs).values())
        if n == 1 and not hits:
            return 0.0
        logs += math.log((hits or SMOOTHING) / max(len(hypothesis) - n + 1, 1)) / ORDER
    return math.exp(logs + min(0.0, 1 - len(reference) / len(hypothesis)))


def published_bleu() -> tuple[str, Bleu]:
    """Nltk's sentence BLEU if it is there, else :func:`plain_bleu`; with its name."""
    if importlib.util.find_spec("nltk") is None:
        return "a plain re-creation (nltk is not installed)", plain_bleu
    module: Any = importlib.import_module("nltk.translate.bleu_score")
    smooth = module.SmoothingFunction().method1

    def bleu(hypothesis: list[str], reference: list[str]) -> float:
        return module.sentence_bleu([reference], hypothesis, smoothing_function=smooth)

    return "nltk", bleu


def published_labels(texts: Sequence[str], bleu: Bleu) -> NDArray[np.int64]:
    """Cluster labels, pair by pair."""
    matrix = np.zeros((len(texts), len(texts)))
    for i in range(len(texts)):
        for j in range(i + 1, len(texts)):
            matrix[i, j] = matrix[j, i] = 1 - bleu(texts[i].split(), texts[j].split())
    if importlib.util.find_spec("sklearn") is not None:
        cluster: Any = importlib.import_module("sklearn.cluster")
        model = cluster.AgglomerativeClustering(
            n_clusters=None, distance_threshold=THRESHOLD, metric="precomputed", linkage="average"
        )
        return model.fit_predict(matrix)
    tree = linkage(squareform(matrix, checks=False), method="average")
    return fcluster(tree, math.nextafter(THRESHOLD, 0), criterion="distance")


def same_partition(left: NDArray[np.int64], right: NDArray[np.int64]) -> bool:
    """Whether two labellings differ in the names of the labels only."""
    pairs = set(zip(left.tolist(), right.tolist(), strict=True))
    return len(pairs) == len(set(left.tolist())) == len(set(right.tolist()))


def timed(work: Callable[[], NDArray[np.int64]]) -> tuple[float, NDArray[np.int64]]:
    """CPU seconds and the result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def peak_mib() -> float:
    """Most memory that this process ever held, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 / (1024 if sys.platform == "darwin" else 1)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 600], metavar="N")
    parser.add_argument("--words", type=int, nargs="+", default=[15, 120], metavar="W")
    parser.add_argument("--large", action="store_true", help="also cluster 10,000 texts")
    args = parser.parse_args()
    name, bleu = published_bleu()
    rng = np.random.default_rng(0)
    clusters(captions(50, 30, rng))  # imports and first calls are not what is measured
    print(f"published computation: {name}\n")
    print("| n | words | published, CPU s | ours, CPU s | times faster | same labels |")
    print("|---|---|---|---|---|---|")
    for length in args.words:
        for size in args.sizes:
            texts = captions(size, length, rng)
            quick, ours = min((timed(lambda t=texts: clusters(t)) for _ in range(3)), key=_first)
            slow, theirs = timed(lambda t=texts: published_labels(t, bleu))
            same = "yes" if same_partition(ours, theirs) else "NO"
            print(
                f"| {size} | {length} | {slow:.2f} | {quick:.4f} | {slow / quick:,.0f} | {same} |"
            )
    if not args.large:
        return
    print(f"\nmemory before: {peak_mib():,.0f} MiB")
    print("| n = 10,000, 120 words | CPU s | clusters | peak memory so far, MiB |")
    print("|---|---|---|---|")
    copies = [*captions(10, 120, rng)] * 1000
    for kind, texts in (
        ("a third near-copies", captions(10_000, 120, rng)),
        ("10 texts, 1,000 times each", copies),
    ):
        spent, labels = timed(lambda t=texts: clusters(t))
        print(f"| {kind} | {spent:.1f} | {labels.max() + 1:,} | {peak_mib():,.0f} |")


def _first(pair: tuple[float, NDArray[np.int64]]) -> float:
    return pair[0]


if __name__ == "__main__":
    main()
