"""What the tests of several ranks do on each of them, and without them for comparison."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import DistributedType, PartialState

from agents.adapters import AdapterSettings, RoleView, with_adapters
from agents.transformers import TransformersPolicy
from mmzero_env.errors import EngineError
from tests.tiny_groups import group_of, mixed_groups, policy_of
from trainers import cli, episode_trainer
from trainers.groups import Group
from trainers.grpo import GroupTrainer, GRPOSettings
from trainers.grpo_settings import StepMetrics
from trainers.ranks import join
from trainers.run_log import RunLog


def groups_of_step(kind: str, step: int) -> list[Group]:
    """Groups of a step, made by a model of its own so that they are always the same."""
    policy = policy_of()
    groups = mixed_groups(policy, noise=0.5)
    if kind == "lora":
        rngs = [np.random.default_rng(seed) for seed in (0, 1)]
        groups = [group_of(policy, "text", rng, noise=0.5) for rng in rngs]
    if step == 1:
        return [replace(groups[0], rewards=(0.5,) * len(groups[0].rewards))]
    return groups if step == 0 else groups[1:]


def train(kind: str, stages: int = 1, **change: Any) -> dict[str, Any]:
    """Stages of three steps, the second without a row; gradients, weights and metrics.

    Args:
        kind: ``"full"``; ``"lora"``; or ``"wild"``, full with a gradient that is not finite.
        stages: How often the same weights are trained.
        change: Other settings.
    """
    _accept_engines_on_a_cpu()
    ranks = join()
    # The main rank's weights count, so the others begin with different ones.
    policy = _policy(kind, seed=7 + ranks.rank)
    settings = GRPOSettings(
        **{
            "steps": 3,
            "prompts_per_step": 4,
            "group_size": 4,
            "micro_batch": 4,
            "learning_rate": 1e-3,
            "beta": 0.1,
            "max_completion_length": 9,
            **change,
        }
    )
    # Made before: where DeepSpeed is at work, a new model would be taken apart at once.
    groups = [groups_of_step(kind, step) for step in range(settings.steps)]
    if kind == "wild":
        done = groups[0][0].response.completions
        wild = (replace(done[0], logprobs=(-1e4,) * len(done[0].logprobs)), *done[1:])
        response = replace(groups[0][0].response, completions=wild)
        groups[0][0] = replace(groups[0][0], response=response)
    # With adapters the reference is the stage's start. An engine takes the main rank's.
    whole_reference = policy_of(seed=1 + (ranks.rank if ranks.engine else 0)).model
    gradients: list[dict[str, torch.Tensor]] = []
    history: list[StepMetrics] = []
    with _watched(gradients), tempfile.TemporaryDirectory() as folder:
        for _ in range(stages):
            trainer = GroupTrainer(
                policy,
                settings,
                groups.__getitem__,
                output_dir=folder,
                reference=None if kind == "lora" else whole_reference,
                ranks=ranks,
            )
            history += trainer.train()
    return {
        "gradients": gradients,
        "weights": {n: w.detach().clone() for n, w in policy.model.named_parameters()},
        "history": [replace(m, seconds_rollout=0.0, seconds_train=0.0) for m in history],
    }


def train_all(cases: list[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """:func:`train` for several kinds and settings."""
    return [train(kind, **change) for kind, change in cases]


def fail_while_collecting() -> None:
    """The main rank's groups fail to come."""

    def broken(step: int) -> list[Group]:
        raise EngineError("the power failed")

    policy = policy_of()
    with tempfile.TemporaryDirectory() as folder:
        settings = GRPOSettings(beta=0.0)
        GroupTrainer(policy, settings, broken, output_dir=folder, ranks=join()).train()


def evolve(arguments: list[str], dies_at: tuple[str, int] | None = None) -> int:
    """The command, which may fail when it writes a certain row."""
    original = RunLog.step

    def dies(
        self: RunLog, iteration: int, stage: Any, metrics: Any, *rest: Any, **more: Any
    ) -> None:
        if (stage, metrics.step) == dies_at:
            raise EngineError("the power failed")
        original(self, iteration, stage, metrics, *rest, **more)

    RunLog.step = dies
    try:
        return cli.main(["evolve", *arguments])
    finally:
        RunLog.step = original


def _policy(kind: str, seed: int) -> Any:
    policy = policy_of(seed)
    if kind != "lora":
        return policy
    policy.tokenizer.chat_template = "{{ messages[0].content }}"
    base = TransformersPolicy(
        policy.model, tokenizer=policy.tokenizer, image_processor=policy.image_processor
    )
    with_adapters(base, AdapterSettings(4, 8), seed=seed)
    view = RoleView(base, "coder")
    with torch.no_grad():
        for name, weight in view.model.named_parameters():
            if "lora_B.coder" in name:
                weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    return view


@contextmanager
def _watched(gradients: list[dict[str, torch.Tensor]]) -> Generator[None]:
    """Keep the whole gradient of every update."""
    original = episode_trainer.accept_update

    def watched(model: Any, *args: Any) -> bool:
        named = [(name, w.grad) for name, w in model.named_parameters() if w.grad is not None]
        gradients.append({name: _whole(grad) for name, grad in named})
        return original(model, *args)

    episode_trainer.accept_update = watched
    try:
        yield
    finally:
        episode_trainer.accept_update = original


def _accept_engines_on_a_cpu() -> None:
    """Accelerate offers FSDP and DeepSpeed to ranks with GPUs alone; call ours so."""
    if "ACCELERATE_TORCH_DEVICE" in os.environ:
        PartialState._prepare_backend = lambda *args: ("gloo", DistributedType.MULTI_GPU)


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in one piece."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach().clone()
