"""The episodes that a report shows: chosen, read again, and turned into cards.

A report has a size that it must not pass, so episodes are chosen. Every stage of every
iteration gets the same number: at least one of each outcome, then evenly over the ranking by
reward; what the strip shows is among them. A stage whose episodes are too large for its share
of the bytes gets fewer, and what it leaves goes to the next.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from mmzero_env.errors import UserError
from mmzero_env.record import EpisodeRecord, pick_records
from trainers.report import pages, strip
from trainers.report.episode import EpisodeView, view, view_html
from trainers.report.pictures import Pictures
from trainers.report.scan import EpisodeFile, Scan, outcome, stage_reward
from trainers.report.spacing import evenly, spread
from trainers.report.strip import Place

PER_STAGE = 16
"""Most episodes of one stage of one iteration, beside those of the strip."""
MAX_CARDS = 480
"""Most episodes of a report: more would take a browser long to open."""
MAX_TYPES = 40
"""Content types that can be filtered by; they are written by a model."""

_UNSAFE = re.compile(r"[^A-Za-z0-9_.]+")


@dataclass(frozen=True)
class Card:
    """One episode of the gallery, ready for the page.

    Attributes:
        anchor: Its name in links, unique in the page.
        file: Where it is recorded.
        place: Its place there, from 0.
        reward: The reward that its stage trains on; None if it never came to that role.
        outcome: See :func:`trainers.report.scan.outcome`.
        shown: What is shown of it.
        html: The whole card.
    """

    anchor: str
    file: EpisodeFile
    place: int
    reward: float | None
    outcome: str
    shown: EpisodeView
    html: Markup


@dataclass(frozen=True)
class Group:
    """The cards of one stage of one iteration, best first, and how many episodes there are."""

    file: EpisodeFile
    total: int
    cards: tuple[Card, ...]


@dataclass(frozen=True)
class Cell:
    """One cell of the strip: a card of the gallery, or None if no picture was drawn."""

    card: Card | None
    place: Place


@dataclass(frozen=True)
class Gallery:
    """What a report shows of a run's episodes.

    Attributes:
        groups: By iteration and stage, in the order of the run; also those without a card.
        pictures: The pictures of all cards.
        stage: The stage of the strip; empty if there is no strip.
        columns: Headings of the strip.
        rows: Topics of the strip, each with a cell a column, None where it did not come up.
        notes: What could not be read.
    """

    groups: tuple[Group, ...]
    pictures: Pictures
    stage: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    notes: tuple[str, ...]

    @property
    def shown(self) -> int:
        """Number of episodes on the page."""
        return sum(len(group.cards) for group in self.groups)

    @property
    def total(self) -> int:
        """Number of episodes that were recorded."""
        return sum(group.total for group in self.groups)

    @property
    def content_types(self) -> list[str]:
        """Content types to filter by: the most frequent ones, in alphabetical order."""
        found = Counter(
            card.shown.content_type
            for group in self.groups
            for card in group.cards
            if card.shown.content_type
        )
        return sorted(name for name, _ in found.most_common(MAX_TYPES))


def collect(scans: Sequence[Scan], budget: int) -> Gallery:
    """Choose the episodes of a run and make their cards.

    Args:
        scans: Its files of episodes, in the order of the run.
        budget: Bytes that cards and pictures may take.
    """
    plan = strip.plan(scans)
    filled = [scan for scan in scans if scan.rewards]
    pictured = {id(scan) for scan in evenly(filled, MAX_CARDS)}
    per_stage = max(1, min(PER_STAGE, MAX_CARDS // max(len(filled), 1)))
    pictures = Pictures()
    anchors: Counter[str] = Counter()
    groups: list[Group] = []
    cards: dict[tuple[int, int | None], Card] = {}
    notes: list[str] = []
    for index, scan in enumerate(filled):
        fixed = plan.places(scan) if plan else []
        wanted = choose(scan, per_stage, fixed) if id(scan) in pictured else fixed
        if budget <= 0:
            wanted = []
        share = _Share(budget // (len(filled) - index), pictures)
        made = {}
        for place, record in _read(scan, wanted, notes):
            card = share.card(scan, place, record, anchors)
            if card is not None:
                made[place] = cards[id(scan), place] = card
        budget -= share.used
        ranked = sorted(made.values(), key=lambda c: (-scan.rewards[c.place], c.place))
        groups.append(Group(scan.file, len(scan.rewards), tuple(ranked)))
    rows = tuple(
        (topic, tuple(_cell(place, cards) for place in places))
        for topic, places in (plan.rows.items() if plan else ())
    )
    return Gallery(
        tuple(groups),
        pictures,
        plan.stage if plan else "",
        plan.columns if plan else (),
        rows,
        tuple([*(scan.note for scan in scans if scan.note), *notes]),
    )


def _cell(place: Place | None, cards: Mapping[tuple[int, int | None], Card]) -> Cell | None:
    return None if place is None else Cell(cards.get((id(place.scan), place.place)), place)


class _Share:
    """The bytes of one stage: makes cards as long as they last."""

    def __init__(self, left: int, pictures: Pictures) -> None:
        self._left, self._pictures = left, pictures
        self.used = 0

    def card(
        self, scan: Scan, place: int, record: EpisodeRecord, anchors: Counter[str]
    ) -> Card | None:
        """A card, or None if it does not fit."""
        mark, size = self._pictures.mark(), self._pictures.size
        name = "e-" + (_UNSAFE.sub("-", record["id"]).strip("-") or "episode")
        anchor = name if name not in anchors else f"{name}-again-{anchors[name]}"
        card = _card(anchor, scan, place, record, self._pictures)
        cost = len(card.html.encode("utf-8", "replace")) + self._pictures.size - size
        if self.used + cost > self._left:
            self._pictures.go_back(mark)
            return None
        anchors[name] += 1
        self.used += cost
        return card


def _card(anchor: str, scan: Scan, place: int, record: EpisodeRecord, pictures: Pictures) -> Card:
    shown = view(record, pictures)
    reward = stage_reward(record, scan.file.stage)
    found = Card(
        anchor=anchor,
        file=scan.file,
        place=place,
        reward=reward if math.isfinite(reward) else None,
        outcome=outcome(record),
        shown=shown,
        html=Markup(),
    )
    template = pages.environment().get_template("card.html")
    html = template.render(card=found, body=view_html(shown), cover=_cover(shown))
    return replace(found, html=Markup(html))


def _cover(shown: EpisodeView) -> str | None:
    """The picture on a closed card: the first one."""
    return next((code.picture for code in shown.codes if code.picture), None)


def _read(
    scan: Scan, places: Sequence[int], notes: list[str]
) -> Iterator[tuple[int, EpisodeRecord]]:
    """The records at some places, in that order; a handful, so they fit into memory."""
    found: dict[int, EpisodeRecord] = {}
    try:
        found.update(pick_records(scan.file.path, places))
    except UserError as error:
        # The file was whole when it was scanned: it is being written, or cut back by a resume.
        notes.append(f"episodes/{scan.file.path.name} changed while it was read. {error}")
    for place in places:
        if place in found:
            yield place, found.pop(place)


def choose(scan: Scan, count: int, fixed: Sequence[int] = ()) -> list[int]:
    """Places of the episodes to show, the most wanted first.

    Args:
        scan: The file.
        count: Most episodes beside the fixed ones.
        fixed: Places that are wanted anyway.
    """
    ranking = sorted(range(len(scan.rewards)), key=lambda p: (-scan.rewards[p], p))
    by_outcome: dict[str, list[int]] = {}
    for place in ranking:
        by_outcome.setdefault(scan.outcomes[place], []).append(place)
    # Of each outcome the one in the middle of its ranking; rare outcomes first.
    typical = [places[len(places) // 2] for places in sorted(by_outcome.values(), key=len)]
    wanted = list(dict.fromkeys([*typical[:count], *spread(ranking, count)]))[:count]
    return list(dict.fromkeys([*fixed, *wanted]))
