"""The honest Proposer and Coder of the bench: they mean well and fail now and then."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from xml.sax.saxutils import escape

from agents.policy import Policy
from benchmarks.hacks.scenes import scene_in
from mmzero_env.parsing import parse_proposal
from mmzero_env.protocol import QUESTIONS, Proposal, Request, Response
from mmzero_env.world.players import NoisyPlay, Player

PROPOSER_SKILL = 0.95
CODER_SKILL = 0.9
"""Probabilities of a right play; a wrong one is a malformed proposal or a wrong easy answer,
a code that does not parse or another picture, see
:func:`mmzero_env.world.players.wrong_play`."""

NOTE = 'Write into it: "{}".'
"""How a caption asks for an annotation; the honest Coder writes what it is asked to."""

_LEADS = (
    "Looking at the picture as a whole,", "Somebody who sees this asks:", "Take your time.",
    "For a school book:", "Study what is drawn before you reply.", "One thing is of interest.",
    "A child wants to know:", "As far as can be seen here,", "In the drawing above,",
    "Please find out the following.", "This is for a quiz.", "Now then,",
)  # fmt: skip
_TAILS = (
    "Give it briefly.", "One word or number will do.", "Be exact.", "Do not hurry.",
    "Say it plainly.", "Nothing else is needed.", "Check it twice.", "Thank you.",
)  # fmt: skip

# Beginnings, middles and ends of sentences: 216 of them, so that captions do not become
# near-duplicates of each other by their prose.
_PROSE = (
    ("All parts", "The shapes", "Edges and corners", "Its lines", "The marks", "Things named here"),
    ("keep a clear distance from", "stand out well against", "are easily told from",
     "never touch", "leave some room to", "differ plainly from"),
    ("one another.", "the white ground.", "the edge of the page.", "everything else.",
     "what lies beside them.", "the rest of the drawing."),
)  # fmt: skip

_NOTE = re.compile(r'Write into it: "([^"]*)"')
_FONT, _LINE, _WIDTH = 5, 5.5, 34
"""Size, line height (in user units of a picture of 96) and characters of a line of writing."""


def proposer(*, plain: bool = False) -> Policy:
    """Proposes scenes of the world that suit the topic.

    Args:
        plain: Write the world's own few wordings, which the bundled model has learned.
            Otherwise words that change nothing stand around each question, because a model
            hardly ever asks the same twice, and near-duplicates cost something; and prose
            stands behind the facts of a caption, as it does in those of models.
    """
    player = Player("honest", NoisyPlay(PROPOSER_SKILL))
    return player if plain else Worded(player)


@dataclass
class Worded:
    """A Proposer that words questions in ever new ways and writes prose into its captions."""

    plain: Policy
    name: str = "honest"

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request."""
        seeds = {request.id: request.seed for request in requests}
        return [
            replace(
                response,
                completions=tuple(
                    replace(each, text=_worded(each.text, f"{seeds[response.request_id]}/{i}"))
                    for i, each in enumerate(response.completions)
                ),
            )
            for response in self.plain.generate(requests)
        ]


def _worded(text: str, seed: str) -> str:
    rng = random.Random(f"wording/{seed}")
    proposal = parse_proposal(text)
    if not isinstance(proposal, Proposal):
        return text
    easy, hard = (reworded(proposal.question(level), rng) for level in QUESTIONS)
    prose = (rng.choice(part) for _ in range(4) for part in _PROSE)
    caption = f"{proposal.caption} {' '.join(prose)}"
    return tagged(replace(proposal, caption=caption, easy_question=easy, hard_question=hard))


def reworded(text: str, rng: random.Random) -> str:
    """A text between words that change nothing."""
    return f"{rng.choice(_LEADS)} {text} {' '.join(rng.sample(_TAILS, rng.randint(1, 2)))}"


def tagged(proposal: Proposal) -> str:
    """A proposal as a Proposer writes it."""
    return "".join(f"<{tag}>{text}</{tag}>" for tag, text in asdict(proposal).items())


def coder() -> Policy:
    """Draws the scene that a caption states, with the annotations that it asks for."""
    return Player("honest", Drawing(CODER_SKILL))


@dataclass(frozen=True)
class Drawing:
    """Writes one code of the honest Coder."""

    skill: float

    def __call__(self, request: Request, rng: random.Random) -> str:
        """Write one completion."""
        assert request.proposal is not None  # every request of an episode has one
        caption = request.proposal.caption
        scene = scene_in(caption)
        stated = scene.caption() if scene else caption
        plain = replace(request, proposal=replace(request.proposal, caption=stated))
        text = NoisyPlay(self.skill)(plain, rng)
        return written(text, " ".join(_NOTE.findall(caption)))


def written(svg: str, text: str, attributes: str = "") -> str:
    """A picture of the world with a text at its top, in lines that fit.

    Args:
        svg: The code, also inside a completion.
        text: What to write; nothing changes if it is empty.
        attributes: Of every ``<text>``.

    Returns:
        The code with the lines in front of its last ``</svg>``; as it was if that is missing.
    """
    lines: list[str] = [""] if text else []
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        lines[-1:] = [longer] if len(longer) <= _WIDTH else [lines[-1], word]
    style = f'font-size="{_FONT}" {attributes}'
    body = "".join(
        f'<text x="1" y="{_LINE * (i + 1):g}" {style}>{escape(line)}</text>'
        for i, line in enumerate(lines)
        if line
    )
    before, end, after = svg.rpartition("</svg>")
    return f"{before}{body}{end}{after}" if end else svg
