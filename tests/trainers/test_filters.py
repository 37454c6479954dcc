"""Which pictures the Solver learns from, and by which label."""

from __future__ import annotations

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
    return EpisodeOutcome("e", "t", "", proposal, codes, caption)


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
