"""How far labels, own answers, drawings and rewards are from the truth, where it is known.

Only for logs and reports: nothing here ever reaches a reward, a filter, a monitor or any
other decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mmzero_env import world
from mmzero_env.grading import equivalent
from mmzero_env.parsing import extract_boxed, parse_proposal
from mmzero_env.protocol import (
    EpisodeOutcome,
    Image,
    Proposal,
    Question,
    RenderJob,
)
from mmzero_env.rendering import JobRenderer
from mmzero_env.world.faithful import faithful
from mmzero_env.world.spec import Spec
from trainers.correlation import correlation, rank_correlation
from trainers.groups import Group

SOLVED = 0.5
"""Solvability from which the easy question counts as solved: the bound of the published filter
(``easy_consistency >= 0.5``) and of the published cap."""

Truths = Sequence[float | None]
"""For each completion of a group 1 if it is true, 0 if not, None if nobody knows."""


def share_right(claims: Iterable[tuple[Proposal, Question, str]]) -> float | None:
    """Share of claimed answers that are true, among those whose truth is known.

    Args:
        claims: Proposal, level of the question, and the answer that is claimed.

    Returns:
        None if the truth of none is known.
    """
    verdicts = [
        equivalent(claim, true)
        for proposal, level, claim in claims
        if (true := world.truth(proposal, level)) is not None
    ]
    return sum(verdicts) / len(verdicts) if verdicts else None


def false_solvable(solved: Iterable[tuple[Proposal, str]]) -> float | None:
    """Share of solved easy questions whose key is false.

    Args:
        solved: The proposal of every picture on which the easy question counts as solved, and
            the answer that its readers were compared with.

    Returns:
        None if the truth of none is known.
    """
    right = share_right((proposal, "easy", key) for proposal, key in solved)
    return None if right is None else 1 - right


def proposals_true(group: Group) -> list[float | None]:
    """Of each completion of a Proposer's group, whether it is a good proposal.

    It is if the caption states a picture of the world, both questions apply to it and the
    easy answer is true. Malformed ones are not; the truth of one about another world is unknown.
    """
    verdicts: list[float | None] = []
    for done in group.response.completions:
        proposal = parse_proposal(done.text)
        if not isinstance(proposal, Proposal):
            verdicts.append(0.0)
        elif world.parse_caption(proposal.caption) is None:
            verdicts.append(None)
        else:
            easy, hard = world.truth(proposal, "easy"), world.truth(proposal, "hard")
            good = easy is not None and hard is not None
            verdicts.append(float(good and equivalent(proposal.easy_answer, easy or "")))
    return verdicts


def answers_true(group: Group, proposal: Proposal, level: Question = "hard") -> list[float | None]:
    """Of each completion of a Solver's group, whether its answer is true."""
    right = world.truth(proposal, level)
    if right is None:
        return [None] * len(group.response.completions)
    given = [extract_boxed(done.text) for done in group.response.completions]
    return [float(x is not None and equivalent(x, right)) for x in given]


def codes_true(
    outcomes: Sequence[EpisodeOutcome], renderer: JobRenderer
) -> dict[str, list[float | None]]:
    """Of every code of some episodes, whether its picture is the true one.

    The true picture of every caption is drawn for it, once.

    Args:
        outcomes: Finished episodes.
        renderer: Draws; the one that drew the episodes, so that sizes agree.

    Returns:
        By episode, one verdict a code.
    """
    specs: dict[str, Spec | None] = {}
    for outcome in outcomes:
        proposal = outcome.proposal
        if isinstance(proposal, Proposal) and outcome.codes:
            specs[outcome.id] = world.parse_caption(proposal.caption)
    distinct = list(dict.fromkeys(spec for spec in specs.values() if spec is not None))
    jobs = [RenderJob(f"audit/{number}", spec.svg()) for number, spec in enumerate(distinct)]
    drawn = renderer.render(jobs) if jobs else []
    true: dict[Spec, Image | None] = {
        spec: drawing.image for spec, drawing in zip(distinct, drawn, strict=True)
    }
    found: dict[str, list[float | None]] = {}
    for outcome in outcomes:
        spec = specs.get(outcome.id)
        found[outcome.id] = [
            None if spec is None else float(faithful(code.drawing.image, true[spec]))
            for code in outcome.codes
        ]
    return found


def agreement(groups: Sequence[Group], truths: Sequence[Truths]) -> dict[str, float | None]:
    """How reward and truth go together in a step, see :data:`trainers.audit_metrics.METRICS`.

    Args:
        groups: What is trained on.
        truths: For each group the truth of its completions.

    Returns:
        Each None where reward or truth does not vary, or nothing is known.
    """
    rewards: list[float] = []
    known: list[float] = []
    centred: list[tuple[float, float]] = []
    for group, verdicts in zip(groups, truths, strict=True):
        pairs = [(r, v) for r, v in zip(group.rewards, verdicts, strict=True) if v is not None]
        rewards += [reward for reward, _ in pairs]
        known += [verdict for _, verdict in pairs]
        if pairs:
            mean = np.mean(pairs, axis=0)
            centred += [(reward - mean[0], verdict - mean[1]) for reward, verdict in pairs]
    return {
        "reward_truth": rank_correlation(rewards, known),
        "reward_truth_in_group": correlation(*np.array(centred).reshape(-1, 2).T),
    }
