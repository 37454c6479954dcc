"""The metrics of one step, apart from rewards and what the trainer says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmzero_env.parsing import extract_boxed
from mmzero_env.protocol import CodeRewards, EpisodeRewards, Proposal
from mmzero_env.rewards import RewardDesign
from trainers import quantities
from trainers.audit import share_right
from trainers.filters import LabelledQuestion
from trainers.groups import Group
from trainers.quantities import Quantities
from trainers.rollout import Rollout


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
    judged = _judged(rollouts, rewards)
    hard = [scored.votes["hard"] for _, scored in judged if "hard" in scored.votes]

    def mean(values: Sequence[float]) -> float | None:
        return float(np.mean(values)) if values else None

    return {
        "parsed": len(parsed) / len(outcomes) if outcomes else None,
        "render_rate": mean([float(code.drawing.ok) for code in codes]),
        "solvability": mean([scored.solvability for _, scored in judged]),
        "difficulty": mean([scored.difficulty for _, scored in judged]),
        **quantities.of_votes(hard),
        **quantities.of_proposals(parsed),
        "easy_agreement": quantities.share(
            [quantities.easy_agrees(proposal, scored, design) for proposal, scored in judged]
        ),
        "sampled_entropy": quantities.sampled_entropy(groups),
        "distinct_captions": len({p.caption for p in parsed}) / len(parsed) if parsed else None,
        "own_answer_true": share_right((p, "easy", p.easy_answer) for p in parsed),
        "silver_accuracy": share_right((p, "hard", x) for p, x in labelled(rollouts, rewards)),
    }


def labelled(
    rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards]
) -> list[tuple[Proposal, str]]:
    """The proposal and the hard question's silver label of every picture that has one."""
    return [
        (proposal, scored.labels["hard"].winner)
        for proposal, scored in _judged(rollouts, rewards)
        if "hard" in scored.labels
    ]


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
    answered = [
        (row.proposal, extract_boxed(done.text))
        for row, group in zip(rows, groups, strict=True)
        for done in group.response.completions
    ]
    pairs = zip(votes, labels, strict=True)
    claims = [
        (row.proposal, label) for row, label in zip(rows, labels, strict=True) if label is not None
    ]
    return {
        **quantities.of_votes(votes),
        "label_agreement": quantities.share(
            [None if x is None else quantities.same(vote.winner, x, design) for vote, x in pairs]
        ),
        "easy_agreement": quantities.share([row.easy_agrees for row in rows]),
        "sampled_entropy": quantities.sampled_entropy(groups),
        "silver_accuracy": share_right((p, "hard", label) for p, label in claims),
        "answers_true": share_right((p, "hard", given or "") for p, given in answered),
    }


def _judged(
    rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards]
) -> list[tuple[Proposal, CodeRewards]]:
    """Every code that gave a picture, with its proposal."""
    return [
        (rollout.outcome.proposal, scored)
        for rollout, reward in zip(rollouts, rewards, strict=True)
        for code, scored in zip(rollout.outcome.codes, reward.codes, strict=True)
        if code.drawing.ok and isinstance(rollout.outcome.proposal, Proposal)
    ]
