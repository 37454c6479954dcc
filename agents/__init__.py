"""Policies that play a role: scripted players and language models.

    import agents

    policy = agents.make("scripted:noisy?skill=0.8")
    responses = policy.generate(requests)

Importing this package imports no machine-learning library; a policy brings its
own when it is made.
"""

from __future__ import annotations

from agents.policy import Policy, PolicyError
from agents.registry import kinds, make, register

__all__ = ["Policy", "PolicyError", "kinds", "make", "register"]
