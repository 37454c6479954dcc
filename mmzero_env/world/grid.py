"""Coloured shapes on a three by three board."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import ClassVar, Self

from mmzero_env.protocol import Question
from mmzero_env.world.spec import COLORS, HEAD, SHAPES, Item

CELLS = tuple(column + row for column in "ABC" for row in "123")


@dataclass(frozen=True)
class Grid:
    """Three to five (cell, colour, shape) entries, ordered by cell."""

    cells: tuple[tuple[str, str, str], ...]

    kind: ClassVar[str] = "grid"
    content_type: ClassVar[str] = "geometry"

    @classmethod
    def sample(cls, rng: random.Random) -> Self:
        """Draw occupied cells with a colour and a shape each."""
        cells = sorted(rng.sample(CELLS, rng.randint(3, 5)))
        return cls(tuple((cell, rng.choice(COLORS), rng.choice(SHAPES)) for cell in cells))

    @classmethod
    def parse(cls, caption: str) -> Self | None:
        """Read back ``"Grid: A1 red circle, B3 blue square, C2 red square."``."""
        if not (m := re.fullmatch(r"Grid: (.+)\.", caption.strip())):
            return None
        words = [part.split(" ") for part in m[1].split(", ")]
        if any(len(part) != 3 for part in words) or not 3 <= len(words) <= 5:
            return None
        parts = [(cell, color, shape) for cell, color, shape in words]
        names = [cell for cell, _, _ in parts]
        valid = names == sorted(set(names)) and all(
            cell in CELLS and color in COLORS and shape in SHAPES for cell, color, shape in parts
        )
        return cls(tuple(parts)) if valid else None

    def entries(self) -> list[str]:
        """Each occupied cell with what is in it."""
        return [" ".join(entry) for entry in self.cells]

    def listing(self) -> str:
        """All entries: ``"A1 red circle, B3 blue square"``."""
        return ", ".join(self.entries())

    def caption(self) -> str:
        """Title and listing."""
        return f"Grid: {self.listing()}."

    def svg(self) -> str:
        """One element a shape, cells 32 units wide."""
        return HEAD + "".join(_element(*entry) for entry in self.cells) + "</svg>"

    def ask(self, level: Question, rng: random.Random) -> str:
        """Easy: what is in a cell. Hard: count by shape or by colour, or compare."""
        if level == "easy":
            cell = rng.choice(self.cells)[0]
            if rng.random() < 0.5:
                return f"What color is the shape at {cell}?"
            return f"What shape is at {cell}?"
        ask = rng.choice(("shape", "color", "more"))
        if ask == "shape":
            return f"How many {rng.choice(SHAPES)}s are there?"
        if ask == "color":
            return f"How many {rng.choice(self.cells)[1]} shapes are there?"
        a, b = rng.sample(SHAPES, 2)
        return f"Are there more {a}s than {b}s?"

    def solve(self, question: str) -> Item | None:
        """Reasoning and answer, or None for a question that does not apply."""
        at = {entry[0]: entry for entry in self.cells}
        for pattern, field in (
            (r"What color is the shape at (\w\d)\?", 1),
            (r"What shape is at (\w\d)\?", 2),
        ):
            if (m := re.fullmatch(pattern, question)) and m[1] in at:
                return Item(question, at[m[1]][field], "", "at " + " ".join(at[m[1]]))
        if (m := re.fullmatch(r"How many (\w+)s are there\?", question)) and m[1] in SHAPES:
            return self._count(question, f"{m[1]}s", m[1])
        if (m := re.fullmatch(r"How many (\w+) shapes are there\?", question)) and m[1] in COLORS:
            return self._count(question, m[1], m[1])
        m = re.fullmatch(r"Are there more (\w+)s than (\w+)s\?", question)
        if m and m[1] in SHAPES and m[2] in SHAPES and m[1] != m[2]:
            x, y = (len(self._where(shape)) for shape in m.groups())
            steps = f"{m[1]}s {x}, {m[2]}s {y}"
            return Item(question, "yes" if x > y else "no", self.listing(), steps)
        return None

    def _where(self, word: str) -> list[str]:
        return [entry[0] for entry in self.cells if word in entry]

    def _count(self, question: str, label: str, word: str) -> Item:
        found = self._where(word)
        steps = f"{label}: " + (" ".join(found) or "none")
        return Item(question, str(len(found)), self.listing(), steps)

    def misread(self, rng: random.Random, p: float) -> Self:
        """A copy in which each colour and each shape is wrong with probability p / 2."""
        return type(self)(
            tuple(
                (
                    cell,
                    rng.choice(COLORS) if rng.random() < p / 2 else color,
                    rng.choice(SHAPES) if rng.random() < p / 2 else shape,
                )
                for cell, color, shape in self.cells
            )
        )


def _element(cell: str, color: str, shape: str) -> str:
    x, y = 32 * "ABC".index(cell[0]), 32 * "123".index(cell[1])
    if shape == "circle":
        return f'<circle fill="{color}" cx="{x + 16}" cy="{y + 16}" r="12"/>'
    if shape == "square":
        return f'<rect fill="{color}" x="{x + 4}" y="{y + 4}" width="24" height="24"/>'
    return f'<polygon fill="{color}" points="{x + 4},{y + 28} {x + 28},{y + 28} {x + 16},{y + 4}"/>'
