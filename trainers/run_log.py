"""What a run writes down while it goes on: metrics, episodes, and how far it came."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mmzero_env.episode import Episode
from mmzero_env.errors import UserError
from mmzero_env.protocol import EpisodeRewards, Role
from mmzero_env.record import Drawer, batch_to_records, write_records
from mmzero_env.rendering import JobRenderer
from mmzero_env.rewards import RewardDesign
from trainers import atomic
from trainers.grpo_settings import StepMetrics
from trainers.monitors import Warn, Watch
from trainers.progress import Progress
from trainers.run_config import SIMULTANEOUS
from trainers.trackers import RunTrackers

METRICS = "metrics.jsonl"
WARNINGS = "warnings.jsonl"


class RunLog:
    """The files of one run directory.

    ``state/progress.json`` lists the finished parts, ``"1/coder"`` for a stage and
    ``"1/probe"`` for the measurement after an iteration. A part counts as finished
    only when everything it produced is on disk. On resume the files that grow are cut back
    to where the unfinished part was last saved. ``warnings.jsonl`` follows from the metrics.

    Args:
        folder: The run directory.
        progress: Is told of steps and warnings.
        watch: Looks at every row; None warns of nothing.
    """

    def __init__(self, folder: Path, progress: Progress, watch: Watch | None = None) -> None:
        """See the class."""
        self.folder = folder
        self._progress = progress
        self._watch = watch
        self._state = folder / "state" / "progress.json"
        self.done: list[str] = []
        self.trackers = RunTrackers()
        for name in ("state", "episodes", "checkpoints"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def read(self) -> None:
        """Read how far the run came.

        Raises:
            UserError: If the state is damaged.
        """
        if self._state.exists():
            try:
                self.done = [str(part) for part in json.loads(self._state.read_text())["done"]]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f'{self._state} is damaged: expected {{"done": ["1/proposer", ...]}} ({error}).'
                ) from error

    def cut_back(self, sizes: Mapping[str, int] | None) -> None:
        """Drop what is going to be done again.

        Args:
            sizes: Bytes to keep of every file that the unfinished stage writes, as
                :meth:`sizes` gave them; None if that stage begins again.

        Raises:
            UserError: If a file is damaged.
        """
        if sizes is not None:
            for name, size in sizes.items():
                self._cut(name, size)
            return
        rows = self.folder / METRICS
        if rows.exists():
            lines = [line for line in rows.read_text().splitlines() if self._finished(line, rows)]
            atomic.write_text(rows, "".join(f"{line}\n" for line in lines))
        for path in (self.folder / "episodes").glob("iter-*.jsonl"):
            _, iteration, stage = path.stem.split("-")
            if f"{iteration}/{stage}" not in self.done:
                path.unlink()

    def sizes(self, iteration: int, stage: str) -> dict[str, int]:
        """Bytes of the files that a stage writes, by their path in the run directory."""
        names = (METRICS, _episodes(iteration, stage))
        paths = {name: self.folder / name for name in names}
        return {name: path.stat().st_size if path.exists() else 0 for name, path in paths.items()}

    def _cut(self, name: str, size: int) -> None:
        path = self.folder / name
        length = path.stat().st_size if path.exists() else 0
        if length < size:
            raise UserError(
                f"{path} has {length} bytes, and the state of the run says {size}: the end of the "
                "file is lost. Restore it, or start a new run."
            )
        if length > size:
            os.truncate(path, size)

    def _finished(self, line: str, path: Path) -> bool:
        try:
            row = json.loads(line)
        except ValueError:
            # Only a line that was being written when the run was killed can be cut off,
            # and such a line belongs to an unfinished stage.
            return False
        try:
            return row["iteration"] in self.trained(row["stage"])
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged: expected rows with iteration and stage, found {line[:80]!r}."
            ) from error

    def trained(self, role: str) -> list[int]:
        """Iterations in which a role's training is finished, alone or with the others."""
        parts = (part.split("/") for part in self.done)
        return [int(iteration) for iteration, stage in parts if stage in (role, SIMULTANEOUS)]

    def finish(self, part: str) -> None:
        """Mark a part as finished."""
        self.done.append(part)
        atomic.write_text(self._state, json.dumps({"done": self.done}) + "\n")

    def step(
        self,
        iteration: int,
        stage: Role,
        metrics: StepMetrics,
        extra: Mapping[str, float | None],
        *,
        last: bool = True,
    ) -> None:
        """Write one row of ``metrics.jsonl``.

        Args:
            iteration: Number of the iteration.
            stage: The role that was trained.
            metrics: What the trainer did.
            extra: What else is known about the step.
            last: Whether the step is over; in a simultaneous stage it has a row a role.
        """
        values: dict[str, Any] = {
            "reward": metrics.reward_mean,
            "reward_std": metrics.reward_std,
            **{f"reward/{name}": value for name, value in metrics.terms.items()},
            **extra,
            "loss": metrics.loss,
            "kl": metrics.kl,
            "entropy": metrics.entropy,
            "clip_share": metrics.clip_share,
            "grad_norm": metrics.grad_norm,
            "learning_rate": metrics.learning_rate,
            "groups_used": metrics.groups_used,
            "groups_dropped": metrics.groups_dropped,
            "completion_length": metrics.completion_length,
            "updates": metrics.updates,
            "seconds_rollout": metrics.seconds_rollout,
            "seconds_train": metrics.seconds_train,
        }
        clean = {
            key: value if value is None or math.isfinite(value) else None
            for key, value in values.items()
        }
        row = {"iteration": iteration, "stage": stage, "step": metrics.step, **clean}
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.trackers.log(row)
        if last:
            self._progress.step({k: v for k, v in clean.items() if v is not None})
        for warning in self._watch.add(row) if self._watch is not None else ():
            with (self.folder / WARNINGS).open("a", encoding="utf-8") as file:
                file.write(f"{_line(warning)}\n")
            self._progress.note(warning.text)

    def rows(self) -> list[dict[str, Any]]:
        """What ``metrics.jsonl`` holds."""
        path = self.folder / METRICS
        return [json.loads(line) for line in path.open()] if path.exists() else []

    def watch_again(self) -> None:
        """Look at all rows again and write their warnings anew: after they were cut back."""
        if self._watch is None:
            return
        found = [warning for row in self.rows() for warning in self._watch.add(row)]
        path = self.folder / WARNINGS
        if found:
            atomic.write_text(path, "".join(f"{_line(warning)}\n" for warning in found))
        else:
            path.unlink(missing_ok=True)

    def episodes(
        self,
        iteration: int,
        stage: str,
        episodes: Sequence[Episode],
        rewards: Sequence[EpisodeRewards],
        design: RewardDesign,
        renderer: JobRenderer,
        memory: Sequence[Sequence[str]] = (),
    ) -> None:
        """Append a batch of finished episodes to ``episodes/iter-I-STAGE.jsonl``.

        Args:
            iteration: Number of the iteration.
            stage: The stage they were played in.
            episodes: Episodes that were scored together.
            rewards: Their rewards.
            design: What scored them.
            renderer: What drew them.
            memory: Captions of earlier batches that they were scored against.
        """
        self.trackers.episodes(iteration, stage, episodes)
        path = self.folder / _episodes(iteration, stage)
        known = renderer if isinstance(renderer, Drawer) else None
        write_records(
            path,
            batch_to_records(episodes, rewards, design=design, renderer=known, memory=memory),
        )


def _episodes(iteration: int, stage: str) -> str:
    return f"episodes/iter-{iteration}-{stage}.jsonl"


def _line(warning: Warn) -> str:
    return json.dumps(asdict(warning))
