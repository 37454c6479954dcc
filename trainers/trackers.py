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
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from agents.registry import missing_extra
from mmzero_env.episode import Episode
from mmzero_env.errors import UserError, unknown
from mmzero_env.protocol import Image, Proposal
from trainers import atomic

if TYPE_CHECKING:
    from trainers.run_config import RunConfig

EXTRAS: Mapping[str, str] = {"tensorboard": "train", "trackio": "trackio", "wandb": "wandb"}
"""Every tracker with the extra of the distribution that brings it."""

PICTURES = 4
"""Pictures that are shown of a stage."""

_MODULES = {"tensorboard": "torch.utils.tensorboard"}


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture of a stage.

    Attributes:
        image: (H, W, 3) uint8.
        caption: What it should show, by its proposal.
    """

    image: Image
    caption: str


@dataclass(frozen=True, eq=False)
class Entry:
    """What a tracker is given at once: one row, whole.

    Attributes:
        step: Number of the row in ``metrics.jsonl``, from 0.
        stage: The role that is trained.
        values: Numbers of the row, under ``STAGE/NAME``.
        samples: Pictures of the stage, with its first row.
    """

    step: int
    stage: str
    values: Mapping[str, float]
    samples: Sequence[Sample] = ()


class Tracker(Protocol):
    """One place that shows the numbers of a run.

    Attributes:
        next_step: The first step that it does not hold yet.
    """

    next_step: int

    def log(self, entry: Entry) -> None:
        """Take a row. An entry is taken whole or not at all."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


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
        if not self._live or (iteration, stage) in self._shown:
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


def open_trackers(config: RunConfig, note: Callable[[str], None]) -> RunTrackers:
    """Start the trackers of a run.

    Args:
        config: The run. Its directory exists; what ``metrics.jsonl`` holds is what it goes
            on from.
        note: Takes the sentence about a tracker that failed.

    Raises:
        UserError: If ``state/trackers.json`` is damaged.
    """
    folder = Path(config.out)
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
    rows = [json.loads(line) for line in lines]
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


class TensorBoard:
    """Event files; what a killed run wrote from ``first_step`` on is hidden.

    Args:
        folder: Holds the event files.
        first_step: Where the run goes on.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        """See the class."""
        from torch.utils.tensorboard import SummaryWriter

        self.next_step = first_step
        self._writer = SummaryWriter(str(folder), purge_step=first_step)

    def log(self, entry: Entry) -> None:
        """See :class:`Tracker`."""
        for tag, value in entry.values.items():
            self._writer.add_scalar(tag, value, entry.step)
        for place, sample in enumerate(entry.samples):
            tag = f"{entry.stage}/picture-{place}"
            self._writer.add_image(tag, sample.image, entry.step, dataformats="HWC")
            # Indented: TensorBoard reads text as Markdown, and a caption is a model's words.
            caption = "\n".join(f"    {line}" for line in sample.caption.splitlines())
            self._writer.add_text(f"{tag}/caption", caption, entry.step)
        # A row that is on disk here before the run's state is saved cannot be lost by a kill.
        self._writer.flush()

    def close(self) -> None:
        """See :class:`Tracker`."""
        self._writer.close()


class Trackio:
    """A local Trackio project, or the Space or server that Trackio itself is told to use.

    Args:
        project: Name of the project.
        run: Name of the run, unique in the project.
        config: Settings of the run.
    """

    def __init__(self, project: str, run: str, config: Mapping[str, Any]) -> None:
        """See the class."""
        import trackio  # ty: ignore[import-not-found]  # an extra of its own

        self._image = trackio.Image
        with redirect_stdout(sys.stderr):
            self._run = trackio.init(
                project=project, name=run, config=dict(config), resume="allow", embed=False
            )
        self.next_step = self._run._next_step

    def log(self, entry: Entry) -> None:
        """See :class:`Tracker`."""
        pictures = {
            f"{entry.stage}/picture-{place}": self._image(sample.image, caption=sample.caption)
            for place, sample in enumerate(entry.samples)
        }
        self._run.log({**entry.values, **pictures}, step=entry.step)

    def close(self) -> None:
        """See :class:`Tracker`."""
        with redirect_stdout(sys.stderr):
            self._run.finish()


class WandB:
    """A run of Weights & Biases, online or, by its own ``WANDB_MODE``, offline.

    Args:
        project: Name of the project.
        run: Id of the run, by which it is resumed.
        folder: The run directory.
        config: Settings of the run.
    """

    START_SECONDS = 30.0
    """Longest wait for the server when a run starts, and for a login."""
    END_SECONDS = 120.0
    """Longest wait for the last uploads; files that are left can be sent by ``wandb sync``."""

    def __init__(self, project: str, run: str, folder: Path, config: Mapping[str, Any]) -> None:
        """See the class."""
        import wandb

        self._image = wandb.Image
        # For the whole process: its hints (about the folder called agents, among others) would
        # be written into the progress bars.
        wandb.setup(wandb.Settings(silent=True))
        self._run = wandb.init(
            project=project,
            id=run,
            name=run,
            dir=str(folder),
            config=dict(config),
            resume="allow",
            settings=wandb.Settings(
                console="off",
                disable_code=True,
                disable_git=True,
                init_timeout=self.START_SECONDS,
                login_timeout=self.START_SECONDS,
                finish_timeout=self.END_SECONDS,
            ),
        )
        self.next_step = self._run.step

    def log(self, entry: Entry) -> None:
        """See :class:`Tracker`."""
        pictures = {
            f"{entry.stage}/picture-{place}": self._image(sample.image, caption=sample.caption)
            for place, sample in enumerate(entry.samples)
        }
        self._run.log({**entry.values, **pictures}, step=entry.step, commit=True)

    def close(self) -> None:
        """See :class:`Tracker`."""
        self._run.finish()
