"""Trackers: where the numbers of a run are shown beside ``metrics.jsonl``.

TensorBoard is always written, into the run directory. Trackio and Weights & Biases are
options. ``metrics.jsonl`` stays the full record: a tracker repeats its numbers under
``STAGE/NAME`` and adds a few pictures a stage.

The step of a tracker is one count over the whole run: the number of the row in
``metrics.jsonl``, from 0. Iteration, stage and step of the row determine it, it has no
gaps, and a run that is resumed goes on where its rows go on.

A tracker is a convenience. One that fails is named once and dropped; the run goes on.
"""

from __future__ import annotations

import importlib
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.registry import missing_extra
from mmzero_env.episode import Episode
from mmzero_env.errors import UserError, unknown
from mmzero_env.protocol import ROLES, Proposal
from trainers import atomic
from trainers.tracker import Entry, Sample, TensorBoard, Tracker, Trackio, WandB

if TYPE_CHECKING:
    from trainers.run_config import RunConfig

EXTRAS: Mapping[str, str] = {"tensorboard": "train", "trackio": "trackio", "wandb": "wandb"}
"""Every tracker with the extra of the distribution that brings it."""

PICTURES = 4
"""Pictures that are shown of a stage."""

_MODULES = {"tensorboard": "torch.utils.tensorboard"}


class RunTrackers:
    """The trackers of a run, none of which can stop it.

    Args:
        trackers: By name.
        note: Takes the sentence about a tracker that failed.
        rows: Rows of ``metrics.jsonl`` that a resumed run goes on from. A tracker that
            lacks some of them gets them now.
    """

    def __init__(
        self,
        trackers: Mapping[str, Callable[[], Tracker]] | None = None,
        note: Callable[[str], None] = lambda text: None,
        rows: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """See the class."""
        self._note = note
        self._next = 0
        self._live: dict[str, Tracker] = {}
        self._samples: list[Sample] = []
        self._shown = {(row["iteration"], row["stage"]) for row in rows}
        self._begun = {row["iteration"] for row in rows}
        for name, start in (trackers or {}).items():
            tracker = self._guarded(name, start)
            if tracker is not None:
                self._live[name] = tracker
        for row in rows:
            self.log(row)

    def __enter__(self) -> RunTrackers:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def log(self, row: Mapping[str, Any]) -> None:
        """Show a row of ``metrics.jsonl``; numbers that are missing are left out."""
        stage = row["stage"]
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float)}
        entry = Entry(
            self._next,
            stage,
            {f"{stage}/{key}": float(value) for key, value in numbers.items()},
            tuple(self._samples),
        )
        self._next += 1
        self._samples.clear()
        for name, tracker in list(self._live.items()):
            # What was logged before a run was killed comes again, the same, when it is resumed.
            if entry.step >= tracker.next_step:
                self._guarded(name, lambda tracker=tracker: tracker.log(entry))

    def episodes(self, iteration: int, stage: str, episodes: Iterable[Episode]) -> None:
        """Keep some pictures of a stage's first episodes, to be shown with its next row."""
        # A stage of all roles at once has rows under the names of its roles.
        again = stage not in ROLES and iteration in self._begun
        if not self._live or again or (iteration, stage) in self._shown:
            return
        self._samples = _samples(episodes)
        if self._samples:
            self._shown.add((iteration, stage))

    def close(self) -> None:
        """Close every tracker."""
        for name, tracker in list(self._live.items()):
            self._guarded(name, tracker.close)
        self._live.clear()

    def _guarded(self, name: str, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:  # what a network or a library throws has no common type
            self._live.pop(name, None)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self._note(
                f"{name} takes no more metrics ({reason}); the run goes on, and metrics.jsonl "
                "holds all of them"
            )
            return None


def check_trackers(names: Iterable[str]) -> None:
    """Refuse names that are no trackers.

    Raises:
        UserError: With the valid names.
    """
    for name in names:
        if name not in EXTRAS:
            raise unknown("tracker", name, EXTRAS)


def require_trackers(names: Iterable[str]) -> None:
    """See that the packages of all trackers are there, TensorBoard's among them.

    Raises:
        UserError: With the command that adds what is missing.
    """
    for name in _all(names):
        try:
            importlib.import_module(_MODULES.get(name, name))
        except ModuleNotFoundError as error:
            raise missing_extra(error, EXTRAS[name]) from error


def open_trackers(
    config: RunConfig, rows: Sequence[Mapping[str, Any]], note: Callable[[str], None]
) -> RunTrackers:
    """Start the trackers of a run.

    Args:
        config: The run, whose directory exists.
        rows: What ``metrics.jsonl`` holds: what a resumed run goes on from.
        note: Takes the sentence about a tracker that failed.

    Raises:
        UserError: If ``state/trackers.json`` is damaged.
    """
    folder = Path(config.out)
    name = _run_id(folder)
    starts: dict[str, Callable[[], Tracker]] = {
        "tensorboard": lambda: TensorBoard(folder / "tensorboard", len(rows)),
        "trackio": lambda: Trackio(config.project, name, asdict(config)),
        "wandb": lambda: WandB(config.project, name, folder, asdict(config)),
    }
    return RunTrackers({each: starts[each] for each in _all(config.trackers)}, note, rows)


def _all(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(("tensorboard", *names)))


def _run_id(folder: Path) -> str:
    """What trackers know the run by: drawn once, so that two runs never share it."""
    path = folder / "state" / "trackers.json"
    if not path.exists():
        drawn = f"{folder.resolve().name}-{uuid.uuid4().hex[:8]}"
        atomic.write_text(path, json.dumps({"run": drawn}) + "\n")
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["run"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} is damaged: expected {{"run": "NAME"}} ({error}).') from error


def _samples(episodes: Iterable[Episode]) -> list[Sample]:
    found: list[Sample] = []
    for episode in episodes:
        outcome = episode.outcome()
        images = [code.drawing.image for code in outcome.codes]
        image = next((image for image in images if image is not None), None)
        if isinstance(outcome.proposal, Proposal) and image is not None:
            found.append(Sample(image, outcome.proposal.caption))
        if len(found) == PICTURES:
            break
    return found
