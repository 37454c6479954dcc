"""One tracker: a place that shows the numbers of a run. TensorBoard, Trackio, W&B."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mmzero_env.protocol import Image


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
