"""What one kind of procedural picture has to provide.

A *spec* is the truth behind a picture. From it follow the caption, the SVG, the
questions with their true answers and a worked reasoning, so every claim that a
model makes about the picture can be checked.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from mmzero_env.protocol import Question

SIDE = 96
"""Width and height of the world's canvas, in user units and in pixels."""

COLORS = ("red", "blue", "green", "orange", "purple", "black")
SHAPES = ("circle", "square", "triangle")
WORDS = ("cat", "dog", "sun", "car", "box", "cup", "hat", "pen", "key", "jug")
VALUES = range(1, 10)

HEAD = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}">'


@dataclass(frozen=True)
class Item:
    """A question about a spec with its true answer.

    Attributes:
        question: Text of the question.
        answer: The true short answer.
        listing: What a reader of the picture writes down before answering,
            "" if the answer needs no survey of the whole picture.
        steps: The rest of the reasoning, from the listing (or the caption) on.
    """

    question: str
    answer: str
    listing: str
    steps: str

    @property
    def reasoning(self) -> str:
        """The worked reasoning of a reader of the picture."""
        return f"I see {self.listing}, so {self.steps}" if self.listing else self.steps


class Spec(Protocol):
    """The truth behind one picture of one kind."""

    kind: ClassVar[str]
    content_type: ClassVar[str]

    @classmethod
    def sample(cls, rng: random.Random) -> Self:
        """Draw a spec."""
        ...

    @classmethod
    def parse(cls, caption: str) -> Self | None:
        """The spec a caption states, or None if it does not state a valid one."""
        ...

    def caption(self) -> str:
        """One sentence that states everything the picture shows."""
        ...

    def entries(self) -> list[str]:
        """The caption's statements one by one: ``["red 5", "blue 7"]``."""
        ...

    def svg(self) -> str:
        """The picture as SVG on a 96 by 96 canvas."""
        ...

    def ask(self, level: Question, rng: random.Random) -> str:
        """Draw the text of an easy or a hard question that applies to this spec."""
        ...

    def solve(self, question: str) -> Item | None:
        """Reasoning and true answer to a question, or None if it does not apply."""
        ...

    def misread(self, rng: random.Random, p: float) -> Self:
        """A copy in which each element is seen wrongly with probability p."""
        ...


def near_value(value: int, rng: random.Random) -> int:
    """A misread value: mostly off by one, else anything from 1 to 9."""
    if rng.random() < 0.6:
        return min(9, max(1, value + rng.choice((-1, 1))))
    return rng.randint(1, 9)


def arithmetic(op: str, a: int, b: int) -> tuple[str, str]:
    """A worked sum or absolute difference: ``("7-4=3", "3")``."""
    if op == "sum":
        return f"{a}+{b}={a + b}", str(a + b)
    hi, lo = max(a, b), min(a, b)
    return f"{hi}-{lo}={hi - lo}", str(hi - lo)
