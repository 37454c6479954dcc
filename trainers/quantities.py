"""What is watched of a step: agreement, diversity, and answers given without the picture.

Everything here is computed from what training itself sees. The truth is
:mod:`trainers.audit`'s, and no warning and no decision ever looks at it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from agents.policy import Policy
from mmzero_env import diversity
from mmzero_env.episode import request_seed
from mmzero_env.grading import answer_key
from mmzero_env.leaks import leak_signals
from mmzero_env.parsing import extract_boxed
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import (
    CONTENT_TYPES,
    CodeRewards,
    EpisodeOutcome,
    Proposal,
    Request,
    Vote,
)
from mmzero_env.rewards import RewardDesign
from mmzero_env.rewards.evidence import matches
from mmzero_env.svg_metrics import SvgMetrics, svg_metrics
from mmzero_env.voting import majority
from trainers.dispatcher import answer
from trainers.groups import Group
from trainers.run_config import RunConfig

Quantities = dict[str, float | None]


def spread(values: Sequence[Hashable]) -> float:
    """Shannon entropy of the frequencies of some values, in nats."""
    shares = np.array(list(Counter(values).values())) / max(len(values), 1)
    return float(-(shares * np.log(shares)).sum()) + 0.0


def of_votes(votes: Sequence[Vote]) -> Quantities:
    """Quantities of a step's votes on hard questions.

    Returns:
        ``consistency``, the mean share of the winners, and ``answer_diversity``, the entropy
        of the winning answers over ln n, for n votes that have a winner: 0 if all questions
        got one answer, 1 if no two did. None where there is too little to compare.
    """
    winners = [answer_key(vote.winner) for vote in votes if vote.valid]
    return {
        "consistency": float(np.mean([vote.consistency for vote in votes])) if votes else None,
        "answer_diversity": spread(winners) / math.log(len(winners)) if len(winners) > 1 else None,
    }


def of_proposals(proposals: Sequence[Proposal]) -> Quantities:
    """Quantities of a step's proposals that parsed.

    Returns:
        ``content_type_diversity``, the entropy of the content types over the logarithm of
        how many the prompt names, and ``caption_diversity``, the mean BLEU distance of two
        captions (:func:`mmzero_env.diversity.distances`); None for fewer than two proposals.
    """
    if len(proposals) < 2:
        return {"content_type_diversity": None, "caption_diversity": None}
    apart = diversity.distances([proposal.caption for proposal in proposals])
    return {
        "content_type_diversity": spread([proposal.content_type for proposal in proposals])
        / math.log(len(CONTENT_TYPES)),
        "caption_diversity": float(apart[np.triu_indices(len(proposals), 1)].mean()),
    }


def leak_rate(outcomes: Sequence[EpisodeOutcome]) -> float | None:
    """Share of pictures that give the hard answer away in writing, where the caption does not.

    See :func:`mmzero_env.leaks.leak_signals`. Counted over SVG alone.

    Returns:
        None without a picture.
    """
    leaks = []
    for outcome in outcomes:
        for code in outcome.codes:
            if not code.drawing.ok or code.form != "svg" or code.code is None:
                continue
            metrics = svg_metrics(code.code)
            if isinstance(metrics, SvgMetrics) and isinstance(outcome.proposal, Proposal):
                leaks.append(leak_signals(metrics.text, outcome.proposal).hard_answer)
    return share(leaks)


def easy_agrees(proposal: Proposal, judged: CodeRewards, design: RewardDesign) -> bool | None:
    """Whether the silver label of the easy question is the Proposer's own easy answer.

    Returns:
        None if there is no label or no easy answer to compare.
    """
    label = judged.labels.get("easy")
    if label is None or not label.valid or not proposal.easy_answer.strip():
        return None
    return same(label.winner, proposal.easy_answer, design)


def same(given: str, label: str, design: RewardDesign) -> bool:
    """Whether two answers are equal as the reward design grades."""
    constants = design.constants
    return all(matches((given,), label, constants.grading, constants.tolerance))


def share(verdicts: Sequence[bool | None]) -> float | None:
    """Share of true verdicts among those that could be given."""
    known = [verdict for verdict in verdicts if verdict is not None]
    return sum(known) / len(known) if known else None


def group_votes(groups: Sequence[Group], design: RewardDesign) -> list[Vote]:
    """How the completions of each of the Solver's groups voted."""
    return [_vote([done.text for done in group.response.completions], design) for group in groups]


def _vote(texts: Sequence[str], design: RewardDesign) -> Vote:
    constants = design.constants
    return majority(
        [extract_boxed(text) for text in texts],
        mode=constants.grading,
        tolerance=constants.tolerance,
    )


def sampled_entropy(groups: Sequence[Group]) -> float | None:
    """Mean negative log-probability of a sampled token, in nats, over all groups.

    An unbiased estimate of the policy's entropy a token where it was sampled. ``entropy``
    of a step is exact, but only over groups that were trained on: once groups agree and are
    dropped, it looks at the ever fewer that do not.

    Returns:
        None if the sampler gives no log-probabilities.
    """
    values = [p for group in groups for done in group.response.completions for p in done.logprobs]
    return -float(np.mean(values)) if values else None


def blind_solvable(
    policy: Policy,
    config: RunConfig,
    name: str,
    asked: Sequence[tuple[Proposal, str]],
    answers: int,
) -> float | None:
    """Share of hard questions whose silver label the Solver finds without the picture.

    The requests have ids and seeds of their own and are asked by themselves, so that
    nothing else of a step depends on whether they are asked.

    Args:
        policy: The Solver as it is now.
        config: The run.
        name: Prefix of the request ids, unique in the run.
        asked: Proposals with the silver labels of their hard questions, to choose
            ``monitor.blind_items`` from, evenly spaced.
        answers: Answers that vote on each.

    Returns:
        None if there is no question to ask.
    """
    count = min(config.monitor.blind_items, len(asked))
    if not count:
        return None
    chosen = [asked[i * len(asked) // count] for i in range(count)]
    prompts = get_prompts(config.prompts)
    requests = [
        Request(
            id=f"{name}/blind/{k}",
            role="solver",
            prompt=prompts.solver(proposal.hard_question),
            n=answers,
            sampling=config.sampling("solver"),
            seed=request_seed(config.seed, f"{name}/blind/{k}"),
            proposal=proposal,
        )
        for k, (proposal, _) in enumerate(chosen)
    ]
    given = answer(policy, requests)
    design = config.design()
    hits = []
    for request, (_, label) in zip(requests, chosen, strict=True):
        vote = _vote([done.text for done in given[request.id].completions], design)
        hits.append(bool(vote.valid) and same(vote.winner, label, design))
    return sum(hits) / len(hits)
