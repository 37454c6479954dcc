"""The published reward code's recorded outputs, reproduced.

``MMZERO_GOLDEN_DIR`` points the comparison at another folder of the same format.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmzero_env.diversity import clusters, distances, shares
from mmzero_env.grading import equivalent
from mmzero_env.parsing import (
    effective_content_type,
    extract_boxed,
    extract_svg,
    parse_proposal,
)
from mmzero_env.protocol import Proposal, Question
from mmzero_env.rewards import RewardDesign, get_design
from mmzero_env.rewards.evidence import Answers, CodeEvidence, ProposalEvidence, code_evidence
from mmzero_env.voting import majority

FOLDER = Path(os.environ.get("MMZERO_GOLDEN_DIR") or Path(__file__).parents[1] / "golden")
CLOSE = 1e-9
Case = dict[str, Any]

SETTINGS = {
    "SOLVABILITY_CAP": ("solvability_cap", 1),
    "EASY_HARD_THRESHOLD": ("easy_hard_threshold", 1),
    "EASY_HARD_PENALTY": ("proposer.easy_hard", -1),
    "CONTENT_TYPE_DIVERSITY_WEIGHT": ("proposer.content_balance", -1),
    "CONTENT_TYPE_OVER_REP_THRESHOLD": ("allowed_type_share", 1),
    "CAPTION_DIVERSITY_WEIGHT": ("proposer.diversity", -1),
    "DIV_W_CAPTION": ("caption_weight", 1),
    "DIV_W_EASY_Q": ("easy_question_weight", 1),
    "DIV_W_HARD_Q": ("hard_question_weight", 1),
    "CROSS_STEP_PENALTY_WEIGHT": ("proposer.repetition", -1),
    "CAPTION_MEMORY_MAX_STEPS": ("memory_steps", 1),
    "CODEGEN_PENALTY_NO_RENDER": ("coder.no_render", -1),
    "CODEGEN_PENALTY_SYNTAX_ERROR": ("coder.no_code", -1),
    "CODEGEN_PENALTY_WRONG_TYPE": ("coder.wrong_type", -1),
}
# No design has a term for these: the published code never lets them count.
WITHOUT_EFFECT = {"VT_DIVERSITY_MAX_BONUS"}


def cases(name: str) -> list[Case]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def sound(name: str) -> list[Any]:
    return [pytest.param(case, id=case["id"]) for case in cases(name) if "official_bug" not in case]


def design_for(name: str, env: dict[str, float], **more: object) -> RewardDesign:
    overrides: dict[str, object] = dict(more)
    for key, value in env.items():
        if key not in WITHOUT_EFFECT:
            setting, sign = SETTINGS[key]
            overrides[setting] = int(value) if setting == "memory_steps" else sign * value
    return get_design(name, **overrides)


def code_seen(proposal: Proposal, sample: Case, mode: Any) -> CodeEvidence:
    answers: dict[Question, Answers] = {}
    if sample["rendered"] and not sample.get("image_rejected"):
        answers = {"easy": sample["easy"], "hard": sample["hard"]}
    return code_evidence(proposal, "<svg/>", sample["rendered"], answers, mode=mode)


def batch_seen(case: Case, mode: Any) -> list[ProposalEvidence]:
    seen: list[ProposalEvidence] = []
    for item in case["proposals"]:
        proposal = parse_proposal(item["completion"])
        if isinstance(proposal, Proposal):
            codes = tuple(code_seen(proposal, s, mode) for s in item["samples"])
            seen.append(ProposalEvidence(proposal, codes))
        else:
            seen.append(ProposalEvidence(proposal))
    return seen


def comparable(case: Case) -> list[int]:
    skipped = set(case.get("bug_proposals", ()))
    return [i for i in range(len(case["proposals"])) if i not in skipped]


@pytest.mark.parametrize("case", [pytest.param(c, id=c["id"]) for c in cases("proposer_rewards")])
def test_proposer_rewards(case: Case) -> None:
    design = design_for("mm_zero_official", case["env"])
    seen = batch_seen(case, "official")
    rewards = design.proposer_rewards(seen, case.get("caption_history", ()))
    assert len(rewards) == len(case["outputs"])
    for i in comparable(case):
        want, got, codes = case["outputs"][i], rewards[i], seen[i].rendered
        assert got.value == pytest.approx(want["overall"], abs=CLOSE)
        assert isinstance(seen[i].proposal, Proposal) == bool(want["format"])
        assert got.terms["easy_hard"] == pytest.approx(want["easy_hard_penalty"], abs=CLOSE)
        assert got.terms["diversity"] == pytest.approx(want["caption_diversity_bonus"], abs=CLOSE)
        repetition = got.terms.get("repetition", 0.0)
        assert repetition == pytest.approx(want["cross_step_penalty"], abs=CLOSE)
        balance = want.get("content_type_diversity_bonus", 0.0)
        assert got.terms["content_balance"] == pytest.approx(balance, abs=CLOSE)
        assert len(codes) == want["num_rendered"]
        count = max(len(codes), 1)
        solvability = float(sum(code.solvability for code in codes)) / count
        difficulty = float(sum(code.difficulty for code in codes)) / count
        assert solvability == pytest.approx(want["avg_solvability"], abs=CLOSE)
        assert difficulty == pytest.approx(want["avg_difficulty"], abs=CLOSE)

    # Exact comparisons may differ on a threshold's edge, by exactly the penalty.
    exact = design_for("mm_zero", case["env"], grading="official", memory_enough=0.9)
    penalty = case["env"].get("EASY_HARD_PENALTY", 0.3)
    for i, reward in enumerate(exact.proposer_rewards(seen, case.get("caption_history", ()))):
        apart = abs(reward.value - rewards[i].value)
        allowed = (0.0, penalty) if i in case.get("float_edge_proposals", ()) else (0.0,)
        assert any(apart == pytest.approx(gap, abs=CLOSE) for gap in allowed)


@pytest.mark.parametrize("case", sound("proposer_rewards"))
def test_hard_votes(case: Case) -> None:
    for item, votes in zip(case["proposals"], case["hard_votes"], strict=True):
        for want in votes:
            vote = majority(item["samples"][want["sample"]]["hard"], mode="official")
            assert vote.winner == want["hard_winner"]
            assert vote.consistency == pytest.approx(want["hard_consistency"], abs=CLOSE)


@pytest.mark.parametrize("case", sound("coder_rewards"))
def test_coder_rewards(case: Case) -> None:
    assert (extract_svg(case["response"]) or "") == case["extracted"]
    for name in ("mm_zero_official", "mm_zero"):
        design = design_for(name, case.get("env", {}), grading="official")
        code = code_evidence(
            Proposal(content_type="other", **case["proposal"]),
            extract_svg(case["response"]),
            case["rendered"],
            {"easy": case["easy"], "hard": case["hard"]} if case["rendered"] else {},
            mode="official",
        )
        want = case["outputs"]
        assert design.coder_reward(code).value == pytest.approx(want["overall"], abs=CLOSE)
        assert float(code.rendered) == want["renderability"]
        assert float(code.solvability) == pytest.approx(want["solvability"], abs=CLOSE)
        assert float(code.difficulty) == pytest.approx(want["difficulty"], abs=CLOSE)


@pytest.mark.parametrize("case", sound("solver_rewards"))
@pytest.mark.parametrize("name", ["mm_zero", "mm_zero_official"])
def test_solver_rewards(case: Case, name: str) -> None:
    design = get_design(name, grading="official")
    reward = design.solver_reward(case["completion"], case["label"])
    want = case["outputs"]
    assert reward.value == pytest.approx(want["overall"], abs=CLOSE)
    assert reward.terms["accuracy"] == pytest.approx(0.9 * want["accuracy"], abs=CLOSE)
    assert reward.terms["format"] == pytest.approx(0.1 * want["format"], abs=CLOSE)
    extracted = extract_boxed(case["completion"])
    # The published code also drops the blanks around < > / inside an answer.
    squeezed = None if extracted is None else "".join(extracted.split())
    assert (squeezed or "") == "".join(case["extracted"].split()) or (
        extracted is None and case["extracted"] == "None"
    )


@pytest.mark.parametrize("case", sound("answer_equivalence"))
def test_answer_equivalence(case: Case) -> None:
    a, b = case["a"], case["b"]
    verdict = case["a_given_b_truth"] or case["b_given_a_truth"]
    assert equivalent(a, b, mode="official") == equivalent(b, a, mode="official") == verdict
    if "plain_reading" in case:
        assert equivalent(a, b) == equivalent(b, a) == case["plain_reading"]


@pytest.mark.parametrize("case", sound("majority_vote"))
def test_majority_vote(case: Case) -> None:
    vote = majority(case["answers"], mode="official")
    assert vote.winner == case["winner"]
    assert vote.consistency == pytest.approx(case["score"], abs=CLOSE)


@pytest.mark.parametrize("case", sound("diversity_clusters"))
def test_diversity_clusters(case: Case) -> None:
    texts = case["captions"]
    assert clusters(texts).tolist() == case["labels"]
    assert shares(texts) == pytest.approx(case["shares"], abs=CLOSE)
    if "distance" in case:
        assert np.abs(distances(texts) - np.array(case["distance"])).max() < CLOSE


@pytest.mark.parametrize("case", sound("proposal_parsing"))
def test_proposal_parsing(case: Case) -> None:
    proposal = parse_proposal(case["raw"])
    if not isinstance(proposal, Proposal):
        assert case["parsed"] is None
        return
    assert asdict(proposal) == case["parsed"]
    assert effective_content_type(proposal) == case["effective_content_type"]


@pytest.mark.parametrize("case", sound("svg_extraction"))
def test_svg_extraction(case: Case) -> None:
    assert (extract_svg(case["raw"]) or "") == case["extracted"]
