"""The vision tower of a model: which weights it is, and how it is kept as it is.

A tower is known by its name, as in every image-text-to-text family of transformers:
``visual`` (Qwen-VL, with the merger that feeds the language model) or ``vision_tower``,
``vision_model`` (LLaVA, SmolVLM and others, whose projector counts as language).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from mmzero_env.errors import UserError

_PARTS = ("visual", "vision")


def in_vision(name: str) -> bool:
    """Whether a module or parameter of this name belongs to a vision tower."""
    return any(part in name for part in _PARTS)


def freeze_vision(model: Any) -> None:
    """Close a model's vision tower to training.

    Raises:
        UserError: If it has none by the usual names.
    """
    weights = [weight for name, weight in model.named_parameters() if in_vision(name)]
    if not weights:
        raise _no_tower(model)
    for weight in weights:
        weight.requires_grad_(False)


def vision_layers(model: Any) -> list[str]:
    """Names of all linear layers of the vision tower.

    Raises:
        UserError: If it has none by the usual names.
    """
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and in_vision(name)
    ]
    if not names:
        raise _no_tower(model)
    return names


def _no_tower(model: Any) -> UserError:
    return UserError(
        f"{type(model).__name__} has no vision tower by the names {', '.join(_PARTS)}, so it "
        "cannot be frozen or trained apart; set vision=auto"
    )
