"""Where episodes are played: in this process, or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from agents.policy import Policy
from mmzero_env.protocol import Role
from mmzero_env.rendering import JobRenderer
from trainers.rollout import OpenEpisode, Rollout, collect
from trainers.rollout_stats import RolloutStats


class Executor(Protocol):
    """Plays episodes. What comes out depends on the episodes and the policies alone."""

    def play(
        self,
        episodes: Sequence[OpenEpisode],
        policies: Mapping[Role, Policy],
        *,
        on_finished: Callable[[Rollout], None] | None = None,
        on_stats: Callable[[RolloutStats], None] | None = None,
    ) -> list[Rollout]:
        """Play every episode to its end; see :func:`trainers.rollout.collect`."""
        ...


class LocalExecutor:
    """Plays episodes in this process."""

    def __init__(self, renderer: JobRenderer) -> None:
        """Note who draws."""
        self._renderer = renderer

    def play(
        self,
        episodes: Sequence[OpenEpisode],
        policies: Mapping[Role, Policy],
        *,
        on_finished: Callable[[Rollout], None] | None = None,
        on_stats: Callable[[RolloutStats], None] | None = None,
    ) -> list[Rollout]:
        """See :class:`Executor`."""
        return collect(
            episodes, policies, self._renderer, on_finished=on_finished, on_stats=on_stats
        )
