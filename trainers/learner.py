"""A policy with weights: what the evolve loop trains and saves."""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard

from agents.policy import Policy
from trainers.grpo import Trainable


class Learner(Policy, Trainable, Protocol):
    """Plays a role, can be trained in place, and can be saved as a model folder."""

    @property
    def image_processor(self) -> Any:
        """The model's image processor, or None."""
        ...


def is_learner(policy: Policy) -> TypeGuard[Learner]:
    """Whether a policy has weights of its own here, unlike a script or an endpoint."""
    names = ("model", "tokenizer", "image_processor", "encode")
    return all(hasattr(policy, name) for name in names)
