"""The numbers of the study: every metric of every arm by iteration, and what they must reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.cells import Cell
from benchmarks.interval import Interval, over_seeds, over_seeds_and_items
from benchmarks.study_run import LABELS

Scores = Mapping[str, NDArray[np.float64]]
"""Of one run, by metric: (iterations + 1, items)."""

COSTS = ("pool", "trained_completions", "trained_tokens", "seconds")

PROBE = {
    "solver_hard_sampled": "hard, sampled",
    "solver_hard_greedy": "hard, greedy",
    "solver_hard_majority": "hard, majority of 8",
    "solver_hard_pass": "hard, pass@8",
    "solver_hard_blind": "hard, no picture",
    "solver_easy_sampled": "easy, sampled",
    "solver_easy_greedy": "easy, greedy",
    "coder_render": "Coder renders",
    "coder_faithful": "Coder faithful",
    "proposer_valid": "Proposer valid",
    "proposer_own_answer": "own answer true",
    "proposer_unique": "Proposer unique",
}
"""Metrics of the probe that the tables show, with their headings."""

SHOWN = {**PROBE, "silver_accuracy": "silver labels true", "false_solvable": "hack rate"}
"""Columns of the tables."""


@dataclass(frozen=True)
class ArmRuns:
    """The finished runs of one arm.

    Attributes:
        cells: One a seed.
        scores: The same, the probe's.
    """

    cells: Sequence[Cell]
    scores: Sequence[Scores]

    @property
    def iterations(self) -> int:
        """How many iterations all of them have."""
        return len(self.cells[0]["iterations"])

    def metric(self, name: str) -> list[Interval | None]:
        """A metric by iteration, the base model first.

        Returns:
            Of the probe: mean and interval over seeds and items. Of labels and costs: over
            seeds; None where no run has it, as the costs of the base.
        """
        if name in self.scores[0]:
            stacked = np.stack([each[name] for each in self.scores])
            return [
                _within(over_seeds_and_items(stacked[:, i]), 0.0)
                for i in range(self.iterations + 1)
            ]
        rows = [[cell["base"].get(name) for cell in self.cells]]
        for number in range(self.iterations):
            rows.append([cell["iterations"][number].get(name) for cell in self.cells])
        known = [[value for value in row if value is not None] for row in rows]
        found = [over_seeds(values) if values else None for values in known]
        if name in COSTS:
            return found
        least = -1.0 if name.startswith("reward_truth") else 0.0
        return [None if each is None else _within(each, least) for each in found]

    def change(self, name: str, before: int, after: int) -> Interval:
        """How a metric of the probe differs between two iterations, on the same items."""
        apart = [each[name][after] - each[name][before] for each in self.scores]
        return over_seeds_and_items(np.stack(apart))

    def beyond(self, other: ArmRuns, name: str) -> Interval:
        """How a metric of the probe differs from another arm's at the end, by seed and item."""
        pairs = zip(self.scores, other.scores, strict=True)
        return over_seeds_and_items(np.stack([own[name][-1] - its[name][-1] for own, its in pairs]))

    def as_json(self) -> dict[str, list[dict[str, float | int | None]]]:
        """Every metric as a list over iterations of ``mean``, ``low``, ``high`` and ``n``."""
        nothing = {"mean": None, "low": None, "high": None, "n": 0}
        return {
            name: [dict(nothing) if i is None else dict(i.as_json()) for i in self.metric(name)]
            for name in (*self.scores[0], *LABELS, *COSTS)
        }


@dataclass(frozen=True)
class Claim:
    """Something that an arm should reach.

    Attributes:
        text: What.
        found: What it reached.
        holds: Whether that is enough.
    """

    text: str
    found: str
    holds: bool


GAIN = 0.15
"""Least change of hard accuracy and of faithfulness against the base that counts as reached."""


def claims(runs: ArmRuns) -> list[Claim]:
    """What an arm should reach: sampled hard accuracy, faithfulness, and labels that stay true."""
    found = []
    for name, title in (
        ("solver_hard_sampled", "hard accuracy, sampled"),
        ("coder_faithful", "Coder faithful"),
    ):
        change = runs.change(name, 0, runs.iterations)
        text = f"{title}: at least {100 * GAIN:.0f} points above the base"
        found.append(Claim(text, change.text(signed=True), change.mean >= GAIN))
    falls = []
    for after in range(1, runs.iterations + 1):
        step = runs.change("solver_hard_sampled", after - 1, after)
        if step.high < 0:
            falls.append(f"iteration {after} {step.text(signed=True)}")
    text = "hard accuracy, sampled: no iteration below the one before by more than its interval"
    found.append(Claim(text, "; ".join(falls) or "none", not falls))
    pairs = [
        (cell["base"]["silver_accuracy"], cell["iterations"][-1]["silver_accuracy"])
        for cell in runs.cells
    ]
    known = [last - first for first, last in pairs if first is not None and last is not None]
    text = "silver labels: not falling from base to end by more than the interval over seeds"
    if known:
        moved = over_seeds(known)
        found.append(Claim(text, moved.text(signed=True), moved.high >= 0))
    else:
        found.append(Claim(text, "unknown", False))
    return found


def table(arms: Mapping[str, ArmRuns]) -> list[list[str]]:
    """A line an arm: every metric of :data:`SHOWN` after the last iteration.

    The base model, which all arms share, comes first.
    """
    heading = ["arm", *SHOWN.values()]
    lines = []
    first = next(iter(arms.values()))
    own = {"silver_accuracy", "false_solvable"}
    base = ["base", *("" if n in own else _cell(first.metric(n)[0]) for n in SHOWN)]
    for name, runs in arms.items():
        lines.append([name, *(_cell(runs.metric(metric)[-1]) for metric in SHOWN)])
    return [heading, base, *lines]


def changes(arms: Mapping[str, ArmRuns]) -> list[list[str]]:
    """A line an arm: how every probe metric differs between the base and the end."""
    lines = [
        [name, *(runs.change(metric, 0, runs.iterations).text(signed=True) for metric in PROBE)]
        for name, runs in arms.items()
    ]
    return [["arm", *PROBE.values()], *lines]


def differences(arms: Mapping[str, ArmRuns]) -> list[list[str]]:
    """A line an arm but the first: how its probe metrics differ from the first's at the end.

    Both were measured on the same items after training with the same seeds, so this is narrower
    than two intervals side by side.
    """
    (first, other), *rest = arms.items()
    lines = [
        [name, *(runs.beyond(other, metric).text(signed=True) for metric in PROBE)]
        for name, runs in rest
    ]
    return [[f"beyond {first}", *PROBE.values()], *lines]


def _within(found: Interval, least: float) -> Interval:
    """An interval of what cannot be below ``least`` or above 1."""
    return replace(found, low=max(found.low, least), high=min(found.high, 1.0))


def _cell(found: Interval | None) -> str:
    return "unknown" if found is None else found.text()
