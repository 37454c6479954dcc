"""A Coder and a Solver that learn with a handful of strategies instead of a network.

Each is a softmax over strategies, one row of logits a context: the kind of picture for the Coder,
kind and level of the question for the Solver. What a strategy writes goes through the real
episode as text. The truth is known, so what a policy gains and how much of it is an exploit can
be read off its probabilities.

Where the numbers come from. *Measured* ones are those of the bundled nano model, without
training, on 30 held-out pictures a template with 8 answers each at temperature 1, and on 150
pictures with 4 codes each; their intervals are about ± 0.1. *Assumed* ones have no source: every
exploit begins with a small share, so that learning can find it.

* :data:`RIGHT` (measured): share of true answers by kind and level.
* :data:`CONFUSING` (measured): share of pictures, by template, on which the *majority* of the
  model's answers is false, looking at the picture and reading the caption. On these pictures the
  systematic error is more likely by :data:`CONFUSION` (assumed), on no others. It is what makes
  votes teach an error: there it is the mode.
* :data:`CAPTION` (measured): how much more likely a right answer is from the caption (easy .75 to
  .91, hard .66 to .85: 1.2 and 1.0 in logits).
* :data:`SLIP` (measured): misreadings that large pictures add (.06 to .19 fewer true answers).
* :data:`CODES` (measured: 67 % faithful, 78 % rendered; the rest split by assumption), and
  :data:`ERRORS` (assumed).
* :data:`FOLLOW` (assumed): how often an answer follows a label in the picture.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.strategies import Context, Floats, Play, Softmax
from mmzero_env import world
from mmzero_env.protocol import Completion, Proposal, Question, Request, Response
from mmzero_env.scenes import (
    KINDS,
    SIZES,
    Reading,
    common_error,
    read_question,
    template_of,
)
from mmzero_env.world.players import wrong_value
from mmzero_env.world.proposals import solution_text
from mmzero_env.world.spec import HEAD, Spec

CODES: Mapping[str, float] = {
    "faithful": 0.63,
    "wrong_values": 0.115,
    "broken": 0.18,
    "prose": 0.035,
    "blank": 0.01,
    "only_easy": 0.01,
    "labels_easy": 0.01,
    "labels_hard": 0.01,
}
"""Strategies of the Coder with their shares in the beginning: the true picture, one of other
values, markup that does not parse, no markup, a blank picture, nothing but the easy answer, the
true picture with the easy answer or with the hard one written into it."""

CODE_NAMES = tuple(CODES)
CODER_EXPLOITS = ("blank", "only_easy", "labels_easy", "labels_hard")

ANSWERS = ("right", "systematic", "random", "blind", "constant", "copies", "unboxed")
"""Strategies of the Solver: the true answer for what is drawn, the usual mistake
(:func:`mmzero_env.scenes.common_error`), another value at random, the likeliest answer to such a
question whatever is drawn, one word for everything, what is written in the picture or in the
question (else the likeliest answer), no box."""

SOLVER_EXPLOITS = ("blind", "constant", "copies")
CONSTANT = "2"
ERRORS: Mapping[str, float] = {
    "systematic": 0.30,
    "random": 0.45,
    "blind": 0.10,
    "constant": 0.04,
    "copies": 0.08,
    "unboxed": 0.03,
}
"""How the Solver's false answers split in the beginning (assumed; on 22 templates the most frequent
false answer to a picture has a share of .10 to .41, all others together .05 to .32)."""


RIGHT: Mapping[Question, Mapping[str, float]] = {
    "easy": {"bars": 0.68, "grid": 0.88, "table": 0.80, "timeline": 0.70, "diagram": 0.65},
    "hard": {"bars": 0.61, "grid": 0.60, "table": 0.64, "timeline": 0.62, "diagram": 0.67},
}
CONFUSING: Mapping[Question, Mapping[str, tuple[tuple[float, float], ...]]] = {
    "easy": {
        "bars": ((0.07, 0.0),),
        "grid": ((0.0, 0.0), (0.0, 0.0)),
        "table": ((0.0, 0.0),),
        "timeline": ((0.07, 0.0),),
        "diagram": ((0.20, 0.07), (0.23, 0.27)),
    },
    "hard": {
        "bars": ((0.17, 0.0), (0.20, 0.0), (0.13, 0.10), (0.13, 0.07)),
        "grid": ((0.40, 0.40), (0.40, 0.37), (0.07, 0.03)),
        "table": ((0.20, 0.0), (0.17, 0.0), (0.0, 0.10), (0.07, 0.07)),
        "timeline": ((0.17, 0.0), (0.23, 0.0), (0.07, 0.0), (0.10, 0.03)),
        "diagram": ((0.17, 0.03), (0.13, 0.03)),
    },
}
"""By template, looking at the picture and reading the caption."""

CONFUSION = 3.0
CAPTION = 1.1
SLIP = 0.10
FOLLOW = 0.5
REMEMBERED = 4096
"""Plays and pictures that are kept; the oldest go first."""

_SYSTEMATIC = ANSWERS.index("systematic")
_RIGHT = ANSWERS.index("right")


@dataclass(frozen=True)
class _Drawn:
    """What a picture shows: a spec, a label, both or nothing."""

    spec: Spec | None = None
    label: str | None = None


@dataclass
class Coder:
    """Writes codes by a strategy; see the module."""

    policy: Softmax = field(default_factory=lambda: coder_policy())
    name: str = "simulated:coder"
    plays: dict[str, Play] = field(default_factory=dict)
    drawn: dict[str, tuple[_Drawn, ...]] = field(default_factory=dict)

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request; ``plays`` and ``drawn`` then hold it, by request id."""
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Response:
        proposal = request.proposal
        assert proposal is not None, f"request {request.id} carries no proposal"
        spec = world.parse_caption(proposal.caption)
        assert spec is not None, f"{proposal.caption!r} is no caption of the world"
        rng = random.Random(request.seed)
        play = self.policy.play((spec.kind,), {}, request.n, rng)
        pairs = [_code(CODE_NAMES[s], spec, proposal, rng) for s in play.strategies]
        _keep(self.plays, request.id, play)
        _keep(self.drawn, request.id.removesuffix("/coder"), tuple(shown for _, shown in pairs))
        return Response(request.id, tuple(Completion(text) for text, _ in pairs))


@dataclass
class Solver:
    """Answers by a strategy about the pictures of one Coder; see the module."""

    coder: Coder
    policy: Softmax = field(default_factory=lambda: solver_policy())
    name: str = "simulated:solver"
    plays: dict[str, Play] = field(default_factory=dict)

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request; ``plays`` then holds it, by request id."""
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Response:
        proposal = request.proposal
        assert proposal is not None, f"request {request.id} carries no proposal"
        true = world.parse_caption(proposal.caption)
        assert true is not None, f"{proposal.caption!r} is no caption of the world"
        episode, _, place, level_name = request.id.rsplit("/", 3)
        level: Question = "easy" if level_name == "easy" else "hard"
        reading = read_question(proposal.question(level))
        captioned = place == "caption"
        shown = _Drawn(true) if captioned else _Drawn()
        if place.isdecimal():
            shown = self.coder.drawn[episode][int(place)]
        rng = random.Random(request.seed)
        context = (true.kind, level)
        offsets = situation(true, level, reading, captioned=captioned)
        play = self.policy.play(context, offsets, request.n, rng)
        answer = _Answer(reading, true if reading.stated else shown.spec, shown.label, rng)
        _keep(self.plays, request.id, play)
        texts = [answer.text(ANSWERS[strategy]) for strategy in play.strategies]
        return Response(request.id, tuple(map(Completion, texts)))

    def right(self, spec: Spec, level: Question, reading: Reading) -> float:
        """How likely a true answer is on the true picture, by reading it; exact."""
        if not reading.core:
            return 0.0
        offsets = situation(spec, level, reading, captioned=False)
        share = float(self.policy.probabilities((spec.kind, level), offsets)[_RIGHT])
        return share * (1 - SLIP * _is_large(spec))

    def skill(self) -> dict[Question, float]:
        """:meth:`right` by level, over all kinds, templates and sizes alike; exact."""
        found: dict[Question, float] = {}
        for level, kinds in CONFUSING.items():
            shares: list[float] = []
            for kind, templates in kinds.items():
                plain = self.policy.probabilities((kind, level))[_RIGHT]
                confused = self.policy.probabilities((kind, level), {_SYSTEMATIC: CONFUSION})
                shares.append(
                    np.mean([(1 - q) * plain + q * confused[_RIGHT] for q, _ in templates])
                )
            found[level] = float(np.mean(shares)) * (1 - SLIP / 2)
        return found


def coder_policy() -> Softmax:
    """The Coder before learning."""
    row = np.log(list(CODES.values()))
    return Softmax(CODE_NAMES, {(kind,): row.copy() for kind in KINDS})


def solver_policy() -> Softmax:
    """The Solver before learning: its mean share of true answers is :data:`RIGHT`."""
    logits: dict[Context, Floats] = {}
    for level, kinds in RIGHT.items():
        for kind, share in kinds.items():
            confusing = float(np.mean([q for q, _ in CONFUSING[level][kind]]))
            right = _plain_share(share, confusing)
            shares = {"right": right} | {name: e * (1 - right) for name, e in ERRORS.items()}
            logits[(kind, level)] = np.log([shares[name] for name in ANSWERS])
    return Softmax(ANSWERS, logits)


def _plain_share(share: float, confusing: float) -> float:
    """The share of right answers on plain pictures that gives a mean share; by bisection."""
    low, high = 0.0, 1.0
    for _ in range(50):
        right = (low + high) / 2
        error = ERRORS["systematic"] * (1 - right)
        confused = right / (1 - error + error * np.exp(CONFUSION))
        mean = ((1 - confusing) * right + confusing * confused) * (1 - SLIP / 2)
        low, high = (right, high) if mean < share else (low, right)
    return low


def situation(
    spec: Spec, level: Question, reading: Reading, *, captioned: bool
) -> dict[int, float]:
    """What a picture and a question add to the Solver's logits."""
    offsets = {_RIGHT: CAPTION} if captioned else {}
    place = template_of(spec.kind, level, reading.core)
    if place is None and level == "hard":
        # The easy question asked once more.
        level, place = "easy", template_of(spec.kind, "easy", reading.core)
    if place is not None:
        share = CONFUSING[level][spec.kind][place][captioned]
        mark = zlib.crc32(f"{spec.caption()}|{reading.core}".encode()) / 2**32
        if mark < share:
            offsets[_SYSTEMATIC] = CONFUSION
    return offsets


def _is_large(spec: Spec) -> bool:
    return len(spec.entries()) == SIZES[spec.kind][1]


def _keep(store: dict, key: str, value: object) -> None:
    store[key] = value
    if len(store) > REMEMBERED:
        del store[next(iter(store))]


def _code(strategy: str, spec: Spec, proposal: Proposal, rng: random.Random) -> tuple[str, _Drawn]:
    """The text of a code and what its picture shows."""
    if strategy == "prose":
        return "A picture of that cannot be drawn.", _Drawn()
    if strategy == "broken":
        return _fenced(spec.svg().removesuffix("</svg>") + "<rect"), _Drawn()
    if strategy == "blank":
        return _fenced(f"{HEAD}</svg>"), _Drawn()
    if strategy == "only_easy":
        return _fenced(f"{HEAD}{_label(proposal.easy_answer)}</svg>"), _Drawn(
            None, proposal.easy_answer
        )
    if strategy == "wrong_values":
        while (other := spec.misread(rng, 0.5)) == spec:
            pass
        return _fenced(other.svg()), _Drawn(other)
    if strategy == "faithful":
        return _fenced(spec.svg()), _Drawn(spec)
    answer = proposal.easy_answer if strategy == "labels_easy" else proposal.hard_answer
    svg = spec.svg().removesuffix("</svg>") + f"{_label(answer)}</svg>"
    return _fenced(svg), _Drawn(spec, answer)


def _label(answer: str) -> str:
    return f'<text x="4" y="92" font-size="10">Answer: {answer}</text>'


def _fenced(svg: str) -> str:
    return f"```svg\n{svg}\n```"


class _Answer:
    """Writes the answers to one request."""

    def __init__(self, reading: Reading, spec: Spec | None, label: str | None, rng: random.Random):
        self._reading, self._spec, self._label, self._rng = reading, spec, label, rng
        self._item = spec.solve(reading.core) if spec is not None and reading.core else None

    def text(self, strategy: str) -> str:
        """One completion."""
        if strategy == "unboxed":
            return "That is hard to tell."
        answer = self._short(strategy)
        if strategy == "right" and self._item is not None and answer == self._item.answer:
            return solution_text(self._item)
        return f"<think>reading it off</think>\\boxed{{{answer}}}"

    def _short(self, strategy: str) -> str:
        hint, label, spec, item = self._reading.hint, self._label, self._spec, self._item
        likeliest = guess(self._reading.core)
        if strategy == "constant":
            return CONSTANT
        if strategy == "blind":
            return likeliest
        if strategy == "copies":
            return hint or label or likeliest
        if strategy == "right" and hint is not None:
            return hint
        if label is not None and (spec is None or self._rng.random() < FOLLOW):
            return label
        if spec is not None and not self._reading.core:
            entries = spec.entries()
            return entries[0] if strategy == "systematic" else self._rng.choice(entries)
        if spec is None or item is None:
            return wrong_value(likeliest, self._rng)
        if strategy == "systematic":
            return common_error(spec, self._reading.core)
        slips = strategy == "random" or (_is_large(spec) and self._rng.random() < SLIP)
        return wrong_value(item.answer, self._rng) if slips else item.answer


def guess(question: str) -> str:
    """The likeliest answer to a question of the world for somebody who sees nothing."""
    for beginning, answer in (
        ("How many", "1"),
        ("What color", "red"),
        ("What shape", "circle"),
        ("Which word", "cat"),
        ("Which", "red"),
        ("Are there", "no"),
    ):
        if question.startswith(beginning):
            return answer
    return "5"
