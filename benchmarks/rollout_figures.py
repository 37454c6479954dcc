"""What the comparison of streaming with phases found, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.findings import Ratio, Table
from benchmarks.interval import Interval, over_seeds
from trainers.rollout import Mode
from trainers.rollout_stats import RolloutStats

LAYOUTS = ("one engine", "engine a role", "three shared")
FASTER, BUSY, OVERHEAD_MS = 1.5, 0.95, 0.3
"""Aims: times the speed of phases, share of time the engine is busy, CPU ms a request."""
HEADLINE = (72, 256)
"""Episodes and slots that stand for the others: the episodes of one step of the published Proposer
stage."""


@dataclass(frozen=True)
class Play:
    """One collection over simulated engines.

    Attributes:
        seconds: Wall time, in seconds of the engines.
        busy: Share of the time from first to last open request in which at least one was
            open, of the engine where it is smallest.
        slots: Share of all slots that were taken, over the whole collection.
        thin: Seconds an engine in which it ran with less than half of its slots.
    """

    seconds: float
    busy: float
    slots: float
    thin: float


@dataclass(frozen=True)
class Comparison:
    """Both modes in one setting, one entry a seed.

    Attributes:
        layout: One of :data:`LAYOUTS`.
        episodes: Number of episodes.
        slots: Slots of each engine.
        stream: Plays without barriers.
        phases: Plays with them.
    """

    layout: str
    episodes: int
    slots: int
    stream: tuple[Play, ...]
    phases: tuple[Play, ...]

    def ratio(self) -> Interval:
        """How many times as fast streaming is: mean over seeds and its 95 % interval."""
        return over_seeds(
            [p.seconds / s.seconds for p, s in zip(self.phases, self.stream, strict=True)]
        )


@dataclass(frozen=True)
class Overhead:
    """What a request costs beside the engine.

    Attributes:
        requests: How many were answered.
        open: Requests open at a time, on average over the start and the end, too.
        most: Most requests open at a time.
        process: CPU milliseconds of the whole process a request: collector, episodes,
            parsing, and the threads that hand answers over.
        collector: Of them, the collector's thread.
    """

    requests: int
    open: float
    most: int
    process: float
    collector: float


def tables(comparisons: Sequence[Comparison], cost: Overhead) -> Iterator[Table]:
    """The simulated figures, for people."""
    yield Table(
        "streaming against phases, seconds of the simulated engines",
        (
            "layout",
            "episodes",
            "slots",
            "phases",
            "stream",
            "times as fast (95 %)",
            "slots in use",
            "s below half the slots",
            "busy, stream",
        ),
        tuple(
            (
                each.layout,
                str(each.episodes),
                str(each.slots),
                f"{_mean(each.phases, 'seconds'):.0f}",
                f"{_mean(each.stream, 'seconds'):.0f}",
                each.ratio().text(2),
                f"{_mean(each.phases, 'slots'):.0%} → {_mean(each.stream, 'slots'):.0%}",
                f"{_mean(each.phases, 'thin'):.0f} → {_mean(each.stream, 'thin'):.0f}",
                f"{min(play.busy for play in each.stream):.1%}",
            )
            for each in comparisons
        ),
        "Slots in use and seconds below half: phases → stream.",
    )
    yield Table(
        "a request beside the engine, CPU ms",
        ("requests", "most open", "open on average", "whole process", "the collector alone"),
        (
            (
                f"{cost.requests:,}",
                str(cost.most),
                f"{cost.open:.0f}",
                f"{cost.process:.2f}",
                f"{cost.collector:.2f}",
            ),
        ),
    )
    rows = aims(comparisons, cost)
    yield Table(
        "aims",
        ("what", "aim", "found", "met"),
        tuple((what, aim, came, "yes" if met else "no") for what, aim, came, met in rows),
    )


def ratios(comparisons: Sequence[Comparison]) -> Iterator[Ratio]:
    """Streaming against phases in every setting, and both changes against the published layout."""
    for each in comparisons:
        where = f"{each.layout}, {each.episodes} episodes, {each.slots} slots"
        headline = (each.episodes, each.slots) == HEADLINE
        yield Ratio(f"phases / streaming, time: {where}", each.ratio(), headline)
    for (episodes, slots), found in against_published(comparisons).items():
        where = f"{episodes} episodes, {slots} slots"
        what = "an engine a role with phases / three shared that stream, time"
        yield Ratio(f"{what}: {where}", found, (episodes, slots) == HEADLINE)


def against_published(
    comparisons: Sequence[Comparison],
) -> dict[tuple[int, int], Interval]:
    """Three shared engines that stream against the published layout with its phases."""
    found: dict[tuple[int, int], Interval] = {}
    by_layout = {(each.layout, each.episodes, each.slots): each for each in comparisons}
    for (layout, episodes, slots), each in by_layout.items():
        if layout == "engine a role":
            ours = by_layout["three shared", episodes, slots]
            pairs = zip(each.phases, ours.stream, strict=True)
            found[episodes, slots] = over_seeds([p.seconds / s.seconds for p, s in pairs])
    return found


def aims(comparisons: Sequence[Comparison], cost: Overhead) -> list[tuple[str, str, str, bool]]:
    """What was wanted, what came, and whether that is enough."""
    rows: list[tuple[str, str, str, bool]] = []
    faster = {
        f"streaming, {layout}": {
            (each.episodes, each.slots): each.ratio().mean
            for each in comparisons
            if each.layout == layout
        }
        for layout in LAYOUTS
    }
    published = against_published(comparisons)
    faster["streaming and sharing three engines"] = {at: it.mean for at, it in published.items()}
    for what, means in faster.items():
        enough = [f"{n} on {slots}" for (n, slots), mean in means.items() if mean >= FASTER]
        came = f"{min(means.values()):.2f} to {max(means.values()):.2f}; reached for: "
        came += "all" if len(enough) == len(means) else ", ".join(enough) or "none"
        rows.append((what, f"≥ {FASTER} times", came, len(enough) == len(means)))
    busy = min(play.busy for each in comparisons for play in each.stream)
    rows.append(("engine busy while streaming", f"≥ {BUSY:.0%}", f"{busy:.1%}", busy >= BUSY))
    came = f"{cost.process:.2f} ms (up to {cost.most} open, {cost.open:.0f} on average)"
    aim = f"≤ {OVERHEAD_MS} ms CPU a request"
    rows.append(("our cost beside the engine", aim, came, cost.process <= OVERHEAD_MS))
    return rows


def real_table(name: str, rows: Sequence[Mapping[Mode, RolloutStats]]) -> Table:
    """The figures of a real server, for people."""
    cells = []
    for seed, row in enumerate(rows):
        stream, phases = row["stream"], row["phases"]
        (asked,) = stream.policies
        cells.append(
            (
                str(seed),
                f"{phases.seconds:.1f}",
                f"{stream.seconds:.1f}",
                f"{phases.seconds / stream.seconds:.2f}",
                "unknown" if asked.tokens is None else f"{asked.tokens:,}",
                f"{asked.busy_share:.1%}",
            )
        )
    columns = ("seed", "phases", "stream", "times as fast", "tokens", "busy, stream")
    return Table(f"streaming against phases on {name}, seconds", columns, tuple(cells))


def _mean(plays: Sequence[Play], name: str) -> float:
    return float(np.mean([getattr(play, name) for play in plays]))
