"""The groups that come out of rollouts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mmzero_env.errors import EngineError
from mmzero_env.protocol import CodeRewards, EpisodeRewards, Failure, Request, TurnReward
from tests.trainers.rollout_players import Painter, Player, episodes, roles
from trainers.groups import Group, coder_groups, proposer_groups, solver_groups
from trainers.rollout import Rollout, collect


def play(policy: Player) -> list[Rollout]:
    return collect(episodes(), roles(policy), Painter())


def reward(value: float) -> TurnReward:
    return TurnReward(value, {"only": value})


def scored(rollout: Rollout, start: float) -> EpisodeRewards:
    """Distinct rewards for every turn, so that a mix-up shows."""
    codes = tuple(
        CodeRewards(
            reward(start + 10 + i),
            solver={
                level: tuple(reward(start + 100 * (i + 1) + 10 * q + k) for k in range(2))
                for q, level in enumerate(code.answers)
            },
        )
        for i, code in enumerate(rollout.outcome.codes)
    )
    return EpisodeRewards(reward(start), codes)


def test_groups_pair_completions_with_their_rewards() -> None:
    rollouts = play(Player())
    rewards = [scored(rollout, 1000.0 * i) for i, rollout in enumerate(rollouts)]

    coders = coder_groups(rollouts, rewards)
    assert [group.request.id for group in coders] == ["e0/coder", "e1/coder", "e2/coder"]
    assert coders[1].rewards == (1010.0, 1011.0, 1012.0)
    assert coders[1].terms[2] == {"only": 1012.0}
    assert coders[1].response is rollouts[1].responses["e1/coder"]

    solvers = solver_groups(rollouts, rewards)
    assert [group.request.id for group in solvers[:2]] == ["e0/solver/0/easy", "e0/solver/0/hard"]
    assert solvers[3].rewards == (1110.0, 1111.0)
    hard = solver_groups(rollouts, rewards, questions=("hard",))
    assert [group.request.id for group in hard] == [f"e{i}/solver/0/hard" for i in range(3)]

    (proposers,) = proposer_groups(rollouts, rewards)
    assert proposers.rewards == (0.0, 1000.0, 2000.0)
    assert proposers.request.n == len(proposers.response.completions) == 3
    expected = [rollouts[i].responses[f"e{i}/proposer"].completions[0] for i in range(3)]
    assert list(proposers.response.completions) == expected
    pairs = proposer_groups(rollouts, rewards, size=2)
    assert [group.rewards for group in pairs] == [(0.0, 1000.0), (2000.0,)]


def test_a_failed_proposal_has_no_group_but_its_proposers() -> None:
    class Mute(Player):
        def text(self, request: Request, i: int) -> str:
            return "nothing" if request.id == "e1/proposer" else super().text(request, i)

    rollouts = play(Mute())
    rewards = [scored(rollout, 1000.0 * i) for i, rollout in enumerate(rollouts)]
    assert isinstance(rollouts[1].outcome.proposal, Failure)
    assert [group.request.id for group in coder_groups(rollouts, rewards)] == [
        "e0/coder",
        "e2/coder",
    ]
    assert len(solver_groups(rollouts, rewards)) == 4
    assert proposer_groups(rollouts, rewards)[0].rewards == (0.0, 1000.0, 2000.0)


def test_groups_that_contradict_themselves_are_errors() -> None:
    rollouts = play(Player())
    rewards = [scored(rollout, 0.0) for rollout in rollouts]
    with pytest.raises(EngineError, match="3 rollouts came with 2"):
        coder_groups(rollouts, rewards[:2])
    short = [replace(reward, codes=reward.codes[:2]) for reward in rewards]
    with pytest.raises(EngineError, match="3 completions but 2 rewards"):
        coder_groups(rollouts, short)
    first = rollouts[0]
    odd = {
        "e0/proposer": replace(first.responses["e0/proposer"], prompt_ids=(1, 2)),
    }
    changed = replace(first, responses={**first.responses, **odd})
    with pytest.raises(EngineError, match="one prompt text but different"):
        proposer_groups([changed, *rollouts[1:]], rewards)
    response = first.responses["e0/coder"]
    with pytest.raises(EngineError, match="3 completions but 1 rewards"):
        Group.of(first.requests["e0/coder"], response, [reward(1.0)])
