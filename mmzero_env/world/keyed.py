"""The kinds whose picture is a list of keys with values: bars, table, timeline."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from mmzero_env.protocol import Question
from mmzero_env.world.spec import COLORS, HEAD, SIDE, WORDS, Item, arithmetic, near_value


def _slots(template: str, question: str) -> tuple[str, ...] | None:
    found = re.fullmatch(re.escape(template).replace(r"\{\}", r"(\w+)"), question)
    return found.groups() if found else None


@dataclass(frozen=True)
class Keyed:
    """Keys with values from 1 to 9, in the order in which they are drawn."""

    items: tuple[tuple[str, int], ...]

    kind: ClassVar[str]
    content_type: ClassVar[str]
    title: ClassVar[str]
    keys: ClassVar[Sequence[str]]
    sizes: ClassVar[tuple[int, int]] = (3, 4)
    value_question: ClassVar[str]
    pair_questions: ClassVar[Mapping[str, str]]
    count_question: ClassVar[str]
    extreme_question: ClassVar[str]

    @classmethod
    def sample(cls, rng: random.Random) -> Self:
        """Draw three or four distinct keys with random values."""
        keys = rng.sample(cls.keys, rng.randint(*cls.sizes))
        return cls(tuple((key, rng.randint(1, 9)) for key in keys))

    @classmethod
    def parse(cls, caption: str) -> Self | None:
        """Read back a caption; None unless it states a spec of this kind."""
        if not (m := re.fullmatch(rf"{cls.title}: ((?:[a-z]+ [1-9](?:, )?)+)\.", caption.strip())):
            return None
        pairs = [part.split(" ") for part in m[1].split(", ")]
        if any(len(pair) != 2 for pair in pairs):
            return None
        spec = cls(tuple((key, int(value)) for key, value in pairs))
        return spec if spec._valid() else None

    def _valid(self) -> bool:
        keys = [key for key, _ in self.items]
        low, high = self.sizes
        return (
            low <= len(keys) <= high
            and len(set(keys)) == len(keys)
            and all(key in self.keys for key in keys)
        )

    def entries(self) -> list[str]:
        """Each key with its value."""
        return [f"{key} {value}" for key, value in self.items]

    def listing(self) -> str:
        """All keys with their values: ``"red 5, blue 7"``."""
        return ", ".join(self.entries())

    def caption(self) -> str:
        """Title and listing."""
        return f"{self.title}: {self.listing()}."

    def elements(self) -> list[str]:
        """The SVG elements of the picture."""
        raise NotImplementedError

    def svg(self) -> str:
        """The picture as SVG."""
        return HEAD + "".join(self.elements()) + "</svg>"

    def ask(self, level: Question, rng: random.Random) -> str:
        """Easy: read one value. Hard: combine two, count, or find the largest."""
        if level == "easy":
            return self.value_question.format(rng.choice(self.items)[0])
        ask = rng.choice(("sum", "difference", "count", "extreme"))
        if ask == "count":
            return self.count_question.format(rng.randint(2, 7))
        if ask == "extreme":
            return self.extreme_question
        a, b = rng.sample([key for key, _ in self.items], 2)
        return self.pair_questions[ask].format(a, b)

    def solve(self, question: str) -> Item | None:
        """Reasoning and answer; of several largest values the first drawn counts."""
        values = dict(self.items)

        def item(answer: str, steps: str) -> Item:
            return Item(question, answer, self.listing(), steps)

        if (g := _slots(self.value_question, question)) and g[0] in values:
            return item(str(values[g[0]]), f"{g[0]} {values[g[0]]}")
        for op, template in self.pair_questions.items():
            g = _slots(template, question)
            if g and g[0] in values and g[1] in values and g[0] != g[1]:
                (a, b), (x, y) = g, (values[g[0]], values[g[1]])
                worked, answer = arithmetic(op, x, y)
                return item(answer, f"{a} {x}, {b} {y}, {worked}")
        if (g := _slots(self.count_question, question)) and g[0].isdecimal():
            above = [f"{key} {value}" for key, value in self.items if value > int(g[0])]
            return item(str(len(above)), f"above {g[0]}: " + (", ".join(above) or "none"))
        if question == self.extreme_question:
            key, top = max(self.items, key=lambda pair: pair[1])
            return item(key, f"most {top}, {key}")
        return None

    def misread(self, rng: random.Random, p: float) -> Self:
        """A copy in which each value is misread with probability p."""
        return type(self)(
            tuple((k, near_value(v, rng) if rng.random() < p else v) for k, v in self.items)
        )


@dataclass(frozen=True)
class Bars(Keyed):
    """Coloured bars with heights from 1 to 9."""

    kind = "bars"
    content_type = "data_chart"
    title = "Bar chart"
    keys = COLORS
    value_question = "What is the value of the {} bar?"
    pair_questions = {
        "sum": "What is the sum of the {} and {} bars?",
        "difference": "What is the difference between the {} and {} bars?",
    }
    count_question = "How many bars are above {}?"
    extreme_question = "Which bar is the tallest?"

    def elements(self) -> list[str]:
        """One rectangle a bar, standing on y = 90."""
        return [
            f'<rect fill="{key}" x="{6 + 22 * i}" y="{90 - 9 * v}" width="16" height="{9 * v}"/>'
            for i, (key, v) in enumerate(self.items)
        ]


@dataclass(frozen=True)
class Table(Keyed):
    """Printed rows of a word and a digit: reading text is the skill."""

    kind = "table"
    content_type = "table"
    title = "Table"
    keys = WORDS
    sizes = (2, 3)
    value_question = "What number is next to {}?"
    pair_questions = {
        "sum": "What is the sum of {} and {}?",
        "difference": "What is the difference between {} and {}?",
    }
    count_question = "How many numbers are above {}?"
    extreme_question = "Which word has the largest number?"

    def elements(self) -> list[str]:
        """Two texts a row, rows 32 units high."""
        rows = [
            f'<text x="6" y="{24 + 32 * i}">{key}</text><text x="72" y="{24 + 32 * i}">{v}</text>'
            for i, (key, v) in enumerate(self.items)
        ]
        return ['<g font-size="24">', *rows, "</g>"]


@dataclass(frozen=True)
class Timeline(Keyed):
    """Coloured events on an axis from 1 to 9, earliest first."""

    kind = "timeline"
    content_type = "timeline"
    title = "Timeline"
    keys = COLORS
    value_question = "When is the {} event?"
    pair_questions = {
        "difference": "How long is it between the {} and {} events?",
        "sum": "What is the sum of the {} and {} times?",
    }
    count_question = "How many events are after {}?"
    extreme_question = "Which event is the last?"

    @classmethod
    def sample(cls, rng: random.Random) -> Self:
        """Draw three or four events at distinct times."""
        n = rng.randint(*cls.sizes)
        return cls(
            tuple(zip(rng.sample(cls.keys, n), sorted(rng.sample(range(1, 10), n)), strict=True))
        )

    def _valid(self) -> bool:
        times = [time for _, time in self.items]
        return super()._valid() and times == sorted(set(times))

    def elements(self) -> list[str]:
        """An axis and one tall marker an event."""
        axis = f'<rect fill="gray" x="0" y="76" width="{SIDE}" height="4"/>'
        marks = [
            f'<rect fill="{key}" x="{10 * time - 6}" y="16" width="8" height="60"/>'
            for key, time in self.items
        ]
        return [axis, *marks]
