"""How far silver labels and own answers are from the truth, where the truth is known.

Only for logs and reports: nothing here ever reaches a reward.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmzero_env import world
from mmzero_env.grading import equivalent
from mmzero_env.protocol import Proposal, Question


def truth(proposal: Proposal, level: Question) -> str | None:
    """The true answer to a question of a proposal.

    Returns:
        None if the caption states no picture of the procedural world or the question
        does not apply to it.
    """
    spec = world.parse_caption(proposal.caption)
    return None if spec is None else world.answer(spec, proposal.question(level))


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
        if (true := truth(proposal, level)) is not None
    ]
    return sum(verdicts) / len(verdicts) if verdicts else None
