from __future__ import annotations

import pytest

from mmzero_env.leaks import leak_signals, says, word_share, words
from mmzero_env.protocol import Proposal

PROPOSAL = Proposal(
    "data_chart",
    "Bar chart of cups sold: Ana 12, Ben 30, Cy 18.",
    "How many cups did Ana sell?",
    "12",
    "How many more cups did Ben sell than Cy and Ana together would need to match?",
    "0.5",
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("1,200.50 €", ["1200.5"]),
        ("12,34", ["12", "34"]),
        ("Bars A1, B-2", ["bars", "a1", "b", "2"]),
        ("12cm wide", ["12", "cm", "wide"]),
        ("from 3-5 to −7", ["from", "3", "5", "to", "-7"]),
        ("ＦＵＬＬ Ⅳ Straße", ["full", "iv", "strasse"]),
        ("7.0", ["7"]),
        ("...", []),
    ],
)
def test_words_have_a_normal_form(text, normal):
    assert words(text) == normal


@pytest.mark.parametrize(
    ("text", "phrase", "said"),
    [
        ("total: 1,500 cups", "1500", True),
        ("total: 15000", "1500", False),
        ("room A15", "15", False),
        ("it is 15%", "15", True),
        ("New York City", "york city", True),
        ("York, the city", "york city", False),
        ("so → then", "→", True),
        ("anything", "", False),
        ("anything", "  ", False),
        ("minus 5", "-5", False),
        ("at -5 °C", "-5", True),
    ],
)
def test_phrases_are_found_as_whole_words(text, phrase, said):
    assert says(text, phrase) is said


def test_the_hard_answer_in_the_picture_is_a_leak_unless_the_caption_states_it():
    assert leak_signals("Sales Ana Ben Cy 0.50", PROPOSAL).hard_answer
    assert not leak_signals("Sales Ana Ben Cy 10 20 30", PROPOSAL).hard_answer
    stated = Proposal("table", "Cups: Ana 12, Ben 30.", "?", "12", "Who sold most?", "Ben")
    assert not leak_signals("Ana 12 Ben 30", stated).hard_answer


@pytest.mark.parametrize("text", ["Answer below", "the SOLUTION", "therefore x", "all answers"])
def test_words_that_tell(text):
    assert leak_signals(text, PROPOSAL).telltale
    assert not leak_signals("unanswered thereforest resolution", PROPOSAL).telltale


def test_a_printed_question_is_noticed():
    assert word_share(PROPOSAL.hard_question, PROPOSAL.hard_question.upper()) == 1.0
    assert leak_signals(f"Title. {PROPOSAL.hard_question}", PROPOSAL).question_share == 1.0
    assert word_share("Who sold two cups?", "Ana sold cups") == 0.5
    assert word_share("???", "anything") == word_share("", "") == 0.0


def test_known_blind_spots_stay_known():
    """These leak and are not seen; the page of the module says so."""
    hidden = (
        "0 . 5",  # digits spread over elements
        "one half",  # another wording
        "50 %",  # another unit
        "",  # drawn as paths
    )
    for text in hidden:
        assert not leak_signals(text, PROPOSAL).hard_answer
