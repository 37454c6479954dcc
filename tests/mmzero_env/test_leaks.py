from __future__ import annotations

import pytest

from mmzero_env.leaks import gives_away, leak_signals, run_share, says, word_share, words
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


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("Cups sold Ana 12 Ben 30 Cy 18", False),
        ("Cups sold Ana 12 Ben 30 Cy 18 0.50", True),
        ("Answer: a half", True),
        ("therefore", True),
        ("Bar chart of cups sold", False),
        ("", False),
    ],
)
def test_what_gives_the_answer_away(text, leaks):
    assert gives_away(text, PROPOSAL) is leaks


def test_a_caption_may_ask_for_the_words_that_tell_but_not_for_the_answer():
    quiz = Proposal("table", "Right answers: Ana 12, Ben 30.", "?", "12", "Mean?", "21")
    assert not gives_away("Right answers Ana 12 Ben 30", quiz)
    told = Proposal("table", "Ana 12, Ben 30. Print the answer, 21.", "?", "12", "Mean?", "21")
    assert gives_away("Ana 12 Ben 30 the answer is 21", told)
    # The caption states it, and nothing is announced.
    assert not gives_away("Ana 12 Ben 21", told)


PROSE = "A bar chart of cups sold by the kiosk, and in it four blue bars"
DATA = "Rows: Ana 12 30, Ben 15 31, Cy 18 29, Dee 25 22, Eva 7 9, Flo 3 11."


def test_a_recited_caption_gives_everything_away():
    recited = Proposal("table", PROSE, "?", "4", "How many?", "9")
    assert gives_away(f"{PROSE}.", recited)
    assert not gives_away("Cups sold by the kiosk", recited)


@pytest.mark.parametrize(
    ("caption", "text", "share"),
    [
        (PROSE, f"title {PROSE.upper()}", 1.0),
        (PROSE, PROSE.replace(" and ", " 7 "), 6 / 11),
        (PROSE, "a bar chart of cups sold", 2 / 11),
        (PROSE, "", 0.0),
        (DATA, DATA, 0.0),
        (PROPOSAL.caption, PROPOSAL.caption, 0.0),
        ("...", "...", 0.0),
    ],
)
def test_how_much_of_a_caption_is_recited(caption, text, share):
    assert run_share(caption, text) == share
