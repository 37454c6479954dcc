"""What a design costs those who do nothing wrong.

Only plays that are right by the truth count: proposals whose answers follow from their
caption, pictures that show what the caption states, answers that are true. Whatever a
design takes from these it takes wrongly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.hacks.arms import Played, mean_terms
from benchmarks.hacks.questions import facts
from benchmarks.hacks.scenes import Gallery, scene_in
from mmzero_env.grading import equivalent
from mmzero_env.parsing import extract_boxed
from mmzero_env.protocol import CodeRewards, EpisodeOutcome, Proposal, TurnReward
from mmzero_env.rewards import RewardDesign


@dataclass(frozen=True)
class RoleCost:
    """What the right plays of one role earn.

    Attributes:
        n: How many there are.
        reward: Their mean reward.
        terms: Mean contribution of every term.
        charged: For every term, the share of them that it takes something from.
        rejected: Coder: the share of right pictures that give no label for the hard question.
            None for other roles.
    """

    n: int
    reward: float
    terms: Mapping[str, float]
    charged: Mapping[str, float]
    rejected: float | None = None


def honest_costs(
    design: RewardDesign, played: Played, gallery: Gallery
) -> dict[str, dict[str, Any]]:
    """What one design gives and takes in the honest episodes of a seed, by role.

    Args:
        design: The design.
        played: The honest episodes.
        gallery: Where their pictures were drawn.

    Returns:
        A :class:`RoleCost` a role, as plain data.
    """
    population = played.population
    proposals: list[TurnReward] = []
    pictures: list[CodeRewards] = []
    for outcome, rewards in zip(population, design.score(population), strict=True):
        if right_proposal(outcome):
            proposals.append(rewards.proposer)
            pictures += [
                code
                for number, code in enumerate(rewards.codes)
                if right_picture(outcome, number, gallery)
            ]
    answers: list[TurnReward] = []
    for outcome, rewards in zip(played.solved, design.score(played.solved), strict=True):
        if right_proposal(outcome) and right_picture(outcome, 0, gallery):
            assert isinstance(outcome.proposal, Proposal)
            truth = facts(outcome.proposal)["hard"]
            code = rewards.codes[0]
            if truth is None or "hard" not in code.labels:
                continue
            texts = outcome.codes[0].answers["hard"]
            for text, turn in zip(texts, code.solver["hard"], strict=True):
                given = extract_boxed(text)
                if given is not None and equivalent(given, truth):
                    answers.append(turn)
    rejected = sum("hard" not in code.labels for code in pictures) / max(len(pictures), 1)
    found = {
        "proposer": _cost(proposals),
        "coder": _cost([code.coder for code in pictures], rejected),
        "solver": _cost(answers),
    }
    return {role: asdict(cost) for role, cost in found.items() if cost is not None}


def right_proposal(outcome: EpisodeOutcome) -> bool:
    """Whether both answers of a proposal are true of its own caption."""
    proposal = outcome.proposal
    if not isinstance(proposal, Proposal):
        return False
    truth = facts(proposal)
    given = {"easy": proposal.easy_answer, "hard": proposal.hard_answer}
    return all(
        answer is not None and equivalent(given[level], answer) for level, answer in truth.items()
    )


def right_picture(outcome: EpisodeOutcome, number: int, gallery: Gallery) -> bool:
    """Whether a code shows what the caption states."""
    if not isinstance(outcome.proposal, Proposal) or number >= len(outcome.codes):
        return False
    scene = scene_in(outcome.proposal.caption)
    return scene is not None and gallery.shows(outcome.codes[number].drawing.image, scene)


def _cost(turns: Sequence[TurnReward], rejected: float | None = None) -> RoleCost | None:
    """None where there is no right play: a seed has too few."""
    if not turns:
        return None
    n = len(turns)
    names = dict.fromkeys(name for turn in turns for name in turn.terms)
    charged = {name: sum(turn.terms.get(name, 0.0) < 0 for turn in turns) / n for name in names}
    reward = sum(turn.value for turn in turns) / n
    return RoleCost(n, reward, mean_terms(turns), charged, rejected)
