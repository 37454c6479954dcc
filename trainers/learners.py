"""The three roles as things that can be trained: where their weights come from.

With full fine-tuning every role is a model of its own. With ``lora_rank`` the roles share
one base and differ by an adapter each. With ``shared_weights`` the roles are one model, or
one adapter, and what one learns all have learned.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import agents
from agents.policy import Policy
from mmzero_env.episode import request_seed
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, Role
from trainers import checkpoints
from trainers.learner import Learner, is_learner
from trainers.reader import BASE
from trainers.run_config import RunConfig


def make_learners(config: RunConfig, finished: Mapping[Role, Path]) -> dict[Role, Learner]:
    """Every role with its newest weights.

    Args:
        config: The run.
        finished: The newest checkpoint of each role that has one.

    Returns:
        A learner a role; with ``shared_weights`` of a model one for all, of an adapter
        three views of it.

    Raises:
        UserError: If the model cannot be trained here, or a checkpoint is not there.
    """
    if config.lora_rank:
        return _adapters(config, finished)
    if config.shared_weights:
        last = checkpoints.last(finished)
        return dict.fromkeys(ROLES, _whole(config, last))
    return {role: _whole(config, finished.get(role)) for role in ROLES}


def make_reader(config: RunConfig, learners: Mapping[Role, Learner]) -> Policy | None:
    """The base model as it was, if ``caption_reader`` asks for it; it is never trained.

    Args:
        config: The run.
        learners: Its roles. Where they are adapters, their base is the reader; else it is a model
            of its own.
    """
    if config.caption_reader != BASE:
        return None
    if config.lora_rank:
        from agents.adapters import BaseView, RoleView

        view = learners["solver"]
        assert isinstance(view, RoleView), "adapters are trained through views"
        return BaseView(view.policy)
    reader = _model(config, config.model)
    reader.model.requires_grad_(False)
    return reader


def _whole(config: RunConfig, checkpoint: Path | None) -> Learner:
    """A model all of whose weights are trained, apart from what is to stay frozen."""
    learner = _model(
        config,
        config.model if checkpoint is None else f"transformers:{checkpoints.require(checkpoint)}",
    )
    if learner.model.dtype.itemsize < 4:
        # AdamW's small steps vanish in half precision; autocast still computes in it.
        learner.model.float()
    if not config.vision_trained:
        from agents.vision import freeze_vision

        freeze_vision(learner.model)
    return learner


def _adapters(config: RunConfig, finished: Mapping[Role, Path]) -> dict[Role, Learner]:
    from agents.adapters import SHARED, AdapterSettings, RoleView, with_adapters
    from agents.transformers import TransformersPolicy

    base = _model(config, config.model)
    if not isinstance(base, TransformersPolicy):
        raise UserError(
            f"lora_rank={config.lora_rank} needs a model of transformers, and {config.model!r} "
            "is not one; expected nano or transformers:PATH-or-ID"
        )
    settings = AdapterSettings(
        config.lora_rank, config.lora_alpha or 2 * config.lora_rank, config.vision_trained
    )
    seed = request_seed(config.seed, "adapters") % 2**31
    if config.shared_weights:
        one = with_adapters(base, settings, seed, names=(SHARED,))
        views = {role: RoleView(one, role, SHARED) for role in ROLES}
        last = checkpoints.last(finished)
        if last is not None:
            views[ROLES[0]].load_adapter(checkpoints.require(last))
        return dict(views)
    shared = with_adapters(base, settings, seed)
    views = {role: RoleView(shared, role) for role in ROLES}
    for role, path in finished.items():
        views[role].load_adapter(checkpoints.require(path))
    return dict(views)


def _model(config: RunConfig, spec: str) -> Learner:
    chosen = {"dtype": config.dtype, "device": config.device}
    options: dict[str, Any] = {name: value for name, value in chosen.items() if value != "auto"}
    policy = agents.make(spec, **options)
    if not is_learner(policy):
        why = getattr(policy, "untrainable", "it has no weights here")
        raise UserError(
            f"model {spec!r} cannot be trained: {why}. Expected an agent with weights, "
            "such as nano or transformers:PATH-or-ID."
        )
    if config.gradient_checkpointing and not policy.model.supports_gradient_checkpointing:
        raise UserError(
            f"gradient_checkpointing=true: {type(policy.model).__name__} cannot do it; leave it "
            "false and lower micro_batch if memory is short"
        )
    return policy
