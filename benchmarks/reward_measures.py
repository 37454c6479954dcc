"""What reward designs are compared by, and the table of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.interval import Interval, over_seeds


@dataclass(frozen=True)
class Measure:
    """A column of the table.

    Attributes:
        key: Name in JSON.
        title: Heading.
        meaning: One sentence for the legend.
        digits: Decimals shown.
        signed: Whether a plus sign is shown.
    """

    key: str
    title: str
    meaning: str
    digits: int = 3
    signed: bool = False


MEASURES = (
    Measure(
        "solver_gain",
        "true Solver gain",
        "change of the share of true answers on the probe, mean of easy and hard questions",
        signed=True,
    ),
    Measure(
        "silver_accuracy",
        "true silver labels",
        "share of the labels the Solver learned from (hard questions) that are true",
    ),
    Measure(
        "reward_truth_proposer",
        "ρ Proposer",
        "rank correlation (Spearman) of the Proposer's rewards with the truth: caption and both "
        "questions valid, own easy answer true",
        digits=2,
        signed=True,
    ),
    Measure(
        "reward_truth_coder",
        "ρ Coder",
        "the same of the Coder's rewards: the picture is the true one",
        digits=2,
        signed=True,
    ),
    Measure(
        "reward_truth_solver",
        "ρ Solver",
        "the same of the Solver's rewards: the answer is true",
        digits=2,
        signed=True,
    ),
    Measure(
        "calibration",
        "difficulty",
        "rank correlation of the difficulty that the Proposer was paid for with the true error "
        "rate of the hard question",
        digits=2,
        signed=True,
    ),
    Measure(
        "diversity",
        "diversity",
        "entropy of the content types of the last third of the proposals, over ln 7",
        digits=2,
    ),
    Measure(
        "hack_rate",
        "hacks",
        "nano: share of pictures whose easy question counts as solved although the Proposer's own "
        "answer is false",
    ),
    Measure("seconds", "CPU s", "CPU seconds of one seed", digits=1),
)
"""The columns; each ground says in its own words how it measures them."""

Values = Mapping[str, float | None]
"""Measures of one cell by key; None where a measure is not defined."""

Summary = Mapping[str, Interval | None]
"""A row: every measure over the seeds; None if no seed has it."""


def summarise(cells: Sequence[Values]) -> Summary:
    """Means over seeds with their intervals, over the seeds that have the measure."""
    found: dict[str, Interval | None] = {}
    for measure in MEASURES:
        known = [v for cell in cells if (v := cell.get(measure.key)) is not None]
        found[measure.key] = over_seeds(known) if known else None
    return found


def lines(rows: Mapping[str, Summary]) -> list[list[str]]:
    """Heading and one line a design, as text."""
    table = [["design", *(measure.title for measure in MEASURES)]]
    for name, summary in rows.items():
        cells = [_text(summary[measure.key], measure) for measure in MEASURES]
        table.append([name, *cells])
    return table


def _text(found: Interval | None, measure: Measure) -> str:
    return "–" if found is None else found.text(measure.digits, signed=measure.signed)


def as_json(rows: Mapping[str, Summary]) -> dict[str, dict[str, dict[str, float | int] | None]]:
    """The table as plain data."""
    return {
        name: {key: None if found is None else found.as_json() for key, found in summary.items()}
        for name, summary in rows.items()
    }


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's rank correlation; None where one of the two does not vary.

    Source: Spearman (1904): Pearson's correlation of the ranks, ties sharing their mean rank.
    """
    if len(a) < 2 or np.ptp(a) < 1e-12 or np.ptp(b) < 1e-12:
        return None
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])
