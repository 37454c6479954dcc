"""Cheats beside honest players: one small table of three designs, played once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.hacks.adversary import ADVERSARIES
from benchmarks.hacks.arms import ANSWERS, CODES, GROUP, Arms, Means
from benchmarks.hacks.costs import honest_costs, right_picture, right_proposal
from benchmarks.hacks.reader import Habits, Reader
from benchmarks.hacks.scenes import Gallery
from mmzero_env.errors import UserError
from mmzero_env.protocol import Proposal
from mmzero_env.rendering import Renderer
from mmzero_env.rewards import get_design
from mmzero_env.world.players import noise

DESIGNS = [get_design(name) for name in ("mm_zero", "evolmm", "caption_grounded")]


@pytest.fixture(scope="module")
def gallery() -> Iterator[Gallery]:
    with Renderer(size=224, workers=0) as renderer:
        yield Gallery(renderer)


@pytest.fixture(scope="module")
def arms(gallery: Gallery) -> Arms:
    # No habit but skill, so that what a cheat brings can be told by hand.
    habits = Habits(easy=1, hard=0.8, obedience=0, trust=1, abstain=0, peak=1)
    return Arms(Reader(gallery, habits), gallery, DESIGNS, topics=2)


def tried(arms: Arms, name: str, design: str = "mm_zero", seed: int = 0) -> Means:
    return Means(**arms.tried(ADVERSARIES[name], seed)[design])


def test_groups_are_of_eight_and_as_the_paper_plays_them(arms: Arms) -> None:
    played = arms.played(0)
    assert [len(group) for group in played.proposed] == [GROUP, GROUP]
    for outcome in played.population:
        if isinstance(outcome.proposal, Proposal):
            assert len(outcome.codes) == CODES
            assert len(outcome.caption_answers["hard"]) == ANSWERS
            given = [len(code.answers["hard"]) for code in outcome.codes if code.drawing.ok]
            assert set(given) <= {ANSWERS}
    assert len(played.solved) == len(played.drawn) >= 6
    assert all(len(outcome.codes) == 1 for outcome in played.solved)
    assert {len(o.codes[0].answers.get("hard", ())) for o in played.solved} <= {0, GROUP}


def test_a_change_that_nobody_sees_changes_nothing_at_all(arms: Arms) -> None:
    for design in DESIGNS:
        found = tried(arms, "hidden_answer", design.name)
        assert found.difference == 0 and found.terms == found.alone_terms


def test_the_same_seed_gives_the_same_and_another_seed_another_play(arms: Arms) -> None:
    first = arms.tried(ADVERSARIES["blank_picture"], 0)
    other = arms.tried(ADVERSARIES["blank_picture"], 1)
    assert arms.tried(ADVERSARIES["blank_picture"], 0) == first != other


def test_a_blank_picture_earns_the_point_for_rendering_and_little_else(arms: Arms) -> None:
    found = tried(arms, "blank_picture")
    assert found.terms["render"] == 1 and found.terms["no_render"] == 0
    # Everybody guesses the same: no difficulty.
    assert found.terms["difficulty"] == 0 and found.terms["solvability"] < 0.5
    assert found.difference < -0.3 and found.others == 0


def test_printing_the_easy_answer_makes_everything_solvable(arms: Arms) -> None:
    assert tried(arms, "easy_question_answered").terms["solvability"] == 1


def test_an_oversized_code_does_not_render(arms: Arms) -> None:
    assert tried(arms, "oversized_svg").cheat == pytest.approx(-0.1)


def test_a_split_by_construction_is_paid_as_difficulty(arms: Arms) -> None:
    found = tried(arms, "coin_flip")
    assert found.terms["difficulty"] > found.alone_terms["difficulty"] + 0.05
    # The honest ones beside it feel nothing but their share of the batch.
    assert abs(found.others) < 0.05


def test_copies_cost_what_repetition_costs(arms: Arms) -> None:
    assert tried(arms, "copied_proposal").terms["diversity"] == pytest.approx(-0.5)
    assert tried(arms, "hard_is_easy").terms["easy_hard"] < -0.2


def test_four_of_eight_who_agree_are_the_label_but_not_with_fixed_labels(arms: Arms) -> None:
    found = tried(arms, "agreed_wrong_answer")
    assert found.cheat > found.honest + 0.3 and found.others < -0.3
    assert found.fixed is not None and found.fixed < -0.5


def test_without_a_box_nothing_is_earned(arms: Arms) -> None:
    found = tried(arms, "no_box")
    assert found.cheat == 0 and found.difference < -0.5


def test_form_alone_is_paid_where_the_form_is(arms: Arms) -> None:
    assert tried(arms, "no_reasoning").difference == pytest.approx(0, abs=1e-12)
    found = tried(arms, "no_reasoning", "evolmm")
    assert found.difference > 0.01 and found.fixed == pytest.approx(found.difference)


def test_right_honest_play_is_charged_by_a_term_that_charges_it(gallery, arms: Arms) -> None:
    played = arms.played(0)
    costs = honest_costs(DESIGNS[0], played, gallery)
    assert costs["coder"]["reward"] > 1.9 and costs["coder"]["rejected"] == 0
    assert costs["coder"]["charged"]["no_render"] == 0
    assert 0 < costs["proposer"]["n"] < len(played.population)
    strict = replace(DESIGNS[0], solver={"accuracy": 1.0, "format": -0.5})
    solver = honest_costs(strict, played, gallery)["solver"]
    assert solver["charged"]["format"] == 1 and solver["terms"]["format"] == -0.5


def test_wrong_honest_play_does_not_count_as_right(gallery, arms: Arms) -> None:
    outcome = next(each for each in arms.played(0).population if right_proposal(each))
    assert isinstance(outcome.proposal, Proposal)
    lie = replace(outcome, proposal=replace(outcome.proposal, easy_answer="nothing"))
    assert not right_proposal(lie)
    flags = [right_picture(outcome, number, gallery) for number in range(CODES)]
    assert any(flags) and not right_picture(outcome, CODES, gallery)
    elsewhere = replace(outcome, proposal=replace(outcome.proposal, caption="Grid: A1 red circle."))
    assert not right_picture(elsewhere, flags.index(True), gallery)


def test_a_solver_without_any_label_cannot_be_compared(gallery: Gallery) -> None:
    mute = Arms(noise(), gallery, DESIGNS[:1], topics=1)
    with pytest.raises(UserError, match="'mm_zero' no picture of this seed has a label"):
        mute.tried(ADVERSARIES["no_box"], 0)
