"""The terms of each role by name: adapters from evidence to the formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from mmzero_env.parsing import effective_content_type
from mmzero_env.protocol import Proposal
from mmzero_env.rewards import terms
from mmzero_env.rewards.constants import Constants
from mmzero_env.rewards.evidence import CodeEvidence, ProposalEvidence


@dataclass(frozen=True)
class Batch:
    """The well-formed proposals that are scored together, with what they share.

    Attributes:
        proposals: Well-formed proposals in population order.
        remembered: Captions of earlier steps, oldest first.
        constants: The design's constants.
    """

    proposals: tuple[Proposal, ...]
    remembered: tuple[str, ...]
    constants: Constants

    @cached_property
    def over_representation(self) -> list[float]:
        """See :func:`mmzero_env.rewards.terms.over_representation`."""
        types = [effective_content_type(proposal) for proposal in self.proposals]
        return terms.over_representation(types, self.constants.allowed_type_share)

    @cached_property
    def crowding(self) -> list[float]:
        """See :func:`mmzero_env.rewards.terms.crowding`."""
        weighted = (
            (self.constants.caption_weight, [p.caption for p in self.proposals]),
            (self.constants.easy_question_weight, [p.easy_question for p in self.proposals]),
            (self.constants.hard_question_weight, [p.hard_question for p in self.proposals]),
        )
        return terms.crowding(weighted, self.constants.cluster_threshold)

    @cached_property
    def repetition(self) -> list[float]:
        """See :func:`mmzero_env.rewards.terms.repetition`."""
        captions = [proposal.caption for proposal in self.proposals]
        return terms.repetition(captions, self.remembered, self.constants.memory_enough)


ProposerTerm = Callable[[ProposalEvidence, Batch, int], float]
"""A term of a well-formed proposal: its evidence, its batch, its place in the batch."""

CoderTerm = Callable[[CodeEvidence, Constants], float]
SolverTerm = Callable[[bool, bool], float]
"""A term of an answer: whether it equals the label, whether its form is right."""


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


def _too_easy(seen: ProposalEvidence, batch: Batch, index: int) -> float:
    """1 if the hard question is too easy on the images that rendered."""
    constants = batch.constants
    return terms.too_easy(
        [code.hard_vote for code in seen.rendered],
        constants.easy_hard_threshold,
        exact=constants.exact_thresholds,
    )


PROPOSER_TERMS: Mapping[str, ProposerTerm] = {
    # 1 for a malformed proposal, which has no other term.
    "format": lambda seen, batch, index: 0.0,
    "solvability": _capped_solvability,
    "difficulty": _mean_difficulty,
    "learnability": _mean_learnability,
    "easy_hard": _too_easy,
    "content_balance": lambda seen, batch, index: batch.over_representation[index],
    "diversity": lambda seen, batch, index: batch.crowding[index],
    "repetition": lambda seen, batch, index: batch.repetition[index],
}


def _solvability(code: CodeEvidence, constants: Constants) -> float:
    return min(float(code.solvability), constants.coder_solvability_cap)


def _no_code(code: CodeEvidence, constants: Constants) -> float:
    return float(code.code is None)


def _wrong_type(code: CodeEvidence, constants: Constants) -> float:
    return float(not terms.looks_like_svg(code.code))


CODER_TERMS: Mapping[str, CoderTerm] = {
    "render": lambda code, constants: float(code.rendered),
    "solvability": _solvability,
    "difficulty": lambda code, constants: float(code.difficulty),
    "no_render": lambda code, constants: float(not code.rendered),
    "no_code": _no_code,
    "wrong_type": _wrong_type,
}

SOLVER_TERMS: Mapping[str, SolverTerm] = {
    "accuracy": lambda right, formatted: float(right),
    "format": lambda right, formatted: float(formatted),
}

TERMS: Mapping[str, Mapping[str, object]] = {
    "proposer": PROPOSER_TERMS,
    "coder": CODER_TERMS,
    "solver": SOLVER_TERMS,
}
