"""``mmzero replay``: do recorded episodes come out the same here and now?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, Role
from mmzero_env.record import EpisodeRecord, UnfinishedFile, read_records, record_files
from mmzero_env.replay import Comparison, compare
from mmzero_env.rewards import get_design

SHOWN = 5
"""Differing episodes whose first difference is printed."""


def run(path: Path, design: str | None, workers: int) -> int:
    """Replay and print what came out.

    Args:
        path: A file of records, a directory of such files, or a run directory.
        design: Name of the reward design to score with; each record's own if None.
        workers: Processes that draw.

    Returns:
        The exit code: 0 if every episode came out identical, else 1.

    Raises:
        UserError: If there are no records, a file is damaged, or a record's design is
            not known and none is given.
    """
    if workers < 0:
        raise UserError(f"--workers expects 0 or more, got {workers}.")
    scorer = None if design is None else get_design(design)
    folder = path / "episodes"
    files = record_files(folder if folder.is_dir() else path)
    tally = _Tally()
    for file in files:
        for result in compare(_whole(file), workers=workers, design=scorer):
            tally.add(file, result)
    if not tally.episodes:
        raise UserError(f"{path} holds no finished episode to replay.")
    tally.print()
    return 1 if tally.different else 0


def _whole(file: Path) -> Iterator[EpisodeRecord]:
    """The records of a file up to an unfinished last line, which is reported."""
    try:
        yield from read_records(file)
    except UnfinishedFile as error:
        print(f"note: {error}", file=sys.stderr)


class _Tally:
    """What is kept of the comparisons: counts, a few differences and mean rewards."""

    def __init__(self) -> None:
        self.episodes = self.different = self.incomplete = 0
        self._lines: list[str] = []
        self._versions: set[str] = set()
        self._values: dict[Role, list[tuple[float, float]]] = {role: [] for role in ROLES}

    def add(self, file: Path, result: Comparison) -> None:
        """Count one comparison."""
        self.episodes += 1
        self.incomplete += not result.complete
        for role in ROLES:
            if role != "proposer" or result.complete:
                then, now = _rewards(result.recorded, role), _rewards(result.now, role)
                self._values[role] += zip(then, now, strict=False)
        if result.difference is None:
            return
        self.different += 1
        here = result.now["versions"]
        for name, version in result.recorded["versions"].items():
            if here.get(name) != version:
                self._versions.add(f"{name} {version} then, {here.get(name, 'none')} now")
        if self.different <= SHOWN:
            self._lines.append(f"{file.name}, episode {result.recorded['id']}")
            self._lines.append(f"  {result.difference}")

    def print(self) -> None:
        """Results to standard output, remarks to standard error."""
        identical = self.episodes - self.different
        print(
            f"{self.episodes} episodes replayed: {identical} identical, {self.different} different"
        )
        for line in self._lines:
            print(line)
        if self.different > SHOWN:
            print(f"and {self.different - SHOWN} more")
        if self.different:
            for role, pairs in self._values.items():
                if pairs:
                    then, now = np.mean(pairs, axis=0)
                    print(f"mean reward, {role}: recorded {then:.4f}, now {now:.4f}")
        for version in sorted(self._versions):
            print(f"note: {version}", file=sys.stderr)
        if self.incomplete:
            print(
                f"note: {self.incomplete} episodes were scored together with others that are not "
                "here; their Proposer reward was not compared.",
                file=sys.stderr,
            )


def _rewards(record: EpisodeRecord, role: Role) -> list[float]:
    """The reward of every turn of a role."""
    if role == "proposer":
        return [record["reward"]["value"]]
    if role == "coder":
        return [code["reward"]["value"] for code in record["codes"]]
    return [
        reward["value"]
        for code in record["codes"]
        for rewards in code["solver_rewards"].values()
        for reward in rewards
    ]
