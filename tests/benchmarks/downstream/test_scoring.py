from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.downstream.driver import FAILED, boxed
from benchmarks.downstream.scoring import Item, grade, is_right, letter_of
from benchmarks.downstream.sets import SETS
from mmzero_env.parsing import extract_boxed

OPTIONS = ("red", "blue", "1/2", "4 cm")
ITEM = Item(0, "?", OPTIONS, "B", {}, ())


@pytest.mark.parametrize(
    ("given", "letter"),
    [
        ("B", "B"),
        ("(b)", "B"),
        ("b.", "B"),
        ("\\text{B}", "B"),
        ("Option B", "B"),
        ("Answer: (B)", "B"),
        ("B. blue", "B"),
        ("(B) blue", "B"),
        ("Blue", "B"),
        ("\\frac{1}{2}", "C"),
        ("0.5", "C"),
        ("4", "D"),
        # A letter with the words of another option names neither.
        ("B. red", None),
        ("E", None),
        ("A blue one", None),
        ("", None),
    ],
)
def test_an_option_is_named_by_letter_or_words(given: str, letter: str | None) -> None:
    assert letter_of(given, OPTIONS) == letter


def test_options_inside_the_question_leave_only_the_letter() -> None:
    assert letter_of("(b)", ()) == letter_of("B: the left one", ()) == "B"
    item = replace(ITEM, options=(), answer="(b)")
    assert is_right(SETS["visnumbench"], item, "B") and not is_right(SETS["mmsi"], item, "a")


def test_words_that_two_options_share_name_none() -> None:
    assert letter_of("red", ("red", "Red")) is None


@pytest.mark.parametrize(
    ("name", "answer", "given", "right"),
    [
        ("mmmu", "B", "blue", True),
        ("mmmu", "B", "A", False),
        ("hallusionbench", "1", "Yes, it is.", True),
        ("hallusionbench", "1", "no", False),
        ("hallusionbench", "0", "No", True),
        ("hallusionbench", "0", "unknown", False),
        ("chartqa", "100", "105", True),
        ("chartqa", "100", "105.1", False),
        ("chartqa", "0", "0.01", False),
        ("chartqa", "Brazil", "brazil", True),
        ("chartqa", "['3', 'three']", "three", True),
        ("mm-vet", "-1<AND>-5", "-5 and -1", True),
        ("mm-vet", "-1<AND>-5", "-1", False),
        ("mm-vet", "a cat<OR>a dog", "It is a dog.", True),
        ("mm-vet", "cat", "a category", False),
    ],
)
def test_every_rule(name: str, answer: str, given: str, right: bool) -> None:
    options = OPTIONS if name == "mmmu" else ()
    item = replace(ITEM, options=options, answer=answer)
    assert is_right(SETS[name], item, given) is right


def test_open_questions_of_mmmu_may_have_several_right_answers() -> None:
    item = replace(ITEM, options=(), answer="['24/7', '3.429']")
    assert is_right(SETS["mmmu"], item, "\\frac{24}{7}")
    assert not is_right(SETS["mmmu"], item, "3.4")


def test_mathvista_rounds_to_the_decimals_asked_for_and_has_words_as_answers() -> None:
    item = Item(0, "?", (), "1.2", {"precision": 1.0}, ())
    assert is_right(SETS["mathvista"], item, "1.24") and not is_right(
        SETS["mathvista"], item, "1.3"
    )
    # The right answer is the option "B", which stands first.
    item = Item(0, "?", ("B", "A"), "B", {}, ())
    assert is_right(SETS["mathvista"], item, "A") and not is_right(SETS["mathvista"], item, "(B)")


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (f"{FAILED} after 3 retries] \\boxed{{B}}", "failed"),
        ("", "empty"),
        (" \n", "empty"),
        ("The answer is B.", "no box"),
        ("\\boxed{}", "no box"),
        ("\\boxed{B", "no box"),
    ],
)
def test_no_answer_is_wrong_and_says_why(text: str, state: str) -> None:
    verdict = grade(SETS["mmmu"], ITEM, text)
    assert not verdict.right and verdict.state == state


def test_the_last_box_counts_with_all_its_braces() -> None:
    item = replace(ITEM, options=(), answer="0.5")
    verdict = grade(SETS["mathverse"], item, "\\boxed{7} no, \\boxed{\\frac{1}{2}}")
    assert verdict.right and verdict.given == "\\frac{1}{2}"


@pytest.mark.parametrize(
    "text", ["\\boxed{7}", "a \\boxed{\\frac{1}{2}} b", "\\boxed{1} \\boxed{ {2} }"]
)
def test_the_box_inside_lmms_eval_is_the_box_here(text: str) -> None:
    assert boxed(text) == extract_boxed(text)


def test_lmms_eval_gets_what_follows_the_thoughts_where_there_is_no_box() -> None:
    assert boxed("<think>A or B</think> B") == "B" and boxed("\\boxed{B") == "\\boxed{B"
