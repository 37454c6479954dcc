from __future__ import annotations

from itertools import permutations

import pytest

from mmzero_env.errors import UserError
from mmzero_env.grading import GRADING_MODES
from mmzero_env.protocol import Vote
from mmzero_env.voting import agreement, majority


def test_equivalent_answers_vote_together_and_the_first_spelling_wins() -> None:
    assert majority(["42", "42.0", "{42}", "41", None]) == Vote("42", 0.75, 4, 5)


def test_a_tie_goes_to_the_first_group() -> None:
    assert majority(["1", "2", "2", "1"]).winner == "1"


@pytest.mark.parametrize("answer", [None, "", " ", "None", "N/A", "na", "NULL", "unknown", "-"])
def test_non_answers_have_no_vote(answer: str | None) -> None:
    assert majority([answer, answer, "7"]) == Vote("7", 1.0, 1, 3)
    assert majority([answer] * 3) == Vote("", 0.0, 0, 3)


def test_no_answers_at_all() -> None:
    assert majority([]) == Vote("", 0.0, 0, 0)


def test_answers_with_the_word_no_stay_apart() -> None:
    vote = majority(["piano keys", "casino chips", "5", "5"])
    assert vote == Vote("5", 0.5, 4, 4)


def test_sane_votes_do_not_depend_on_the_order() -> None:
    answers = ["1/2", "2/4", "0.5", "3", "4/8"]
    shares = {majority(list(order)).consistency for order in permutations(answers)}
    assert shares == {0.8}
    official = {majority(o, mode="official").consistency for o in permutations(answers)}
    assert len(official) > 1


def test_long_answers_merge_by_prefix_in_official_mode_only() -> None:
    answers = ["word " * 40 + end for end in ("one", "two")]
    assert majority(answers, mode="official").consistency == 1.0
    assert majority(answers).consistency == 0.5


def test_tolerance_groups_close_numbers() -> None:
    answers = ["100", "101", "150"]
    assert majority(answers).consistency == pytest.approx(1 / 3)
    assert majority(answers, tolerance=0.02) == Vote("100", 2 / 3, 3, 3)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(UserError, match="unknown grading mode"):
        majority(["1"], mode="best")  # ty: ignore[invalid-argument-type]


def test_agreement_is_each_answers_share_of_the_valid_ones() -> None:
    given = ["0.5", "red", "1/2", None, "none", "Red"]
    assert agreement(given) == (0.5, 0.5, 0.5, 0.0, 0.0, 0.5)
    assert agreement(["1", "1.01"], tolerance=0.05) == (1.0, 1.0)
    assert agreement([None, ""]) == (0.0, 0.0)
    with pytest.raises(UserError, match="unknown grading mode"):
        agreement([], mode="kind")  # ty: ignore[invalid-argument-type]


def test_agreement_and_majority_tell_the_same() -> None:
    for mode in GRADING_MODES:
        given = ["second", "minute", "4", "4.0", "6/2", "3", None]
        assert max(agreement(given, mode=mode)) == majority(given, mode=mode).consistency
