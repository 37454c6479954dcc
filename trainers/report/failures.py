"""Failures by reason, counted over all recorded episodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from trainers.report.scan import Scan
from trainers.report.spacing import COLUMNS, evenly

MAX_ROWS = 60
"""Reasons that are listed; each is a stable name, so there are about thirty."""
_ORDER = ("proposal", "extraction", "render")


@dataclass(frozen=True)
class FailureCell:
    """How often a reason came up in one iteration, and its share of what could have failed."""

    count: int
    share: float


@dataclass(frozen=True)
class FailureRow:
    """One reason over the iterations."""

    stage: str
    reason: str
    cells: tuple[FailureCell, ...]


@dataclass(frozen=True)
class Failures:
    """Every reason that came up, most frequent first within a stage.

    Attributes:
        iterations: Those that have a column.
        rows: The reasons.
    """

    iterations: tuple[int, ...]
    rows: tuple[FailureRow, ...]


def failures(scans: Sequence[Scan]) -> Failures:
    """Count the failures of a run.

    Args:
        scans: Its files of episodes.
    """
    counts: dict[int, Counter[tuple[str, str]]] = {}
    tried: dict[int, Counter[str]] = {}
    for scan in scans:
        counts.setdefault(scan.file.iteration, Counter()).update(scan.failures)
        tried.setdefault(scan.file.iteration, Counter()).update(scan.tried)
    overall: Counter[tuple[str, str]] = sum(counts.values(), Counter())
    reasons = sorted(
        overall,
        key=lambda key: (
            _ORDER.index(key[0]) if key[0] in _ORDER else len(_ORDER),
            -overall[key],
            key,
        ),
    )
    rows = []
    iterations = evenly(list(counts), COLUMNS)
    for stage, reason in reasons[:MAX_ROWS]:
        chances = {i: tried[i]["proposal" if stage == "proposal" else "code"] for i in iterations}
        cells = (
            FailureCell(counts[i][stage, reason], counts[i][stage, reason] / max(chances[i], 1))
            for i in iterations
        )
        rows.append(FailureRow(stage, reason, tuple(cells)))
    return Failures(tuple(iterations), tuple(rows))
