"""The newest episode of a window, scored alone: the same rewards at a flat cost."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmzero_env import near_duplicates
from mmzero_env.diversity import shares
from mmzero_env.errors import UserError
from mmzero_env.near_duplicates import last_share
from mmzero_env.protocol import CodeOutcome, Drawing, EpisodeOutcome, Failure, Proposal
from mmzero_env.rewards import DESIGNS, get_design

IMAGE = np.full((2, 2, 3), 255, dtype=np.uint8)
WORDS = st.lists(st.sampled_from("a b c d e".split()), max_size=9).map(" ".join)
LONG = ("the red bar of the chart is twice as tall as the blue one near the left edge").split()


@st.composite
def near_texts(draw: st.DrawFn) -> str:
    """A sentence with a few words replaced or cut, so that distances lie around 0.25."""
    words = list(LONG[: draw(st.integers(12, len(LONG)))])
    for _ in range(draw(st.integers(0, 2))):
        words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from("x y".split()))
    return " ".join(words)


TEXTS = st.one_of(WORDS, near_texts())


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=10), st.sampled_from([0.1, 0.25, 0.5, 0.9, 1.0]))
def test_last_share_is_the_last_of_all_shares(texts: list[str], threshold: float) -> None:
    for size in range(1, len(texts) + 1):
        assert last_share(texts[:size], threshold) == shares(texts[:size], threshold)[-1]


def test_an_impossible_threshold_is_refused() -> None:
    with pytest.raises(UserError, match="threshold"):
        last_share(["a", "b"], 0.0)


@st.composite
def outcomes(draw: st.DrawFn) -> EpisodeOutcome:
    topic = draw(st.sampled_from(["s", "t"]))
    if draw(st.integers(0, 5)) == 0:
        return EpisodeOutcome("e", topic, "", Failure("proposal", "missing_tag"))
    answers = st.lists(st.sampled_from(["1", "2", "1.0", "x", ""]), min_size=2, max_size=2)
    codes = []
    for _ in range(draw(st.integers(0, 2))):
        given_answers = {
            question: tuple(f"<think></think>\\boxed{{{a}}}" for a in draw(answers))
            for question in ("easy", "hard")
        }
        codes.append(CodeOutcome("<svg/>", "<svg/>", Drawing(IMAGE), given_answers))
    proposal = Proposal(
        draw(st.sampled_from(["map", "table"])), draw(TEXTS), draw(TEXTS), "1", draw(TEXTS), "2"
    )
    caption = {"easy": ("\\boxed{1}",), "hard": ("\\boxed{2}",)}
    blind = {"hard": ("\\boxed{2}",)}
    return EpisodeOutcome("e", topic, "", proposal, tuple(codes), caption, blind)


@settings(max_examples=60, deadline=None)
@given(st.lists(outcomes(), min_size=1, max_size=6), st.lists(st.lists(TEXTS), max_size=3))
def test_score_last_is_the_last_of_score(
    population: list[EpisodeOutcome], memory: list[list[str]]
) -> None:
    for name in DESIGNS:
        design = get_design(name, **{"proposer.repetition": -0.2})
        assert design.score_last(population, memory) == design.score(population, memory)[-1]


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(UserError, match="at least one episode"):
        get_design("mm_zero").score_last([])


def test_the_cost_of_an_episode_stays_flat() -> None:
    rng = np.random.default_rng(0)

    def text(length: int) -> str:
        return " ".join(f"w{word}" for word in rng.integers(0, 500, length))

    design = get_design("mm_zero")
    window: deque[EpisodeOutcome] = deque(maxlen=64)
    spent = []
    for _ in range(600):
        proposal = Proposal("map", text(100), text(12), "1", text(15), "2")
        outcome = EpisodeOutcome("e", "t", "", proposal)
        start = time.process_time()
        design.score_last([*window, outcome])
        spent.append(time.process_time() - start)
        window.append(replace(outcome, codes=()))
    early, late = np.median(spent[70:200]), np.median(spent[-130:])
    assert late < 2 * early
    assert late < 0.02


def test_what_is_kept_about_texts_is_bounded() -> None:
    for number in range(2 * near_duplicates.KEPT):
        last_share([f"text {number}", f"text {number} again"])
    info = near_duplicates._profile.cache_info()
    assert info.currsize <= near_duplicates.KEPT
