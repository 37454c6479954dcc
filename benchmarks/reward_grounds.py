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
from benchmarks.reward_measures import Values


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
        "share of the pictures that count as solved (easy question) although the Proposer's own "
        "answer is false",
        lambda cell: {},
        reward_nano.SECONDS,
    )
