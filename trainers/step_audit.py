"""The audit of a step: what is known of the truth of its episodes or answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmzero_env import world
from mmzero_env.protocol import CodeRewards, EpisodeRewards, Proposal, Question, Role
from mmzero_env.rendering import JobRenderer
from mmzero_env.rewards import RewardDesign
from trainers import audit
from trainers.filters import LabelledQuestion
from trainers.groups import Group
from trainers.quantities import Quantities
from trainers.rollout import Rollout


def judged(
    rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards]
) -> list[tuple[Proposal, CodeRewards]]:
    """Every code that gave a picture, with its proposal."""
    return [
        (rollout.outcome.proposal, scored)
        for rollout, reward in zip(rollouts, rewards, strict=True)
        for code, scored in zip(rollout.outcome.codes, reward.codes, strict=True)
        if code.drawing.ok and isinstance(rollout.outcome.proposal, Proposal)
    ]


def labelled(
    rollouts: Sequence[Rollout], rewards: Sequence[EpisodeRewards], level: Question = "hard"
) -> list[tuple[Proposal, str]]:
    """The proposal and a question's silver label of every picture that has one."""
    return [
        (proposal, scored.labels[level].winner)
        for proposal, scored in judged(rollouts, rewards)
        if level in scored.labels
    ]


def of_episodes(
    role: Role,
    rollouts: Sequence[Rollout],
    rewards: Sequence[EpisodeRewards],
    groups: Sequence[Group],
    renderer: JobRenderer,
    design: RewardDesign,
) -> Quantities:
    """The audit of a step of the Proposer or the Coder.

    Args:
        role: Whose groups they are.
        rollouts: The episodes of the step.
        rewards: Their rewards.
        groups: What is trained on, all or some of the episodes'.
        renderer: Draws the true pictures.
        design: Says what the key of an easy question is.

    Returns:
        See :data:`trainers.audit_metrics.METRICS`; None where nothing is known.
    """
    outcomes = [rollout.outcome for rollout in rollouts]
    proposals = [o.proposal for o in outcomes if isinstance(o.proposal, Proposal)]
    codes = audit.codes_true(outcomes, renderer)
    drawn = [verdict for each in codes.values() for verdict in each if verdict is not None]
    if role == "proposer":
        truths = [audit.proposals_true(group) for group in groups]
    else:
        truths = [codes[group.request.id.removesuffix("/coder")] for group in groups]
    return {
        "own_answer_true": audit.share_right((p, "easy", p.easy_answer) for p in proposals),
        "silver_accuracy": audit.share_right(
            (p, "hard", label) for p, label in labelled(rollouts, rewards)
        ),
        "silver_accuracy_easy": audit.share_right(
            (p, "easy", label) for p, label in labelled(rollouts, rewards, "easy")
        ),
        "drawn_faithful": float(np.mean(drawn)) if drawn else None,
        "false_solvable": audit.false_solvable(
            (proposal, key)
            for rollout, reward in zip(rollouts, rewards, strict=True)
            for proposal, scored in judged([rollout], [reward])
            if scored.solvability >= audit.SOLVED
            and (key := _easy_key(proposal, reward, design)) is not None
        ),
        **audit.agreement(groups, truths),
    }


def _easy_key(proposal: Proposal, reward: EpisodeRewards, design: RewardDesign) -> str | None:
    """What the answers to the easy question about a picture were compared with."""
    if design.constants.trust_own_answer:
        return proposal.easy_answer
    if design.label_source == "truth":
        return world.truth(proposal, "easy")
    # Also where too few readings agree for a label.
    read = reward.caption_votes.get("easy")
    return read.winner if read is not None and read.valid else None


def of_answers(
    rows: Sequence[LabelledQuestion], labels: Sequence[str | None], groups: Sequence[Group]
) -> Quantities:
    """The audit of a step of the Solver.

    Args:
        rows: The questions.
        labels: The silver label that each was graded by, None for none.
        groups: The answers to each.
    """
    truths = [
        audit.answers_true(group, row.proposal) for row, group in zip(rows, groups, strict=True)
    ]
    known = [verdict for each in truths for verdict in each if verdict is not None]
    pairs = zip(rows, labels, strict=True)
    return {
        "silver_accuracy": audit.share_right(
            (row.proposal, "hard", label) for row, label in pairs if label is not None
        ),
        "answers_true": float(np.mean(known)) if known else None,
        "false_solvable": audit.false_solvable(
            (row.proposal, row.proposal.easy_answer) for row in rows if row.easy_agrees
        ),
        **audit.agreement(groups, truths),
    }
