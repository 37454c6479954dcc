"""Episodes on the machines of a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from agents.policy import Policy
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Drawing, Response, Role
from trainers.ray_fleet import Fleet
from trainers.ray_worker import Adapters, Played
from trainers.rollout import OpenEpisode, Play, Rollout, RolloutError
from trainers.rollout_stats import RolloutStats

BATCH = 4
"""Episodes that go to a worker together, and what is played again when it is lost. The same
whatever the number of workers, so that a policy that answers in batches sees the same ones."""

HELD_HERE = ("local", "nano", "transformers", "vllm-engine")
"""Policies that sample from weights in the process that made them."""


class RayExecutor:
    """Has episodes played by the workers of a fleet; an :class:`trainers.executor.Executor`.

    A worker plays whole episodes: it asks the engines with clients of its own and draws with
    a renderer of its own. What comes back are responses and drawings. They are handed to the
    episodes here, which so finish as if they had been played here. The episodes of a worker
    that is lost are played again by another; with equal seeds and an engine that answers
    equal requests alike, the rollouts are the same.
    """

    def __init__(self, fleet: Fleet, specs: Mapping[Role, str], *, size: int = 448) -> None:
        """Note what is wanted.

        Args:
            fleet: Plays.
            specs: The policy of each role as for :func:`agents.make`; equal specs are one
                policy.
            size: Side of the pictures in pixels.

        Raises:
            UserError: If a policy samples from weights that are in this process.
        """
        for role, spec in specs.items():
            check_portable(role, spec)
        self._fleet = fleet
        self._specs = dict(specs)
        self._size = size

    def play(
        self,
        episodes: Sequence[OpenEpisode],
        policies: Mapping[Role, Policy],
        *,
        on_finished: Callable[[Rollout], None] | None = None,
        on_stats: Callable[[RolloutStats], None] | None = None,
    ) -> list[Rollout]:
        """Play every episode to its end.

        Args:
            episodes: Episodes with distinct ids, none of them started. They are finished
                when this returns.
            policies: What the specs made here. They are only asked which adapter plays each
                role by now.
            on_finished: Called with every finished episode.
            on_stats: Called with the figures of the collection at its end.

        Returns:
            One rollout an episode, in the order of ``episodes``.

        Raises:
            UserError: If ids repeat, or a policy cannot be made or asked as wanted.
            RolloutError: If a policy or drawing failed, or no worker can be had. Nothing is
                filled in.
        """
        if len({episode.id for episode in episodes}) != len(episodes):
            raise UserError("the episodes of one collection need distinct ids")
        started, cpu = time.perf_counter(), time.thread_time()
        starts = range(0, len(episodes), BATCH)
        batches = [range(start, min(start + BATCH, len(episodes))) for start in starts]
        adapters = _adapters(policies)
        rollouts: dict[str, Rollout] = {}
        stats: dict[int, RolloutStats] = {}

        def take(index: int, played: Played) -> None:
            numbers = {episodes[number].id: number for number in batches[index]}
            for name in played.finished:
                play = Play(numbers[name], episodes[numbers[name]])
                rollouts[name] = _replay(play, played.responses, played.drawings)
                if on_finished is not None:
                    on_finished(rollouts[name])
            if played.stats is None:
                raise EngineError(played.error)
            stats[index] = played.stats

        items = [
            (self._size, [episodes[number] for number in batch], self._specs, adapters)
            for batch in batches
        ]
        try:
            self._fleet.run("play", items, take)
        except EngineError as error:
            raise RolloutError(error, len(rollouts), len(episodes)) from error
        if on_stats is not None:
            on_stats(
                RolloutStats.merged(
                    [stats[index] for index in sorted(stats)],
                    seconds=time.perf_counter() - started,
                    overhead=time.thread_time() - cpu,
                )
            )
        return [rollouts[episode.id] for episode in episodes]


def check_portable(role: str, spec: str) -> None:
    """See that a policy can be made in another process.

    Raises:
        UserError: If it samples from weights in the process that made it.
    """
    kind = spec.partition("?")[0].partition(":")[0]
    if kind in HELD_HERE:
        raise UserError(
            f"the policy {spec!r} of the {role} holds its weights in this process, which workers "
            "on other machines cannot sample from; serve it (policy=vllm or policy=vllm:BASE@URL), "
            "or play here with executor=local"
        )


def _adapters(policies: Mapping[Role, Policy]) -> Adapters:
    """The adapter that each role plays with, where its policy has adapters."""
    found: dict[Role, tuple[str, str]] = {}
    for role, policy in policies.items():
        served: Adapters = getattr(policy, "served", {})
        if role in served:
            found[role] = served[role]
    return found


def _replay(
    play: Play, responses: Mapping[str, Response], drawings: Mapping[str, Drawing]
) -> Rollout:
    """Hand an episode what it was handed where it was played."""
    episode = play.episode
    try:
        while not episode.finished:
            for request in episode.open_requests():
                play.take(request, responses[request.id])
            for job in episode.pending_renders():
                episode.draw(job.id, drawings[job.id])
    except KeyError as error:
        raise EngineError(
            f"episode {episode.id!r} waits for {error} here, but did not where it was played"
        ) from error
    return play.rollout()
