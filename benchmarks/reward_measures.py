"""What reward designs are compared by, and the table of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
        "true labels",
        "share of the silver labels that the Solver learned from (hard questions) that are true",
    ),
    Measure(
        "reward_truth_proposer",
        "ρ Proposer",
        "rank correlation (Spearman) of the Proposer's rewards with the truth: caption and both "
        "questions valid, own easy answer true; mean over the steps",
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
        "the same of the Solver's rewards: the answer to the hard question is true",
        digits=2,
        signed=True,
    ),
    Measure(
        "calibration",
        "difficulty",
        "rank correlation of what the Proposer was paid for difficulty with the true error rate "
        "of the hard question",
        digits=2,
        signed=True,
    ),
    Measure(
        "diversity",
        "diversity",
        "entropy of the content types of the last third of the proposals, over ln 7; the "
        "procedural world has five of the seven, so at most 0.83",
        digits=2,
    ),
    Measure("hack_rate", "hacks", "see the ground", digits=3),
    Measure("seconds", "CPU s", "CPU seconds of one seed, all included", digits=0),
)
"""The columns; each ground says in its own words what is special to it."""

DIFFICULTY = ("difficulty", "learnability", "uncertainty", "entropy_band")
"""The Proposer's terms that pay for a hard question's difficulty."""

LAST = 1 / 3
"""Part of the proposals of a run that tells what is proposed in the end."""

Values = Mapping[str, float | None]
"""Measures of one cell by key; None where a measure is not defined."""

Summary = Mapping[str, Interval | None]
"""A row: every measure over the seeds; None if no seed has it."""


def summarise(cells: Sequence[Values], measures: Sequence[Measure]) -> Summary:
    """Means over seeds with their intervals, over the seeds that have the measure."""
    found: dict[str, Interval | None] = {}
    for measure in measures:
        known = [v for cell in cells if (v := cell.get(measure.key)) is not None]
        found[measure.key] = over_seeds(known) if known else None
    return found


def lines(rows: Mapping[str, Summary], measures: Sequence[Measure]) -> list[list[str]]:
    """Heading and one line a design, as text."""
    table = [["design", *(measure.title for measure in measures)]]
    for name, summary in rows.items():
        cells = [_text(summary[measure.key], measure) for measure in measures]
        table.append([name, *cells])
    return table


def _text(found: Interval | None, measure: Measure) -> str:
    return "–" if found is None else found.text(measure.digits, signed=measure.signed)


def gain(key: str, title: str, meaning: str) -> Measure:
    """A measure that is a change, shown with its sign."""
    return Measure(key, title, meaning, signed=True)


def as_json(rows: Mapping[str, Summary]) -> dict[str, dict[str, dict[str, float | int] | None]]:
    """The table as plain data."""
    return {
        name: {key: None if found is None else found.as_json() for key, found in summary.items()}
        for name, summary in rows.items()
    }


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def last_of(values: Sequence[float | None]) -> float | None:
    """Mean of the last third of the values, see :data:`LAST`; None if none is known."""
    return mean_of(values[-max(1, round(LAST * len(values))) :]) if values else None
