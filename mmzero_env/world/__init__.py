"""A procedural world of five kinds of pictures whose truth is known.

It pre-trains the bundled nano model, plays scripted roles, and yields the probe:
held-out pictures with true answers that no training ever sees.

>>> import random
>>> from mmzero_env import world
>>> spec = world.sample_spec(random.Random(0), "bars")
>>> world.parse_caption(spec.caption()) == spec
True
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from mmzero_env.errors import unknown
from mmzero_env.protocol import TOPICS, Proposal, Question
from mmzero_env.world.diagram import Diagram
from mmzero_env.world.grid import Grid
from mmzero_env.world.keyed import Bars, Table, Timeline
from mmzero_env.world.proposals import proposal_text
from mmzero_env.world.spec import SIDE, Item, Spec

KINDS: Mapping[str, type[Spec]] = {
    kind.kind: kind for kind in (Bars, Grid, Table, Timeline, Diagram)
}

# Which kinds suit a topic; a proposer that follows its topic draws from these.
TOPIC_KINDS: Mapping[str, tuple[str, ...]] = dict(
    zip(
        TOPICS,
        (
            ("bars", "timeline"),
            ("timeline", "bars"),
            ("table", "bars"),
            ("grid", "diagram"),
            ("diagram", "grid"),
            ("diagram", "timeline"),
            ("table",),
            ("grid",),
        ),
        strict=True,
    )
)


def sample_spec(rng: random.Random, kind: str | None = None, *, topic: str | None = None) -> Spec:
    """Draw a spec.

    Args:
        rng: Source of randomness.
        kind: One of :data:`KINDS`; drawn uniformly if None.
        topic: Draw the kind among those that suit this topic instead.

    Returns:
        A valid spec.

    Raises:
        UserError: If the kind is unknown.
    """
    if kind is None:
        kind = rng.choice(TOPIC_KINDS.get(topic or "", tuple(KINDS)))
    if kind not in KINDS:
        raise unknown("kind of picture", kind, KINDS)
    return KINDS[kind].sample(rng)


def parse_caption(caption: str) -> Spec | None:
    """The spec that a caption states, or None if it states none of the world."""
    for kind in KINDS.values():
        if (spec := kind.parse(caption)) is not None:
            return spec
    return None


def answer(spec: Spec, question: str) -> str | None:
    """The true answer to a question about a spec, or None if it does not apply."""
    solved = spec.solve(question.strip())
    return solved.answer if solved else None


def truth(proposal: Proposal, level: Question) -> str | None:
    """The true answer to a question of a proposal.

    Returns:
        None if the caption states no picture of the world or the question does not apply
        to it.
    """
    spec = parse_caption(proposal.caption)
    return None if spec is None else answer(spec, proposal.question(level))


__all__ = [
    "KINDS",
    "SIDE",
    "TOPIC_KINDS",
    "Item",
    "Spec",
    "answer",
    "parse_caption",
    "proposal_text",
    "sample_spec",
    "truth",
]
