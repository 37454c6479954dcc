"""What the KL term pulls towards: the weights at the start of a stage, frozen.

For a model that is trained as a whole this is a second model. Where an adapter is trained
over a base that stays as it is, it is a copy of the adapter alone: it lies beside the
trained one for the length of the stage and is switched on while references are scored, so
the memory grows by an adapter and not by a model.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict

from agents.adapters import adapter_weights, put_weights
from agents.loading import load


def stage_start(model: Any) -> Any:
    """A copy of what is trained in a model, as it is now.

    Args:
        model: As a policy gives it for training.

    Returns:
        The weights of the adapter that is switched on, by peft's names, on the CPU; or,
        without adapters, the whole model again.
    """
    if isinstance(model, PeftModel):
        weights = get_peft_model_state_dict(
            model, adapter_name=model.active_adapter, save_embedding_layers=False
        )
        return {name: weight.detach().to("cpu", copy=True) for name, weight in weights.items()}
    return copy.deepcopy(model)


def load_reference(model: Any, folder: Path) -> Any:
    """The same from a role's checkpoint, written when the stage began.

    Args:
        model: What is trained; says whether the folder holds an adapter or a model, and in
            which precision and on which device a model is wanted.
        folder: A checkpoint of the role.

    Raises:
        UserError: If the folder does not hold it.
    """
    if isinstance(model, PeftModel):
        return adapter_weights(folder)
    dtype = str(model.dtype).removeprefix("torch.")
    return load(str(folder), dtype=dtype, device=str(model.device)).model


@contextmanager
def frozen_reference(model: Any, reference: Any) -> Generator[Any]:
    """A reference ready to score, for the length of a stage.

    Args:
        model: What is trained, its adapter switched on if it has any.
        reference: A model, the weights of an adapter (:func:`stage_start`), or None.

    Yields:
        The model, frozen; or the name of a frozen adapter of ``model``; or None.

    Raises:
        UserError: If the weights do not fit the model's adapters.
    """
    if not isinstance(reference, Mapping):
        if reference is not None:
            reference.to(model.device).eval().requires_grad_(False)
        yield reference
        return
    trained = model.active_adapter
    name = f"{trained}_reference"
    with torch.random.fork_rng():
        # Drawn and overwritten at once; nobody else's randomness may depend on it.
        model.add_adapter(name, copy.deepcopy(model.peft_config[trained]))
    try:
        put_weights(model, name, reference)
        model.set_adapter(name, inference_mode=True)
        model.set_adapter(trained)
        yield name
    finally:
        model.set_adapter(trained)
        model.delete_adapter(name)


@contextmanager
def switched_on(model: Any, adapter: str) -> Generator[None]:
    """A frozen adapter in place of the trained one."""
    trained = model.active_adapter
    model.set_adapter(adapter, inference_mode=True)
    try:
        yield
    finally:
        model.set_adapter(trained)
