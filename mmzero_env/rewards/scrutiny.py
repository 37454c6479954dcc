"""What a design looks into beyond the answers, and what it then refuses to use.

A picture that gives the answer away, a question that is answered without any picture and
a question that asks nothing teach a Solver nothing. Each of these checks is off unless
the constants of a design ask for it; :func:`scrutinized` applies those that are on to
evidence that has been voted and graded as always.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from mmzero_env.leaks import gives_away, words
from mmzero_env.protocol import CodeOutcome, Failure, Proposal, Question, Vote
from mmzero_env.rewards import terms
from mmzero_env.rewards.constants import Constants
from mmzero_env.rewards.evidence import NO_VOTE, Answers, CodeEvidence, matches
from mmzero_env.svg_metrics import text_of
from mmzero_env.voting import is_valid, majority

# How models word it that a question has no answer; what follows does not matter.
_REFUSAL = re.compile(
    r"\b(?:can(?:no|'|\u2019)t|can not|could not|couldn['\u2019]t|unable|indetermina\w+"
    r"|undetermin\w+|unanswerable|unclear|unspecified|insufficient|not (?:enough|sufficient)"
    r"|not (?:given|shown|stated|specified|visible|provided|available|possible|determin\w+)"
    r"|no (?:answer|information|data|image|picture))\b"
)


@dataclass(frozen=True)
class Scrutiny:
    """The checks of a design.

    Attributes:
        constants: Its constants; those named ``use_leaked``, ``blind_limit``,
            ``label_consistency`` and ``strict_questions`` decide what is used.
        leaks: Whether the writing in pictures is looked at.
        blind: Whether blind answers are compared with the labels.
    """

    constants: Constants
    leaks: bool = False
    blind: bool = False

    @property
    def needed(self) -> bool:
        """Whether there is anything to check."""
        kept = self.constants
        return self.leaks or self.blind or kept.strict_questions or kept.label_consistency > 0


def scrutinized(
    seen: CodeEvidence,
    code: CodeOutcome,
    proposal: Proposal,
    scrutiny: Scrutiny,
    *,
    voters: Mapping[Question, Vote],
    blind: Answers = (),
) -> CodeEvidence:
    """Evidence of a code after the checks of a design.

    In this order: labels on which too few of the voters agree go, and so does that of a
    hard question that asks nothing; a picture that leaks is not used; nor is one whose
    hard question is solved blind. What the answers without picture share with the label
    is measured before the last check, or being solved blind would hide itself.

    Args:
        seen: Evidence of a code that rendered.
        code: The code and its picture.
        proposal: What it was drawn for.
        scrutiny: The checks.
        voters: By question, the vote that gave its label: from the caption or the picture.
        blind: Extracted answers to the hard question without picture and caption.

    Returns:
        The evidence; :attr:`~CodeEvidence.leaked` and :attr:`~CodeEvidence.blind` are set
        if they are looked at.
    """
    constants = scrutiny.constants
    solvability = seen.solvability
    labels = {
        question: label
        for question, label in seen.labels.items()
        if confident(voters.get(question, NO_VOTE), constants)
    }
    if constants.strict_questions:
        if not is_valid(proposal.easy_answer):
            solvability = Fraction(0)
        if "hard" in labels and not asks_something(proposal, labels["hard"].winner):
            del labels["hard"]
    used = seen.used
    leaked = scrutiny.leaks and leaks(code, proposal)
    if leaked and not constants.use_leaked:
        used, labels = False, {}
    share = Fraction(0)
    if scrutiny.blind and "hard" in labels and proposal.hard_question.strip():
        mode, tolerance, label = constants.grading, constants.tolerance, labels["hard"].winner
        share = terms.blind(sum(matches(blind, label, mode, tolerance)), len(blind))
        vote = majority(blind, mode=mode, tolerance=tolerance)
        if terms.consistency(vote) > Fraction(str(constants.blind_limit)) and all(
            matches((vote.winner,), label, mode, tolerance)
        ):
            used, labels = False, {}
    hard_vote = labels.get("hard", NO_VOTE) if proposal.hard_question.strip() else NO_VOTE
    return replace(
        seen,
        labels=labels,
        hard_vote=hard_vote,
        used=used,
        solvability=solvability,
        leaked=leaked,
        blind=share,
    )


def leaks(code: CodeOutcome, proposal: Proposal) -> bool:
    """Whether a picture gives something away, see :func:`mmzero_env.leaks.gives_away`.

    Args:
        code: A code and its picture.
        proposal: What it was drawn for.

    Returns:
        False without a picture, and for Python: its text is not in the code as it is drawn.
    """
    if code.code is None or code.form != "svg" or not code.drawing.ok:
        return False
    text = text_of(code.code)
    return not isinstance(text, Failure) and gives_away(text, proposal)


def asks_something(proposal: Proposal, label: str) -> bool:
    """Whether a hard question is one: see ``strict_questions`` of the constants.

    Args:
        proposal: Both questions.
        label: The silver label of the hard one.

    Returns:
        False if it says in the words of the easy one what that asks, if the proposal has
        no answer to it, or if its label says that there is none.
    """
    if words(proposal.hard_question) == words(proposal.easy_question):
        return False
    return is_valid(proposal.hard_answer) and _REFUSAL.search(label.casefold()) is None


def confident(vote: Vote, constants: Constants) -> bool:
    """Whether enough voters agree for a label: ``label_consistency`` of the constants."""
    least = Fraction(str(constants.label_consistency))
    return bool(vote.valid) and terms.share_of_all(vote) >= least
