"""The published diversity computation and ours side by side: same labels, how much faster.

    python -m benchmarks.diversity              # n = 200 and 600, one run
    python -m benchmarks.diversity --large      # also time and memory at n = 10,000

The published computation is one sentence BLEU a pair (nltk's, smoothing "method 1") and
average-linkage clustering of the matrix (scikit-learn's). If these two packages are not
installed, a plain re-creation stands in, which is quicker than nltk: pair by pair in
Python with counters, then scipy's linkage. The table says which one ran.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from benchmarks import script
from benchmarks.findings import Findings, Ratio, Spread, Table
from benchmarks.peak_memory import peak_mib
from mmzero_env.diversity import ORDER, SMOOTHING, THRESHOLD, clusters

Bleu = Callable[[list[str], list[str]], float]

TURNS = 3
PUBLISHED = {"nltk": "nltk", "scikit-learn": "sklearn"}
"""Packages of the published computation, with the modules to import."""


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
    """Nltk's sentence BLEU if both packages are there, else :func:`plain_bleu`; with its name."""
    if not all(map(_is_there, PUBLISHED.values())):
        return "plain re-creation", plain_bleu
    module: Any = importlib.import_module("nltk.translate.bleu_score")
    smooth = module.SmoothingFunction().method1

    def bleu(hypothesis: list[str], reference: list[str]) -> float:
        return module.sentence_bleu([reference], hypothesis, smoothing_function=smooth)

    return "nltk and scikit-learn", bleu


def published_labels(texts: Sequence[str], bleu: Bleu) -> NDArray[np.int64]:
    """Cluster labels, pair by pair."""
    matrix = np.zeros((len(texts), len(texts)))
    for i in range(len(texts)):
        for j in range(i + 1, len(texts)):
            matrix[i, j] = matrix[j, i] = 1 - bleu(texts[i].split(), texts[j].split())
    if bleu is not plain_bleu:
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


@dataclass(frozen=True)
class Case:
    """Both computations on the same texts.

    Attributes:
        size: Number of texts.
        words: Words of each, about.
        published: CPU seconds of the published computation.
        ours: CPU seconds of ours, one number a turn.
        same: Whether the labels are the same but for their names.
    """

    size: int
    words: int
    published: float
    ours: tuple[float, ...]
    same: bool

    @property
    def times(self) -> Spread:
        """How many times faster ours is, turn by turn."""
        return Spread.of([self.published / each for each in self.ours])


def compare(size: int, words: int, bleu: Bleu, rng: np.random.Generator) -> Case:
    """Run the published computation once and ours in :data:`TURNS` turns."""
    texts = captions(size, words, rng)
    turns = [timed(lambda: clusters(texts)) for _ in range(TURNS)]
    slow, theirs = timed(lambda: published_labels(texts, bleu))
    same = all(same_partition(labels, theirs) for _, labels in turns)
    return Case(size, words, slow, tuple(spent for spent, _ in turns), same)


def large(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Time and memory of ours at 10,000 texts of 120 words."""
    copies = [*captions(10, 120, rng)] * 1000
    found = []
    for kind, texts in (
        ("a third near-copies", captions(10_000, 120, rng)),
        ("10 texts, 1,000 times each", copies),
    ):
        before = peak_mib()
        spent, labels = timed(lambda t=texts: clusters(t))
        found.append(
            {
                "texts": kind,
                "cpu_seconds": spent,
                "clusters": int(labels.max()) + 1,
                "peak_mib_before": before,
                "peak_mib": peak_mib(),
            }
        )
    return found


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 600], metavar="N")
    parser.add_argument("--words", type=int, nargs="+", default=[15, 120], metavar="W")
    parser.add_argument("--large", action="store_true", help="also cluster 10,000 texts")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """Compare in every size, then the large ones."""
    name, bleu = published_bleu()
    rng = np.random.default_rng(0)
    clusters(captions(50, 30, rng))  # imports and first calls are not what is measured
    cases = [compare(size, words, bleu, rng) for words in args.words for size in args.sizes]
    more = large(rng) if args.large else []
    tables = [
        Table(
            f"published computation ({name}) and ours, CPU seconds",
            ("n", "words", "published", "ours", "times faster", "same labels"),
            tuple(
                (
                    str(case.size),
                    str(case.words),
                    f"{case.published:.2f}",
                    Spread.of(case.ours).text(4),
                    case.times.text(0),
                    "yes" if case.same else "NO",
                )
                for case in cases
            ),
        )
    ]
    if more:
        tables.append(
            Table(
                "ours at n = 10,000, 120 words",
                ("texts", "CPU s", "clusters", "peak memory before, MiB", "after"),
                tuple(
                    (
                        each["texts"],
                        f"{each['cpu_seconds']:.1f}",
                        f"{each['clusters']:,}",
                        f"{each['peak_mib_before']:,.0f}",
                        f"{each['peak_mib']:,.0f}",
                    )
                    for each in more
                ),
            )
        )
    return Findings(
        {"published": name, "cases": [asdict(case) for case in cases], "large": more},
        tuple(tables),
        tuple(
            Ratio(f"{name} / ours, CPU time, {case.size} texts of {case.words} words", case.times)
            for case in cases
        ),
        tuple(_left_out()),
        seeds=(0,),
        packages=("scipy", "nltk", "scikit-learn"),
        ok=all(case.same for case in cases),
    )


def _left_out() -> Iterator[str]:
    missing = [name for name, module in PUBLISHED.items() if not _is_there(module)]
    if missing:
        yield (
            f"Not run: the published computation with {' and '.join(PUBLISHED)} itself, because "
            f"{' and '.join(missing)} cannot be imported. pip install {' '.join(missing)}"
        )


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; exit code 1 if any labels differ."""
    return script.run("diversity", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
