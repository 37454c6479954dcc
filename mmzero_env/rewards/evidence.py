"""What the reward terms look at: an episode reduced to answers, votes and counts.

One path for everybody: finished episodes are reduced by
:func:`mmzero_env.rewards.gathering.gather`, and recorded cases that only hold extracted
answers enter through :func:`code_evidence`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from mmzero_env.grading import GradingMode, equivalent
from mmzero_env.grounding import Claims
from mmzero_env.parsing import extract_boxed
from mmzero_env.protocol import CodeForm, Failure, Proposal, Question, Vote
from mmzero_env.rewards import terms
from mmzero_env.voting import is_valid, majority

LabelSource = Literal["image", "caption", "truth"]
LABEL_SOURCES: tuple[LabelSource, ...] = ("image", "caption", "truth")
"""Where labels come from: answers that saw the picture, answers that read the caption, or the
procedural world. The last is an upper bound to compare with: it is not zero-data."""

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
        hard_vote: The hard question's entry in ``labels``; empty if there is none.
        solvability: Share of easy answers equal to the proposed easy answer, or to the label
            source's for designs that do not trust that.
        labels: By question, how the answers voted on its silver label; a question
            without a label is missing.
        used: Whether the picture counts. False for labels from elsewhere when the easy
            question failed on it, and where a check of
            :mod:`mmzero_env.rewards.scrutiny` says so.
        form: What the code is written in, None if there was none.
        leaked: Whether its writing gives something away; only looked at for designs that
            ask.
        blind: Share of the blind answers that equal the hard label, exact; 0 without a
            label. Only for designs that ask.
    """

    code: str | None
    rendered: bool
    answers: Mapping[Question, tuple[str | None, ...]] = field(default_factory=dict)
    votes: Mapping[Question, Vote] = field(default_factory=dict)
    hard_vote: Vote = NO_VOTE
    solvability: Fraction = Fraction(0)
    labels: Mapping[Question, Vote] = field(default_factory=dict)
    used: bool = True
    form: CodeForm | None = "svg"
    leaked: bool = False
    blind: Fraction = Fraction(0)

    @property
    def difficulty(self) -> Fraction:
        """min(c, 1 - c) of the hard question, exact."""
        return terms.difficulty(self.hard_vote)


@dataclass(frozen=True)
class ProposalEvidence:
    """One proposal and what became of its codes.

    Attributes:
        proposal: The proposal, or why there is none.
        codes: One entry a code.
        topic: What the Proposer was asked about.
        caption_votes: The vote on each question that was answered from the caption.
        blind_votes: The vote on the hard question without picture and caption.
        label_votes: What the label source says to each question; empty for labels from the
            picture.
    """

    proposal: Proposal | Failure
    codes: tuple[CodeEvidence, ...] = ()
    topic: str = ""
    caption_votes: Mapping[Question, Vote] = field(default_factory=dict)
    blind_votes: Mapping[Question, Vote] = field(default_factory=dict)
    label_votes: Mapping[Question, Vote] = field(default_factory=dict)

    @property
    def rendered(self) -> tuple[CodeEvidence, ...]:
        """The codes that gave an image."""
        return tuple(code for code in self.codes if code.rendered)

    def mean_over_codes(self, values: Sequence[Fraction | float]) -> float:
        """The sum over rendered codes divided by all codes (by 1 if there is none)."""
        return float(sum(values, Fraction(0)) / max(len(self.codes), 1))


def matches(answers: Answers, truth: str, mode: GradingMode, tolerance: float | None) -> list[bool]:
    """Whether each answer equals the truth; an answer without a box never does."""
    verdicts: dict[str, bool] = {truth: True}
    for answer in answers:
        if answer is not None and answer not in verdicts:
            verdicts[answer] = equivalent(answer, truth, mode=mode, tolerance=tolerance)
    return [answer is not None and verdicts[answer] for answer in answers]


@dataclass(frozen=True)
class AnswerEvidence:
    """One answer of the Solver as the terms see it.

    Attributes:
        right: Whether it equals the silver label.
        formatted: Whether its completion has the form that the prompt asks for.
        agreement: Share of the valid answers that equal it; 0 for one without a vote.
            Only counted for designs that pay for it.
        words: Words in front of the final box; counted for the same designs.
        claims: What the geometry of the picture says of its reasoning; None if that is not
            weighed or the picture is no SVG.
    """

    right: bool
    formatted: bool
    agreement: float = 0.0
    words: int = 0
    claims: Claims | None = None


def vote_of(texts: Sequence[str], mode: GradingMode, tolerance: float | None) -> Vote:
    """How raw completions vote on the answer to their question.

    Args:
        texts: The completions, in the order in which they were sampled.
        mode: Grading mode.
        tolerance: Relative numeric tolerance.
    """
    return majority(extracted(texts), mode=mode, tolerance=tolerance)


def code_evidence(
    proposal: Proposal,
    code: str | None,
    rendered: bool,
    answers: Mapping[Question, Answers],
    *,
    mode: GradingMode = "sane",
    tolerance: float | None = None,
    label_votes: Mapping[Question, Vote] | None = None,
    trust_own_answer: bool = True,
    form: CodeForm | None = "svg",
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
        label_votes: Votes from elsewhere that give the labels. The picture is then used
            only if the easy vote about it has a winner, and that equals the easy key.
            None labels by the picture.
        trust_own_answer: Whether the easy key is the proposed easy answer. If not, it is the
            winner of the easy one of ``label_votes``.
        form: What the code is written in.

    Returns:
        The evidence.
    """
    if not rendered:
        return CodeEvidence(code, False, form=form)
    kept = {question: tuple(given) for question, given in answers.items()}
    votes = {q: majority(given, mode=mode, tolerance=tolerance) for q, given in kept.items()}
    easy = kept.get("easy", ()) if proposal.easy_question.strip() else ()
    key = proposal.easy_answer
    if not trust_own_answer:
        key = (label_votes or {}).get("easy", NO_VOTE).winner
    right = sum(matches(easy, key, mode, tolerance)) if key.strip() else 0
    used = True
    if label_votes is None:
        labels = {q: vote for q, vote in votes.items() if vote.valid}
    else:
        winner = votes.get("easy", NO_VOTE).winner if easy and key.strip() else ""
        used = bool(winner) and all(matches((winner,), key, mode, tolerance))
        labels = {
            q: _vote_on(label.winner, kept[q], vote, mode, tolerance)
            for q, vote in votes.items()
            if used and (label := label_votes.get(q, NO_VOTE)).valid
        }
    hard_vote = labels.get("hard", NO_VOTE) if proposal.hard_question.strip() else NO_VOTE
    return CodeEvidence(
        code,
        True,
        kept,
        votes,
        hard_vote,
        terms.solvability(right, len(easy)),
        labels,
        used,
        form,
    )


def _vote_on(
    label: str, answers: Answers, vote: Vote, mode: GradingMode, tolerance: float | None
) -> Vote:
    """A vote whose winner was decided elsewhere."""
    valid = [answer for answer in answers if is_valid(answer)]
    right = sum(matches(valid, label, mode, tolerance))
    return Vote(label, right / len(valid) if valid else 0.0, vote.valid, vote.total)


def extracted(texts: Sequence[str]) -> list[str | None]:
    """The final answer of every completion; None for one without a box."""
    return [extract_boxed(text) for text in texts]
