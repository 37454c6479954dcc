"""A trained role as a model folder with a card, ready to load or to share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from agents.loading import ADAPTER_FILE
from mmzero_env.errors import UserError
from mmzero_env.protocol import Role
from trainers import checkpoints
from trainers.report.run_data import Estimate, RunData


def write(run: Path, role: Role, iteration: int | None, folder: Path) -> int:
    """Copy a role's checkpoint.

    Args:
        run: A run directory.
        role: Whose.
        iteration: After which iteration; the last one that has a checkpoint when None.
        folder: Empty folder to fill.

    Returns:
        The iteration.

    Raises:
        UserError: If there is no such checkpoint, naming those that are there.
    """
    there = sorted(
        int(path.parent.name.removeprefix("iter-"))
        for path in (run / "checkpoints").glob(f"iter-*/{role}")
    )
    if not there:
        raise UserError(f"{run} holds no checkpoint of the {role} (checkpoints/iter-I/{role}).")
    chosen = there[-1] if iteration is None else iteration
    if chosen not in there:
        raise UserError(
            f"{run} holds no checkpoint of the {role} after iteration {chosen}; there are those of "
            f"{', '.join(map(str, there))}."
        )
    source = checkpoints.require(checkpoints.folder(run, chosen, role))
    shutil.copytree(source, folder, dirs_exist_ok=True)
    return chosen


def is_adapter(folder: Path) -> bool:
    """Whether a model folder holds an adapter rather than a whole model."""
    return (folder / ADAPTER_FILE).is_file()


def base_of(folder: Path, fallback: str) -> str:
    """The base model of an adapter folder, or what the run was started from."""
    if not is_adapter(folder):
        return fallback
    settings: dict[str, Any] = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8"))
    return str(settings.get("base_model_name_or_path") or fallback)


def scores(data: RunData, role: Role, iteration: int) -> list[tuple[str, Estimate, Estimate]]:
    """True scores of a role: metric, base and after the iteration; empty if not measured."""
    if data.probe is None or iteration not in data.probe.iterations:
        return []
    place = data.probe.iterations.index(iteration)
    return [
        (name.removeprefix(f"{role}_").replace("_", " "), estimates[0], estimates[place])
        for name, estimates in data.probe.metrics.items()
        if name.startswith(f"{role}_")
    ]
