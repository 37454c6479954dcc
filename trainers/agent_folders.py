"""Folders where an agent is expected: a model, or a run's folder of one model a role."""

from __future__ import annotations

from pathlib import Path

from mmzero_env.protocol import ROLES, Role


def spec_of(typed: str, role: Role) -> str:
    """What :func:`agents.make` takes for what a person typed.

    Args:
        typed: An agent, a model folder, or a folder that holds one model a role, such as
            ``runs/nano-cpu/checkpoints/iter-2``.
        role: Whose model is taken from the last.
    """
    path = Path(typed)
    if not path.is_dir():
        return typed
    if all((path / each).is_dir() for each in ROLES):
        return f"transformers:{path / role}"
    return f"transformers:{path}"


def run_of(typed: str) -> Path | None:
    """The run directory that a folder of checkpoints lies in, or None."""
    path = Path(typed.removeprefix("transformers:").partition("?")[0])
    if not path.is_dir():
        return None
    for folder in list(path.resolve().parents)[:3]:
        if (folder / "config.json").is_file() and (folder / "checkpoints").is_dir():
            return folder
    return None
