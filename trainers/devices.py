"""Where the tensors of a batch are."""

from __future__ import annotations

from typing import Any

import torch


def moved(batch: dict[str, Any], device: torch.device | str) -> dict[str, Any]:
    """A batch with its tensors elsewhere; the same tensors if they are there already.

    Args:
        batch: Tensors, and other things that stay as they are.
        device: Where to.
    """
    return {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }
