"""The two grounds on which reward designs are compared, behind one form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import reward_nano, simulated_world
from benchmarks.cells import Cell
from benchmarks.reward_choice import Choice
from benchmarks.reward_measures import Measure, Values, gain


@dataclass(frozen=True)
class Ground:
    """Where designs are tried.

    Attributes:
        name: ``"simulated"`` or ``"nano"``.
        title: For tables.
        folder: Of its cells, under the output folder.
        settings: Everything that a cell depends on beside design and seed.
        seeds: Unless others are asked for.
        task: Gives what computes the cell of a design and a seed; the path is for its own
            files.
        parallel: Whether tasks may run in other processes at the same time.
        measures: Of a cell.
        details: Further measures, for a second table.
        hacks: What ``hack_rate`` means here.
        series: Of a cell what :func:`benchmarks.reward_figures.curves` draws, by quantity;
            empty for nothing.
        seconds: About how long a cell takes on one core.
    """

    name: str
    title: str
    folder: str
    settings: Mapping[str, Any]
    seeds: str
    task: Callable[[Choice, int, Path], Callable[[], Cell]]
    parallel: bool
    measures: Callable[[Cell], Values]
    details: tuple[Measure, ...]
    hacks: str
    series: Callable[[Cell], Mapping[str, Sequence[float | None]]]
    seconds: float


def simulated(*, quick: bool) -> Ground:
    """The simulated world, in its small or its full size."""
    size = simulated_world.QUICK if quick else simulated_world.FULL
    return Ground(
        "simulated",
        "simulated world (PPO proposes, learning strategies draw and answer)",
        "simulated-quick" if quick else "simulated",
        asdict(size),
        "0-2" if quick else "0-4",
        lambda choice, seed, _: partial(
            simulated_world.play, choice.design, seed, size, untrained=choice.untrained
        ),
        True,
        simulated_world.measures,
        (
            gain("hard_gain", "hard gain", "true Solver gain on hard questions alone"),
            gain("coder_gain", "Coder gain", "change of the probability of a faithful picture"),
            Measure("good", "good proposals", "share of good proposals in the last third"),
            Measure("silver_accuracy_last", "true labels, end", "true labels in the last third"),
            Measure(
                "hack_proposer",
                "Proposer hacks",
                "share of its proposals with an exploit, or "
                "with the usual mistake claimed as the easy answer, in the last third",
            ),
            Measure("hack_coder", "Coder hacks", "probability of its exploits then"),
            Measure("hack_solver", "Solver hacks", "probability of its exploits then"),
        ),
        "probability of exploits in the last third of the rounds, mean of the three roles",
        simulated_world.series,
        4 if quick else 35,
    )


def nano() -> Ground:
    """The bundled model. It has no small size: what trains for seconds shows nothing."""
    return Ground(
        "nano",
        "nano model, really trained",
        "nano",
        {"preset": reward_nano.PRESET, **reward_nano.SETTINGS},
        "0-2",
        lambda choice, seed, folder: partial(reward_nano.play, choice, seed, folder),
        False,
        reward_nano.measures,
        (
            gain("easy_gain", "easy gain", "true Solver gain on easy questions alone"),
            gain("hard_gain", "hard gain", "true Solver gain on hard questions alone"),
            gain("majority_gain", "majority gain", "change of true majorities, hard questions"),
            gain("coder_gain", "Coder gain", "change of faithful codes on the probe"),
            gain("valid_gain", "Proposer valid", "change of valid proposals on the probe"),
            gain("own_gain", "Proposer own answer", "change of true own easy answers there"),
            Measure(
                "silver_accuracy_easy",
                "true easy labels",
                "share of the silver labels of easy "
                "questions that are true, in the Proposer's and the Coder's stage",
            ),
        ),
        "share of the pictures that count as solved (easy question) although the Proposer's own "
        "answer is false",
        lambda cell: {},
        reward_nano.SECONDS,
    )
