"""One episode as a state machine of open requests.

    topic -> Proposer -> N codes of the Coder -> N renders -> K answers to each
    question about each picture

and, if the reward design labels by the caption, beside the Coder

    caption -> answers to each question without any picture

or, if it has to know what can be guessed,

    hard question -> answers without picture and without caption

Whoever drives an episode asks for :meth:`Episode.open_requests` and
:meth:`Episode.pending_renders`, and hands back completions and drawings in any
order. What is handed back opens what depends on it. The episode itself samples
nothing, renders nothing and scores nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

import numpy as np

from mmzero_env.errors import UserError, unknown
from mmzero_env.parsing import extract_code, parse_proposal
from mmzero_env.prompts import PromptSet, get_prompts
from mmzero_env.protocol import (
    CODE_FORMS,
    QUESTIONS,
    ROLES,
    CodeForm,
    CodeOutcome,
    Completion,
    Drawing,
    EpisodeOutcome,
    Failure,
    Image,
    Proposal,
    Question,
    RenderJob,
    Request,
    Role,
    Sampling,
)

T = TypeVar("T", bound=str)

MAX_TEXT = 1_000_000
"""Longest completion that is looked at, in characters; the rest is cut off."""

_Shown = int | Literal["caption", "blind"]
"""What a Solver answers from: the picture of a code, the caption, or nothing."""

_SPELLED: Mapping[CodeForm, str] = {"svg": "SVG", "python": "Python"}


def default_sampling() -> dict[Role, Sampling]:
    """Sampling of each role when none is given.

    The temperatures are those of the published run (configuration of its GRPO
    rollouts). Nucleus and top-k truncation are off, because they bias the
    importance ratios of GRPO.
    """
    return {
        "proposer": Sampling(temperature=1.0),
        "coder": Sampling(temperature=0.7),
        "solver": Sampling(temperature=1.0),
    }


@dataclass(frozen=True)
class EpisodeConfig:
    """The shape of an episode.

    Attributes:
        codes: Codes for a proposal (N; 4 in the published run).
        answers: Answers to each question about each picture (K; 5 there).
        questions: Questions that the Solver is asked, in this order.
        prompts: A prompt set or the name of one.
        caption_answers: Answers to each question from the caption alone, once a
            proposal; 0 asks none. :meth:`RewardDesign.caption_answers
            <mmzero_env.rewards.RewardDesign.caption_answers>` tells how many a
            design needs.
        sampling: How each role samples; a role that is left out gets the default.
        code_forms: What the Coder may write, one or both of
            :data:`~mmzero_env.protocol.CODE_FORMS`. The prompt set must have a wording for it.
        blind_answers: Answers to the hard question without picture and caption, once a
            proposal; 0 asks none, and none are asked where the hard question is not.
            :meth:`RewardDesign.blind_answers <mmzero_env.rewards.RewardDesign.blind_answers>`
            tells how many a design needs.

    Raises:
        UserError: If a count is too small, a question, form or role is unknown, or no
            question or form is left.
    """

    codes: int = 4
    answers: int = 5
    questions: tuple[Question, ...] = QUESTIONS
    prompts: str | PromptSet = "mm_zero"
    caption_answers: int = 0
    sampling: Mapping[Role, Sampling] = field(default_factory=default_sampling)
    code_forms: tuple[CodeForm, ...] = ("svg",)
    blind_answers: int = 0

    def __post_init__(self) -> None:
        """Check the values and complete the sampling settings."""
        least_counts = {"codes": 1, "answers": 1, "caption_answers": 0, "blind_answers": 0}
        for name, least in least_counts.items():
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise UserError(
                    f"{name} must be a whole number of at least {least}, got {count!r}."
                )
        questions = _some("question", self.questions, QUESTIONS)
        forms = _some("code_form", self.code_forms, CODE_FORMS)
        for role in self.sampling:
            if role not in ROLES:
                raise unknown("role", str(role), ROLES)
        get_prompts(self.prompts).check_forms(forms)
        object.__setattr__(self, "questions", questions)
        object.__setattr__(self, "code_forms", forms)
        object.__setattr__(self, "sampling", {**default_sampling(), **self.sampling})


def _some(name: str, chosen: Sequence[T], known: Sequence[T]) -> tuple[T, ...]:
    """One or more of what is known, each once."""
    values = tuple(chosen)
    for value in values:
        if value not in known:
            raise unknown(name, str(value), [str(each) for each in known])
    if not values or len(set(values)) != len(values):
        raise UserError(
            f"{name}s must name one or more of {', '.join(map(str, known))}, each once, "
            f"got {values!r}."
        )
    return values


def request_seed(episode_seed: int, request_id: str) -> int:
    """The seed of a request: 63 bits of SHA-256 over the episode's seed and the id.

    Neither the order of requests nor the process enters, so the same episode gets
    the same seeds wherever it runs.
    """
    digest = hashlib.sha256(f"{episode_seed}/{request_id}".encode("utf-8", "surrogatepass"))
    return int.from_bytes(digest.digest()[:8], "big") >> 1


@dataclass
class _Ask:
    request: Request
    completions: list[Completion] = field(default_factory=list)

    @property
    def missing(self) -> int:
        return self.request.n - len(self.completions)


@dataclass
class _Code:
    text: str
    code: str | None
    form: CodeForm | None
    drawing: Drawing | None


class Episode:
    """A topic on its way to a finished outcome.

    Args:
        id: Prefix of all request and job ids; unique in a run.
        topic: What the Proposer is asked to propose about.
        seed: Seeds every request of the episode.
        config: Shape of the episode.
        proposal: A proposal to start from; the Proposer is then not asked.

    Examples:
        >>> episode = Episode("e0", "map", seed=1)
        >>> [request.id for request in episode.open_requests()]
        ['e0/proposer']
        >>> episode.submit("e0/proposer", [Completion("no tags at all")])
        >>> episode.finished, type(episode.outcome().proposal).__name__
        (True, 'Failure')
    """

    def __init__(
        self,
        id: str,
        topic: str,
        seed: int,
        config: EpisodeConfig | None = None,
        proposal: Proposal | None = None,
    ) -> None:
        if proposal is not None and not isinstance(proposal, Proposal):
            raise UserError(f"proposal must be a Proposal or None, got {type(proposal).__name__}.")
        self.id = id
        self.topic = topic
        self.seed = seed
        self.config = config if config is not None else EpisodeConfig()
        self._prompts = get_prompts(self.config.prompts)
        self._asks: dict[str, _Ask] = {}
        self._jobs: dict[str, RenderJob] = {}
        self._codes: list[_Code] = []
        self._proposal_text = ""
        self._proposal: Proposal | Failure | None = proposal
        self._cut: list[tuple[str, int]] = []
        if proposal is None:
            self._open(f"{id}/proposer", "proposer", self._prompts.proposer(topic), n=1)
        else:
            self._open_coder(proposal)

    # Reading the state ---------------------------------------------------------

    def open_requests(self) -> tuple[Request, ...]:
        """Requests that still miss completions, in the order in which they opened.

        A request is the same object until it closes: its ``n`` counts all
        completions wanted, and :meth:`remaining` those that are still missing.
        """
        return tuple(ask.request for ask in self._asks.values() if ask.missing)

    def remaining(self, request_id: str) -> int:
        """How many completions a request still misses; 0 once it is closed.

        Raises:
            UserError: If the episode never opened a request of that id.
        """
        return self._ask(request_id).missing

    def pending_renders(self) -> tuple[RenderJob, ...]:
        """Codes that wait for their drawing, in code order."""
        return tuple(self._jobs[id] for id in sorted(self._jobs, key=_code_index))

    @property
    def finished(self) -> bool:
        """Whether nothing is open and nothing waits to be drawn."""
        return not self._jobs and not any(ask.missing for ask in self._asks.values())

    @property
    def proposal(self) -> Proposal | Failure | None:
        """The parsed proposal or why it failed; None before the Proposer answered."""
        return self._proposal

    @property
    def codes(self) -> tuple[tuple[str | None, Drawing | None], ...]:
        """Extracted code and drawing of every code so far; no drawing while it waits."""
        return tuple((code.code, code.drawing) for code in self._codes)

    @property
    def forms(self) -> tuple[CodeForm | None, ...]:
        """What every code so far is written in; None where no code was found."""
        return tuple(code.form for code in self._codes)

    @property
    def cut(self) -> tuple[tuple[str, int], ...]:
        """Request id and sample index of texts longer than :data:`MAX_TEXT`."""
        return tuple(self._cut)

    def outcome(self) -> EpisodeOutcome:
        """The finished episode.

        Raises:
            UserError: If something is still open; the message says what.
        """
        if not self.finished or self._proposal is None:
            waiting = [request.id for request in self.open_requests()] + sorted(self._jobs)
            raise UserError(
                f"episode {self.id!r} is not finished: it waits for {', '.join(waiting)}."
            )
        codes = []
        for index, code in enumerate(self._codes):
            assert code.drawing is not None  # finished: every code is drawn
            answers = self._given(index)
            codes.append(CodeOutcome(code.text, code.code, code.drawing, answers, code.form))
        return EpisodeOutcome(
            self.id,
            self.topic,
            self._proposal_text,
            self._proposal,
            tuple(codes),
            caption_answers=self._given("caption"),
            blind_answers=self._given("blind"),
        )

    # Moving on -----------------------------------------------------------------

    def submit(self, request_id: str, completions: Sequence[Completion]) -> None:
        """Hand in some or all completions of a request.

        Args:
            request_id: Id of an open request.
            completions: At most as many as the request still misses. Earlier
                hand-ins come first in the sampling order.

        Raises:
            UserError: If the id is unknown, more completions come than are
                missing, or one is not a :class:`Completion` with a string. The
                episode is unchanged then.
        """
        ask = self._ask(request_id)
        for completion in completions:
            if not isinstance(completion, Completion) or not isinstance(completion.text, str):
                raise UserError(
                    f"request {request_id!r} takes Completion objects with a str text, "
                    f"got {completion!r:.200}."
                )
        if len(completions) > ask.missing:
            raise UserError(
                f"request {request_id!r} misses {ask.missing} of {ask.request.n} completions, "
                f"got {len(completions)} more."
            )
        for completion in completions:
            if len(completion.text) > MAX_TEXT:
                self._cut.append((request_id, len(ask.completions)))
                completion = replace(completion, text=completion.text[:MAX_TEXT])
            ask.completions.append(completion)
            if ask.request.role == "proposer":
                self._take_proposal(completion.text)
            elif ask.request.role == "coder":
                self._take_code(completion.text)

    def draw(self, job_id: str, drawing: Drawing) -> None:
        """Hand in the drawing of a render job.

        Args:
            job_id: Id of a pending job.
            drawing: Its picture, uint8 of shape (H, W, 3), or its failure.

        Raises:
            UserError: If no job of that id is pending, or the drawing has neither
                or both of picture and failure, or a picture of another form.
        """
        if job_id not in self._jobs:
            pending = ", ".join(job.id for job in self.pending_renders()) or "none"
            raise UserError(
                f"no render job {job_id!r} is pending (each is drawn once). Pending: {pending}."
            )
        _check_drawing(drawing)
        del self._jobs[job_id]
        index = _code_index(job_id)
        self._codes[index].drawing = drawing
        if drawing.image is not None:
            self._open_solver(index, drawing.image)

    # Internals -----------------------------------------------------------------

    def _ask(self, request_id: str) -> _Ask:
        if request_id not in self._asks:
            raise unknown(f"request of episode {self.id!r}", str(request_id), self._asks)
        return self._asks[request_id]

    def _solver_id(self, shown: _Shown, question: Question) -> str:
        return f"{self.id}/solver/{shown}/{question}"

    def _given(self, shown: _Shown) -> dict[Question, tuple[str, ...]]:
        """The answers to each question that was asked of what was shown."""
        answers: dict[Question, tuple[str, ...]] = {}
        for question in self.config.questions:
            ask = self._asks.get(self._solver_id(shown, question))
            if ask is not None:
                answers[question] = tuple(each.text for each in ask.completions)
        return answers

    def _open(
        self, request_id: str, role: Role, prompt: str, n: int, image: Image | None = None
    ) -> None:
        proposal = self._proposal if isinstance(self._proposal, Proposal) else None
        self._asks[request_id] = _Ask(
            Request(
                id=request_id,
                role=role,
                prompt=prompt,
                n=n,
                image=image,
                sampling=self.config.sampling[role],
                seed=request_seed(self.seed, request_id),
                proposal=proposal,
            )
        )

    def _open_coder(self, proposal: Proposal) -> None:
        prompt = self._prompts.coder(proposal, self.config.code_forms)
        self._open(f"{self.id}/coder", "coder", prompt, n=self.config.codes)
        config, prompts = self.config, self._prompts
        for question in config.questions if config.caption_answers else ():
            prompt = prompts.solver_from_caption(proposal.caption, proposal.question(question))
            name = self._solver_id("caption", question)
            self._open(name, "solver", prompt, n=config.caption_answers)
        if config.blind_answers and "hard" in config.questions:
            prompt = prompts.solver(proposal.hard_question)
            self._open(self._solver_id("blind", "hard"), "solver", prompt, n=config.blind_answers)

    def _open_solver(self, index: int, image: Image) -> None:
        assert isinstance(self._proposal, Proposal)  # a code exists only after a proposal
        for question in self.config.questions:
            prompt = self._prompts.solver(self._proposal.question(question))
            self._open(
                self._solver_id(index, question), "solver", prompt, self.config.answers, image
            )

    def _take_proposal(self, text: str) -> None:
        self._proposal_text = text
        self._proposal = parse_proposal(text)
        if isinstance(self._proposal, Proposal):
            self._open_coder(self._proposal)

    def _take_code(self, text: str) -> None:
        found = extract_code(text, self.config.code_forms)
        index = len(self._codes)
        if found is None:
            wanted = " or ".join(_SPELLED[form] for form in self.config.code_forms)
            failure = Failure("extraction", "no_code", f"The completion holds no {wanted} code.")
            self._codes.append(_Code(text, None, None, Drawing(None, failure)))
            return
        form, code = found
        self._codes.append(_Code(text, code, form, None))
        job = RenderJob(f"{self.id}/render/{index}", code, form)
        self._jobs[job.id] = job


def _code_index(job_id: str) -> int:
    return int(job_id.rpartition("/")[2])


def _check_drawing(drawing: Drawing) -> None:
    if not isinstance(drawing, Drawing):
        raise UserError(f"draw() takes a Drawing, got {type(drawing).__name__}.")
    if (drawing.image is None) == (drawing.failure is None):
        raise UserError("a Drawing has either an image or a failure, got both or neither.")
    image = drawing.image
    if image is not None and (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
    ):
        raise UserError(
            "the image of a Drawing must be a uint8 array of shape (H, W, 3), got "
            f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}."
        )
