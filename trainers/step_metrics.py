"""The metrics of one step, apart from rewards, the audit and what the trainer says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmzero_env.protocol import EpisodeRewards, Proposal
from mmzero_env.rewards import RewardDesign
from trainers import quantities
from trainers.filters import LabelledQuestion
from trainers.groups import Group
from trainers.quantities import Quantities
from trainers.rollout import Rollout
from trainers.step_audit import judged


def episode_metrics(
    rollouts: Sequence[Rollout],
    rewards: Sequence[EpisodeRewards],
    groups: Sequence[Group],
    design: RewardDesign,
) -> Quantities:
    """What a step's episodes were like.

    Args:
        rollouts: The episodes.
        rewards: Their rewards.
        groups: What is trained on.
        design: How answers are compared.
    """
    outcomes = [rollout.outcome for rollout in rollouts]
    parsed = [o.proposal for o in outcomes if isinstance(o.proposal, Proposal)]
    codes = [code for outcome in outcomes for code in outcome.codes]
    pictures = judged(rollouts, rewards)
    hard = [scored.votes["hard"] for _, scored in pictures if "hard" in scored.votes]

    def mean(values: Sequence[float]) -> float | None:
        return float(np.mean(values)) if values else None

    return {
        "parsed": len(parsed) / len(outcomes) if outcomes else None,
        "render_rate": mean([float(code.drawing.ok) for code in codes]),
        "solvability": mean([scored.solvability for _, scored in pictures]),
        "difficulty": mean([scored.difficulty for _, scored in pictures]),
        **quantities.of_votes(hard),
        **quantities.of_proposals(parsed),
        "easy_agreement": quantities.share(
            [quantities.easy_agrees(proposal, scored, design) for proposal, scored in pictures]
        ),
        "sampled_entropy": quantities.sampled_entropy(groups),
        "leak_rate": quantities.leak_rate(outcomes),
        "distinct_captions": len({p.caption for p in parsed}) / len(parsed) if parsed else None,
    }


def answer_metrics(
    rows: Sequence[LabelledQuestion],
    labels: Sequence[str | None],
    groups: Sequence[Group],
    design: RewardDesign,
) -> Quantities:
    """What the Solver's answers to labelled questions were like.

    Args:
        rows: The questions.
        labels: The silver label that each was graded by, None for none.
        groups: The answers to each.
        design: How answers are compared.
    """
    votes = quantities.group_votes(groups, design)
    pairs = zip(votes, labels, strict=True)
    return {
        **quantities.of_votes(votes),
        "label_agreement": quantities.share(
            [None if x is None else quantities.same(vote.winner, x, design) for vote, x in pairs]
        ),
        "easy_agreement": quantities.share([row.easy_agrees for row in rows]),
        "sampled_entropy": quantities.sampled_entropy(groups),
    }
