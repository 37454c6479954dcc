"""Which episodes a report shows, and what it shows of them.

Episode files can be far larger than memory, so each is read twice as a stream:
once to rank and to count failures, once to keep the few that are shown.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from PIL import Image as PillowImage

from mmzero_env.protocol import QUESTIONS, ROLES
from mmzero_env.record import (
    CodeRecord,
    EpisodeRecord,
    RewardRecord,
    UnfinishedFile,
    png_to_image,
    read_records,
)

THUMBNAIL = 320
"""Longest side of a picture in the report, in pixels."""

_FILE = re.compile(r"iter-(\d+)-([a-z_]+)\.(?:jsonl|parquet)")


@dataclass(frozen=True)
class ShownReward:
    """A reward with its terms in the order in which the design lists them."""

    value: float
    terms: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ShownVote:
    """The vote on one question."""

    level: str
    winner: str
    consistency: float
    valid: int


@dataclass(frozen=True)
class ShownAnswer:
    """One answer of the Solver."""

    text: str
    reward: ShownReward | None


@dataclass(frozen=True)
class ShownCode:
    """One code: its picture as a data URI or why there is none, its votes, answers, reward."""

    text: str
    picture: str | None
    failure: str
    flags: tuple[str, ...]
    reward: ShownReward
    votes: tuple[ShownVote, ...]
    answers: tuple[tuple[str, tuple[ShownAnswer, ...]], ...]


@dataclass(frozen=True)
class Asked:
    """A question as the Proposer wrote it, with the answer it proposed."""

    level: str
    question: str
    answer: str


@dataclass(frozen=True)
class ShownEpisode:
    """One episode of the gallery; all texts are raw model output, to be escaped."""

    id: str
    topic: str
    content_type: str
    caption: str
    asked: tuple[Asked, ...]
    failure: str
    proposal_text: str
    reward: ShownReward | None
    codes: tuple[ShownCode, ...]


@dataclass(frozen=True)
class Group:
    """The chosen episodes of one stage of one iteration, best first."""

    iteration: int
    stage: str
    total: int
    episodes: tuple[ShownEpisode, ...]


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
    """Every reason that came up, most frequent first within a stage."""

    iterations: tuple[int, ...]
    rows: tuple[FailureRow, ...]


@dataclass(frozen=True)
class Gallery:
    """What the report shows of a run's episodes.

    Attributes:
        groups: Chosen episodes by iteration and stage, in the order of the run.
        failures: Counts over all recorded episodes, chosen or not.
        missing: One sentence for every file whose end is cut off.
    """

    groups: tuple[Group, ...]
    failures: Failures
    missing: tuple[str, ...]


def collect(folder: Path, per_stage: int) -> Gallery:
    """Choose and prepare the episodes of a run.

    Args:
        folder: The ``episodes`` folder of the run; it may be absent.
        per_stage: Most episodes to show of one stage of one iteration. They are
            evenly spaced over the ranking by the reward that the stage trains on.

    Raises:
        UserError: If a file is damaged (a cut-off last line is not damage).
    """
    files = sorted(_files(folder), key=lambda f: (f[0], _stage_place(f[1])))
    groups: list[Group] = []
    missing: list[str] = []
    counts: dict[int, Counter[tuple[str, str]]] = {}
    chances: dict[int, Counter[str]] = {}
    for iteration, stage, path in files:
        ranking = []
        tried = chances.setdefault(iteration, Counter())
        failed = counts.setdefault(iteration, Counter())
        for place, record in enumerate(_stream(path, missing)):
            ranking.append((stage_reward(record, stage), place))
            tried["proposal"] += bool(record["proposal_text"])
            tried["code"] += len(record["codes"])
            for failure in (record["failure"], *(code["failure"] for code in record["codes"])):
                if failure is not None:
                    failed[failure["stage"], failure["reason"]] += 1
        chosen = spread(ranking, per_stage)
        shown = {
            place: _episode(record)
            for place, record in enumerate(_stream(path, []))
            if place in set(chosen)
        }
        if shown:
            episodes = tuple(shown[place] for place in chosen)
            groups.append(Group(iteration, stage, len(ranking), episodes))
    return Gallery(tuple(groups), _failures(counts, chances), tuple(missing))


def spread(ranking: Sequence[tuple[float, int]], count: int) -> list[int]:
    """Places of at most ``count`` episodes, evenly spaced from the highest to the lowest reward."""
    ordered = [place for _, place in sorted(ranking, key=lambda pair: (-pair[0], pair[1]))]
    if len(ordered) <= count:
        return ordered
    if count == 1:
        return ordered[:1]
    return [ordered[round(k * (len(ordered) - 1) / (count - 1))] for k in range(count)]


def stage_reward(record: EpisodeRecord, stage: str) -> float:
    """Mean reward that a stage trains on in one episode.

    An episode that never came to the role in question ranks below all others.
    """
    if stage == "coder":
        values = [code["reward"]["value"] for code in record["codes"]]
    elif stage == "solver":
        values = [
            reward["value"]
            for code in record["codes"]
            for rewards in code["solver_rewards"].values()
            for reward in rewards
        ]
    else:
        values = [record["reward"]["value"]]
    return sum(values) / len(values) if values else -math.inf


def _files(folder: Path) -> Iterator[tuple[int, str, Path]]:
    if folder.is_dir():
        for path in folder.iterdir():
            match = _FILE.fullmatch(path.name)
            # A file that was converted and kept holds the same episodes twice.
            twin = path.suffix == ".parquet" and path.with_suffix(".jsonl").exists()
            if match and not twin:
                yield int(match[1]), match[2], path


def _stage_place(stage: str) -> tuple[int, str]:
    return (ROLES.index(stage) if stage in ROLES else len(ROLES), stage)


def _stream(path: Path, missing: list[str]) -> Iterator[EpisodeRecord]:
    """The records of a file; an unfinished last line is left out and noted."""
    try:
        yield from read_records(path)
    except UnfinishedFile:
        missing.append(f"The last line of episodes/{path.name} is cut off and was left out.")


def _failures(
    counts: Mapping[int, Counter[tuple[str, str]]], chances: Mapping[int, Counter[str]]
) -> Failures:
    iterations = tuple(sorted(counts))
    overall: Counter[tuple[str, str]] = sum(counts.values(), Counter())
    order = ("proposal", "extraction", "render")
    reasons = sorted(
        overall,
        key=lambda key: (
            order.index(key[0]) if key[0] in order else len(order),
            -overall[key],
            key,
        ),
    )
    rows = []
    for stage, reason in reasons:
        cells = []
        for i in iterations:
            count = counts[i][stage, reason]
            tried = chances[i]["proposal" if stage == "proposal" else "code"]
            cells.append(FailureCell(count, count / tried if tried else 0.0))
        rows.append(FailureRow(stage, reason, tuple(cells)))
    return Failures(iterations, tuple(rows))


def _episode(record: EpisodeRecord) -> ShownEpisode:
    proposal = cast("dict[str, str]", record["proposal"] or {})
    asked = tuple(
        Asked(level, proposal[f"{level}_question"], proposal[f"{level}_answer"])
        for level in QUESTIONS
        if proposal
    )
    return ShownEpisode(
        id=record["id"],
        topic=record["topic"],
        content_type=proposal.get("content_type", ""),
        caption=proposal.get("caption", ""),
        asked=asked,
        failure=_sentence(record["failure"]),
        proposal_text=record["proposal_text"],
        # A given proposal was written by nobody here: its reward would mean nothing.
        reward=_reward(record["reward"]) if record["proposal_text"] else None,
        codes=tuple(_code(code) for code in record["codes"]),
    )


def _code(code: CodeRecord) -> ShownCode:
    votes = tuple(
        ShownVote(level, str(vote["winner"]), float(vote["consistency"]), int(vote["valid"]))
        for level, vote in code["votes"].items()
    )
    answers = []
    for level, texts in code["answers"].items():
        rewards = code["solver_rewards"].get(level, [])
        paired = [_reward(reward) for reward in rewards] or [None] * len(texts)
        answers.append(
            (level, tuple(ShownAnswer(t, r) for t, r in zip(texts, paired, strict=True)))
        )
    return ShownCode(
        text=code["code"] if code["code"] is not None else code["text"],
        picture=None if code["png"] is None else thumbnail(code["png"]),
        failure=_sentence(code["failure"]),
        flags=tuple(code["flags"]),
        reward=_reward(code["reward"]),
        votes=votes,
        answers=tuple(answers),
    )


def thumbnail(png: bytes) -> str:
    """A picture as a data URI, no side longer than :data:`THUMBNAIL` pixels."""
    image = PillowImage.fromarray(png_to_image(png))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    image.save(buffer, format="webp", quality=82)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _reward(reward: RewardRecord) -> ShownReward:
    return ShownReward(reward["value"], tuple(reward["terms"].items()))


def _sentence(failure: Mapping[str, object] | None) -> str:
    if failure is None:
        return ""
    text = f"{failure['stage']}: {str(failure['reason']).replace('_', ' ')}"
    return f"{text} ({failure['detail']})" if failure["detail"] else text
