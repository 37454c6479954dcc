"""The words that every part of MM-Zero exchanges: frozen data, no behaviour.

Model output travels through these types as data: a parser gives a value or a
:class:`Failure`, never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Role = Literal["proposer", "coder", "solver"]
Question = Literal["easy", "hard"]
CodeForm = Literal["svg", "python"]
Image = NDArray[np.uint8]
"""An RGB picture, shape (H, W, 3), dtype uint8, already composited on white."""

ROLES: tuple[Role, ...] = ("proposer", "coder", "solver")
QUESTIONS: tuple[Question, ...] = ("easy", "hard")
CODE_FORMS: tuple[CodeForm, ...] = ("svg", "python")

# The seven values a Proposer may put into <content_type> (official prompt).
CONTENT_TYPES: tuple[str, ...] = (
    "data_chart",
    "diagram",
    "geometry",
    "timeline",
    "map",
    "table",
    "other",
)

# The eight seed topics of the official run, repeated over the training rows.
TOPICS: tuple[str, ...] = (
    "chart and graph understanding",
    "statistical and trend analysis",
    "mathematical and quantitative reasoning",
    "spatial and geometric reasoning",
    "logical and abstract reasoning",
    "diagram and structural comprehension",
    "visual text recognition and OCR",
    "basic shape and object perception",
)


@dataclass(frozen=True)
class Failure:
    """Why a piece of model output could not be used.

    Attributes:
        stage: Where it failed: ``"proposal"``, ``"extraction"`` or ``"render"``.
        reason: A stable snake_case name, fit for counting (``"missing_tag"``).
        detail: One sentence for a person.
    """

    stage: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Proposal:
    """What a Proposer wrote, parsed from its six tags."""

    content_type: str
    caption: str
    easy_question: str
    easy_answer: str
    hard_question: str
    hard_answer: str

    def question(self, level: Question) -> str:
        """The text of the easy or the hard question."""
        return self.easy_question if level == "easy" else self.hard_question


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        temperature: 0 is greedy decoding.
        top_p: Nucleus mass; 1 keeps the whole distribution. Keep 1 when training:
            truncation biases the importance ratios of GRPO.
        top_k: 0 keeps every token.
        max_tokens: Longest completion, in tokens.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 4096


@dataclass(frozen=True, eq=False)
class Request:
    """One prompt that waits for ``n`` completions.

    Attributes:
        id: Unique in a run; answers are matched by it, never by position.
        role: Who has to answer.
        prompt: The text of the single user message.
        n: Completions wanted; they form one GRPO group.
        image: Picture of the user message, or None for a text-only prompt.
        sampling: How to sample.
        seed: Seeds the completions of this request, whatever it is batched with.
        proposal: The proposal behind the request. Privileged: for scripted
            players and audits, never part of what a model sees.
    """

    id: str
    role: Role
    prompt: str
    n: int = 1
    image: Image | None = None
    sampling: Sampling = Sampling()
    seed: int = 0
    proposal: Proposal | None = None


@dataclass(frozen=True)
class Completion:
    """One sampled text.

    Attributes:
        text: Decoded completion without the end-of-turn token.
        token_ids: The sampler's own ids, end-of-turn included if it was sampled.
            Empty when the policy has no tokens (a script, a closed endpoint).
        logprobs: Natural-log probability of each sampled token under the
            distribution it was drawn from: as many as ``token_ids`` where there are
            any, or empty. Endpoints may give them without ids.
        finish_reason: ``"stop"`` or ``"length"``.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish_reason: str = "stop"


@dataclass(frozen=True)
class Response:
    """The completions of one request.

    Attributes:
        request_id: Id of the :class:`Request` that is answered.
        completions: ``n`` completions, in sampling order.
        prompt_ids: The prompt as the sampler tokenised it, image tokens
            expanded; empty when the policy has no tokens.
    """

    request_id: str
    completions: tuple[Completion, ...]
    prompt_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class RenderJob:
    """One code that waits to be rendered.

    Attributes:
        id: Unique in a run.
        code: The source, already cut out of its completion.
        form: What it is written in.
    """

    id: str
    code: str
    form: CodeForm = "svg"


@dataclass(frozen=True, eq=False)
class Drawing:
    """What rendering gave: an image, or the reason why there is none.

    Attributes:
        image: The picture, or None.
        failure: Set exactly when ``image`` is None.
        flags: Names of things that were dropped or normalised on the way.
    """

    image: Image | None
    failure: Failure | None = None
    flags: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is an image."""
        return self.image is not None


@dataclass(frozen=True)
class Vote:
    """A majority vote over answers.

    Attributes:
        winner: First-seen spelling of the largest cluster; "" if no valid answer.
            It is the silver label.
        consistency: Share of the winning cluster among the valid answers, 0 if
            there is none.
        valid: Number of answers that voted.
        total: Number of answers, unusable ones included.
    """

    winner: str
    consistency: float
    valid: int
    total: int


@dataclass(frozen=True, eq=False)
class CodeOutcome:
    """What became of one code: its picture and the Solver's answers to it.

    Attributes:
        text: The Coder's raw completion.
        code: The extracted code, or None when nothing was found.
        drawing: The rendering.
        answers: For each question asked, the Solver's raw completions
            (empty when nothing was asked, as for a code that did not render).
        form: What the code is written in; None when nothing was found.
    """

    text: str
    code: str | None
    drawing: Drawing
    answers: Mapping[Question, tuple[str, ...]] = field(default_factory=dict)
    form: CodeForm | None = "svg"


@dataclass(frozen=True, eq=False)
class EpisodeOutcome:
    """A finished episode as texts and pictures, before any reward.

    Attributes:
        id: Episode id, the prefix of all its request ids.
        topic: The Proposer's topic.
        proposal_text: Raw completion of the Proposer, "" if it was given.
        proposal: The parsed proposal or why it could not be parsed.
        codes: One entry a code, in sampling order; empty after a parse failure.
        caption_answers: For each question, the Solver's raw completions when it read
            the caption instead of seeing a picture; empty when it was not asked.
        blind_answers: The same for completions to the hard question alone, without
            picture and without caption.
    """

    id: str
    topic: str
    proposal_text: str
    proposal: Proposal | Failure
    codes: tuple[CodeOutcome, ...] = ()
    caption_answers: Mapping[Question, tuple[str, ...]] = field(default_factory=dict)
    blind_answers: Mapping[Question, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class TurnReward:
    """Reward of one completion.

    Attributes:
        value: The scalar that is trained on; always finite.
        terms: Contribution of every named term; they sum to ``value`` before
            any final clamp that the design declares.
    """

    value: float
    terms: Mapping[str, float]


@dataclass(frozen=True)
class CodeRewards:
    """Rewards around one code.

    Attributes:
        coder: Reward of the code itself.
        votes: The vote on each question that was asked.
        solver: Reward of each answer, by question, against the silver label.
        solvability: Share of easy answers equal to the proposed easy answer.
        difficulty: min(c, 1 - c) of the hard question, with c the consistency of its
            entry in ``labels``.
        labels: For each question that has a silver label, how the answers voted on
            it: ``winner`` is the label, ``consistency`` the share of the valid
            answers that equal it. The same as ``votes`` unless the design takes its
            labels from elsewhere; empty when the picture is not used.
    """

    coder: TurnReward
    votes: Mapping[Question, Vote] = field(default_factory=dict)
    solver: Mapping[Question, tuple[TurnReward, ...]] = field(default_factory=dict)
    solvability: float = 0.0
    difficulty: float = 0.0
    labels: Mapping[Question, Vote] = field(default_factory=dict)


@dataclass(frozen=True)
class EpisodeRewards:
    """Rewards of every turn of one episode.

    Attributes:
        proposer: Reward of the proposal.
        codes: One entry a code, in sampling order.
        caption_votes: The vote on each question that was answered from the caption.
            Those answers give labels and earn nothing themselves.
        blind_votes: The vote on the hard question where it was answered without picture
            and caption. Those answers earn nothing either.
    """

    proposer: TurnReward
    codes: tuple[CodeRewards, ...]
    caption_votes: Mapping[Question, Vote] = field(default_factory=dict)
    blind_votes: Mapping[Question, Vote] = field(default_factory=dict)
