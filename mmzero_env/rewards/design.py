"""A reward design as data: named terms, their weights and their constants.

A role's reward is the weighted sum of its terms, as in the design ``mm_zero``::

    Proposer  format                                        if the proposal is malformed
              solvability + difficulty + easy_hard + content_balance + diversity
    Coder     max(floor, render + solvability + difficulty + no_render + no_code + wrong_type)
    Solver    accuracy + format

A new term is one function in :mod:`mmzero_env.rewards.roles`; a new design is one
entry in :mod:`mmzero_env.rewards.designs` or a TOML file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType

from mmzero_env.errors import UserError, unknown
from mmzero_env.grounding import Scene, check_claims, read_scene
from mmzero_env.protocol import (
    ROLES,
    CodeOutcome,
    CodeRewards,
    EpisodeOutcome,
    EpisodeRewards,
    Failure,
    Proposal,
    Question,
    TurnReward,
)
from mmzero_env.rewards import terms
from mmzero_env.rewards.batch import Batch, LastOfBatch
from mmzero_env.rewards.constants import Constants, require_finite
from mmzero_env.rewards.evidence import (
    LABEL_SOURCES,
    AnswerEvidence,
    Answers,
    CodeEvidence,
    LabelSource,
    ProposalEvidence,
    extracted,
    matches,
    vote_of,
)
from mmzero_env.rewards.gathering import gather
from mmzero_env.rewards.roles import CODER_TERMS, PROPOSER_TERMS, SOLVER_TERMS, TERMS
from mmzero_env.rewards.scrutiny import Scrutiny, confident
from mmzero_env.voting import agreement

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
        label_source: ``"image"``: silver labels are voted by the answers about the
            picture. ``"caption"``: by answers that read the caption instead; a
            picture on which the easy question fails is then not used, which means
            no difficulty and no reward for its answers. ``"truth"``: by the procedural
            world, an upper bound that is not zero-data.
    """

    name: str
    summary: str = ""
    proposer: Mapping[str, float] = field(default_factory=lambda: dict(_PROPOSER))
    coder: Mapping[str, float] = field(default_factory=lambda: dict(_CODER))
    solver: Mapping[str, float] = field(default_factory=lambda: dict(_SOLVER))
    constants: Constants = Constants()
    label_source: LabelSource = "image"

    def __post_init__(self) -> None:
        """Refuses unknown terms and label sources, and weights that are not finite."""
        if self.label_source not in LABEL_SOURCES:
            raise unknown("label source", str(self.label_source), LABEL_SOURCES)
        if self.label_source == "image":
            self._refuse_own_labels()
        for role in ROLES:
            weights = dict(getattr(self, role))
            for term, weight in weights.items():
                if term not in TERMS[role]:
                    raise unknown(f"{role} term", term, TERMS[role])
                require_finite(f"{role}.{term}", weight)
            object.__setattr__(self, role, MappingProxyType(weights))

    def _refuse_own_labels(self) -> None:
        """Settings that need labels from elsewhere than the picture."""
        mend = 'they need label_source = "caption" (or "truth"), got "image"'
        if not self.constants.trust_own_answer:
            raise UserError(f"trust_own_answer = false: {mend}")
        if self.proposer.get("own_answer"):
            raise UserError(f"proposer.own_answer: {mend}")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles through plain dicts, since read-only views cannot be pickled."""
        weights = (dict(self.proposer), dict(self.coder), dict(self.solver))
        rest = (self.constants, self.label_source)
        return (RewardDesign, (self.name, self.summary, *weights, *rest))

    @property
    def needs_caption_answers(self) -> bool:
        """Whether episodes must ask the Solver for answers from the caption."""
        return self.label_source == "caption"

    def caption_answers(self, answers: int) -> int:
        """How many answers from the caption to ask for in an episode.

        Args:
            answers: Answers to each question about each picture.

        Returns:
            ``answers`` if the design takes its labels from them, else 0: the value of
            ``EpisodeConfig.caption_answers``.
        """
        return answers if self.needs_caption_answers else 0

    @property
    def needs_blind_answers(self) -> bool:
        """Whether episodes must ask the hard question without picture and caption."""
        return bool(self.proposer.get("blind")) or self.constants.blind_limit < 1

    def blind_answers(self, answers: int) -> int:
        """How many answers without picture and caption to ask for in an episode.

        Args:
            answers: Answers to each question about each picture.

        Returns:
            ``answers`` if the design looks at them, else 0: the value of
            ``EpisodeConfig.blind_answers``.
        """
        return answers if self.needs_blind_answers else 0

    def with_overrides(self, **overrides: object) -> RewardDesign:
        """The same design with some settings replaced.

        Args:
            **overrides: Constants by name (``solvability_cap=1.0``), weights as
                ``**{"role.term": weight}``, or ``label_source``.

        Returns:
            A new design of the same name.

        Raises:
            UserError: For a name that is neither, listing the valid ones, or for a
                value that is out of range.
        """
        known = {item.name for item in fields(Constants)}
        source = overrides.pop("label_source", self.label_source)
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
                weighed = (f"{r}.{t}" for r in ROLES for t in TERMS[r])
                raise unknown("reward setting", name, {"label_source", *known, *weighed})
        changed = replace(self.constants, **constants)
        return replace(self, **weights, constants=changed, label_source=source)

    def score(
        self,
        population: Sequence[EpisodeOutcome],
        memory: Sequence[Sequence[str]] = (),
    ) -> list[EpisodeRewards]:
        """Rewards of every turn of a population of finished episodes.

        The Solver's label is the majority vote over its own answers in the episode, or
        as :attr:`label_source` says.

        Args:
            population: Episodes that are scored together; terms of balance and
                diversity compare their well-formed proposals.
            memory: Captions of earlier steps, one sequence a step, oldest first.

        Returns:
            One entry an episode, in order; every number is finite.

        Raises:
            UserError: If an episode lacks the answers that give the labels.
        """
        seen = [self._gather(outcome) for outcome in population]
        proposers = self.proposer_rewards(seen, memory)
        return [
            self._episode_rewards(outcome, evidence, proposer)
            for outcome, evidence, proposer in zip(population, seen, proposers, strict=True)
        ]

    def score_last(
        self, population: Sequence[EpisodeOutcome], memory: Sequence[Sequence[str]] = ()
    ) -> EpisodeRewards:
        """Rewards of the newest episode of a sliding window: ``score(population)[-1]``.

        Only the proposals of the others are looked at, and what is known about them is
        kept between calls, so the cost of an episode does not grow with a run.

        Args:
            population: The window, newest episode last.
            memory: As for :meth:`score`.

        Raises:
            UserError: If the population is empty, or as for :meth:`score`.
        """
        if not population:
            raise UserError("score_last() expects at least one episode, got none.")
        outcome = population[-1]
        evidence = self._gather(outcome)
        earlier = [ProposalEvidence(o.proposal, topic=o.topic) for o in population[:-1]]
        batch = LastOfBatch(*self._batch_of([*earlier, evidence], memory))
        proposer = self._proposer_reward(evidence, batch, batch.last)
        return self._episode_rewards(outcome, evidence, proposer)

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
        batch = Batch(*self._batch_of(population, memory))
        rewards: list[TurnReward] = []
        index = 0
        for evidence in population:
            rewards.append(self._proposer_reward(evidence, batch, index))
            index += isinstance(evidence.proposal, Proposal)
        return rewards

    def _batch_of(
        self, population: Sequence[ProposalEvidence], memory: Sequence[Sequence[str]]
    ) -> tuple[tuple[Proposal, ...], tuple[str, ...], tuple[str, ...], Constants]:
        kept = [(e.proposal, e.topic) for e in population if isinstance(e.proposal, Proposal)]
        steps = memory[-self.constants.memory_steps :] if self.constants.memory_steps else ()
        return (
            tuple(proposal for proposal, _ in kept),
            tuple(topic for _, topic in kept),
            tuple(caption for step in steps for caption in step),
            self.constants,
        )

    def _proposer_reward(self, seen: ProposalEvidence, batch: Batch, index: int) -> TurnReward:
        if isinstance(seen.proposal, Proposal):
            # A term without weight may be costly, and nobody would see it.
            reward = _weighted(self.proposer, lambda t: PROPOSER_TERMS[t](seen, batch, index))
        else:
            reward = _weighted(self.proposer, lambda term: float(term == "format"))
        floor = self.constants.proposer_floor
        return reward if floor is None else TurnReward(max(floor, reward.value), reward.terms)

    def coder_reward(self, code: CodeEvidence) -> TurnReward:
        """The Coder's reward for one code that has already been reduced.

        The value is clamped from below at ``coder_floor``; the terms are not.
        """
        reward = _weighted(self.coder, lambda term: CODER_TERMS[term](code, self.constants))
        return TurnReward(max(self.constants.coder_floor, reward.value), reward.terms)

    @cached_property
    def _scrutiny(self) -> Scrutiny | None:
        """The checks beyond the answers; None where the design asks for none."""
        weighed = bool(self.proposer.get("leak") or self.coder.get("leak"))
        leaks = weighed or not self.constants.use_leaked
        found = Scrutiny(self.constants, leaks=leaks, blind=self.needs_blind_answers)
        return found if found.needed else None

    def label(self, texts: Sequence[str], caption_texts: Sequence[str] = ()) -> str | None:
        """The silver label of one question, as :meth:`score` chooses it.

        Args:
            texts: Raw answers to the question about the picture.
            caption_texts: Raw answers that read the caption instead; only looked at if the
                design takes its labels from them.

        Returns:
            The winner of the vote, or None if no answer counts or too few agree
            (``label_consistency``).

        Raises:
            UserError: If the design takes its labels from the truth, which changes with no vote.
        """
        if self.label_source == "truth":
            raise UserError("labels from the truth are not voted; use those of the pool")
        voters = caption_texts if self.needs_caption_answers else texts
        vote = vote_of(voters, self.constants.grading, self.constants.tolerance)
        return vote.winner if confident(vote, self.constants) else None

    def solver_rewards(
        self, texts: Sequence[str], label: str | None, svg: str | None = None
    ) -> tuple[TurnReward, ...]:
        """The Solver's rewards for the answers to one prompt against a given label.

        Args:
            texts: Raw completions of one group.
            label: What the answer should be; None where no label could be voted, and then
                no answer is right.
            svg: The code of the picture, if it is SVG. Only looked at by designs that weigh
                ``grounding``: without it no claim can be checked.

        Returns:
            One reward a completion; an answer without a box is never right.
        """
        return self._answer_rewards(texts, extracted(texts), label, self._scene(svg))

    def solver_reward(self, text: str, label: str) -> TurnReward:
        """:meth:`solver_rewards` for a group of one."""
        return self.solver_rewards((text,), label)[0]

    def _scene(self, svg: str | None) -> Scene | None:
        """What a code draws, where somebody weighs it and the code can be read."""
        if svg is None or not self.solver.get("grounding"):
            return None
        scene = read_scene(svg)
        return None if isinstance(scene, Failure) else scene

    def _answer_rewards(
        self, texts: Sequence[str], answers: Answers, label: str | None, scene: Scene | None
    ) -> tuple[TurnReward, ...]:
        constants = self.constants
        mode, tolerance = constants.grading, constants.tolerance
        # Without a label no answer can equal it.
        right = [False] * len(texts)
        if label is not None:
            right = matches(answers, label, mode, tolerance)
        formatted = [terms.well_formatted(text, strict=constants.strict_format) for text in texts]
        if not self.solver.get("agreement") and not self.solver.get("grounding"):
            plain = self._plain_answer_rewards
            return tuple(map(plain.__getitem__, zip(right, formatted, strict=True)))
        agreed = agreement(answers, mode=mode, tolerance=tolerance)
        words = [terms.words_before_box(text) for text in texts]
        claims = [None if scene is None else check_claims(text, scene) for text in texts]
        return tuple(
            self._answer_reward(AnswerEvidence(*seen))
            for seen in zip(right, formatted, agreed, words, claims, strict=True)
        )

    @cached_property
    def _plain_answer_rewards(self) -> dict[tuple[bool, bool], TurnReward]:
        """The four rewards that an answer can have when its group plays no part."""
        return {
            (right, formatted): self._answer_reward(AnswerEvidence(right, formatted))
            for right in (False, True)
            for formatted in (False, True)
        }

    def _answer_reward(self, answer: AnswerEvidence) -> TurnReward:
        return _weighted(self.solver, lambda term: SOLVER_TERMS[term](answer, self.constants))

    def _gather(self, outcome: EpisodeOutcome) -> ProposalEvidence:
        return gather(
            outcome, self.constants, label_source=self.label_source, scrutiny=self._scrutiny
        )

    def _episode_rewards(
        self, outcome: EpisodeOutcome, seen: ProposalEvidence, proposer: TurnReward
    ) -> EpisodeRewards:
        codes = tuple(map(self._code_rewards, outcome.codes, seen.codes))
        return EpisodeRewards(proposer, codes, seen.caption_votes, seen.blind_votes)

    def _code_rewards(self, outcome: CodeOutcome, code: CodeEvidence) -> CodeRewards:
        solver: dict[Question, tuple[TurnReward, ...]] = {}
        # Read once for all answers; those about a picture that is not used earn nothing.
        answered = code.used and code.votes and code.form == "svg"
        scene = self._scene(code.code if answered else None)
        for question in code.votes:
            texts = outcome.answers[question]
            if code.used:
                vote = code.labels.get(question)
                label = None if vote is None else vote.winner
                answers = code.answers[question]
                solver[question] = self._answer_rewards(texts, answers, label, scene)
            else:
                solver[question] = (_weighted(self.solver, lambda term: 0.0),) * len(texts)
        return CodeRewards(
            self.coder_reward(code),
            code.votes,
            solver,
            float(code.solvability),
            float(code.difficulty),
            code.labels,
        )


def _weighted(weights: Mapping[str, float], term: Callable[[str], float]) -> TurnReward:
    # Adding 0.0 turns a negative zero, which reads badly in a report, into zero.
    parts = {name: weight * term(name) + 0.0 if weight else 0.0 for name, weight in weights.items()}
    return TurnReward(sum(parts.values()), parts)
