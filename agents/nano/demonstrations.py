"""Imperfect demonstrations: the texts that the nano model is pre-trained on.

A base model whose errors are *systematic* cannot teach itself by majority vote:
the vote repeats the error. So the demonstrators here err at random, each time
anew, on a minority of their outputs. A model that imitates them errs at
temperature 1 while its most likely output stays right, and a vote over samples
is right more often than one sample.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from mmzero_env import world
from mmzero_env.errors import UserError
from mmzero_env.world.proposals import solution_text
from mmzero_env.world.spec import COLORS, SHAPES, WORDS, Spec


@dataclass(frozen=True)
class Noise:
    """Error rates of the demonstrators, all probabilities.

    Attributes:
        easy: Misreading an element of the picture, asked an easy question.
        hard: Misreading an element of the picture, asked a hard question.
        caption: Misreading an element of the caption, asked any question.
        code_item: Drawing an element wrongly.
        code_break: Writing SVG that does not parse.
        own_answer: A proposer's wrong answer to its own question.
        tag: A proposal with a damaged tag.
    """

    easy: float = 0.0
    hard: float = 0.0
    caption: float = 0.0
    code_item: float = 0.0
    code_break: float = 0.0
    own_answer: float = 0.0
    tag: float = 0.0


CLEAN = Noise()
NOISY = Noise(
    easy=0.30, hard=0.35, caption=0.08, code_item=0.06, code_break=0.22, own_answer=0.30, tag=0.08
)


def solution(
    spec: Spec, question: str, rng: random.Random, p: float, *, from_caption: bool = False
) -> str:
    """Reasoning and answer of a solver who misreads each element with probability p.

    A question that no longer applies to what was misread is answered as it should be.
    """
    item = spec.misread(rng, p).solve(question) or spec.solve(question)
    if item is None:
        raise UserError(f"expected a question that applies to {spec}, got {question!r}")
    return solution_text(item, from_caption=from_caption)


def wrong(answer: str, rng: random.Random) -> str:
    """A wrong answer of the same type as a right one."""
    for family in (SHAPES, COLORS, WORDS, ("yes", "no")):
        if answer in family:
            return rng.choice([other for other in family if other != answer])
    number = int(answer)
    near = [n for n in (number - 2, number - 1, number + 1, number + 2) if 0 <= n <= 18]
    return str(rng.choice(near))


def code(spec: Spec, rng: random.Random, noise: Noise) -> str:
    """SVG of a coder who slips on elements and sometimes breaks the markup."""
    text = spec.misread(rng, noise.code_item).svg()
    return broken(text, rng) if rng.random() < noise.code_break else text


def broken(svg: str, rng: random.Random) -> str:
    """Damage SVG markup so that it no longer parses."""
    lost = rng.choice(("/>", '"', "</svg>"))
    spots = [i for i in range(70, len(svg)) if svg.startswith(lost, i)]
    spot = rng.choice(spots or [svg.rindex("</svg>")])
    return svg[:spot] + svg[spot + (len(lost) if spots else 6) :]


def proposal(spec: Spec, rng: random.Random, noise: Noise) -> str:
    """A proposal whose own answers are sometimes wrong and whose tags sometimes break."""
    state = rng.getstate()
    text = world.proposal_text(spec, rng)
    answers = {}
    for level in ("easy", "hard"):
        true = text.split(f"<{level}_answer>")[1].split("<")[0]
        if rng.random() < noise.own_answer:
            answers[f"{level}_answer"] = wrong(true, rng)
    if answers:
        replay = random.Random()
        replay.setstate(state)
        text = world.proposal_text(spec, replay, **answers)
    if rng.random() < noise.tag:
        tag = rng.choice(("caption", "easy_question", "easy_answer", "hard_question"))
        text = text.replace(rng.choice((f"<{tag}>", f"</{tag}>")), "", 1)
    return text
