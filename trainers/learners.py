"""The three roles as things that can be trained: where their weights come from.

With full fine-tuning every role is a model of its own. With ``lora_rank`` the roles share
one base and differ by an adapter each.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import agents
from mmzero_env.episode import request_seed
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, Role
from trainers import checkpoints
from trainers.learner import Learner, is_learner
from trainers.run_config import RunConfig


def make_learners(config: RunConfig, finished: Mapping[Role, Path]) -> dict[Role, Learner]:
    """Every role with its newest weights.

    Args:
        config: The run.
        finished: The newest checkpoint of each role that has one.

    Raises:
        UserError: If the model cannot be trained here, or a checkpoint is not there.
    """
    if config.lora_rank:
        return _adapters(config, finished)
    learners: dict[Role, Learner] = {}
    for role in ROLES:
        path = finished.get(role)
        learners[role] = _model(
            config.model if path is None else f"transformers:{checkpoints.require(path)}"
        )
    return learners


def _adapters(config: RunConfig, finished: Mapping[Role, Path]) -> dict[Role, Learner]:
    from agents.adapters import AdapterSettings, RoleView, with_adapters
    from agents.transformers import TransformersPolicy

    base = _model(config.model)
    if not isinstance(base, TransformersPolicy):
        raise UserError(
            f"lora_rank={config.lora_rank} needs a model of transformers, and {config.model!r} "
            "is not one; expected nano or transformers:PATH-or-ID"
        )
    settings = AdapterSettings(config.lora_rank, config.lora_alpha or 2 * config.lora_rank)
    shared = with_adapters(base, settings, request_seed(config.seed, "adapters") % 2**31)
    views = {role: RoleView(shared, role) for role in ROLES}
    for role, path in finished.items():
        views[role].load_adapter(checkpoints.require(path))
    return dict(views)


def _model(spec: str) -> Learner:
    policy = agents.make(spec)
    if not is_learner(policy):
        why = getattr(policy, "untrainable", "it has no weights here")
        raise UserError(
            f"model {spec!r} cannot be trained: {why}. Expected an agent with weights, "
            "such as nano or transformers:PATH-or-ID."
        )
    return policy
