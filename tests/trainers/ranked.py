"""What the tests of several ranks do on each of them, and without them for comparison."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import DistributedType, PartialState

from agents.adapters import AdapterSettings, RoleView, with_adapters
from agents.transformers import TransformersPolicy
from tests.tiny_groups import group_of, mixed_groups, policy_of
from trainers import episode_trainer
from trainers.groups import Group
from trainers.grpo import GroupTrainer, GRPOSettings
from trainers.ranks import join


def groups_of_step(kind: str, step: int) -> list[Group]:
    """Groups of a step, made by a model of its own so that they are always the same."""
    policy = policy_of()
    groups = mixed_groups(policy, noise=0.5)
    if kind == "lora":
        groups = [
            group_of(policy, f"text {i}", np.random.default_rng(i), noise=0.5) for i in (0, 1)
        ]
    if step == 1:
        return [replace(groups[0], rewards=(0.5,) * len(groups[0].rewards))]
    return groups if step == 0 else groups[2:]


def train(kind: str, loss_type: str, **change: Any) -> dict[str, Any]:
    """Three steps, the second without a row; gradients, weights and metrics.

    Args:
        kind: ``"full"`` or ``"lora"``.
        loss_type: One of TRL's.
        change: Other settings.
    """
    _accept_engines_on_a_cpu()
    ranks = join()
    policy: Any = policy_of(seed=ranks.rank + 7 if ranks.size > 1 and kind == "stale" else 7)
    if kind == "lora":
        policy.tokenizer.chat_template = "{{ messages[0].content }}"
        base = TransformersPolicy(
            policy.model, tokenizer=policy.tokenizer, image_processor=policy.image_processor
        )
        with_adapters(base, AdapterSettings(4, 8), seed=0)
        policy = RoleView(base, "coder")
        with torch.no_grad():
            for name, weight in policy.model.named_parameters():
                if "lora_B.coder" in name:
                    weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    settings = GRPOSettings(
        **{
            "steps": 3,
            "prompts_per_step": 4,
            "group_size": 4,
            "micro_batch": 4,
            "updates_per_step": 1,
            "learning_rate": 1e-3,
            "beta": 0.1,
            "loss_type": loss_type,
            "max_completion_length": 9,
            **change,
        }
    )
    # Made before: where DeepSpeed is at work, a new model would be taken apart at once.
    groups = [groups_of_step(kind, step) for step in range(settings.steps)]
    gradients: list[dict[str, torch.Tensor]] = []
    original = episode_trainer.accept_update

    def watched(model: Any, *args: Any) -> bool:
        gradients.append(
            {
                name: whole(weight.grad)
                for name, weight in model.named_parameters()
                if weight.grad is not None
            }
        )
        return original(model, *args)

    episode_trainer.accept_update = watched
    try:
        with tempfile.TemporaryDirectory() as folder:
            trainer = GroupTrainer(
                policy,
                settings,
                groups.__getitem__,
                output_dir=folder,
                reference=policy_of(seed=1).model,
                ranks=ranks,
            )
            history = trainer.train()
    finally:
        episode_trainer.accept_update = original
    return {
        "gradients": gradients,
        "weights": {n: w.detach().clone() for n, w in policy.model.named_parameters()},
        "history": [replace(m, seconds_rollout=0.0, seconds_train=0.0) for m in history],
    }


def _accept_engines_on_a_cpu() -> None:
    """Accelerate offers FSDP and DeepSpeed to ranks with GPUs alone; call ours so."""
    if "ACCELERATE_TORCH_DEVICE" in os.environ:
        PartialState._prepare_backend = lambda *args: ("gloo", DistributedType.MULTI_GPU)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in one piece."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach().clone()
