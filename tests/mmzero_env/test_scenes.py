from __future__ import annotations

import itertools
import random

import pytest

from mmzero_env import world
from mmzero_env.errors import UserError
from mmzero_env.parsing import parse_proposal
from mmzero_env.protocol import Failure, Proposal
from mmzero_env.scenes import (
    AMBIGUOUS,
    COUNTS,
    EXPLOITS,
    KINDS,
    OWN_ANSWERS,
    SIZES,
    TEMPLATES,
    Choices,
    common_error,
    compose,
    read_question,
    template_of,
)
from mmzero_env.world.split import held_out


def scene(kind="bars", size=0, easy=0, hard=0, own="true", exploit="none", seed=0, earlier=()):
    choices = Choices(
        KINDS.index(kind), size, easy, hard, OWN_ANSWERS.index(own), EXPLOITS.index(exploit)
    )
    return compose(choices, random.Random(seed), earlier)


def proposal(made) -> Proposal:
    found = parse_proposal(made.text)
    assert isinstance(found, Proposal)
    return found


def test_every_choice_of_an_honest_scene_is_in_the_proposal_with_its_truth():
    for place, kind in enumerate(KINDS):
        for size, easy, hard in itertools.product(range(2), range(2), range(4)):
            made = compose(Choices(place, size, easy, hard, 0, 0), random.Random(hard))
            found = proposal(made)
            spec = world.parse_caption(found.caption)
            assert spec == made.spec and not held_out(made.spec)
            assert spec.kind == kind and len(spec.entries()) == SIZES[kind][size]
            assert found.content_type == spec.content_type
            for level, template in (("easy", easy), ("hard", hard)):
                question = found.question(level)
                wanted = template % len(TEMPLATES[level][kind])
                assert template_of(kind, level, question) == wanted
                assert made.truth[level] == world.answer(spec, question)
            assert (found.easy_answer, found.hard_answer) == (
                made.truth["easy"],
                made.truth["hard"],
            )
            assert made.good


@pytest.mark.parametrize("kind", KINDS)
def test_the_usual_mistake_is_wrong_and_always_the_same(kind):
    rng = random.Random(3)
    for _ in range(60):
        spec = world.sample_spec(rng, kind)
        for level in ("easy", "hard"):
            question = spec.ask(level, rng)
            error = common_error(spec, question)
            assert error and error != world.answer(spec, question)
            assert error == common_error(spec, question)


def test_a_false_claim_is_never_good_and_the_usual_mistake_is_what_a_reader_makes():
    for seed in range(20):
        false = scene(own="false", seed=seed)
        assert not false.good and proposal(false).easy_answer != false.truth["easy"]
        mistaken = scene(own="common_error", seed=seed)
        found = proposal(mistaken)
        assert not mistaken.good
        assert found.easy_answer == common_error(mistaken.spec, found.easy_question)


def test_exploits_do_what_they_say():
    ambiguous = scene(exploit="ambiguous")
    assert proposal(ambiguous).hard_question == AMBIGUOUS and ambiguous.truth["hard"] is None
    assert read_question(AMBIGUOUS).core == ""

    stated = scene("table", exploit="stated")
    reading = read_question(proposal(stated).hard_question)
    assert reading.stated and world.answer(stated.spec, reading.core) == stated.truth["hard"]
    assert all(entry in proposal(stated).hard_question for entry in stated.spec.entries())

    hint = scene("grid", own="false", exploit="hint")
    reading = read_question(proposal(hint).easy_question)
    assert reading.hint == proposal(hint).easy_answer != hint.truth["easy"]

    same = scene("diagram", exploit="same")
    assert proposal(same).hard_question == proposal(same).easy_question

    assert isinstance(parse_proposal(scene(exploit="malformed").text), Failure)
    assert not any(scene(exploit=name).good for name in EXPLOITS[1:4])


def test_a_repeated_proposal_is_an_earlier_one_word_for_word():
    first = scene("grid", seed=1)
    again = scene("table", exploit="repeat", seed=2, earlier=[first])
    assert again.text == first.text and again.spec == first.spec and not again.good
    assert KINDS[again.choices.kind] == "grid" and EXPLOITS[again.choices.exploit] == "repeat"
    # With nothing to repeat it is a proposal like others.
    assert scene("table", exploit="repeat").good


def test_honest_questions_are_read_as_they_are():
    for text in ("What is the value of the red bar?", "Given nothing, why?", "Which (odd) one?"):
        reading = read_question(text)
        assert (reading.core, reading.stated, reading.hint) == (text, False, None)


@pytest.mark.parametrize("numbers", [[0] * 5, [*COUNTS], [0, 0, 0, 0, 0, -1]])
def test_numbers_that_say_nothing_are_refused(numbers):
    with pytest.raises(UserError, match="expected 6 numbers below 5, 2, 2, 4, 3, 7"):
        Choices.of(numbers)
