"""Players that follow a script: a perfect one, one of chosen skill, and noise.

They play the procedural world, where the truth is known, so an environment, a loop or
a report can be tried without any model. The oracle and the noisy player are
*privileged*: they read the caption behind a request and never look at the picture, so
a Solver of this kind answers alike whatever the Coder drew.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from mmzero_env import world
from mmzero_env.errors import UserError
from mmzero_env.protocol import TOPICS, Completion, Request, Response
from mmzero_env.world.proposals import solution_text
from mmzero_env.world.spec import COLORS, SHAPES, WORDS, Spec

Play = Callable[[Request, random.Random], str]
"""Writes one completion of a request."""

_FAMILIES = (COLORS, SHAPES, WORDS, ("yes", "no"))


@dataclass
class Player:
    """Answers each sample by a function of the request and a random generator.

    Attributes:
        name: For logs and records.
        play: Writes one completion.
    """

    name: str
    play: Play

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request with its ``n`` completions, in order.

        The generator of a sample is seeded by the request's seed and the sample's
        position, so equal requests get equal completions in any batch.
        """
        return [
            Response(
                request.id,
                tuple(
                    Completion(self.play(request, random.Random(f"{request.seed}/{index}")))
                    for index in range(request.n)
                ),
            )
            for request in requests
        ]


def oracle(name: str | None = None) -> Player:
    """A player whose every play is right."""
    return Player(name or "scripted:oracle", oracle_play)


def noise(name: str | None = None) -> Player:
    """A player that writes short printable noise."""
    return Player(name or "scripted:random", random_play)


def noisy(skill: float = 0.8, name: str | None = None) -> Player:
    """A player whose every play is right with probability ``skill``, independently.

    Raises:
        UserError: If the skill is not a number from 0 to 1.
    """
    if isinstance(skill, bool) or not isinstance(skill, int | float) or not 0 <= skill <= 1:
        raise UserError(f"skill is a number from 0 to 1, came {skill!r}")
    return Player(name or f"scripted:noisy?skill={skill:g}", NoisyPlay(skill))


@dataclass(frozen=True)
class NoisyPlay:
    """A right play with probability ``skill``, else a wrong one.

    A class and not a closure, so that a player can be sent to another process.
    """

    skill: float

    def __call__(self, request: Request, rng: random.Random) -> str:
        """Write one completion."""
        right = rng.random() < self.skill
        return oracle_play(request, rng) if right else wrong_play(request, rng)


def random_play(request: Request, rng: random.Random) -> str:
    """One to forty printable ASCII characters, whatever was asked."""
    return "".join(rng.choices(string.printable[:95], k=rng.randint(1, 40)))


def oracle_play(request: Request, rng: random.Random) -> str:
    """The right play of a role.

    * Proposer: a random spec that suits the topic named in the prompt.
    * Coder: the picture of the caption; a caption from outside the world is
      written into the picture as text.
    * Solver: the true answer that follows from the caption; for a caption or a
      question from outside the world, the answer that the proposal claims.

    Raises:
        UserError: If a Coder's or Solver's request carries no proposal and its prompt
            states no caption either: there is nothing to know the truth from.
    """
    if request.role == "proposer":
        topic = next((topic for topic in TOPICS if topic in request.prompt), None)
        return world.proposal_text(world.sample_spec(rng, topic=topic), rng)
    spec = _spec(request)
    if request.role == "coder":
        return _fenced(spec.svg() if spec else _written(request))
    question = _question(request, spec)
    item = spec.solve(question) if spec else None
    if item is not None:
        return solution_text(item)
    return _boxed(_claimed(request, question))


def wrong_play(request: Request, rng: random.Random) -> str:
    """A wrong play of a role, of the kinds that a model gets wrong.

    * Proposer: a wrong easy answer, or one tag missing; even odds.
    * Coder: markup that does not parse, or the picture of another spec; even odds.
    * Solver: another value of the same type as the right answer.
    """
    if request.role == "proposer":
        text = oracle_play(request, rng)
        if rng.random() < 0.5:
            return _drop_tag(text, rng)
        return re.sub(
            r"(?<=<easy_answer>).*?(?=</easy_answer>)", lambda m: wrong_value(m[0], rng), text
        )
    spec = _spec(request)
    if request.role == "coder":
        if spec is None or rng.random() < 0.5:
            svg = spec.svg() if spec else _written(request)
            return _fenced(svg.replace("</svg>", rng.choice(("<rect", '<text x="', "<g>"))))
        return _fenced(_another(spec, rng).svg())
    question = _question(request, spec)
    item = spec.solve(question) if spec else None
    right = item.answer if item else _claimed(request, question)
    return _boxed(wrong_value(right, rng))


def wrong_value(right: str, rng: random.Random) -> str:
    """Another value of the same type: a number for a number, a colour for a colour.

    Args:
        right: The value to avoid.
        rng: Chooses among the others.
    """
    for family in _FAMILIES:
        if right.lower() in family:
            return rng.choice([other for other in family if other != right.lower()])
    if re.fullmatch(r"-?\d+", right):
        return str(max(0, int(right)) + rng.choice((1, 2)))
    if re.fullmatch(r"-?\d*\.\d+", right):
        return f"{float(right) + rng.choice((1, 2)):g}"
    return rng.choice([word for word in WORDS if word not in right.lower()])


def _spec(request: Request) -> Spec | None:
    """The spec behind a request; None if its caption is not of the world."""
    if request.proposal is not None:
        return world.parse_caption(request.proposal.caption)
    for found in re.finditer(r"[A-Z][a-z ]*: [^.\n]*\.", request.prompt):
        if (spec := world.parse_caption(found[0])) is not None:
            return spec
    raise UserError(
        f"a scripted player was asked as {request.role} without a proposal (request "
        f"{request.id}); expected request.proposal, or a caption of the procedural world in the "
        "prompt"
    )


def _question(request: Request, spec: Spec | None) -> str:
    """The question that a Solver's prompt asks."""
    if request.proposal is not None:
        asked = (request.proposal.easy_question, request.proposal.hard_question)
        present = [question for question in asked if question in request.prompt]
        # One question may contain the other: the longer one was asked then.
        return max(present, key=len, default=asked[0])
    lines = [line.strip() for line in request.prompt.splitlines()]
    return next((line for line in lines if spec and spec.solve(line)), "")


def _claimed(request: Request, question: str) -> str:
    """The proposal's own answer to a question about a caption from outside the world."""
    proposal = request.proposal
    if proposal is None:
        raise UserError(
            f"the prompt of request {request.id} asks nothing that follows from the caption in "
            "it; expected request.proposal"
        )
    hard = question == proposal.hard_question
    return proposal.hard_answer if hard else proposal.easy_answer


def _another(spec: Spec, rng: random.Random) -> Spec:
    """A spec of the same kind that shows something else."""
    for _ in range(8):
        if (other := spec.misread(rng, 0.5)) != spec:
            return other
    while (other := world.sample_spec(rng, spec.kind)) == spec:
        pass
    return other


def _drop_tag(text: str, rng: random.Random) -> str:
    tags = re.findall(r"</?\w+>", text)
    return text.replace(rng.choice(tags), "", 1)


def _written(request: Request) -> str:
    """A picture that says in words what it ought to show."""
    caption = request.proposal.caption if request.proposal else request.prompt
    lines = [caption[i : i + 48] for i in range(0, min(len(caption), 48 * 20), 48)]
    texts = [f'<text x="8" y="{20 + 18 * i}">{escape(line)}</text>' for i, line in enumerate(lines)]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 400" font-size="14">'
        f"{''.join(texts)}</svg>"
    )


def _fenced(svg: str) -> str:
    return f"```svg\n{svg}\n```"


def _boxed(answer: str) -> str:
    return f"<think>reading it off</think>\\boxed{{{answer}}}"
