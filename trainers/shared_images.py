"""Runs the vision tower once for every distinct picture of a batch.

The rows of a GRPO group look at one picture, and a batch holds several groups. A
vision tower encodes every row's copy anew. Here the batch brings each distinct
picture once; the tower encodes those, and its features are repeated for the rows
that need them. Repeating is differentiable, so the gradients of all rows add up in
the one encoding: loss and gradient are those of the repeated pictures.

It works by forward hooks on one module instance, put on for one forward pass and
taken off after it. Nothing of the model's class changes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mmzero_env.errors import EngineError


def vision_tower(model: Any) -> Any:
    """The module whose features can be shared, or None.

    It is the one called ``visual``, as in the Qwen-VL families: called with
    ``grid_thw``, it returns ``pooler_output`` of shape (tokens of all pictures, D).
    """
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "visual" and hasattr(module, "spatial_merge_size"):
            return module
    return None


@contextmanager
def shared_images(tower: Any, grids: torch.Tensor, index: Sequence[int]) -> Generator[None]:
    """Repeat the tower's features within the block.

    The model is called with the pixels of the distinct pictures and with the
    ``image_grid_thw`` of all rows, in the order of the rows.

    Args:
        tower: What :func:`vision_tower` found.
        grids: Patch grids (t, h, w) of the distinct pictures, int64, shape (U, 3).
        index: For every picture of the batch, in the order of its rows, which of
            the U it is.

    Raises:
        EngineError: If the tower does not return features in the expected form.
    """
    merge = int(tower.spatial_merge_size) ** 2
    lengths = (grids.prod(-1) // merge).tolist()
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    tokens = torch.cat([torch.arange(starts[i], starts[i + 1]) for i in index]).to(grids.device)

    def before(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {**kwargs, "grid_thw": grids}

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        features = getattr(output, "pooler_output", None)
        if features is None or len(features) != starts[-1]:
            raise EngineError(
                f"{type(module).__name__} gave no pooled features of {starts[-1]} visual tokens"
            )
        output.pooler_output = features[tokens]
        deep = getattr(output, "deepstack_features", None)
        if deep is not None:
            output.deepstack_features = [layer[tokens] for layer in deep]
        return output

    handles = (
        tower.register_forward_pre_hook(before, with_kwargs=True),
        tower.register_forward_hook(after),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
