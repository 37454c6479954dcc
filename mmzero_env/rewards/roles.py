"""The terms of each role by name: adapters from evidence to the formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from mmzero_env.errors import UserError, unknown
from mmzero_env.protocol import Proposal, Role
from mmzero_env.rewards import terms
from mmzero_env.rewards.batch import Batch
from mmzero_env.rewards.constants import Constants
from mmzero_env.rewards.evidence import AnswerEvidence, CodeEvidence, ProposalEvidence, matches
from mmzero_env.voting import agreement

ProposerTerm = Callable[[ProposalEvidence, Batch, int], float]
"""A term of a well-formed proposal: its evidence, its batch, its place in the batch."""

CoderTerm = Callable[[CodeEvidence, Constants], float]
"""A term of a code."""

SolverTerm = Callable[[AnswerEvidence, Constants], float]
"""A term of an answer."""


def _capped_solvability(seen: ProposalEvidence, batch: Batch, index: int) -> float:
    """(1/N) sum over rendered codes of min(s_i, cap)."""
    cap = Fraction(str(batch.constants.solvability_cap))
    return seen.mean_over_codes([min(code.solvability, cap) for code in seen.rendered])


def _mean_difficulty(seen: ProposalEvidence, batch: Batch, index: int) -> float:
    """(1/N) sum over rendered codes of d_i."""
    return seen.mean_over_codes([code.difficulty for code in seen.rendered])


def _mean_learnability(seen: ProposalEvidence, batch: Batch, index: int) -> float:
    """(1/N) sum over rendered codes of 4 c_i (1 - c_i)."""
    return seen.mean_over_codes([terms.learnability(code.hard_vote) for code in seen.rendered])


def _mean_uncertainty(seen: ProposalEvidence, batch: Batch, index: int) -> float:
    """(1/N) sum over rendered codes of 1 - |2 c_i - 1|."""
    return seen.mean_over_codes([terms.uncertainty(code.hard_vote) for code in seen.rendered])


def _mean_entropy_band(seen: ProposalEvidence, batch: Batch, index: int) -> float:
    """(1/N) sum over rendered codes of exp(-(H_i - target)^2 / (2 width^2))."""
    constants = batch.constants
    bands: list[Fraction | float] = []
    for code in seen.rendered:
        shares = agreement(
            code.answers.get("hard", ()), mode=constants.grading, tolerance=constants.tolerance
        )
        bands.append(terms.entropy_band(shares, constants.entropy_target, constants.entropy_width))
    return seen.mean_over_codes(bands)


def _mean_leak(seen: ProposalEvidence, batch: Batch, index: int) -> float:
    """(1/N) sum over rendered codes of [the picture leaks]."""
    return seen.mean_over_codes([Fraction(code.leaked) for code in seen.rendered])


def _mean_blind(seen: ProposalEvidence, batch: Batch, index: int) -> float:
    """(1/N) sum over rendered codes of b_i."""
    return seen.mean_over_codes([code.blind for code in seen.rendered])


def _own_answer(seen: ProposalEvidence, batch: Batch, index: int) -> float:
    """1 if the proposed easy answer is what the label source answers."""
    label = seen.label_votes.get("easy")
    if label is None or not label.valid or not isinstance(seen.proposal, Proposal):
        return 0.0
    constants = batch.constants
    own = (seen.proposal.easy_answer,)
    return float(all(matches(own, label.winner, constants.grading, constants.tolerance)))


def _too_easy(seen: ProposalEvidence, batch: Batch, index: int) -> float:
    """1 if the hard question is too easy on the images that are used."""
    constants = batch.constants
    return terms.too_easy(
        [code.hard_vote for code in seen.rendered if code.used],
        constants.easy_hard_threshold,
        exact=constants.exact_thresholds,
    )


PROPOSER_TERMS: dict[str, ProposerTerm] = {
    # 1 for a malformed proposal, which has no other term.
    "format": lambda seen, batch, index: 0.0,
    "solvability": _capped_solvability,
    "difficulty": _mean_difficulty,
    "learnability": _mean_learnability,
    "uncertainty": _mean_uncertainty,
    "entropy_band": _mean_entropy_band,
    "easy_hard": _too_easy,
    "content_balance": lambda seen, batch, index: batch.over_representation[index],
    "diversity": lambda seen, batch, index: batch.crowding[index],
    "novelty": lambda seen, batch, index: batch.novelty[index],
    "batch_share": lambda seen, batch, index: batch.batch_share[index],
    "topic_share": lambda seen, batch, index: batch.topic_share[index],
    "repetition": lambda seen, batch, index: batch.repetition[index],
    "paraphrase": lambda seen, batch, index: batch.paraphrases[index],
    "leak": _mean_leak,
    "blind": _mean_blind,
    "own_answer": _own_answer,
}


def _solvability(code: CodeEvidence, constants: Constants) -> float:
    return min(float(code.solvability), constants.coder_solvability_cap)


def _fidelity(code: CodeEvidence, constants: Constants) -> float:
    return min(float(terms.fidelity(code.hard_vote)), constants.fidelity_cap)


def _no_code(code: CodeEvidence, constants: Constants) -> float:
    return float(code.code is None)


def _wrong_type(code: CodeEvidence, constants: Constants) -> float:
    # Python is extracted only where the Coder may write it.
    return float(code.form != "python" and not terms.looks_like_svg(code.code))


CODER_TERMS: dict[str, CoderTerm] = {
    "render": lambda code, constants: float(code.rendered),
    "solvability": _solvability,
    "difficulty": lambda code, constants: float(code.difficulty),
    "learnability": lambda code, constants: float(terms.learnability(code.hard_vote)),
    "uncertainty": lambda code, constants: float(terms.uncertainty(code.hard_vote)),
    "no_render": lambda code, constants: float(not code.rendered),
    "no_code": _no_code,
    "wrong_type": _wrong_type,
    "fidelity": _fidelity,
    "leak": lambda code, constants: float(code.leaked),
}


def _soft_agreement(answer: AnswerEvidence, constants: Constants) -> float:
    return terms.soft_agreement(
        answer.agreement,
        answer.words,
        power=constants.agreement_power,
        brevity_weight=constants.brevity_weight,
        brevity_words=constants.brevity_words,
    )


def _grounding(answer: AnswerEvidence, constants: Constants) -> float:
    claims = answer.claims
    if claims is None:
        return 0.0
    return terms.grounding(claims.checked, claims.false, constants.grounding_silence)


SOLVER_TERMS: dict[str, SolverTerm] = {
    "accuracy": lambda answer, constants: float(answer.right),
    "format": lambda answer, constants: float(answer.formatted),
    "agreement": _soft_agreement,
    "grounding": _grounding,
}

TERMS: Mapping[str, dict[str, Any]] = {
    "proposer": PROPOSER_TERMS,
    "coder": CODER_TERMS,
    "solver": SOLVER_TERMS,
}


def register_term(role: Role, name: str, term: ProposerTerm | CoderTerm | SolverTerm) -> None:
    """Makes a term available to designs; it has no weight in any of them yet.

    Args:
        role: Whose reward it is part of.
        name: Its name within the role.
        term: A pure function that gives a finite number: a :data:`ProposerTerm`, a
            :data:`CoderTerm` or a :data:`SolverTerm`.

    Raises:
        UserError: If the role does not exist, or the name is taken or has a dot.
    """
    if role not in TERMS:
        raise unknown("role", str(role), TERMS)
    if name in TERMS[role]:
        raise UserError(f"the {role} has a term named {name!r} already")
    if not name or "." in name:
        raise UserError(f"expected a name of a term without a dot, got {name!r}")
    TERMS[role][name] = term
