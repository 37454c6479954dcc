"""A chain of coloured boxes joined by a line."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Self

from mmzero_env.protocol import Question
from mmzero_env.world.spec import COLORS, HEAD, Item

ORDINALS = ("first", "second", "third", "fourth")


@dataclass(frozen=True)
class Diagram:
    """Three or four boxes of distinct colours, read from left to right."""

    boxes: tuple[str, ...]

    kind: ClassVar[str] = "diagram"
    content_type: ClassVar[str] = "diagram"

    @classmethod
    def sample(cls, rng: random.Random) -> Self:
        """Draw the colours of the chain."""
        return cls(tuple(rng.sample(COLORS, rng.randint(3, 4))))

    @classmethod
    def parse(cls, caption: str) -> Self | None:
        """Read back ``"Diagram: red to blue to green."``."""
        if not (m := re.fullmatch(r"Diagram: ([a-z]+(?: to [a-z]+)+)\.", caption.strip())):
            return None
        boxes = tuple(m[1].split(" to "))
        valid = 3 <= len(boxes) <= 4 and len(set(boxes)) == len(boxes)
        return cls(boxes) if valid and all(box in COLORS for box in boxes) else None

    def entries(self) -> list[str]:
        """Each box with the next one."""
        return [f"{a} to {b}" for a, b in pairwise(self.boxes)]

    def listing(self) -> str:
        """The chain: ``"red to blue to green"``."""
        return " to ".join(self.boxes)

    def caption(self) -> str:
        """Title and chain."""
        return f"Diagram: {self.listing()}."

    def svg(self) -> str:
        """Boxes 16 units wide on a connecting line."""
        boxes = [
            f'<rect fill="{box}" x="{6 + 22 * i}" y="40" width="16" height="16"/>'
            for i, box in enumerate(self.boxes)
        ]
        link = f'<rect fill="gray" x="6" y="46" width="{22 * len(self.boxes) - 6}" height="4"/>'
        return HEAD + link + "".join(boxes) + "</svg>"

    def ask(self, level: Question, rng: random.Random) -> str:
        """Easy: a neighbour. Hard: a distance or two steps on."""
        n = len(self.boxes)
        if level == "easy":
            i = rng.randrange(n - 1)
            if rng.random() < 0.5:
                return f"Which box comes after {self.boxes[i]}?"
            return f"Which box comes before {self.boxes[i + 1]}?"
        if rng.random() < 0.5:
            i, j = sorted(rng.sample(range(n), 2))
            return f"How many steps lead from {self.boxes[i]} to {self.boxes[j]}?"
        return f"Which box is two steps after {self.boxes[rng.randrange(n - 2)]}?"

    def solve(self, question: str) -> Item | None:
        """Reasoning and answer, or None for a question that does not apply."""
        at = {box: i for i, box in enumerate(self.boxes)}
        for pattern, shift in (
            (r"Which box comes after (\w+)\?", 1),
            (r"Which box comes before (\w+)\?", -1),
            (r"Which box is two steps after (\w+)\?", 2),
        ):
            if (m := re.fullmatch(pattern, question)) and m[1] in at:
                i = at[m[1]]
                if not 0 <= i + shift < len(self.boxes):
                    return None
                walk = " to ".join(self.boxes[min(i, i + shift) : max(i, i + shift) + 1])
                return Item(question, self.boxes[i + shift], self.listing(), walk)
        m = re.fullmatch(r"How many steps lead from (\w+) to (\w+)\?", question)
        if m and m[1] in at and m[2] in at and at[m[1]] < at[m[2]]:
            walk = " to ".join(self.boxes[at[m[1]] : at[m[2]] + 1])
            steps = at[m[2]] - at[m[1]]
            return Item(question, str(steps), self.listing(), f"{walk}, steps {steps}")
        return None

    def misread(self, rng: random.Random, p: float) -> Self:
        """A copy in which each box has changed places with the next with probability p."""
        boxes = list(self.boxes)
        for i in range(len(boxes) - 1):
            if rng.random() < p:
                boxes[i], boxes[i + 1] = boxes[i + 1], boxes[i]
        return type(self)(tuple(boxes))
