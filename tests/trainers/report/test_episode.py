from __future__ import annotations

import html
import re

import numpy as np
import pytest

from tests.trainers.html_page import Page
from tests.trainers.synthetic_run import HANDLER, SCRIPT, episode, failed_episode, world_episode
from trainers import report
from trainers.report.episode import MAX_TEXT, shortened, view
from trainers.report.pictures import Pictures
from trainers.report.waterfall import CLAMPED, waterfall


def words(page: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


def test_one_record_makes_a_page_without_scripts() -> None:
    record = episode(3, np.random.default_rng(0), HANDLER, SCRIPT)
    page = report.episode_page(record, title=SCRIPT)
    parsed = Page(page)
    assert parsed.open == [] and not parsed.named("script") and not parsed.named("img")
    [policy] = [a["content"] for a in parsed.named("meta") if "http-equiv" in a]
    assert policy is not None and "script-src 'none'" in policy
    assert page.count("url(data:image/png;base64,") == 2
    assert not [
        a for _, attrs in parsed.tags for a in attrs if a in ("src", "href") or a[:2] == "on"
    ]


def test_an_episode_goes_from_the_proposal_to_what_was_paid() -> None:
    record = world_episode(7, np.random.default_rng(0), right=False, drawn=(True, False))
    text = words(report.episode_page(record))
    proposal = record["proposal"]
    assert proposal is not None
    order = [
        proposal["caption"],
        proposal["easy_question"],
        proposal["hard_question"],
        "Proposer’s reward +0.70 solvability +0.90 diversity -0.20 reward +0.70",
        "Code 1",
        "SVG <svg",
        "2 answers, easy question",
        f"I count 7</think>\\boxed{{not {proposal['hard_answer']}}}",
        f"hard vote not {proposal['hard_answer']} ✗ false",
        "Coder’s reward +1.50 render +1.00 solvability +0.50 reward +1.50",
        "Code 2",
        "render: malformed xml (no end)",
        "Coder’s reward -0.50",
    ]
    places = [text.index(each) for each in order]
    assert places == sorted(places)
    assert "reward +1.00 = accuracy +0.90, format +0.10" in text


def test_the_truth_is_shown_where_it_is_known() -> None:
    known = view(world_episode(7, np.random.default_rng(0)), Pictures())
    assert [(a.right, a.truth == a.answer) for a in known.asked] == [(True, True)] * 2
    assert [answer.right for _, given in known.codes[0].answers for answer in given] == [
        True,
        False,
        True,
        True,
    ]
    unknown = view(episode(1, np.random.default_rng(0), "bars", "Five bars"), Pictures())
    assert {a.right for a in unknown.asked} == {v.right for v in unknown.codes[0].votes} == {None}
    assert unknown.labels == ()


def test_answers_without_the_picture_are_shown_apart() -> None:
    record = world_episode(7, np.random.default_rng(0))
    record["caption_answers"] = {"easy": ["\\boxed{told}"]}
    record["blind_answers"] = {"hard": ["\\boxed{guess}"] * 2}
    text = words(report.episode_page(record))
    assert "1 answers from the caption alone, easy question told" in text
    assert "2 answers without picture and caption, hard question guess ✗ false" in text


def test_a_failed_proposal_says_why_and_what_was_written() -> None:
    text = words(report.episode_page(failed_episode(1)))
    assert "proposal: missing tag (no <caption>)" in text and "nonsense" in text


def test_a_record_with_a_broken_picture_or_too_few_rewards_is_shown() -> None:
    record = world_episode(7, np.random.default_rng(0))
    record["codes"][0]["png"] = b"not a picture"
    record["codes"][1]["solver_rewards"] = {}
    text = words(report.episode_page(record))
    assert "the recorded picture cannot be read" in text and "Code 2" in text


def test_a_long_text_keeps_its_beginning_and_its_end() -> None:
    text = "a" * 50_000 + "\\boxed{7}"
    short = shortened(text)
    assert len(short) < MAX_TEXT + 100 and short.endswith("\\boxed{7}") and short.startswith("aaa")
    assert f"{len(text) - MAX_TEXT} characters" in short
    assert shortened("b" * MAX_TEXT) == "b" * MAX_TEXT


def test_a_waterfall_goes_from_term_to_term_and_ends_at_the_reward() -> None:
    drawn = waterfall({"value": 0.5, "terms": {"a_b": 1.0, "none": 0.0, "c": -0.5}})
    assert [(b.name, b.value, b.sign) for b in drawn.bars] == [
        ("a b", 1.0, "pos"),
        ("c", -0.5, "neg"),
        ("reward", 0.5, "sum"),
    ]
    assert [(b.start, b.width) for b in drawn.bars] == [(0, 100), (50, 50), (0, 50)]
    assert drawn.zeros == ("none",) and drawn.zero == 0


def test_a_waterfall_names_what_the_limits_of_a_design_held() -> None:
    drawn = waterfall({"value": -1.0, "terms": {"a": -3.0}})
    assert [(b.name, b.value) for b in drawn.bars] == [
        ("a", -3.0),
        (CLAMPED, 2.0),
        ("reward", -1.0),
    ]
    assert drawn.zero == pytest.approx(100)
    assert drawn.bars[1].start == 0 and drawn.bars[1].width == pytest.approx(200 / 3)
    nothing = waterfall({"value": 0.0, "terms": {"a": 0.0}})
    assert [(b.start, b.width) for b in nothing.bars] == [(0, 0)]
