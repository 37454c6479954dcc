"""What the three roles write when they play the world by the book."""

from __future__ import annotations

import random

from mmzero_env.protocol import QUESTIONS
from mmzero_env.world.spec import Item, Spec


def proposal_text(
    spec: Spec,
    rng: random.Random,
    *,
    easy_answer: str | None = None,
    hard_answer: str | None = None,
) -> str:
    """The six tags of a proposal about a spec.

    Args:
        spec: The picture that is proposed.
        rng: Draws the two questions.
        easy_answer: Written instead of the true easy answer.
        hard_answer: Written instead of the true hard answer.

    Returns:
        The tags in the order of the protocol, without white space between them.
    """
    easy, hard = (spec.solve(spec.ask(level, rng)) for level in QUESTIONS)
    assert easy is not None and hard is not None, f"a question of {spec} does not apply to it"
    fields = {
        "content_type": spec.content_type,
        "caption": spec.caption(),
        "easy_question": easy.question,
        "easy_answer": easy.answer if easy_answer is None else easy_answer,
        "hard_question": hard.question,
        "hard_answer": hard.answer if hard_answer is None else hard_answer,
    }
    return "".join(f"<{tag}>{text}</{tag}>" for tag, text in fields.items())


def solution_text(item: Item, *, from_caption: bool = False) -> str:
    """The reasoning and the boxed answer to a question.

    Args:
        item: The question with its reasoning.
        from_caption: Leave out the survey of the picture, which a reader of the
            caption has before his eyes.
    """
    reasoning = f"so {item.steps}" if from_caption and item.listing else item.reasoning
    return f"<think>{reasoning}</think>\\boxed{{{item.answer}}}"
