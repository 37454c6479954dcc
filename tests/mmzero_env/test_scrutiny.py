"""What a design looks into beyond the answers, one check at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmzero_env.errors import UserError
from mmzero_env.protocol import CodeOutcome, Drawing, EpisodeOutcome, Failure, Proposal, Question
from mmzero_env.rewards import DESIGNS, get_design, population
from mmzero_env.rewards.scrutiny import asks_something, leaks

IMAGE = np.full((2, 2, 3), 255, dtype=np.uint8)
PROPOSAL = Proposal("map", "Two towns by a lake", "How many towns?", "2", "Times three?", "6")
LEAKING = '<svg viewBox="0 0 9 9"><text y="9">six 6</text></svg>'


def boxed(answers: str) -> tuple[str, ...]:
    return tuple(f"<think>x</think>\\boxed{{{answer}}}" for answer in answers.split())


def code(easy: str = "2 2 2", hard: str = "6 6 5", svg: str = "<svg/>") -> CodeOutcome:
    answers: dict[Question, tuple[str, ...]] = {"easy": boxed(easy), "hard": boxed(hard)}
    return CodeOutcome(svg, svg, Drawing(IMAGE), answers)


def outcome(*codes: CodeOutcome, proposal: Proposal = PROPOSAL, blind: str = "1 2 3"):
    return EpisodeOutcome("e", "t", "", proposal, codes, blind_answers={"hard": boxed(blind)})


def scored(name_or_design, *codes: CodeOutcome, **rest):
    design = get_design(name_or_design) if isinstance(name_or_design, str) else name_or_design
    return design.score([outcome(*codes, **rest)])[0]


def test_designs_that_ask_for_nothing_look_at_nothing(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("nobody asked for it")

    for name in ("text_of", "gives_away"):
        monkeypatch.setattr(f"mmzero_env.rewards.scrutiny.{name}", refuse)
    for name in DESIGNS:
        if DESIGNS[name].label_source == "image":
            assert scored(name, code(svg=LEAKING), blind="6 6 6").codes[0].labels
            with_blind = scored(name, code(), blind="6 6 6")
            without = DESIGNS[name].score([replace(outcome(code()), blind_answers={})])[0]
            assert replace(with_blind, blind_votes={}) == without
    weighed = get_design("mm_zero", **{"coder.leak": -1.0})
    with pytest.raises(AssertionError, match="nobody asked"):
        scored(weighed, code())


BARS = (
    '<svg viewBox="0 0 96 96"><rect fill="red" x="6" y="45" width="16" height="45"/>'
    '<rect fill="blue" x="28" y="27" width="16" height="63"/>'
    '<rect fill="green" x="50" y="72" width="16" height="18"/></svg>'
)


def seen(*values: int) -> str:
    said = ", ".join(
        f"{name} {value}" for name, value in zip(("red", "blue"), values, strict=False)
    )
    return f"<think>I see {said}, green 2</think>\\boxed{{6}}"


def test_false_claims_about_the_picture_cost_their_share():
    texts = (seen(5, 7), seen(5, 6), "<think>I am sure</think>\\boxed{6}")
    answers: dict[Question, tuple[str, ...]] = {"easy": boxed("2 2 2"), "hard": texts}
    drawn = replace(code(svg=BARS), answers=answers)
    design = get_design("mm_zero", **{"solver.grounding": -0.3})
    rewards = scored(design, drawn).codes[0].solver["hard"]
    assert [turn.terms["grounding"] for turn in rewards] == pytest.approx([0, -0.3 / 3, 0])
    assert [turn.value for turn in rewards] == pytest.approx([1, 0.9, 1])
    assert design.solver_rewards(texts, "6", BARS) == rewards
    # Without a code, for Python, and where the guard refuses it, nothing can be checked.
    for other in (replace(drawn, form="python"), replace(drawn, code=f"{BARS}<")):
        turns = scored(design, other).codes[0].solver["hard"]
        assert [turn.terms["grounding"] for turn in turns] == [0, 0, 0]
    assert [turn.value for turn in design.solver_rewards(texts, "6")] == [1, 1, 1]


def test_a_scene_is_read_once_a_code_and_only_if_it_is_weighed(monkeypatch):
    read: list[str] = []
    monkeypatch.setattr(
        "mmzero_env.rewards.design.read_scene",
        lambda svg: read.append(svg) or Failure("render", "x"),
    )
    broken = CodeOutcome("", "<svg", Drawing(None, Failure("render", "x")))
    codes = (code(svg=BARS), code(svg=LEAKING), broken)
    for name in DESIGNS:
        if DESIGNS[name].label_source == "image":
            scored(name, *codes)
    assert read == []
    grounded = get_design("mm_zero", use_leaked=False, **{"solver.grounding": -0.2})
    scored(grounded, *codes)
    # The one that leaks is not used: its answers earn nothing anyway.
    assert read == [BARS]


def test_a_leak_costs_both_who_made_it_and_takes_the_picture_out_if_told_to():
    weights = {"coder.leak": -1.0, "proposer.leak": -0.5}
    broken = CodeOutcome(LEAKING, LEAKING, Drawing(None, Failure("render", "x")))
    codes = (code(svg=LEAKING), code(), broken)
    rewards = scored(get_design("mm_zero", **weights), *codes)
    assert [each.coder.terms["leak"] for each in rewards.codes] == [-1, 0, 0]
    assert rewards.proposer.terms["leak"] == pytest.approx(-0.5 / 3)
    assert all(each.labels for each in rewards.codes[:2])
    strict = scored(get_design("mm_zero", use_leaked=False), *codes)
    assert [bool(each.labels) for each in strict.codes] == [False, True, False]
    assert [turn.value for turn in strict.codes[0].solver["hard"]] == [0, 0, 0]
    assert strict.codes[0].solvability == 1 and strict.codes[0].difficulty == 0


def test_python_and_what_the_guard_refuses_has_no_text_that_leaks():
    assert leaks(code(svg=LEAKING), PROPOSAL)
    assert not leaks(replace(code(svg=LEAKING), form="python"), PROPOSAL)
    assert not leaks(replace(code(svg=LEAKING), code=None, form=None), PROPOSAL)
    assert not leaks(code(svg=f"{LEAKING}<"), PROPOSAL)


@pytest.mark.parametrize(
    ("blind", "share", "used"),
    [
        ("1 2 3", 0, True),
        ("6 1 2", 1 / 3, True),
        ("6 6 1", 2 / 3, False),
        ("6 none none", 1 / 3, False),
        ("1 1 6", 1 / 3, True),
        ("none none none", 0, True),
    ],
)
def test_a_question_that_is_solved_blind(blind: str, share: float, used: bool):
    design = get_design("mm_zero", blind_limit=0.5, **{"proposer.blind": -1.0})
    rewards = scored(design, code(), code(hard="5 5 6"), blind=blind)
    # The label of the second picture is 5, which nobody guesses.
    assert rewards.proposer.terms["blind"] == pytest.approx(-share / 2)
    assert [bool(each.labels) for each in rewards.codes] == [used, True]
    assert rewards.codes[1].labels["hard"].winner == "5"


def test_a_label_needs_as_many_voters_as_it_is_told_to():
    for least, kept in ((0.0, True), (2 / 3, True), (0.67, False), (1.0, False)):
        design = get_design("mm_zero", label_consistency=least)
        rewards = scored(design, code())
        assert ("hard" in rewards.codes[0].labels) is kept
        assert design.label(boxed("6 6 5")) == ("6" if kept else None)
        # Of the answers that say nothing two are lacking.
        assert design.label(boxed("6 none none")) == ("6" if least == 0 else None)
    assert "easy" in rewards.codes[0].labels


@pytest.mark.parametrize(
    ("change", "label", "asks"),
    [
        ({}, "6", True),
        ({"hard_question": "how many TOWNS"}, "6", False),
        ({"hard_question": "How many towns and lakes?"}, "6", True),
        ({"hard_answer": "N/A"}, "6", False),
        ({"hard_answer": " "}, "6", False),
        ({}, "cannot be determined", False),
        ({}, "It can\u2019t be told", False),
        ({}, "Not enough information", False),
        ({}, "No picture", False),
        ({}, "Canton", True),
        ({}, "not yellow", True),
    ],
)
def test_what_is_no_question(change: dict, label: str, asks: bool):
    assert asks_something(replace(PROPOSAL, **change), label) is asks


def test_an_easy_answer_that_says_nothing_is_matched_by_nothing_if_told_to():
    nothing = replace(PROPOSAL, easy_answer="None")
    for strict, solvability in ((False, 1), (True, 0)):
        design = get_design("mm_zero", strict_questions=strict)
        rewards = scored(design, code(easy="None None"), proposal=nothing)
        assert rewards.codes[0].solvability == solvability
        assert rewards.codes[0].coder.terms["solvability"] == solvability


def test_fidelity_is_the_share_of_all_answers_that_equal_the_label():
    design = get_design("caption_grounded", **{"coder.fidelity": 1.0}, fidelity_cap=0.7)
    for hard, value in (
        ("6 6 6", 0.7),
        ("6 5 5", 1 / 3),
        ("6 none none", 1 / 3),
        ("none none none", 0),
    ):
        told: dict[Question, tuple[str, ...]] = {"easy": boxed("2 2"), "hard": boxed("6 6")}
        played = replace(outcome(code(hard=hard)), caption_answers=told)
        (rewards,) = design.score([played])
        assert rewards.codes[0].coder.terms["fidelity"] == pytest.approx(value)
    unused = replace(outcome(code(easy="3 3 3")), caption_answers=told)
    assert design.score([unused])[0].codes[0].coder.terms["fidelity"] == 0


def test_blind_answers_must_be_there():
    design = get_design("mm_zero", **{"proposer.blind": -1.0})
    with pytest.raises(UserError, match=r"blind_answers=design\.blind_answers"):
        design.score([replace(outcome(code()), blind_answers={})])
    only_easy = replace(code(), answers={"easy": boxed("2")})
    assert design.score([replace(outcome(only_easy), blind_answers={})])[0].codes[0].labels


def test_captions_with_the_same_figures_are_paraphrases():
    one = "Ana 12, Ben 30, Cy 18, Dee 25, 1,000 in all"
    two = "In all 1000 cups: 25, 18, 30.0 and 12 of them by Dee, Cy, Ben and Ana"
    near = "Ana 12, Ben 30, Cy 18, Dee 26, 2000 in all"
    few = "Ana 12, Ben 30"
    # 3 of 7 figures are shared with the near one.
    captions = [one, few, near, few, two]
    assert population.paraphrases(captions, [], 0.6) == [1, 0, 0, 0, 1]
    assert population.paraphrases(captions, [], 3 / 7) == [1, 0, 1, 0, 1]
    assert population.paraphrases([one, few], [two, few], 0.6) == [1, 0]
    assert population.paraphrases([one], [], 0.6) == population.paraphrases([few], [few], 0.6)
    for size in range(1, 6):
        for memory in ([], [near, two]):
            every = population.paraphrases(captions[:size], memory, 0.6)
            assert population.last_paraphrase(captions[:size], memory, 0.6) == every[-1]
    assert population.paraphrases([], [one], 0.6) == []
    long = f"{one} {'word ' * 9000}"
    assert population.paraphrases([long, two], [], 0.6) == [1, 1]
