"""Finished episodes reduced to the evidence that the reward terms look at."""

from __future__ import annotations

from collections.abc import Mapping

from mmzero_env import world
from mmzero_env.errors import UserError
from mmzero_env.protocol import QUESTIONS, EpisodeOutcome, Failure, Proposal, Question, Vote
from mmzero_env.rewards.constants import Constants
from mmzero_env.rewards.evidence import (
    LabelSource,
    ProposalEvidence,
    code_evidence,
    extracted,
    vote_of,
)
from mmzero_env.rewards.scrutiny import Scrutiny, scrutinized


def gather(
    outcome: EpisodeOutcome,
    constants: Constants,
    *,
    label_source: LabelSource = "image",
    scrutiny: Scrutiny | None = None,
) -> ProposalEvidence:
    """Reduces a finished episode.

    Args:
        outcome: The episode.
        constants: The design's constants.
        label_source: Where silver labels come from.
        scrutiny: Checks beyond the answers; None for none.

    Returns:
        Its evidence; without codes if the proposal was malformed.

    Raises:
        UserError: If the episode did not ask for answers that the design needs: from the
            caption, to the easy question, or without picture and caption.
    """
    mode, tolerance = constants.grading, constants.tolerance
    proposal = outcome.proposal
    if isinstance(proposal, Failure):
        return ProposalEvidence(proposal, topic=outcome.topic)
    caption_votes = {
        question: vote_of(texts, mode, tolerance)
        for question, texts in outcome.caption_answers.items()
    }
    blind_votes = {
        question: vote_of(texts, mode, tolerance)
        for question, texts in outcome.blind_answers.items()
    }
    label_votes = None
    if label_source == "caption":
        _check_captioned(outcome)
        label_votes = caption_votes
    elif label_source == "truth":
        label_votes = true_labels(proposal)
    if scrutiny is not None and scrutiny.blind:
        _check_blind(outcome)
    blind = extracted(outcome.blind_answers.get("hard", ()))
    codes = []
    for code in outcome.codes:
        seen = code_evidence(
            proposal,
            code.code,
            code.drawing.ok,
            {question: extracted(texts) for question, texts in code.answers.items()},
            mode=mode,
            tolerance=tolerance,
            label_votes=label_votes,
            trust_own_answer=constants.trust_own_answer,
            form=code.form,
        )
        if scrutiny is not None and seen.rendered:
            voters = seen.votes if label_votes is None else label_votes
            seen = scrutinized(seen, code, proposal, scrutiny, voters=voters, blind=blind)
        codes.append(seen)
    return ProposalEvidence(
        proposal, tuple(codes), outcome.topic, caption_votes, blind_votes, label_votes or {}
    )


def true_labels(proposal: Proposal) -> Mapping[Question, Vote]:
    """The true answers as votes without a dissenter.

    Returns:
        By question; one whose truth the procedural world does not know is missing.
    """
    known = {question: world.truth(proposal, question) for question in QUESTIONS}
    return {question: Vote(answer, 1.0, 1, 1) for question, answer in known.items() if answer}


def _check_captioned(outcome: EpisodeOutcome) -> None:
    asked = {question for code in outcome.codes for question in code.answers}
    if asked - outcome.caption_answers.keys():
        raise UserError(
            f"episode {outcome.id!r} has no answers from the caption, which the reward design "
            "takes its labels from; play it with "
            "EpisodeConfig(caption_answers=design.caption_answers(answers))"
        )
    if asked and "easy" not in asked:
        raise UserError(
            f"episode {outcome.id!r} did not ask the easy question, which decides whether a "
            "design that labels by the caption uses a picture"
        )


def _check_blind(outcome: EpisodeOutcome) -> None:
    asked = any("hard" in code.answers for code in outcome.codes)
    if asked and not outcome.blind_answers.get("hard"):
        raise UserError(
            f"episode {outcome.id!r} has no answers to the hard question without picture and "
            "caption, which the reward design compares with; play it with "
            "EpisodeConfig(blind_answers=design.blind_answers(answers))"
        )
