"""Where a stage stands, on disk: a run that is killed goes on from here, to the bit.

    state/stages/1-coder/prompts/        what the stage learns from, once it is collected
    state/stages/1-coder/step-000003/    after three steps:
        state.json                       lengths of the run's files, captions in memory
        coder.pt                         weights, optimizer, schedule and generators

A folder gets its name only when it is whole, and the one before it is removed only then, so
that the newest folder there is can always be gone on from. Files that grow (metrics, episodes)
are cut back to the lengths they had: what came after is done again and comes out the same.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from mmzero_env.errors import UserError
from mmzero_env.protocol import Role
from trainers import atomic

_STEP = re.compile(r"step-(\d{6,})")


class Resumable(Protocol):
    """Something that trains weights and can be gone on with later."""

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`trainers.grpo.GroupTrainer.state_dict`."""
        ...


@dataclass(frozen=True)
class StageState:
    """Where a stage stood after some of its steps.

    Attributes:
        part: Iteration and stage, ``"1/coder"``.
        steps: Steps that were done.
        files: Bytes of every file of the run that grows in this stage, by its path there.
        memory: Captions of the Proposer's last steps, as ``CaptionMemory.state_dict`` gives
            them.
        folder: Where the trainers' states lie.
    """

    part: str
    steps: int
    files: Mapping[str, int]
    memory: Mapping[str, Any]
    folder: Path

    def trainer(self, role: Role) -> dict[str, Any]:
        """What :meth:`GroupTrainer.load_state_dict` takes.

        Raises:
            UserError: If the file is missing or damaged.
        """
        path = self.folder / f"{role}.pt"
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # zip, pickle and file errors of many kinds
            raise _damaged(path, error) from error


class StageStore:
    """Writes and finds the states of a run's stages.

    Args:
        run: The run directory.
    """

    def __init__(self, run: Path) -> None:
        """See the class."""
        self._folder = run / "state" / "stages"

    def prompts(self, part: str) -> Path:
        """Where the prompts of a stage are kept; there only when they are complete."""
        return self._stage(part) / "prompts"

    def save(
        self,
        part: str,
        steps: int,
        *,
        files: Mapping[str, int],
        memory: Mapping[str, Any],
        trainers: Mapping[Role, Resumable],
    ) -> None:
        """Write where a stage stands; earlier states of the stage are removed after it.

        Args:
            part: Iteration and stage, ``"1/coder"``.
            steps: Steps that are done.
            files: Lengths of the files that grow.
            memory: State of the caption memory.
            trainers: Who trains what; none before the first step.
        """
        folder = self._stage(part) / f"step-{steps:06d}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic.new_folder(folder) as draft:
            for role, trainer in trainers.items():
                torch.save(trainer.state_dict(), draft / f"{role}.pt")
            state = {"part": part, "steps": steps, "files": dict(files), "memory": dict(memory)}
            (draft / "state.json").write_text(json.dumps(state) + "\n", encoding="utf-8")
        for number, old in self._steps(part):
            if number != steps:
                shutil.rmtree(old, ignore_errors=True)

    def load(self, part: str) -> StageState | None:
        """The newest state of a stage, or None if it has to begin.

        Raises:
            UserError: If its description is damaged.
        """
        found = self._steps(part)
        if not found:
            return None
        _, folder = max(found)
        path = folder / "state.json"
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            return StageState(
                part=str(state["part"]),
                steps=int(state["steps"]),
                files={str(name): int(size) for name, size in state["files"].items()},
                memory=dict(state["memory"]),
                folder=folder,
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, error) from error

    def unfinished(self) -> StageState | None:
        """The state of the stage that was being trained when the run stopped, if there is one."""
        for folder in sorted(self._folder.glob("*-*")):
            state = self.load(folder.name.replace("-", "/", 1))
            if state is not None:
                return state
        return None

    def forget(self, part: str) -> None:
        """Remove everything about a stage: it is finished."""
        shutil.rmtree(self._stage(part), ignore_errors=True)

    def _stage(self, part: str) -> Path:
        return self._folder / part.replace("/", "-", 1)

    def _steps(self, part: str) -> list[tuple[int, Path]]:
        return [
            (int(match[1]), path)
            for path in self._stage(part).glob("step-*")
            if (match := _STEP.fullmatch(path.name))
        ]


def _damaged(path: Path, error: Exception) -> UserError:
    why = next(iter(str(error).splitlines()), "")
    return UserError(
        f"{path} is damaged ({type(error).__name__}: {why}). Remove the folder "
        f"{path.parent.parent}: the stage then begins again and comes out the same."
    )
