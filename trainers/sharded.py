"""Weights in pieces: what FSDP2 and DeepSpeed do otherwise than a process with whole ones.

Both take a model apart for good, so a stage trains a copy. Its weights go back to the
policy's own model, in one piece and in host memory, on the main rank after every step: that
is what is published to an engine and saved.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from mmzero_env.errors import EngineError, UserError
from trainers.ranks import Ranks

_WRAPPED = "_checkpoint_wrapped_module."


def shard_frozen(model: Any, accelerator: Any, ranks: Ranks) -> Any:
    """A frozen model in the same kind of pieces as the trained one.

    Args:
        model: In evaluation mode, without gradients; in host memory if it is to be taken
            apart.
        accelerator: The trainer's.
        ranks: Whose engine decides; without one the model stays as it is.
    """
    if ranks.engine == "fsdp":
        from accelerate.utils.fsdp_utils import fsdp2_prepare_model

        return fsdp2_prepare_model(accelerator, model)
    if ranks.engine == "deepspeed":
        from trl.models import prepare_deepspeed

        return prepare_deepspeed(model, accelerator)
    return model


def check_engine(accelerator: Any, ranks: Ranks) -> None:
    """Refuse an engine that is set up in a way that is not supported.

    Raises:
        UserError: For FSDP 1.
    """
    if ranks.engine == "fsdp" and not accelerator.is_fsdp2:
        raise UserError(
            "the accelerate configuration asks for FSDP 1; expected fsdp_version: 2, as in "
            "trainers/accelerate/fsdp2.yaml"
        )


def accept_update(model: Any, accelerator: Any, ranks: Ranks) -> bool:
    """Drop the gradients before an optimizer step if one is not finite, on all ranks or none.

    Returns:
        Whether the step changes the weights.

    Raises:
        EngineError: If DeepSpeed, which steps by itself, took a gradient that is not finite.
    """
    if ranks.engine == "deepspeed":
        return _stepped(accelerator.deepspeed_engine_wrapped)
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    if ranks.engine == "fsdp":
        # A rank sees its piece of each gradient, which may be empty.
        grads = [grad.to_local() if hasattr(grad, "to_local") else grad for grad in grads]
    finite = all(bool(torch.isfinite(grad).all()) for grad in grads)
    if ranks.size > 1:
        wrong = torch.tensor(float(not finite), device=accelerator.device)
        finite = not accelerator.reduce(wrong, reduction="sum").item()
    if not finite:
        model.zero_grad(set_to_none=True)
    return bool(grads) and finite


def _stepped(wrapped: Any) -> bool:
    """Whether DeepSpeed's last backward ended in a step; each step is told once."""
    if wrapped is None:
        return False
    engine = wrapped.engine
    told, engine.mmzero_steps_told = getattr(engine, "mmzero_steps_told", 0), engine.global_steps
    if engine.global_steps == told or not engine.was_step_applied():
        return False
    norm = engine.get_global_grad_norm()
    if norm is not None and not math.isfinite(float(norm)):
        raise EngineError(
            "DeepSpeed applied a gradient that is not finite; set bf16.check_grad_overflow "
            "in its configuration"
        )
    return True


def gather(trained: Any, plain: Any, accelerator: Any, ranks: Ranks) -> None:
    """Bring trained weights back into a whole model, on the main rank.

    All ranks must call it. One weight is held in full at a time, beside the pieces.

    Args:
        trained: The model in pieces.
        plain: Its whole twin, in host memory; changed on the main rank alone.
        accelerator: The trainer's.
        ranks: Whose engine holds the pieces.
    """
    places = dict(plain.named_parameters()) if ranks.is_main else {}
    model = accelerator.unwrap_model(trained)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not weight.requires_grad:
                continue
            if ranks.engine == "fsdp":
                whole = weight.full_tensor()
                if ranks.is_main:
                    places[name.replace(_WRAPPED, "")].copy_(whole)
            else:
                from deepspeed import zero  # ty: ignore[import-not-found]

                with zero.GatheredParameters([weight]):
                    if ranks.is_main:
                        places[name].copy_(weight)
