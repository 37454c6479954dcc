"""What happens in an episode, in the order in which it happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mmzero_env.episode import Episode
from mmzero_env.protocol import (
    Completion,
    Drawing,
    EpisodeOutcome,
    EpisodeRewards,
    Failure,
    Proposal,
    Question,
    RenderJob,
    Request,
    Role,
)

Shown = int | Literal["caption", "blind"]
"""What the Solver answers from: the picture of a code, the caption, or nothing at all."""

NAMES: Mapping[Shown, str] = {
    "caption": "from the caption alone",
    "blind": "without picture and caption",
}
"""How an answer was given that is about no picture, for a person."""


@dataclass(frozen=True)
class Began:
    """An episode begins."""

    id: str
    seed: int
    topic: str


@dataclass(frozen=True, eq=False)
class Asked:
    """Somebody is asked and has not answered yet."""

    request: Request


@dataclass(frozen=True)
class Proposed:
    """The Proposer wrote something, and what was read in it."""

    text: str
    proposal: Proposal | Failure


@dataclass(frozen=True)
class Coded:
    """The Coder wrote something; ``code`` is None if no code is in it."""

    index: int
    text: str
    code: str | None


@dataclass(frozen=True, eq=False)
class Drawn:
    """A code was drawn or refused."""

    index: int
    drawing: Drawing


@dataclass(frozen=True)
class Answered:
    """The Solver answered a question."""

    request_id: str
    shown: Shown
    question: Question
    texts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Scored:
    """The episode is over.

    Attributes:
        outcome: The episode.
        rewards: Its rewards.
        truth: The true answer by question, where it is known.
    """

    outcome: EpisodeOutcome
    rewards: EpisodeRewards
    truth: Mapping[Question, str]


Event = Began | Asked | Proposed | Coded | Drawn | Answered | Scored
Tell = Callable[[Event], None]


def subject(request: Request) -> tuple[Shown, Question]:
    """What a Solver is shown, and which question it is asked."""
    _, name, question = request.id.rsplit("/", 2)
    level: Question = "hard" if question == "hard" else "easy"
    if name == "caption" or name == "blind":
        return name, level
    return int(name), level


class ToldEpisode:
    """An episode that tells what happens to it; plays where an episode does.

    Attributes:
        id: Episode id.
    """

    def __init__(self, episode: Episode, tell: Tell) -> None:
        """Tell that it begins, and who is asked first."""
        self.id = episode.id
        self._episode = episode
        self._tell = tell
        self._roles: dict[str, Request] = {}
        self._texts: dict[str, list[str]] = {}
        self._told = 0
        tell(Began(episode.id, episode.seed, episode.topic))
        self._tell_asked()

    @property
    def finished(self) -> bool:
        """See :class:`mmzero_env.episode.Episode`."""
        return self._episode.finished

    def open_requests(self) -> tuple[Request, ...]:
        """See :class:`mmzero_env.episode.Episode`."""
        return self._episode.open_requests()

    def pending_renders(self) -> tuple[RenderJob, ...]:
        """See :class:`mmzero_env.episode.Episode`."""
        return self._episode.pending_renders()

    def outcome(self) -> EpisodeOutcome:
        """See :class:`mmzero_env.episode.Episode`."""
        return self._episode.outcome()

    def submit(self, request_id: str, completions: Sequence[Completion]) -> None:
        """Hand in completions, and tell what became of them."""
        self._episode.submit(request_id, completions)
        request = self._roles[request_id]
        texts = self._texts.setdefault(request_id, [])
        texts += [completion.text for completion in completions]
        if request.role == "proposer":
            assert self._episode.proposal is not None  # it was handed in just now
            self._tell(Proposed(texts[0], self._episode.proposal))
        elif request.role == "coder":
            self._tell_codes(texts)
        elif not self._episode.remaining(request_id):
            self._tell(Answered(request_id, *subject(request), tuple(texts)))
        self._tell_asked()

    def draw(self, job_id: str, drawing: Drawing) -> None:
        """Hand in a drawing, and tell it."""
        self._episode.draw(job_id, drawing)
        self._tell(Drawn(int(job_id.rpartition("/")[2]), drawing))
        self._tell_asked()

    def _tell_codes(self, texts: Sequence[str]) -> None:
        for index in range(self._told, len(texts)):
            code, drawing = self._episode.codes[index]
            self._tell(Coded(index, texts[index], code))
            if drawing is not None:
                self._tell(Drawn(index, drawing))
        self._told = len(texts)

    def _tell_asked(self) -> None:
        for request in self._episode.open_requests():
            if request.id not in self._roles:
                self._roles[request.id] = request
                self._tell(Asked(request))


def doing(role: Role, count: int) -> str:
    """What a role is at work on, for a person: ``"writing 2 codes"``."""
    if role == "proposer":
        return "inventing a picture and two questions"
    if role == "coder":
        return "writing the code" if count == 1 else f"writing {count} codes"
    return "answering" if count == 1 else f"giving {count} answers"
