"""The scripted players of :mod:`mmzero_env.world.players` as policies with a name.

A perfect one, one of chosen skill, and noise: a loop, a reward or a report can be
tried without any model. They have no tokens, so they can play a role but not be
trained.
"""

from __future__ import annotations

from mmzero_env.errors import UserError, unknown
from mmzero_env.world import players
from mmzero_env.world.players import Player, wrong_value

ScriptedPolicy = Player
"""What :func:`scripted` makes; a :class:`agents.policy.Policy`."""


def scripted(argument: str, *, skill: float | None = None, name: str | None = None) -> Player:
    """Make a scripted policy.

    Args:
        argument: ``"oracle"``: every play is right. ``"noisy"``: every play is right
            with probability ``skill``, independently. ``"random"``: short printable
            noise.
        skill: Of the noisy player, from 0 to 1; 0.8 if not given.
        name: Defaults to how the policy would be asked for.

    Raises:
        UserError: For another argument, or a skill that is out of range or given to a
            player that has none.
    """
    if argument not in ("oracle", "noisy", "random"):
        raise unknown("scripted policy", argument, ("noisy", "oracle", "random"))
    if argument == "noisy":
        return players.noisy(0.8 if skill is None else skill, name)
    if skill is not None:
        raise UserError(f"'scripted:{argument}' has no skill; 'scripted:noisy?skill=0.8' has")
    return players.oracle(name) if argument == "oracle" else players.noise(name)


__all__ = ["Player", "ScriptedPolicy", "scripted", "wrong_value"]
