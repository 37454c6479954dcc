"""The probe: held-out pictures whose questions have true answers."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from mmzero_env import world
from mmzero_env.errors import UserError
from mmzero_env.protocol import QUESTIONS, Proposal, Question
from mmzero_env.world.spec import Item, Spec
from mmzero_env.world.split import draw


@dataclass(frozen=True)
class ProbeItem:
    """One held-out picture with an easy and a hard question.

    Attributes:
        id: Stable name, ``"probe/17"``.
        spec: The truth behind the picture.
        questions: The easy and the hard question with reasoning and true answer.
    """

    id: str
    spec: Spec
    questions: Mapping[Question, Item]

    def proposal(self) -> Proposal:
        """The item as a perfect Proposer would have written it."""
        easy, hard = self.questions["easy"], self.questions["hard"]
        return Proposal(
            self.spec.content_type,
            self.spec.caption(),
            easy.question,
            easy.answer,
            hard.question,
            hard.answer,
        )


def probe_items(count: int, seed: int = 0) -> list[ProbeItem]:
    """Draw probe items, the same for the same arguments, kinds in equal shares.

    Args:
        count: Number of items, at least one a kind.
        seed: Another seed gives another probe.

    Raises:
        UserError: If ``count`` is smaller than the number of kinds.
    """
    kinds = tuple(world.KINDS)
    if count < len(kinds):
        raise UserError(f"expected at least {len(kinds)} probe items, one a kind, got {count}")
    rng = random.Random(f"probe/{seed}")
    return [_item(i, kinds[i % len(kinds)], rng) for i in range(count)]


def _item(index: int, kind: str, rng: random.Random) -> ProbeItem:
    spec = draw(rng, lambda r: world.sample_spec(r, kind), probe=True)
    questions: dict[Question, Item] = {}
    for level in QUESTIONS:
        item = spec.solve(spec.ask(level, rng))
        assert item is not None, f"a question of {spec} does not apply to it"
        questions[level] = item
    return ProbeItem(f"probe/{index}", spec, questions)
