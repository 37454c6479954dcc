"""The evolution strip: the same topic in every iteration, pictures and questions side by side.

The paper shows such a figure of episodes that were picked by hand. Here they are picked by
place: the last episode of a topic in a stage that has a picture, and before the first
iteration the first one, which the base model played.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmzero_env.protocol import ROLES
from trainers.report.scan import Scan, TopicSeen
from trainers.report.spacing import COLUMNS, evenly

MAX_ROWS = 8
"""Topics of the strip."""


@dataclass(frozen=True)
class Place:
    """One cell of the strip.

    Attributes:
        scan: The file of the episode.
        place: Its place in the file; None if no episode of the topic has a picture.
        seen: How often the topic came up there.
    """

    scan: Scan
    place: int | None
    seen: TopicSeen


@dataclass(frozen=True)
class Plan:
    """Which episodes make up the strip.

    Attributes:
        stage: The stage that they were played in.
        columns: Headings.
        rows: By topic, one place a column; None where the topic did not come up.
    """

    stage: str
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[Place | None, ...]]

    def places(self, scan: Scan) -> list[int]:
        """The places of one file."""
        cells = (cell for row in self.rows.values() for cell in row if cell is not None)
        return [c.place for c in cells if c.scan is scan and c.place is not None]


def plan(scans: Sequence[Scan]) -> Plan | None:
    """Choose the stage, the iterations and the topics.

    The stage is the one that was recorded in most iterations, of equals the first in playing
    order: in the Proposer's stage topics are given, so they come again. Topics are those of most
    iterations.

    Returns:
        None if no episode was recorded.
    """
    stages: dict[str, list[Scan]] = {}
    for scan in scans:
        if scan.topics:
            stages.setdefault(scan.file.stage, []).append(scan)
    if not stages:
        return None
    order = {role: place for place, role in enumerate(ROLES)}
    stage = min(stages, key=lambda name: (-len(stages[name]), order.get(name, -1), name))
    chosen = evenly(stages[stage], COLUMNS - 1)
    often = Counter(topic for scan in chosen for topic in scan.topics)
    # Counter keeps the order of the first appearance among equals.
    topics = [topic for topic, _ in often.most_common(MAX_ROWS)]
    columns = [f"iteration {scan.file.iteration}" for scan in chosen]
    first = chosen[0]
    with_start = first.file.iteration == 1
    rows = {}
    for topic in topics:
        cells = [_place(scan, topic, last=True) for scan in chosen]
        rows[topic] = tuple([_place(first, topic, last=False), *cells] if with_start else cells)
    return Plan(stage, tuple(["start", *columns] if with_start else columns), rows)


def _place(scan: Scan, topic: str, *, last: bool) -> Place | None:
    seen = scan.topics.get(topic)
    return None if seen is None else Place(scan, seen.last if last else seen.first, seen)
