"""Groups: one prompt with its completions and their rewards, all that GRPO learns from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from mmzero_env.errors import EngineError
from mmzero_env.protocol import (
    QUESTIONS,
    EpisodeRewards,
    Question,
    Request,
    Response,
    Role,
    TurnReward,
)
from trainers.rollout import Rollout


@dataclass(frozen=True, eq=False)
class Group:
    """One prompt with its completions and their rewards: all that GRPO needs.

    Attributes:
        request: The prompt, with its picture if it has one.
        response: Its completions, with token ids and log-probabilities.
        rewards: Reward of each completion, in the same order.
        terms: Reward terms of each completion, for the records.
    """

    request: Request
    response: Response
    rewards: tuple[float, ...]
    terms: tuple[Mapping[str, float], ...] = ()

    @classmethod
    def of(cls, request: Request, response: Response, rewards: Sequence[TurnReward]) -> Group:
        """The group of one answered request.

        Raises:
            EngineError: If completions and rewards do not match in number.
        """
        if len(rewards) != len(response.completions):
            raise EngineError(
                f"request {request.id!r} has {len(response.completions)} completions "
                f"but {len(rewards)} rewards"
            )
        return cls(
            request,
            response,
            tuple(float(reward.value) for reward in rewards),
            tuple(reward.terms for reward in rewards),
        )


def proposer_groups(
    rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards], *, size: int | None = None
) -> list[Group]:
    """Groups for the Proposer: episodes with the same prompt compete.

    Args:
        rollouts: Finished episodes whose proposal was sampled.
        rewards: Rewards of the same episodes.
        size: Completions in a group; episodes on one topic are cut into groups of
            this size in their order. None makes one group of all of them.

    Returns:
        Groups in the order in which their prompts first appear. The completions of
        several one-completion requests become one response under the first id.

    Raises:
        EngineError: If equal prompts were tokenised differently.
    """
    same: dict[str, list[tuple[Request, Response, TurnReward]]] = {}
    for rollout, scored in _scored(rollouts, rewards):
        for request, response in _of_role(rollout, "proposer"):
            same.setdefault(request.prompt, []).append((request, response, scored.proposer))
    groups: list[Group] = []
    for turns in same.values():
        step = size or len(turns)
        for start in range(0, len(turns), step):
            groups.append(_merged(turns[start : start + step]))
    return groups


def coder_groups(rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards]) -> list[Group]:
    """Groups for the Coder: the codes of one proposal.

    Args:
        rollouts: Finished episodes; those whose proposal failed have no codes.
        rewards: Rewards of the same episodes.

    Returns:
        One group an episode that reached the Coder.
    """
    return [
        Group.of(request, response, [code.coder for code in scored.codes])
        for rollout, scored in _scored(rollouts, rewards)
        for request, response in _of_role(rollout, "coder")
    ]


def solver_groups(
    rollouts: Sequence[Rollout],
    rewards: Sequence[EpisodeRewards],
    *,
    questions: Sequence[Question] = QUESTIONS,
) -> list[Group]:
    """Groups for the Solver: the answers to one image and question.

    Args:
        rollouts: Finished episodes.
        rewards: Rewards of the same episodes.
        questions: Levels to train on; MM-Zero trains on the hard question only.

    Returns:
        One group an image and question, in the order of episodes, codes, levels.
    """
    groups: list[Group] = []
    for rollout, scored in _scored(rollouts, rewards):
        for index, code in enumerate(scored.codes):
            for level in questions:
                name = f"{rollout.outcome.id}/solver/{index}/{level}"
                if name in rollout.responses:
                    turns = code.solver.get(level, ())
                    request, response = rollout.requests[name], rollout.responses[name]
                    groups.append(Group.of(request, response, turns))
    return groups


def _scored(
    rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards]
) -> Iterator[tuple[Rollout, EpisodeRewards]]:
    if len(rollouts) != len(rewards):
        raise EngineError(f"{len(rollouts)} rollouts came with {len(rewards)} episode rewards")
    return zip(rollouts, rewards, strict=True)


def _of_role(rollout: Rollout, role: Role) -> Iterator[tuple[Request, Response]]:
    for name, request in rollout.requests.items():
        if request.role == role:
            yield request, rollout.responses[name]


def _merged(turns: Sequence[tuple[Request, Response, TurnReward]]) -> Group:
    first, answered, _ = turns[0]
    for request, response, _ in turns:
        if response.prompt_ids != answered.prompt_ids:
            raise EngineError(
                f"requests {first.id!r} and {request.id!r} have one prompt text but "
                f"different prompt token ids"
            )
    completions = tuple(done for _, response, _ in turns for done in response.completions)
    return Group.of(
        replace(first, n=len(completions)),
        replace(answered, completions=completions),
        [reward for _, _, reward in turns],
    )
