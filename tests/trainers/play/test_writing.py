from __future__ import annotations

import pytest

from mmzero_env.parsing import extract_boxed, extract_svg, parse_proposal
from mmzero_env.protocol import Proposal
from mmzero_env.rewards.terms import well_formatted
from trainers.play.writing import LONGEST, Mistakes, reasoning, written

PROPOSAL = {
    "content_type": "map",
    "caption": "Two towns:\nA at x < 5, B beside it. <b>bold</b>",
    "easy_question": "Which town is left?",
    "easy_answer": "A",
    "hard_question": "How far is it?",
    "hard_answer": "5",
}


def test_a_proposal_is_read_as_it_was_typed():
    text = written("proposer", PROPOSAL)
    assert isinstance(text, str)
    assert parse_proposal(text) == Proposal(**PROPOSAL)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"caption": "   "}, "caption"),
        ({"hard_answer": ""}, "hard_answer"),
        ({"content_type": "poem"}, "content_type"),
        ({"caption": "one </caption> two"}, "caption"),
        ({"easy_answer": "<hard_answer>7</hard_answer>"}, "hard_answer"),
        ({"caption": "x" * (LONGEST + 1)}, "caption"),
    ],
)
def test_what_would_be_read_otherwise_is_named_by_its_field(changed, field):
    mistakes = written("proposer", PROPOSAL | changed)
    assert isinstance(mistakes, Mistakes)
    assert field in mistakes.by_field


def test_svg_is_handed_in_whole_and_fences_are_refused():
    svg = "<svg viewBox='0 0 9 9'><text>`a``b`</text></svg>"
    text = written("coder", {"svg": f"\n{svg}\n"})
    assert isinstance(text, str)
    assert extract_svg(text) == svg
    for wrong in ("", f"```svg\n{svg}\n```", "<svg>```</svg>"):
        assert isinstance(written("coder", {"svg": wrong}), Mistakes)


@pytest.mark.parametrize("thought", ["", "3 and 4\nmake 7", "I wrote \\boxed{8} first"])
def test_an_answer_has_the_form_that_is_paid_for(thought):
    text = written("solver", {"answer": "7", "reasoning": thought})
    assert isinstance(text, str)
    assert extract_boxed(text) == "7"
    assert well_formatted(text)
    assert reasoning(text) == thought


def test_an_answer_that_is_empty_or_leaves_a_brace_open_is_refused():
    for answer in (" ", "{7", "7}"):
        mistakes = written("solver", {"answer": answer})
        assert isinstance(mistakes, Mistakes) and list(mistakes.by_field) == ["answer"]


def test_an_answer_without_the_form_is_shown_whole():
    assert reasoning("it is 7") == "it is 7"
    assert reasoning("<think>a</think> so \\boxed{7}") == "<think>a</think> so \\boxed{7}"
