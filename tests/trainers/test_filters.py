"""Which pictures the Solver learns from, and by which label."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmzero_env.protocol import CodeOutcome, Drawing, EpisodeOutcome, Failure, Proposal, Question
from mmzero_env.rewards import get_design
from trainers.filters import solver_prompts
from trainers.run_config import FilterConfig

PROPOSAL = Proposal("map", "Two towns by a lake", "How many towns?", "2", "Times three?", "6")
IMAGE = np.full((2, 2, 3), 255, dtype=np.uint8)


def boxed(answers: str) -> tuple[str, ...]:
    return tuple(f"\\boxed{{{answer}}}" for answer in answers.split())


def outcome(easy: str, hard: str, proposal: Proposal | Failure = PROPOSAL) -> EpisodeOutcome:
    answers: dict[Question, tuple[str, ...]] = {"easy": boxed(easy), "hard": boxed(hard)}
    caption: dict[Question, tuple[str, ...]] = {"easy": boxed("2 2"), "hard": boxed("6 6")}
    codes = (CodeOutcome("", "<svg/>", Drawing(IMAGE), answers),)
    blind: dict[Question, tuple[str, ...]] = {"hard": boxed("1 2 3")}
    return EpisodeOutcome("e", "t", "", proposal, codes, caption, blind)


LEAKING = '<svg viewBox="0 0 9 9"><text y="9">{}</text></svg>'


@pytest.mark.parametrize(
    ("changes", "blind", "svg", "trained"),
    [
        ({}, "1 2 3", LEAKING.format("2"), True),
        ({}, "1 2 3", LEAKING.format("6"), False),
        ({"use_leaked": True}, "1 2 3", LEAKING.format("6"), True),
        ({}, "6 6 3", "<svg/>", False),
        ({"blind_limit": 1.0}, "6 6 6", "<svg/>", True),
        ({}, "3 3 6", "<svg/>", True),
    ],
)
def test_the_solver_is_not_trained_on_what_is_not_used(
    changes: dict, blind: str, svg: str, trained: bool
) -> None:
    played = outcome("2 2 2", "6 6 5")
    codes = (replace(played.codes[0], code=svg),)
    played = replace(played, codes=codes, blind_answers={"hard": boxed(blind)})
    design = get_design("audited", **changes)
    kept = solver_prompts([played], design.score([played]), FilterConfig(), design)
    assert [(row.label, row.svg) for row in kept] == ([("6", svg)] if trained else [])


@pytest.mark.parametrize(
    ("easy", "hard", "by_image", "by_caption"),
    [
        ("2 2 2", "5 5 6", "5", "6"),
        ("2 2 2", "6 6 5", "6", "6"),
        ("3 3 3", "5 5 6", "5", None),
        ("2 2 2", "6 6 6", None, None),
        ("2 2 2", "5 5 5", None, None),
        ("2 2 2", "none none", None, None),
        ("1 2 3", "5 5 6", None, None),
    ],
)
def test_labels_by_picture_and_by_caption(
    easy: str, hard: str, by_image: str | None, by_caption: str | None
) -> None:
    played = [outcome(easy, hard)]
    for name, label in (("mm_zero", by_image), ("caption_grounded", by_caption)):
        kept = solver_prompts(
            played, get_design(name).score(played), FilterConfig(), get_design(name)
        )
        assert [row.label for row in kept] == ([] if label is None else [label])
        assert all(row.id == "e/0" and row.image is IMAGE for row in kept)


def test_failures_give_no_prompt() -> None:
    failed = EpisodeOutcome("f", "t", "", Failure("proposal", "missing_tag"))
    scored = get_design("mm_zero").score([failed])
    assert solver_prompts([failed], scored, FilterConfig(), get_design("mm_zero")) == []
