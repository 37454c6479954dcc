from __future__ import annotations

import math
import pickle
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from mmzero_env.errors import UserError
from mmzero_env.parsing import extract_svg, parse_proposal
from mmzero_env.protocol import (
    CodeOutcome,
    Drawing,
    EpisodeOutcome,
    Failure,
    Proposal,
    Question,
    Vote,
)
from mmzero_env.rewards import DESIGNS, RewardDesign, get_design, population, register, terms
from mmzero_env.rewards.evidence import CodeEvidence, ProposalEvidence, code_evidence

IMAGE = np.full((2, 2, 3), 255, dtype=np.uint8)
PROPOSAL = Proposal("map", "Two towns by a lake", "How many towns?", "2", "Times three?", "6")
SVG = "```svg\n<svg><rect/></svg>\n```"


def solved(answer: str) -> str:
    return f"<think>look</think>\\boxed{{{answer}}}"


def code(easy: list[str], hard: list[str], text: str = SVG) -> CodeOutcome:
    answers: dict[Question, tuple[str, ...]] = {"easy": tuple(easy), "hard": tuple(hard)}
    return CodeOutcome(text, extract_svg(text), Drawing(IMAGE), answers)


def failed(text: str = SVG) -> CodeOutcome:
    failure = Failure("render", "invalid_xml")
    return CodeOutcome(text, extract_svg(text), Drawing(None, failure))


def episode(
    name: str,
    *codes: CodeOutcome,
    proposal: Proposal | Failure = PROPOSAL,
    topic: str = "topic",
    caption: tuple[list[str], list[str]] | None = None,
) -> EpisodeOutcome:
    easy, hard = caption or (RIGHT, SPLIT)
    answers: dict[Question, tuple[str, ...]] = {"easy": tuple(easy), "hard": tuple(hard)}
    blind: dict[Question, tuple[str, ...]] = {"hard": (solved("none"),)}
    return EpisodeOutcome(name, topic, "text", proposal, codes, answers, blind)


def votes(*sizes: int) -> Vote:
    return Vote("x", max(sizes) / sum(sizes), sum(sizes), sum(sizes))


RIGHT = [solved("2")] * 4 + [solved("3")]
SPLIT = [solved("6")] * 3 + [solved("5")] * 2


def test_proposer_reward_by_hand() -> None:
    outcome = episode("e", code(RIGHT, SPLIT), failed())
    (rewards,) = get_design("mm_zero").score([outcome])
    # Two codes: min(0.8, 0.5) / 2 + min(0.6, 0.4) / 2; 0.4 is no easy hard question.
    assert rewards.proposer.terms["solvability"] == pytest.approx(0.25)
    assert rewards.proposer.terms["difficulty"] == pytest.approx(0.2)
    assert rewards.proposer.value == pytest.approx(0.45)
    assert rewards.codes[0].solvability == pytest.approx(0.8)
    assert rewards.codes[0].difficulty == pytest.approx(0.4)


def test_coder_reward_by_hand() -> None:
    outcome = episode(
        "e", code(RIGHT, SPLIT), failed(), failed("no code"), failed("```svg\nwords\n```")
    )
    (rewards,) = get_design("mm_zero").score([outcome])
    values = [c.coder.value for c in rewards.codes]
    assert values == pytest.approx([1 + 0.8 + 0.4, -0.1, -0.5, -0.5])
    assert rewards.codes[2].coder.terms["no_code"] == pytest.approx(-0.05)
    assert rewards.codes[3].coder.terms["no_code"] == 0
    assert rewards.codes[1].votes == {} and rewards.codes[1].solver == {}


def test_solver_is_paid_for_the_silver_label_even_if_the_truth_differs() -> None:
    outcome = episode("e", code(RIGHT, [solved("5")] * 3 + [solved("6"), "\\boxed{5}"]))
    (rewards,) = get_design("mm_zero").score([outcome])
    hard = rewards.codes[0].solver["hard"]
    assert rewards.codes[0].votes["hard"].winner == "5"
    assert [turn.value for turn in hard] == pytest.approx([1, 1, 1, 0.1, 0.9])
    assert hard[0].terms == pytest.approx({"accuracy": 0.9, "format": 0.1})


def test_malformed_proposal_gets_minus_one_and_no_other_term() -> None:
    bad = episode("bad", proposal=Failure("proposal", "missing_tag"))
    good = episode("good", code(RIGHT, SPLIT))
    rewards = get_design("mm_zero").score([bad, good])
    assert rewards[0].proposer.value == -1.0
    assert {k: v for k, v in rewards[0].proposer.terms.items() if v} == {"format": -1.0}
    assert rewards[1].proposer.value == pytest.approx(0.9)


def test_unboxed_answers_count_in_solvability_but_have_no_vote_and_no_label() -> None:
    mute = ["I do not know"] * 5
    outcome = episode("e", code([*mute[:4], solved("2")], mute))
    (rewards,) = get_design("mm_zero").score([outcome])
    assert rewards.codes[0].solvability == pytest.approx(0.2)
    assert rewards.codes[0].votes["easy"] == Vote("2", 1.0, 1, 5)
    assert rewards.codes[0].votes["hard"] == Vote("", 0.0, 0, 5)
    assert all(turn.value == 0 for turn in rewards.codes[0].solver["hard"])
    # Difficulty 0 everywhere, so the hard question counts as too easy.
    assert rewards.proposer.terms["easy_hard"] == pytest.approx(-0.3)


def test_none_is_no_answer_that_silence_could_give() -> None:
    proposal = replace(PROPOSAL, easy_answer="None")
    outcome = episode("e", code(["nothing"] * 4 + [solved("None")], SPLIT), proposal=proposal)
    (rewards,) = get_design("mm_zero").score([outcome])
    assert rewards.codes[0].solvability == pytest.approx(0.2)
    assert get_design("mm_zero").solver_reward("no box", "None").value == 0


def test_an_empty_box_cannot_agree_with_an_empty_label() -> None:
    (rewards,) = get_design("mm_zero").score([episode("e", code([solved("")] * 5, SPLIT))])
    assert [t.terms["accuracy"] for t in rewards.codes[0].solver["easy"]] == [0.0] * 5


@pytest.mark.parametrize(
    ("field", "term"),
    [("easy_answer", "solvability"), ("easy_question", "solvability"),
     ("hard_question", "difficulty")],
)  # fmt: skip
def test_empty_texts_earn_nothing_and_leak_no_minus_one(field: str, term: str) -> None:
    outcome = episode("e", code([solved("")] * 5, SPLIT), proposal=replace(PROPOSAL, **{field: ""}))
    (rewards,) = get_design("mm_zero").score([outcome])
    assert rewards.proposer.terms[term] == 0
    assert rewards.codes[0].coder.terms[term] == 0
    assert rewards.codes[0].coder.value >= 1


def test_no_codes_count_as_one() -> None:
    (rewards,) = get_design("mm_zero").score([episode("e")])
    assert rewards.proposer.value == 0 and rewards.codes == ()


def test_terms_add_up_to_the_value() -> None:
    population = [episode(str(i), code(RIGHT, SPLIT), failed("x")) for i in range(3)]
    for design in DESIGNS.values():
        for rewards in design.score(population):
            parts = sum(rewards.proposer.terms.values())
            assert rewards.proposer.value == pytest.approx(parts)
            assert set(rewards.proposer.terms) == set(design.proposer)
            assert all(math.isfinite(c.coder.value) for c in rewards.codes)


def test_near_duplicates_are_penalised_together() -> None:
    other = replace(
        PROPOSAL,
        content_type="table",
        caption="Nine rows of numbers about ships",
        easy_question="What stands in the first row?",
        hard_question="Which row adds up to twenty?",
    )
    long = replace(PROPOSAL, easy_question="How many towns are drawn?", hard_question="a b c d")
    population = [episode(str(i), proposal=p) for i, p in enumerate((long, long, other, other))]
    lone = get_design("mm_zero").score(population[:1] + population[2:3])
    twice = get_design("mm_zero").score(population)
    assert [r.proposer.terms["diversity"] for r in lone] == [0, 0]
    assert [r.proposer.terms["diversity"] for r in twice] == pytest.approx([-0.5] * 4)


def test_malformed_proposals_are_outside_the_population_terms() -> None:
    bad = [episode(f"b{i}", proposal=Failure("proposal", "missing_tag")) for i in range(3)]
    types = ["map", "map", "map", "table"]
    good = [
        episode(str(i), proposal=replace(PROPOSAL, content_type=t, caption=f"{i} " * 5))
        for i, t in enumerate(types)
    ]
    rewards = get_design("mm_zero").score([bad[0], *good, *bad[1:]])
    balance = [r.proposer.terms["content_balance"] for r in rewards]
    assert balance == pytest.approx([0, *[-0.15 * 0.5] * 3, 0, 0, 0])


def test_repetition_compares_with_remembered_captions() -> None:
    design = get_design("mm_zero", **{"proposer.repetition": -0.2})
    seen = [ProposalEvidence(PROPOSAL)]
    memory = [["something else entirely different"], [PROPOSAL.caption]]
    (reward,) = design.proposer_rewards(seen, memory)
    assert reward.terms["repetition"] == pytest.approx(-0.2)
    short = design.with_overrides(memory_steps=1).proposer_rewards(seen, memory[::-1])
    assert short[0].terms["repetition"] == 0
    assert "repetition" not in get_design("mm_zero").proposer_rewards(seen, memory)[0].terms


def test_repetition_may_stop_at_the_first_similar_caption() -> None:
    caption = "one two three four five six seven eight nine ten eleven twelve"
    near = caption + " extra"
    (stopped,) = population.repetition([caption], [near, caption], enough=0.9)
    (largest,) = population.repetition([caption], [near, caption], enough=1.0)
    assert 0.9 < stopped < largest == pytest.approx(1.0)
    assert population.repetition([caption], [], 1.0) == [0.0]


@pytest.mark.parametrize(
    ("sizes", "value"),
    [((5,), Fraction(0)), ((3, 2), Fraction(2, 5)), ((1, 1, 1, 1, 1), Fraction(1, 5)),
     ((1, 1), Fraction(1, 2)), ((1, 1, 1), Fraction(1, 3))],
)  # fmt: skip
def test_difficulty_is_exact(sizes: tuple[int, ...], value: Fraction) -> None:
    assert terms.difficulty(votes(*sizes)) == value
    share = Fraction(max(sizes), sum(sizes))
    assert terms.learnability(votes(*sizes)) == 4 * share * (1 - share)


def test_the_threshold_is_exact_unless_the_published_rounding_is_asked_for() -> None:
    high = [votes(4, 1)] * 3 + [votes(5)]
    low = [votes(1, 1, 1, 1, 1)] * 3 + [votes(5)]
    assert terms.too_easy(high, 0.15) == terms.too_easy(low, 0.15) == 0.0
    assert terms.too_easy(high, 0.15, exact=False) == 1.0
    assert terms.too_easy(low, 0.15, exact=False) == 0.0
    assert terms.too_easy([votes(5)], 0.15) == 1.0
    assert terms.too_easy([], 0.15) == 0.0


def test_over_representation() -> None:
    types = ["map"] * 3 + ["table"]
    assert population.over_representation(types, 0.5) == pytest.approx([0.5, 0.5, 0.5, 0])
    assert population.over_representation(["map"] * 4, 0.5) == [0.0] * 4
    assert population.over_representation([], 0.5) == []


FORMATS = [
    ("<think>a</think>\\boxed{1}", True, True),
    (" \n<think></think> \n \\boxed{\\frac{1}{2}} \n", True, True),
    ("< think >a</ think >\\boxed{1}", True, True),
    ("<think>a</think>\\boxed{1} \\boxed{2}", True, True),
    ("<think>a</think>\\boxed{1}.", False, True),
    ("<think>a</think>\\[\\boxed{1}\\]", False, True),
    ("<think>a</think>**\\boxed{1}**", False, True),
    ("<think>a</think>\n$\\boxed{1}$.", False, True),
    ("<think>a</think> so \\boxed{1}", False, False),
    ("<think>a</think>\\boxed{1} ok", False, False),
    ("<think>so \\boxed{1}</think>", False, False),
    ("I think <think>a</think>\\boxed{1}", False, False),
    ("\\boxed{1}", False, False),
    ("<think>a</think>", False, False),
    ("<think>a</think>\\boxed{", False, False),
    ("", False, False),
]


@pytest.mark.parametrize(("text", "strict", "lenient"), FORMATS)
def test_format(text: str, strict: bool, lenient: bool) -> None:
    assert terms.well_formatted(text, strict=True) == strict
    assert terms.well_formatted(text) == lenient


def test_solver_reward_against_a_fixed_label() -> None:
    design = get_design("mm_zero")
    assert design.solver_reward(solved("7/2"), "3.5").value == pytest.approx(1.0)
    assert design.solver_reward("\\boxed{3.5}", "3.5").value == pytest.approx(0.9)
    assert design.solver_reward(solved("4"), "3.5").value == pytest.approx(0.1)
    official = get_design("mm_zero_official")
    assert official.solver_reward(solved("6/2"), "3").value == pytest.approx(0.1)


def test_official_design_grades_as_published() -> None:
    outcome = episode("e", code(RIGHT, [solved(w) for w in ("second", "minute", "hour", "4", "5")]))
    sane, official = (
        get_design(name).score([outcome])[0].codes[0] for name in ("mm_zero", "mm_zero_official")
    )
    assert sane.votes["hard"].consistency == pytest.approx(0.2)
    assert official.votes["hard"].consistency == pytest.approx(0.6)


def test_variants_change_what_they_say() -> None:
    outcome = episode("e", code([solved("2")] * 5, SPLIT))
    by_name = {n: get_design(n).score([outcome])[0].proposer for n in DESIGNS}
    assert by_name["mm_zero"].terms["solvability"] == pytest.approx(0.5)
    assert by_name["no_solvability_cap"].terms["solvability"] == pytest.approx(1.0)
    assert by_name["learnability"].terms["learnability"] == pytest.approx(0.96)
    assert by_name["learnability"].terms["difficulty"] == 0
    twins = [episode("a"), episode("b")]
    assert get_design("mm_zero").score(twins)[0].proposer.terms["diversity"] < 0
    assert get_design("no_diversity").score(twins)[0].proposer.terms["diversity"] == 0


def test_overrides_change_constants_and_weights_and_leave_the_registry_alone() -> None:
    design = get_design("mm_zero", solvability_cap=0.7, **{"solver.format": 0.0})
    assert design.constants.solvability_cap == 0.7
    assert design.solver_reward(solved("1"), "1").value == pytest.approx(0.9)
    assert get_design("mm_zero").constants.solvability_cap == 0.5
    assert pickle.loads(pickle.dumps(design)) == design


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"solvability_kap": 1}, "unknown reward setting 'solvability_kap'.*'solvability_cap'"),
        ({"coder.rendr": 1}, "Did you mean 'coder.render'"),
        ({"solvability_cap": 2}, "solvability_cap: expected a number from 0 to 1, got 2"),
        ({"solvability_cap": "x"}, "solvability_cap: expected a finite number"),
        ({"solvability_cap": True}, "solvability_cap: expected a number, got True"),
        ({"exact_thresholds": 1}, "exact_thresholds: expected true or false"),
        ({"allowed_type_share": 1.0}, "allowed_type_share"),
        ({"cluster_threshold": 0}, "cluster_threshold"),
        ({"memory_steps": 1.5}, "memory_steps: expected 0, 1, 2"),
        ({"coder.render": float("nan")}, "coder.render: expected a finite number"),
        ({"grading": "kind"}, "unknown grading mode 'kind'"),
        ({"tolerance": -1.0}, "tolerance"),
    ],
)
def test_bad_settings_are_refused_with_their_mend(
    overrides: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        get_design("mm_zero", **overrides)


def test_unknown_and_repeated_names_are_refused() -> None:
    with pytest.raises(UserError, match="unknown reward design 'mm_zer'.*'mm_zero'"):
        get_design("mm_zer")
    with pytest.raises(UserError, match="already registered"):
        register(get_design("mm_zero"))
    with pytest.raises(UserError, match="unknown solver term 'speed'"):
        RewardDesign("new", solver={"speed": 1.0})


def test_extracted_answers_enter_by_the_same_path() -> None:
    seen = code_evidence(PROPOSAL, "<svg/>", True, {"easy": ["2", None], "hard": ["6", "5"]})
    assert isinstance(seen, CodeEvidence)
    assert (seen.solvability, seen.difficulty) == (Fraction(1, 2), Fraction(1, 2))
    assert code_evidence(PROPOSAL, None, False, {"easy": ["2"]}).answers == {}


def test_proposals_from_text_are_scored() -> None:
    text = "".join(
        f"<{tag}>{value}</{tag}>"
        for tag, value in (
            ("caption", "c"), ("easy_question", "q"), ("easy_answer", "2"),
            ("hard_question", "h"), ("hard_answer", "6"),
        )
    )  # fmt: skip
    parsed, broken = parse_proposal(text), parse_proposal(text[:-4])
    rewards = get_design("mm_zero").score(
        [episode("a", code(RIGHT, SPLIT), proposal=parsed), episode("b", proposal=broken)]
    )
    assert [r.proposer.value for r in rewards] == pytest.approx([0.9, -1.0])
