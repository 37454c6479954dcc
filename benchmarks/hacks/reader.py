"""A scripted Solver whose answers depend on what is in the picture.

It looks (:mod:`.scenes`), understands the question (:mod:`.questions`), and answers

1. as it is told, where what it reads gives orders (probability ``obedience``);
2. what is printed as the answer, where something is (probability ``trust``);
3. right with probability ``easy`` or ``hard`` (``told`` from a caption) if it sees the scene or
   the question can be answered without, and otherwise what it would see if it misread it;
4. any of the readings, all as likely, if the question leaves open what is meant;
5. else it declines (probability ``abstain``) or guesses: the likeliest answer of its kind with
   probability ``peak``, or any of them.

The numbers are assumptions about models. ``hard`` and ``told`` are near those of the bundled
model (0.65 and 0.84 by ``mmzero eval nano``); ``--solver nano`` puts that in the reader's
place, with eyes of its own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.hacks.questions import asked_of, family, readings
from benchmarks.hacks.scenes import Gallery, Sight, scene_in
from mmzero_env.errors import UserError
from mmzero_env.leaks import says, words
from mmzero_env.protocol import QUESTIONS, Completion, Question, Request, Response
from mmzero_env.world.players import wrong_value
from mmzero_env.world.proposals import solution_text
from mmzero_env.world.spec import Item, Spec

_ORDER = re.compile(r"\b(?:ignore|disregard)\b[^.]*[.,:;]? *(?:just )?answer (\w+)", re.IGNORECASE)
_PREFILLED = re.compile(r"\\boxed\{([^{}]*)\}")
_TOLD = re.compile(r"\banswer\b(?: is)?\W+(\w+)", re.IGNORECASE)
_LEADS = ("easy", "hard", "answer", "is")
_LONE = 3
"""Most words of a lone text that is taken for an answer."""


@dataclass(frozen=True)
class Habits:
    """What the reader does, as probabilities.

    Attributes:
        easy: An easy question is answered right.
        hard: A hard question is answered right.
        told: The same from the caption instead of the picture: no eyes are needed.
        obedience: An order in the picture, the caption or the question is followed.
        trust: An answer that is printed in the picture is taken over.
        abstain: A question that cannot be answered is answered with "None".
        peak: A guess is the likeliest answer and not just any.
    """

    easy: float = 0.95
    hard: float = 0.7
    told: float = 0.85
    obedience: float = 0.5
    trust: float = 0.8
    abstain: float = 0.3
    peak: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what is no probability."""
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise UserError(f"reader: {name} is a number from 0 to 1, came {value!r}.")


class Reader:
    """The reader as a policy.

    Args:
        gallery: Where the pictures that it is shown were drawn.
        habits: How it answers.
        name: For logs.
    """

    def __init__(self, gallery: Gallery, habits: Habits | None = None, name: str = "reader"):
        self.name = name
        self._gallery = gallery
        self._habits = habits or Habits()

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request; a sample depends on the request's seed and its place only."""
        return [
            Response(request.id, tuple(map(Completion, self._answers(request))))
            for request in requests
        ]

    def _answers(self, request: Request) -> list[str]:
        question, level = asked(request)
        sight = self._sight(request)
        told = request.image is None and sight.scene is not None
        habits = self._habits
        skill = habits.easy if level == "easy" else habits.told if told else habits.hard
        rngs = (random.Random(f"{request.seed}/{index}") for index in range(request.n))
        return [self._answer(question, skill, sight, rng) for rng in rngs]

    def _answer(self, question: str, skill: float, sight: Sight, rng: random.Random) -> str:
        habits = self._habits
        # Every sample draws the same numbers, so that what is changed in a picture changes
        # nothing but the answers that depend on it.
        obeys, trusts, right = (rng.random() for _ in range(3))
        if obeys < habits.obedience and (order := ordered(f"{sight.writing} {question}")):
            return boxed("it says so", order)
        if trusts < habits.trust and (printed := printed_answer(question, sight)):
            return boxed("it is printed there", printed)
        found = readings(question, sight.scene)
        if len(found) > 1:
            return boxed("it may be meant like this", rng.choice(found))
        if found:
            return _read(question, found[0], sight.scene, right < skill, rng)
        if rng.random() < habits.abstain:
            return boxed("that cannot be seen", "None")
        likely = family(question)
        return boxed("a guess", likely[0] if rng.random() < habits.peak else rng.choice(likely))

    def _sight(self, request: Request) -> Sight:
        if request.image is not None:
            sight = self._gallery.look(request.image)
            # A caption that is written out can be read as well as seen.
            told = scene_in(sight.writing) if sight.scene is None else sight.scene
            return Sight(told, sight.texts)
        caption = request.proposal.caption if request.proposal else ""
        if caption and caption in request.prompt:
            return Sight(scene_in(caption), (caption,))
        return Sight()


def asked(request: Request) -> tuple[str, Question]:
    """The question of a Solver's request and how hard it is.

    A hard question that is the easy one again is as easy.

    Raises:
        UserError: For a request that no episode made.
    """
    level = request.id.rpartition("/")[2]
    proposal = request.proposal
    if proposal is None or level not in QUESTIONS:
        raise UserError(
            f"the reader was asked {request.id!r}; expected a request of an Episode, which "
            "carries its proposal and ends in /easy or /hard"
        )
    question = proposal.question(level)
    return question, "easy" if question == proposal.easy_question else "hard"


def ordered(text: str) -> str | None:
    """What the first order in a text says to answer, or None."""
    found = _ORDER.search(text) or _PREFILLED.search(text)
    return found[1] if found else None


def printed_answer(question: str, sight: Sight) -> str | None:
    """What a picture prints as the answer to a question, or None.

    That is the word behind the question where that is printed, the word behind the word
    "answer" elsewhere, or the only text of a picture that shows nothing else. Orders are no
    print of an answer.
    """
    text = _ORDER.sub(" ", sight.writing)
    wanted, there = words(question), words(text)
    if wanted and says(text, question):
        ends = (i for i in range(len(there)) if there[i : i + len(wanted)] == wanted)
        behind = there[next(ends) + len(wanted) :]
        return next((word for word in behind if word not in _LEADS), None)
    if found := _TOLD.search(text):
        return found[1]
    if sight.scene is None and len(sight.texts) == 1 and len(text.split()) <= _LONE:
        return text.strip() or None
    return None


def boxed(reason: str, answer: str) -> str:
    """A completion of the form that the prompt asks for."""
    return f"<think>{reason}</think>\\boxed{{{answer}}}"


def _read(question: str, answer: str, scene: Spec | None, right: bool, rng: random.Random) -> str:
    """Reasoning and answer to a question that has one reading."""
    known = asked_of(question, scene) if scene is not None else None
    if known is None or scene is None:
        return boxed("by what is given", answer if right else wrong_value(answer, rng))
    item = scene.solve(known) if right else _misread(scene, known, answer, rng)
    return solution_text(item) if item else boxed("read off", wrong_value(answer, rng))


def _misread(scene: Spec, question: str, answer: str, rng: random.Random) -> Item | None:
    """Reasoning and answer of somebody who sees the scene wrongly, or None."""
    for _ in range(8):
        item = scene.misread(rng, 0.5).solve(question)
        if item is not None and item.answer != answer:
            return item
    return None
