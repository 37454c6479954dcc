"""Reward designs as data: named terms, their weights and their constants.

A role's reward is the weighted sum of its terms::

    Proposer  format                                        if the proposal is malformed
              solvability + difficulty + easy_hard + content_balance + diversity + ...
    Coder     max(floor, render + solvability + difficulty + no_render + no_code + wrong_type)
    Solver    accuracy + format

A new term is one function in :mod:`mmzero_env.rewards.roles`; a new design is one
entry in :data:`DESIGNS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType

from mmzero_env.errors import UserError, unknown
from mmzero_env.grading import equivalent
from mmzero_env.parsing import extract_boxed
from mmzero_env.protocol import (
    ROLES,
    CodeOutcome,
    CodeRewards,
    EpisodeOutcome,
    EpisodeRewards,
    Proposal,
    Question,
    TurnReward,
)
from mmzero_env.rewards import terms
from mmzero_env.rewards.constants import Constants, require_finite
from mmzero_env.rewards.evidence import CodeEvidence, ProposalEvidence, gather, matches
from mmzero_env.rewards.roles import CODER_TERMS, PROPOSER_TERMS, SOLVER_TERMS, TERMS, Batch

# Published weights: reward_function/{proposer_reward,codegen_reward,cot_val_solver}.py.
_PROPOSER = {
    "format": -1.0,
    "solvability": 1.0,
    "difficulty": 1.0,
    "easy_hard": -0.3,
    "content_balance": -0.15,
    "diversity": -0.5,
}
_CODER = {
    "render": 1.0,
    "solvability": 1.0,
    "difficulty": 1.0,
    "no_render": -0.1,
    "no_code": -0.05,
    "wrong_type": -0.5,
}
_SOLVER = {"accuracy": 0.9, "format": 0.1}


@dataclass(frozen=True)
class RewardDesign:
    """A named set of terms, weights and constants for all three roles.

    Attributes:
        name: Name in the registry.
        summary: One sentence for lists.
        proposer: Weight of every Proposer term in use, by term name.
        coder: The same for the Coder.
        solver: The same for the Solver.
        constants: The constants of the terms.
    """

    name: str
    summary: str = ""
    proposer: Mapping[str, float] = field(default_factory=lambda: dict(_PROPOSER))
    coder: Mapping[str, float] = field(default_factory=lambda: dict(_CODER))
    solver: Mapping[str, float] = field(default_factory=lambda: dict(_SOLVER))
    constants: Constants = Constants()

    def __post_init__(self) -> None:
        """Refuses unknown terms and weights that are not finite."""
        for role in ROLES:
            weights = dict(getattr(self, role))
            for term, weight in weights.items():
                if term not in TERMS[role]:
                    raise unknown(f"{role} term", term, TERMS[role])
                require_finite(f"{role}.{term}", weight)
            object.__setattr__(self, role, MappingProxyType(weights))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles through plain dicts, since read-only views cannot be pickled."""
        weights = (dict(self.proposer), dict(self.coder), dict(self.solver))
        return (RewardDesign, (self.name, self.summary, *weights, self.constants))

    def with_overrides(self, **overrides: object) -> RewardDesign:
        """The same design with some constants or weights replaced.

        Args:
            **overrides: Constants by name (``solvability_cap=1.0``) or weights as
                ``**{"role.term": weight}``.

        Returns:
            A new design of the same name.

        Raises:
            UserError: For a name that is neither, listing the valid ones, or for a
                value that is out of range.
        """
        known = {item.name for item in fields(Constants)}
        weights: dict[str, dict[str, object]] = {role: dict(getattr(self, role)) for role in ROLES}
        constants: dict[str, object] = {}
        for name, value in overrides.items():
            role, _, term = name.partition(".")
            if name in known:
                constants[name] = value
            elif role in TERMS and term in TERMS[role]:
                require_finite(name, value)
                weights[role][term] = value
            else:
                valid = {*known, *(f"{r}.{t}" for r in ROLES for t in TERMS[r])}
                raise unknown("reward setting", name, valid)
        return replace(self, **weights, constants=replace(self.constants, **constants))

    def score(
        self,
        population: Sequence[EpisodeOutcome],
        memory: Sequence[Sequence[str]] = (),
    ) -> list[EpisodeRewards]:
        """Rewards of every turn of a population of finished episodes.

        The Solver's label is the majority vote over its own answers in the episode.

        Args:
            population: Episodes that are scored together; terms of balance and
                diversity compare their well-formed proposals.
            memory: Captions of earlier steps, one sequence a step, oldest first.

        Returns:
            One entry an episode, in order; every number is finite.
        """
        mode, tolerance = self.constants.grading, self.constants.tolerance
        seen = [gather(outcome, mode=mode, tolerance=tolerance) for outcome in population]
        proposers = self.proposer_rewards(seen, memory)
        return [
            EpisodeRewards(
                proposer,
                tuple(map(self._code_rewards, outcome.codes, evidence.codes)),
            )
            for outcome, evidence, proposer in zip(population, seen, proposers, strict=True)
        ]

    def proposer_rewards(
        self, population: Sequence[ProposalEvidence], memory: Sequence[Sequence[str]] = ()
    ) -> list[TurnReward]:
        """Proposer rewards of a population that has already been reduced.

        Args:
            population: One entry an episode.
            memory: As for :meth:`score`.

        Returns:
            One reward an episode, in order.
        """
        steps = memory[-self.constants.memory_steps :] if self.constants.memory_steps else ()
        batch = Batch(
            tuple(e.proposal for e in population if isinstance(e.proposal, Proposal)),
            tuple(caption for step in steps for caption in step),
            self.constants,
        )
        rewards: list[TurnReward] = []
        index = 0
        for evidence in population:
            if isinstance(evidence.proposal, Proposal):
                rewards.append(
                    _weighted(
                        self.proposer,
                        # A term without weight may be costly, and nobody would see it.
                        lambda t, e=evidence, i=index: PROPOSER_TERMS[t](e, batch, i),
                    )
                )
                index += 1
            else:
                rewards.append(_weighted(self.proposer, lambda term: float(term == "format")))
        return rewards

    def coder_reward(self, code: CodeEvidence) -> TurnReward:
        """The Coder's reward for one code that has already been reduced.

        The value is clamped from below at ``coder_floor``; the terms are not.
        """
        reward = _weighted(self.coder, lambda term: CODER_TERMS[term](code, self.constants))
        return TurnReward(max(self.constants.coder_floor, reward.value), reward.terms)

    def solver_reward(self, text: str, label: str) -> TurnReward:
        """The Solver's reward against a fixed label.

        Args:
            text: A raw completion.
            label: What the answer should be.

        Returns:
            The reward; an answer without a box is never right.
        """
        answer = extract_boxed(text)
        constants = self.constants
        right = answer is not None and equivalent(
            answer, label, mode=constants.grading, tolerance=constants.tolerance
        )
        return self._answer_reward(
            right, terms.well_formatted(text, strict=constants.strict_format)
        )

    def _answer_reward(self, right: bool, formatted: bool) -> TurnReward:
        return self._answer_rewards[right, formatted]

    @cached_property
    def _answer_rewards(self) -> dict[tuple[bool, bool], TurnReward]:
        """The four rewards that an answer can have."""
        return {
            (right, formatted): _weighted(
                self.solver, lambda term, r=right, f=formatted: SOLVER_TERMS[term](r, f)
            )
            for right in (False, True)
            for formatted in (False, True)
        }

    def _code_rewards(self, outcome: CodeOutcome, code: CodeEvidence) -> CodeRewards:
        constants = self.constants
        solver: dict[Question, tuple[TurnReward, ...]] = {}
        for question, vote in code.votes.items():
            # Without a valid answer there is no label, so no answer can equal it.
            right = (
                matches(code.answers[question], vote.winner, constants.grading, constants.tolerance)
                if vote.valid
                else [False] * vote.total
            )
            solver[question] = tuple(
                self._answer_reward(
                    is_right, terms.well_formatted(text, strict=constants.strict_format)
                )
                for is_right, text in zip(right, outcome.answers[question], strict=True)
            )
        return CodeRewards(
            self.coder_reward(code),
            code.votes,
            solver,
            float(code.solvability),
            float(code.difficulty),
        )


def _weighted(weights: Mapping[str, float], term: Callable[[str], float]) -> TurnReward:
    # Adding 0.0 turns a negative zero, which reads badly in a report, into zero.
    parts = {name: weight * term(name) + 0.0 if weight else 0.0 for name, weight in weights.items()}
    return TurnReward(sum(parts.values()), parts)


DESIGNS: dict[str, RewardDesign] = {}


def register(design: RewardDesign) -> RewardDesign:
    """Adds a design to the registry under its name.

    Raises:
        UserError: If the name is taken.
    """
    if design.name in DESIGNS:
        raise UserError(f"a reward design named {design.name!r} is already registered")
    DESIGNS[design.name] = design
    return design


def get_design(name: str, **overrides: object) -> RewardDesign:
    """A registered design, with some settings replaced.

    Args:
        name: One of :data:`DESIGNS`.
        **overrides: As for :meth:`RewardDesign.with_overrides`.

    Returns:
        The design.

    Raises:
        UserError: For an unknown name or setting, listing the valid ones.
    """
    if name not in DESIGNS:
        raise unknown("reward design", name, DESIGNS)
    return DESIGNS[name].with_overrides(**overrides) if overrides else DESIGNS[name]


_MM_ZERO = register(
    RewardDesign("mm_zero", "MM-Zero's rewards with sound grading and exact comparisons.")
)
register(
    replace(
        _MM_ZERO,
        name="mm_zero_official",
        summary="MM-Zero's rewards with the published grader, rounding and format check.",
        constants=Constants(
            grading="official", exact_thresholds=False, strict_format=True, memory_enough=0.9
        ),
    )
)
register(
    replace(
        _MM_ZERO.with_overrides(solvability_cap=1.0),
        name="no_solvability_cap",
        summary="mm_zero whose Proposer is paid for solvability beyond one half.",
    )
)
register(
    replace(
        _MM_ZERO.with_overrides(**{"proposer.diversity": 0.0, "proposer.content_balance": 0.0}),
        name="no_diversity",
        summary="mm_zero without the penalties on near-duplicates and frequent types.",
    )
)
register(
    replace(
        # Weight 1/2 gives the term the range of the one that it replaces.
        _MM_ZERO.with_overrides(**{"proposer.difficulty": 0.0, "proposer.learnability": 0.5}),
        name="learnability",
        summary="mm_zero with 2c(1 - c) in place of min(c, 1 - c) for the Proposer.",
    )
)
