"""One pass over a file of episodes: what is needed to choose, to count and to compare.

Episode files can be far larger than memory. A pass keeps a few numbers an episode; the few
that are shown are read again.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmzero_env import world
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES
from mmzero_env.record import EpisodeRecord, UnfinishedFile, read_records
from trainers.report.episode import is_right, proposal_of

MAX_TOPICS = 200
"""Topics of one file that are followed; a run draws from far fewer."""

_FILE = re.compile(r"iter-(\d+)-([a-z_]+)\.(?:jsonl|parquet)")


@dataclass(frozen=True)
class EpisodeFile:
    """The episodes of one stage of one iteration."""

    iteration: int
    stage: str
    path: Path


@dataclass(slots=True)
class TopicSeen:
    """Where a topic came up in a file.

    Attributes:
        episodes: Episodes of the topic.
        pictured: Those of them with a picture.
        first: Place of the first episode with a picture; None if there is none.
        last: Place of the last one.
    """

    episodes: int = 0
    pictured: int = 0
    first: int | None = None
    last: int | None = None


@dataclass
class Scan:
    """What one pass over a file found.

    Attributes:
        file: The file.
        rewards: Of every episode the reward that the stage trains on; see :func:`stage_reward`.
        outcomes: What became of every episode, see :func:`outcome`.
        failures: How often each failure came up, by stage and reason.
        tried: Number of proposals and of codes that could have failed.
        topics: Where each topic came up.
        note: What could not be read; empty if nothing.
    """

    file: EpisodeFile
    rewards: list[float] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    topics: dict[str, TopicSeen] = field(default_factory=dict)
    note: str = ""


class Scanner:
    """Scans files, and each again only when it has changed."""

    def __init__(self) -> None:
        """See the class."""
        self._kept: dict[Path, tuple[tuple[int, int], Scan]] = {}

    def scan(self, folder: Path) -> list[Scan]:
        """Scan the episodes of a run, in the order of the run.

        Args:
            folder: The ``episodes`` folder; it may be absent.
        """
        files = sorted(
            episode_files(folder), key=lambda f: (f.iteration, _stage_place(f.stage), f.path)
        )
        return [self._file(file) for file in files]

    def _file(self, file: EpisodeFile) -> Scan:
        try:
            status = file.path.stat()
        except OSError as error:
            return Scan(file, note=f"episodes/{file.path.name} cannot be read: {error.strerror}.")
        stamp = (status.st_size, status.st_mtime_ns)
        kept = self._kept.get(file.path)
        if kept is None or kept[0] != stamp:
            kept = self._kept[file.path] = (stamp, scan_file(file))
        return kept[1]


def episode_files(folder: Path) -> Iterator[EpisodeFile]:
    """The episode files of a run, in no order."""
    if folder.is_dir():
        for path in folder.iterdir():
            match = _FILE.fullmatch(path.name)
            # A file that was converted and kept holds the same episodes twice.
            twin = path.suffix == ".parquet" and path.with_suffix(".jsonl").exists()
            if match and not twin:
                yield EpisodeFile(int(match[1]), match[2], path)


def scan_file(file: EpisodeFile) -> Scan:
    """Read a file once; what is damaged ends it and is noted."""
    found = Scan(file)
    name = f"episodes/{file.path.name}"
    try:
        for place, record in enumerate(read_records(file.path)):
            _add(found, place, record)
    except UnfinishedFile:
        found.note = f"The last line of {name} is cut off and was left out."
    except UserError as error:
        found.note = (
            f"{name} is damaged; the {len(found.rewards)} episodes before are shown. {error}"
        )
    return found


def _add(found: Scan, place: int, record: EpisodeRecord) -> None:
    codes = record["codes"]
    found.rewards.append(stage_reward(record, found.file.stage))
    found.outcomes.append(outcome(record))
    found.tried["proposal"] += bool(record["proposal_text"])
    found.tried["code"] += len(codes)
    for failure in (record["failure"], *(code["failure"] for code in codes)):
        if failure is not None:
            found.failures[failure["stage"], failure["reason"]] += 1
    topic = record["topic"]
    if topic in found.topics or len(found.topics) < MAX_TOPICS:
        seen = found.topics.setdefault(topic, TopicSeen())
        seen.episodes += 1
        if any(code["png"] is not None for code in codes):
            seen.pictured += 1
            seen.last = place
            seen.first = place if seen.first is None else seen.first


def outcome(record: EpisodeRecord) -> str:
    """What became of an episode: one of a few kinds, each of which a report wants to show.

    ``"no proposal"``, ``"no picture"``, ``"label wrong"`` (the silver label of a hard question
    is known to be false), ``"label right"``, or ``"label unknown"``.
    """
    proposal = proposal_of(record)
    if proposal is None:
        return "no proposal"
    if all(code["png"] is None for code in record["codes"]):
        return "no picture"
    votes = [code["votes"].get("hard") for code in record["codes"]]
    winners = [vote["winner"] for vote in votes if vote is not None and vote["valid"]]
    truth = world.truth(proposal, "hard") if winners else None
    if truth is None:
        return "label unknown"
    return "label right" if all(is_right(each, truth) for each in winners) else "label wrong"


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


def _stage_place(stage: str) -> tuple[int, str]:
    return (ROLES.index(stage) if stage in ROLES else len(ROLES), stage)
