"""What the reward terms look at: an episode reduced to answers, votes and counts.

One path for everybody: finished episodes are reduced by :func:`gather`, and
recorded cases that only hold extracted answers enter through :func:`code_evidence`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from mmzero_env.grading import GradingMode, equivalent
from mmzero_env.parsing import extract_boxed
from mmzero_env.protocol import CodeOutcome, EpisodeOutcome, Failure, Proposal, Question, Vote
from mmzero_env.rewards import terms
from mmzero_env.voting import majority

Answers = Sequence[str | None]
NO_VOTE = Vote("", 0.0, 0, 0)


@dataclass(frozen=True)
class CodeEvidence:
    """One code as the terms see it.

    Attributes:
        code: The extracted code, None if there was none.
        rendered: Whether it gave an image.
        answers: Extracted answers by question; None for an answer without a box.
        votes: The vote on each question that was asked.
        hard_vote: The vote on the hard question; empty if there is no such question.
        solvability: Share of easy answers equal to the proposed easy answer.
    """

    code: str | None
    rendered: bool
    answers: Mapping[Question, tuple[str | None, ...]] = field(default_factory=dict)
    votes: Mapping[Question, Vote] = field(default_factory=dict)
    hard_vote: Vote = NO_VOTE
    solvability: Fraction = Fraction(0)

    @property
    def difficulty(self) -> Fraction:
        """min(c, 1 - c) of the hard vote, exact."""
        return terms.difficulty(self.hard_vote)


@dataclass(frozen=True)
class ProposalEvidence:
    """One proposal and what became of its codes."""

    proposal: Proposal | Failure
    codes: tuple[CodeEvidence, ...] = ()

    @property
    def rendered(self) -> tuple[CodeEvidence, ...]:
        """The codes that gave an image."""
        return tuple(code for code in self.codes if code.rendered)

    def mean_over_codes(self, values: Sequence[Fraction]) -> float:
        """The sum over rendered codes divided by all codes (by 1 if there is none)."""
        return float(sum(values, Fraction(0)) / max(len(self.codes), 1))


def matches(answers: Answers, truth: str, mode: GradingMode, tolerance: float | None) -> list[bool]:
    """Whether each answer equals the truth; an answer without a box never does."""
    verdicts: dict[str, bool] = {}
    for answer in answers:
        if answer is not None and answer not in verdicts:
            verdicts[answer] = equivalent(answer, truth, mode=mode, tolerance=tolerance)
    return [answer is not None and verdicts[answer] for answer in answers]


def code_evidence(
    proposal: Proposal,
    code: str | None,
    rendered: bool,
    answers: Mapping[Question, Answers],
    *,
    mode: GradingMode = "sane",
    tolerance: float | None = None,
) -> CodeEvidence:
    """Votes on and grades the extracted answers to one code's image.

    Args:
        proposal: What the code should show. Nothing matches an empty easy answer,
            and an empty question earns neither solvability nor difficulty.
        code: The extracted code.
        rendered: Whether it gave an image; without one the answers are ignored.
        answers: Extracted answers by question.
        mode: Grading mode.
        tolerance: Relative numeric tolerance.

    Returns:
        The evidence.
    """
    if not rendered:
        return CodeEvidence(code, False)
    kept = {question: tuple(given) for question, given in answers.items()}
    votes = {q: majority(given, mode=mode, tolerance=tolerance) for q, given in kept.items()}
    easy = kept.get("easy", ()) if proposal.easy_question.strip() else ()
    right = 0
    if proposal.easy_answer.strip():
        right = sum(matches(easy, proposal.easy_answer, mode, tolerance))
    hard_vote = votes.get("hard", NO_VOTE) if proposal.hard_question.strip() else NO_VOTE
    return CodeEvidence(
        code,
        True,
        kept,
        votes,
        hard_vote,
        terms.solvability(right, len(easy)),
    )


def gather(
    outcome: EpisodeOutcome, *, mode: GradingMode = "sane", tolerance: float | None = None
) -> ProposalEvidence:
    """Reduces a finished episode.

    Args:
        outcome: The episode.
        mode: Grading mode.
        tolerance: Relative numeric tolerance.

    Returns:
        Its evidence; without codes if the proposal was malformed.
    """
    proposal = outcome.proposal
    if isinstance(proposal, Failure):
        return ProposalEvidence(proposal)
    return ProposalEvidence(
        proposal,
        tuple(_reduced(proposal, code, mode, tolerance) for code in outcome.codes),
    )


def _reduced(
    proposal: Proposal, code: CodeOutcome, mode: GradingMode, tolerance: float | None
) -> CodeEvidence:
    answers: dict[Question, Answers] = {
        question: [extract_boxed(text) for text in texts]
        for question, texts in code.answers.items()
    }
    return code_evidence(
        proposal, code.code, code.drawing.ok, answers, mode=mode, tolerance=tolerance
    )
