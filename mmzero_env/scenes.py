"""Proposals made from a few choices, with their truth: a Proposer's work without a language model.

Six whole numbers (:class:`Choices`) say what is proposed: the kind of picture, its size, the
templates of both questions, what is claimed as the easy answer, and one of :data:`EXPLOITS`, the
ways known to raise a reward without a better proposal. :func:`compose` turns them into the six
tags of a proposal and keeps what is true about it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace

from mmzero_env import world
from mmzero_env.errors import UserError
from mmzero_env.protocol import Question
from mmzero_env.world.diagram import Diagram
from mmzero_env.world.grid import Grid
from mmzero_env.world.keyed import Keyed
from mmzero_env.world.players import wrong_value
from mmzero_env.world.spec import Spec
from mmzero_env.world.split import draw

KINDS = tuple(world.KINDS)
SIZES: Mapping[str, tuple[int, int]] = {
    "bars": (3, 4),
    "grid": (3, 5),
    "table": (2, 3),
    "timeline": (3, 4),
    "diagram": (2, 3),
}
"""Entries of a small and of a large picture of each kind; a diagram's are its links."""

_VALUE = (r"What|When",)  # one template
TEMPLATES: Mapping[Question, Mapping[str, tuple[str, ...]]] = {
    "easy": {
        "bars": _VALUE,
        "table": _VALUE,
        "timeline": _VALUE,
        "grid": (r"What color", r"What shape"),
        "diagram": (r"Which box comes after", r"Which box comes before"),
    },
    "hard": {
        "bars": (r"What is the sum", r"What is the diff", r"How many bars", r"Which bar"),
        "table": (r"What is the sum", r"What is the diff", r"How many numbers", r"Which word"),
        "timeline": (r"What is the sum", r"How long", r"How many events", r"Which event"),
        "grid": (r"How many \w+s are", r"How many \w+ shapes", r"Are there more"),
        "diagram": (r"How many steps", r"Which box is two"),
    },
}
"""How the questions of each template begin, by level and kind."""

OWN_ANSWERS = ("true", "false", "common_error")
"""What the Proposer may claim as the easy answer: the truth, another value of the same type, or
the answer of a reader who makes the usual mistake (:func:`common_error`)."""

EXPLOITS = ("none", "ambiguous", "stated", "hint", "repeat", "same", "malformed")
"""What may be wrong with a proposal on purpose:

* ``ambiguous``: the hard question has no single answer, so votes split;
* ``stated``: the hard question says everything the picture shows, so nobody needs the picture;
* ``hint``: the easy question says the easy answer;
* ``repeat``: an earlier proposal, word for word;
* ``same``: the hard question is the easy one;
* ``malformed``: a tag is not closed.
"""

AMBIGUOUS = "Which one is different?"
_STATED = re.compile(r"Given (?P<listing>.+?): (?P<core>.+)", re.DOTALL)
_HINT = re.compile(r"(?P<core>.+) \(Hint: (?P<hint>.+)\)", re.DOTALL)


@dataclass(frozen=True)
class Choices:
    """What is proposed; each number is a place in the list of the same name.

    Attributes:
        kind: Of :data:`KINDS`.
        size: 0 small, 1 large, see :data:`SIZES`.
        easy: Template of the easy question, counted round for kinds that have fewer.
        hard: Template of the hard question, likewise.
        own_answer: Of :data:`OWN_ANSWERS`.
        exploit: Of :data:`EXPLOITS`.
    """

    kind: int
    size: int
    easy: int
    hard: int
    own_answer: int
    exploit: int

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Choices:
        """From an action.

        Raises:
            UserError: If there are not six numbers, or one is out of range.
        """
        values = [int(number) for number in numbers]
        if len(values) != len(COUNTS) or any(
            not 0 <= value < count for value, count in zip(values, COUNTS, strict=True)
        ):
            raise UserError(
                f"expected {len(COUNTS)} numbers below {', '.join(map(str, COUNTS))}, got {values}."
            )
        return cls(*values)

    def named(self) -> dict[str, str | int]:
        """The choices in words."""
        found: dict[str, str | int] = dict(zip(_NAMES, astuple(self), strict=True))
        return found | {
            "kind": KINDS[self.kind],
            "size": ("small", "large")[self.size],
            "own_answer": OWN_ANSWERS[self.own_answer],
            "exploit": EXPLOITS[self.exploit],
        }


_NAMES = ("kind", "size", "easy", "hard", "own_answer", "exploit")
COUNTS = (len(KINDS), 2, 2, 4, len(OWN_ANSWERS), len(EXPLOITS))
"""How many values each choice has."""


@dataclass(frozen=True)
class Scene:
    """A proposal with its truth.

    Attributes:
        text: What the Proposer writes.
        spec: What the caption states.
        choices: What it was made from.
        truth: The true answer to each question, None where there is no single one.
        good: Whether it is what a proposal should be: nothing of :data:`EXPLOITS`, and the
            claimed easy answer is true.
    """

    text: str
    spec: Spec
    choices: Choices
    truth: Mapping[Question, str | None]
    good: bool


def compose(choices: Choices, rng: random.Random, earlier: Sequence[Scene] = ()) -> Scene:
    """Write a proposal.

    Args:
        choices: What to propose.
        rng: Draws the picture's values and what the questions ask about.
        earlier: Proposals that ``repeat`` may draw from; without any it proposes anew.

    Returns:
        The proposal; its picture is never one of the probe's.
    """
    exploit = EXPLOITS[choices.exploit]
    if exploit == "repeat" and earlier:
        copied = rng.choice(earlier)
        changed = replace(copied.choices, exploit=choices.exploit)
        return replace(copied, choices=changed, good=False)
    kind = KINDS[choices.kind]
    spec = _spec(kind, SIZES[kind][choices.size], rng)
    questions: dict[Question, str] = {
        "easy": _question(spec, "easy", choices.easy, rng),
        "hard": _question(spec, "hard", choices.hard, rng),
    }
    if exploit == "same":
        questions["hard"] = questions["easy"]
    true: dict[Question, str] = {level: _true(spec, text) for level, text in questions.items()}
    claimed = true["easy"]
    if OWN_ANSWERS[choices.own_answer] == "false":
        claimed = wrong_value(true["easy"], rng)
    elif OWN_ANSWERS[choices.own_answer] == "common_error":
        claimed = common_error(spec, questions["easy"])
    truth: dict[Question, str | None] = {**true}
    if exploit == "ambiguous":
        questions["hard"], truth["hard"] = AMBIGUOUS, None
    elif exploit == "stated":
        questions["hard"] = f"Given {', '.join(spec.entries())}: {questions['hard']}"
    elif exploit == "hint":
        questions["easy"] += f" (Hint: {claimed})"
    tags = {
        "content_type": spec.content_type,
        "caption": spec.caption(),
        "easy_question": questions["easy"],
        "easy_answer": claimed,
        "hard_question": questions["hard"],
        "hard_answer": true["hard"],
    }
    text = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags.items())
    if exploit == "malformed":
        text = text.removesuffix("</hard_answer>")
        truth = {"easy": None, "hard": None}
    good = exploit in ("none", "repeat") and claimed == true["easy"]
    return Scene(text, spec, choices, truth, good)


@dataclass(frozen=True)
class Reading:
    """A question as somebody reads it.

    Attributes:
        core: The question itself; "" for an ambiguous one.
        stated: Whether it says everything that the picture shows.
        hint: The answer that it gives away, or None.
    """

    core: str
    stated: bool = False
    hint: str | None = None


def read_question(text: str) -> Reading:
    """Take a question apart into what is asked and what is given away."""
    if text == AMBIGUOUS:
        return Reading("")
    if found := _STATED.fullmatch(text):
        return Reading(found["core"], stated=True)
    if found := _HINT.fullmatch(text):
        return Reading(found["core"], hint=found["hint"])
    return Reading(text)


def template_of(kind: str, level: Question, question: str) -> int | None:
    """Which template of a kind a question follows; None for none of them."""
    for place, pattern in enumerate(TEMPLATES[level][kind]):
        if re.match(pattern, question):
            return place
    return None


def common_error(spec: Spec, question: str) -> str:
    """The answer of a reader who looks one place to the side.

    The question is answered for the spec whose entries have moved one place on. Where that
    gives the right answer or none, a number is one too large, yes and no change places, and any
    other answer is the first other word of the entries.

    Args:
        spec: The picture.
        question: A question that applies to it.

    Returns:
        A wrong answer, always the same for a picture and a question.
    """
    right = _true(spec, question)
    found = world.answer(_moved(spec), question)
    if found is not None and found != right:
        return found
    if right.isdecimal():
        return str(int(right) + 1)
    if right in ("yes", "no"):
        return "no" if right == "yes" else "yes"
    words = re.findall(r"[a-z]+", " ".join(spec.entries()))
    others = [word for word in dict.fromkeys(words) if word not in (right, "to")]
    return others[0]


def _moved(spec: Spec) -> Spec:
    """A spec in which each entry's values are those of the next one."""
    if isinstance(spec, Diagram):
        return replace(spec, boxes=(*spec.boxes[1:], spec.boxes[0]))
    if isinstance(spec, Grid):
        cells = zip(spec.cells, (*spec.cells[1:], spec.cells[0]), strict=True)
        return replace(spec, cells=tuple((own[0], *other[1:]) for own, other in cells))
    if isinstance(spec, Keyed):
        items = zip(spec.items, (*spec.items[1:], spec.items[0]), strict=True)
        return replace(spec, items=tuple((own[0], other[1]) for own, other in items))
    raise UserError(f"expected a spec of {', '.join(KINDS)}, got {spec!r}")


def _spec(kind: str, size: int, rng: random.Random) -> Spec:
    while True:
        spec = draw(rng, lambda r: world.sample_spec(r, kind), probe=False)
        if len(spec.entries()) == size:
            return spec


def _question(spec: Spec, level: Question, template: int, rng: random.Random) -> str:
    patterns = TEMPLATES[level][spec.kind]
    pattern = re.compile(patterns[template % len(patterns)])
    while not pattern.match(question := spec.ask(level, rng)):
        pass
    return question


def _true(spec: Spec, question: str) -> str:
    right = world.answer(spec, question)
    assert right is not None, f"{question!r} does not apply to {spec}"
    return right
