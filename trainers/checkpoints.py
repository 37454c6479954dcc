"""Role checkpoints: plain Hugging Face model folders, written whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from mmzero_env.errors import UserError
from mmzero_env.protocol import Role
from trainers.learner import Learner


def folder(run: Path, iteration: int, role: Role) -> Path:
    """Where the checkpoint of a role after an iteration lies."""
    return run / "checkpoints" / f"iter-{iteration}" / role


def save(policy: Learner, path: Path) -> None:
    """Write a policy as a model folder, in the precision it was trained in.

    The folder appears under its name only when it is complete.
    """
    draft = path.with_name(f".{path.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    policy.model.save_pretrained(draft)
    policy.tokenizer.save_pretrained(draft)
    if policy.image_processor is not None:
        policy.image_processor.save_pretrained(draft)
    if path.exists():
        shutil.rmtree(path)
    draft.replace(path)


def require(path: Path) -> Path:
    """A checkpoint folder that must be there.

    Raises:
        UserError: If it is not.
    """
    if not (path / "config.json").is_file():
        raise UserError(
            f"the run's state says that {path} was written, but it holds no model; expected a "
            "model folder with config.json and model.safetensors. Restore it, or start a new run."
        )
    return path
