"""Role checkpoints: plain Hugging Face folders, written whole or not at all.

A model folder where a role is a model of its own, an adapter folder where it is an adapter.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from agents.loading import ADAPTER_FILE
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, Role
from trainers import atomic
from trainers.learner import Learner


def folder(run: Path, iteration: int, role: Role) -> Path:
    """Where the checkpoint of a role after an iteration lies."""
    return run / "checkpoints" / f"iter-{iteration}" / role


def last(found: Mapping[Role, Path]) -> Path | None:
    """The one of several roles' checkpoints that was written last, by iteration and role."""
    order = {role: place for place, role in enumerate(ROLES)}

    def age(role: Role) -> tuple[int, int]:
        return int(found[role].parent.name.removeprefix("iter-")), order[role]

    return found[max(found, key=age)] if found else None


def save(policy: Learner, path: Path) -> None:
    """Write a policy as a model folder, or as an adapter folder if its base is shared.

    In the precision it was trained in. The folder appears under its name only when it is
    complete.
    """
    save_adapter = getattr(policy, "save_adapter", None)
    if save_adapter is not None:
        save_adapter(path)
        return
    with atomic.new_folder(path) as draft:
        policy.model.save_pretrained(draft)
        policy.tokenizer.save_pretrained(draft)
        if policy.image_processor is not None:
            policy.image_processor.save_pretrained(draft)


def require(path: Path) -> Path:
    """A checkpoint folder that must be there.

    Raises:
        UserError: If it is not.
    """
    if not any((path / name).is_file() for name in ("config.json", ADAPTER_FILE)):
        raise UserError(
            f"the run's state says that {path} was written, but it holds no model; expected a "
            f"folder with config.json and model.safetensors, or with {ADAPTER_FILE} and "
            "adapter_model.safetensors. Restore it, or start a new run."
        )
    return path
