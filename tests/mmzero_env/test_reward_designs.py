"""The designs of the package, designs from files, and labels from the caption."""

from __future__ import annotations

import math
import pickle
import random
import re
import tomllib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmzero_env import world
from mmzero_env.episode import Episode, EpisodeConfig
from mmzero_env.errors import UserError
from mmzero_env.parsing import parse_proposal
from mmzero_env.protocol import (
    CodeOutcome,
    Completion,
    Drawing,
    EpisodeOutcome,
    Failure,
    Proposal,
    Question,
)
from mmzero_env.rewards import (
    DESIGNS,
    Constants,
    get_design,
    register,
    register_term,
    roles,
    terms,
)
from mmzero_env.rewards import design as design_module

IMAGE = np.full((2, 2, 3), 255, dtype=np.uint8)
PROPOSAL = Proposal("map", "Two towns by a lake", "How many towns?", "2", "Times three?", "6")
OTHER = Proposal("table", "Nine rows of ships", "Which row?", "1", "Sum of the last column?", "9")


def solved(*answers: str) -> tuple[str, ...]:
    return tuple(f"<think>look</think>\\boxed{{{answer}}}" for answer in answers)


def code(easy: str, hard: str) -> CodeOutcome:
    """A rendered code; answers as words, such as "2 2 3"."""
    answers: dict[Question, tuple[str, ...]] = {
        "easy": solved(*easy.split()), "hard": solved(*hard.split())
    }  # fmt: skip
    return CodeOutcome("<svg/>", "<svg/>", Drawing(IMAGE), answers)


def failed() -> CodeOutcome:
    return CodeOutcome("<svg", "<svg", Drawing(None, Failure("render", "invalid_xml")))


def episode(
    *codes: CodeOutcome,
    proposal: Proposal | Failure = PROPOSAL,
    topic: str = "t",
    caption: dict[Question, tuple[str, ...]] | None = None,
) -> EpisodeOutcome:
    return EpisodeOutcome("e", topic, "text", proposal, codes, caption or {})


MALFORMED = episode(proposal=Failure("proposal", "missing_tag"))


def test_the_registry_holds_every_design_that_is_promised() -> None:
    assert {
        "mm_zero", "mm_zero_official", "mm_zero_paper", "no_solvability_cap", "no_diversity",
        "r_zero", "visplay", "evolmm", "learnability", "caption_grounded", "cycle_consistent",
        "audited",
    } <= set(DESIGNS)  # fmt: skip
    for design in DESIGNS.values():
        assert design.summary.endswith(".")
        assert pickle.loads(pickle.dumps(design)) == design
        grounded = design.name in ("caption_grounded", "cycle_consistent", "audited")
        assert design.caption_answers(7) == (7 if grounded else 0)
        assert design.blind_answers(7) == (7 if design.name == "audited" else 0)


def test_paper_design_pays_a_bonus_for_what_is_rarer_than_usual() -> None:
    design = get_design("mm_zero_paper")
    long = replace(PROPOSAL, caption="Two towns lie by a long lake", easy_question="a b c d e")
    population = [episode(proposal=long) for _ in range(3)] + [episode(proposal=OTHER)]
    novelty = [r.proposer.terms["novelty"] for r in design.score(population)]
    # Caption and easy question are tripled, mean size (3*3+1)/4; the hard one stays alone.
    assert novelty == pytest.approx([0.5 * 0.65 * (2.5 - 3)] * 3 + [0.5 * 0.65 * (2.5 - 1)])
    (scored,) = design.score([episode(code("2 2 2 2 3", "6 6 6 5 5"), failed())])
    assert scored.codes[0].coder.value == pytest.approx(1 + 0.8 + 0.8)
    assert scored.codes[1].coder.value == pytest.approx(-0.1)
    assert scored.proposer.value == pytest.approx((0.5 + 0.4) / 2)


@pytest.mark.parametrize("name", ["r_zero", "visplay"])
def test_uncertainty_less_repetition_never_below_zero(name: str) -> None:
    design = get_design(name)
    split, sure = code("2", "6 6 5 5"), code("2", "6 6 6 6")
    alone, twin, other = design.score(
        [episode(split, failed()), episode(sure, topic="u"), episode(split, proposal=OTHER)]
    )
    # 1 - |2/2 - 1| = 1 on one of two codes.
    assert alone.proposer.terms["uncertainty"] == pytest.approx(0.5)
    if name == "r_zero":
        # Two of the batch of three ask the same hard question, which is too short to be
        # at distance 0 of itself: 1 - 0.1^(1/2) > 0.5, so they do not even cluster.
        assert alone.proposer.terms["batch_share"] == pytest.approx(-1 / 3)
    else:
        # Only the first and the third are on one topic.
        assert alone.proposer.terms["topic_share"] == pytest.approx(-1 / 2)
        assert twin.proposer.terms["topic_share"] == 0
    assert twin.proposer.value == 0
    assert design.score([MALFORMED])[0].proposer.value == 0
    assert other.proposer.value == pytest.approx(1 - (1 / 3 if name == "r_zero" else 1 / 2))
    assert design.solver_reward("\\boxed{6}", "6").value == 1
    assert design.solver_reward(solved("5")[0], "6").value == 0


def test_like_questions_share_a_cluster_at_one_half() -> None:
    near = replace(PROPOSAL, hard_question="How many red boats lie in the northern harbour?")
    far = replace(near, hard_question="How many blue boats lie in the northern harbour?")
    design = get_design("r_zero")
    rewards = design.score([episode(proposal=p) for p in (near, far, OTHER)])
    shares = [r.proposer.terms["batch_share"] for r in rewards]
    assert shares == pytest.approx([-2 / 3, -2 / 3, -1 / 3])


def test_evolmm_by_hand() -> None:
    design = get_design("evolmm")
    (scored,) = design.score([episode(code("2 2", "6 6 6 5 5"), failed())])
    entropy = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    band = math.exp(-((entropy - 0.90) ** 2) / (2 * 0.35**2))
    assert scored.proposer.value == pytest.approx(band / 2)
    values = [turn.value for turn in scored.codes[0].solver["hard"]]
    assert values == pytest.approx([0.6**0.7] * 3 + [0.4**0.7] * 2)
    wordy = "<think>" + "one two three four five six seven eight" + "</think> so \\boxed{6}"
    assert terms.words_before_box(wordy) == 9
    (wordy_turn, mute) = design.solver_rewards([wordy, "no box"], "6")
    assert wordy_turn.value == pytest.approx(1 - 0.10 * 3 / 6)
    assert mute.value == 0
    assert terms.entropy_band((), 0.9, 0.35) == terms.entropy_band((0.0,), 0.9, 0.35) == 0
    assert terms.entropy((0.5, 0.5, 0.0)) == pytest.approx(-math.log(0.5))


def test_uncertainty_is_twice_the_difficulty() -> None:
    for design, factor in (("mm_zero", 1), ("mm_zero_paper", 2)):
        (scored,) = get_design(design).score([episode(code("2", "6 6 6 5"))])
        name = "difficulty" if factor == 1 else "uncertainty"
        assert scored.codes[0].coder.terms[name] == pytest.approx(factor * 0.25)


# Labels from the caption ---------------------------------------------------------

CAPTION: dict[Question, tuple[str, ...]] = {
    "easy": solved("2", "2", "2"), "hard": solved("6", "6", "5")
}  # fmt: skip


def test_labels_come_from_the_caption_and_decide_difficulty() -> None:
    picture = code("2 2 2 2 3", "5 5 5 6 6")
    sane, grounded = (
        get_design(name).score([episode(picture, caption=CAPTION)])[0]
        for name in ("mm_zero", "caption_grounded")
    )
    assert sane.codes[0].labels["hard"].winner == "5"
    assert sane.codes[0].labels == sane.codes[0].votes
    label = grounded.codes[0].labels["hard"]
    assert (label.winner, label.consistency, label.valid, label.total) == ("6", 0.4, 5, 5)
    assert grounded.codes[0].votes == sane.codes[0].votes
    assert grounded.caption_votes["hard"].consistency == pytest.approx(2 / 3)
    values = [turn.value for turn in grounded.codes[0].solver["hard"]]
    assert values == pytest.approx([0.1, 0.1, 0.1, 1, 1])
    assert grounded.codes[0].difficulty == pytest.approx(0.4)


@pytest.mark.parametrize("easy", ["3 3 3 2 2", "none none", "3"])
def test_a_picture_whose_easy_question_fails_is_not_used(easy: str) -> None:
    (scored,) = get_design("caption_grounded").score(
        [episode(code(easy, "6 5"), code("2 2 3", "6 5"), caption=CAPTION)]
    )
    wrong, right = scored.codes
    assert wrong.labels == {} and wrong.difficulty == 0
    assert wrong.coder.terms["difficulty"] == 0 and wrong.coder.terms["render"] == 1
    for turn in (*wrong.solver["easy"], *wrong.solver["hard"]):
        assert turn.value == 0 and set(turn.terms) == {"accuracy", "format"}
    assert right.labels["hard"].winner == "6" and right.difficulty == 0.5
    # The picture that is not used does not make the hard question look easy.
    assert scored.proposer.terms["easy_hard"] == 0
    assert scored.proposer.terms["difficulty"] == pytest.approx(0.25)


def test_an_empty_easy_answer_and_a_mute_caption_give_no_label() -> None:
    design = get_design("caption_grounded")
    empty = replace(PROPOSAL, easy_answer=" ")
    (scored,) = design.score([episode(code("2", "6"), proposal=empty, caption=CAPTION)])
    assert scored.codes[0].labels == {}
    mute: dict[Question, tuple[str, ...]] = {"easy": ("?",), "hard": ("?",)}
    (scored,) = design.score([episode(code("2", "6 6"), caption=mute)])
    assert scored.codes[0].labels == {}
    # The picture itself is fine, so its answers keep the point for their form.
    assert [turn.value for turn in scored.codes[0].solver["hard"]] == pytest.approx([0.1, 0.1])


def test_answers_from_the_caption_must_be_there() -> None:
    design = get_design("caption_grounded")
    with pytest.raises(UserError, match=r"caption_answers=design\.caption_answers"):
        design.score([episode(code("2", "6"))])
    only_hard = CodeOutcome("", "<svg/>", Drawing(IMAGE), {"hard": solved("6")})
    with pytest.raises(UserError, match="easy question"):
        design.score([episode(only_hard, caption=CAPTION)])
    assert design.score([episode(failed()), MALFORMED])[1].proposer.value == -1


def test_the_episode_asks_the_solver_for_answers_from_the_caption() -> None:
    design = get_design("caption_grounded")
    config = EpisodeConfig(codes=1, answers=2, caption_answers=design.caption_answers(2))
    played = Episode("e", "map", seed=1, config=config, proposal=PROPOSAL)
    coder, easy, hard = played.open_requests()
    assert [r.id for r in (coder, easy, hard)] == [
        "e/coder", "e/solver/caption/easy", "e/solver/caption/hard",
    ]  # fmt: skip
    for request, question in ((easy, PROPOSAL.easy_question), (hard, PROPOSAL.hard_question)):
        assert (request.role, request.image, request.n) == ("solver", None, 2)
        assert PROPOSAL.caption in request.prompt and question in request.prompt
    played.submit(coder.id, [Completion("```svg\n<svg></svg>\n```")])
    played.draw("e/render/0", Drawing(IMAGE))
    assert not played.finished
    for request in played.open_requests():
        answer = "2" if request.id.endswith("easy") else "6"
        played.submit(request.id, [Completion(text) for text in solved(answer, answer)])
    outcome = played.outcome()
    assert outcome.caption_answers == {"easy": solved("2", "2"), "hard": solved("6", "6")}
    assert design.score_last([outcome]).codes[0].labels["hard"].winner == "6"
    assert not Episode("e", "map", 1, EpisodeConfig(), PROPOSAL).open_requests()[1:]


# The easy key from the label source --------------------------------------------------


@pytest.mark.parametrize(
    ("proposed", "read", "seen", "used", "solvability", "own"),
    [
        ("2", "2 2 2", "2 2 3", True, 2 / 3, 0.5),
        # A Proposer that is wrong about its own question costs only itself.
        ("5", "2 2 2", "2 2 3", True, 2 / 3, 0.0),
        ("3", "2 2 2", "3 3 3", False, 0.0, 0.0),
        ("none", "2 2 2", "2 2 2", True, 1.0, 0.0),
    ],
)
def test_the_easy_key_is_read_from_the_caption(
    proposed: str, read: str, seen: str, used: bool, solvability: float, own: float
) -> None:
    caption: dict[Question, tuple[str, ...]] = {
        "easy": solved(*read.split()),
        "hard": solved("6", "6", "6"),
    }
    played = episode(
        code(seen, "6 6 7"), proposal=replace(PROPOSAL, easy_answer=proposed), caption=caption
    )
    (scored,) = get_design("cycle_consistent").score([played])
    (judged,) = scored.codes
    assert ("hard" in judged.labels) == used
    assert judged.solvability == pytest.approx(solvability)
    assert scored.proposer.terms["own_answer"] == own
    assert judged.coder.terms["fidelity"] == pytest.approx(2 / 3 if used else 0)


def test_a_reading_that_disagrees_with_itself_gives_no_label() -> None:
    caption: dict[Question, tuple[str, ...]] = {
        "easy": solved("2", "2", "2"),
        "hard": solved("6", "6", "7"),
    }
    (scored,) = get_design("cycle_consistent").score([episode(code("2 2", "6 6"), caption=caption)])
    assert set(scored.codes[0].labels) == {"easy"}


def test_the_key_cannot_be_read_where_labels_are_seen() -> None:
    with pytest.raises(UserError, match="trust_own_answer = false.*label_source"):
        get_design("mm_zero", trust_own_answer=False)
    with pytest.raises(UserError, match="proposer.own_answer.*label_source"):
        get_design("mm_zero", **{"proposer.own_answer": 1.0})


def test_labels_from_the_truth_are_those_of_the_world() -> None:
    spec = world.sample_spec(random.Random(0), "bars")
    told = parse_proposal(world.proposal_text(spec, random.Random(0)))
    assert isinstance(told, Proposal)
    easy, hard = world.truth(told, "easy"), world.truth(told, "hard")
    assert easy and hard
    design = get_design("cycle_consistent", label_source="truth")
    assert design.caption_answers(5) == 0
    (scored,) = design.score([episode(code(f"{easy} {easy}", "wrong wrong"), proposal=told)])
    (judged,) = scored.codes
    assert judged.labels["hard"].winner == hard
    assert [each.terms["accuracy"] for each in judged.solver["hard"]] == [0.0, 0.0]
    # A caption of another world has no truth, and so no label.
    (unknown,) = design.score([episode(code("2 2", "6 6"))])
    assert not unknown.codes[0].labels
    with pytest.raises(UserError, match="not voted"):
        design.label(solved("6"))


# Files ---------------------------------------------------------------------------

TOML = """
name = "bold"
base = "no_diversity"
summary = "Pays more for difficulty."
label_source = "caption"
[proposer]
difficulty = 2.0
repetition = -0.2
[coder]
render = 2
[constants]
solvability_cap = 0.7
grading = "sane"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "design.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_design_from_a_file(tmp_path: Path) -> None:
    path = written(tmp_path, TOML)
    expected = get_design(
        "no_diversity",
        solvability_cap=0.7,
        label_source="caption",
        **{"proposer.difficulty": 2.0, "proposer.repetition": -0.2, "coder.render": 2},
    )
    expected = replace(expected, name="bold", summary="Pays more for difficulty.")
    assert get_design(path) == get_design(str(path)) == expected
    assert get_design(path, solvability_cap=0.6).constants.solvability_cap == 0.6
    plain = get_design(written(tmp_path, ""))
    assert plain == replace(get_design("mm_zero"), name="design")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("basis = 'mm_zero'", "unknown key 'basis'.*'base'"),
        ("base = 'mm_zer'", "unknown reward design 'mm_zer'.*'mm_zero'"),
        ("base = 3", "base: expected a text, got 3"),
        ("proposer = 3", r"proposer: expected a table \[proposer\], got 3"),
        ("[coder]\nrendr = 1", "unknown coder term 'rendr'. Did you mean 'render'"),
        ("[solver]\nrender = 1", "unknown solver term 'render'.*accuracy"),
        ("[coder]\nrender = '1'", "coder.render: expected a finite number, got '1'"),
        ("[constants]\nsolvability_cup = 1", "'solvability_cup'.*'solvability_cap'"),
        ("[constants]\nsolvability_cap = 2", "solvability_cap: expected a number from 0 to 1"),
        ("label_source = 'picture'", "unknown label source 'picture'.*caption, image, truth"),
        ("= 3", "is no TOML file"),
    ],
)
def test_a_bad_file_is_named_with_its_mend(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        get_design(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\n# base = 'mm_zero'\nbase = 'mm_zer'", 3),
        ("[coder]\nrender = 1\n\nrendr = 1", 4),
        ("[proposer]\ndifficulty = 1\n[coder]\ndifficulti = 1", 4),
        # The same words inside a text are no table.
        ('summary = """\n[coder]\nrendr = 1\n"""\n[coder]\n"rendr" = 1', 6),
        ("base = 'mm_zero'\ncoder.rendr = 1", 2),
        ("base = 'mm_zero'\ncoder = { render = 1, rendr = 2 }", 2),
        ("[coder]\nrender = [\n  1,\n]", 2),
        ("[constants]\ntolerance = 0.1\n\nsolvability_cap = 2", 4),
        ("[constants]\nsolvability_cap = 0.1\ncluster_threshold = 2\nbrevity_words = 1", 3),
        # Each is fine alone.
        ("[constants]\ngrading = 'official'\n\ntolerance = 0.1", 4),
        ("[solver]\naccuracy = nan", 2),
        ("[coder]\nrender = 1\n\n[painter]\nrender = 1", 4),
        ("name = 'a'\nlabel_source = 'picture'", 2),
        ("name = 'a'\nsummary = 2", 2),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UserError, match=re.escape(f"{path}, line {line}: ")):
        get_design(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.toml cannot be read: No such file"):
        get_design(tmp_path / "nowhere.toml")


# Documentation and own terms -------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs" / "rewards.md"


@pytest.fixture
def no_new_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    for role, known in roles.TERMS.items():
        monkeypatch.setitem(roles.TERMS, role, dict(known))
    monkeypatch.setattr(roles, "PROPOSER_TERMS", roles.TERMS["proposer"])
    monkeypatch.setattr(design_module, "PROPOSER_TERMS", roles.TERMS["proposer"])


@pytest.mark.usefixtures("no_new_terms")
def test_the_examples_of_the_documentation_run(tmp_path: Path) -> None:
    text = DOCS.read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        exec(compile(example, str(DOCS), "exec"), {})
    (toml,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    design = get_design(written(tmp_path, toml))
    assert (design.name, design.constants.tolerance) == ("bold", 0.01)


def test_the_documentation_shows_the_weights_of_audited() -> None:
    text = DOCS.read_text(encoding="utf-8")
    (shown,) = re.findall(r"```text\n(label_source.*?)```", text, re.DOTALL)
    values, design = tomllib.loads(shown), get_design("audited")
    assert values["label_source"] == design.label_source
    for role in ("proposer", "coder", "solver"):
        assert values[role] == dict(getattr(design, role))
    assert Constants(**values["constants"]) == design.constants


def test_the_documentation_names_every_term_and_design() -> None:
    text = DOCS.read_text(encoding="utf-8")
    names = {*DESIGNS, *(name for known in roles.TERMS.values() for name in known)}
    names |= {item.name for item in fields(Constants)}
    assert [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    ("role", "name", "message"),
    [
        ("painter", "x", "unknown role 'painter'.*coder, proposer, solver"),
        ("coder", "render", "the coder has a term named 'render' already"),
        ("coder", "a.b", "without a dot"),
        ("coder", "", "without a dot"),
    ],
)
def test_a_term_needs_a_role_and_a_new_name(role: Any, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        register_term(role, name, lambda code, constants: 0.0)


def test_a_registered_design_cannot_look_like_a_file() -> None:
    with pytest.raises(UserError, match="names a file"):
        register(replace(get_design("mm_zero"), name="mine.toml"))
