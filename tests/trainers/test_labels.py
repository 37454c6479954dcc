"""Silver labels that are voted once, and silver labels that are voted at every step."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmzero_env.protocol import (
    CodeOutcome,
    Completion,
    Drawing,
    EpisodeOutcome,
    Proposal,
    Question,
    Request,
    Response,
)
from mmzero_env.rendering import Renderer
from mmzero_env.rewards import get_design
from mmzero_env.world import players
from tests.trainers.rollout_players import Player
from tests.trainers.test_stages import Batched, stage_of
from trainers import config, stages
from trainers.audit import share_right
from trainers.filters import LabelledQuestion
from trainers.groups import Group
from trainers.labels import ask
from trainers.rollout_stats import Metrics
from trainers.run_config import RunConfig

PROPOSAL = Proposal("map", "Two towns by a lake", "How many towns?", "2", "Times three?", "6")
IMAGE = np.full((2, 2, 3), 255, dtype=np.uint8)


def boxed(answers: str) -> tuple[str, ...]:
    """Completions, one a word; a dash is one without a box."""
    return tuple("no idea" if a == "-" else f"\\boxed{{{a}}}" for a in answers.split())


class Says(Player):
    """Says one thing about pictures and another about captions."""

    def __init__(self, shown: str, read: str = "") -> None:
        super().__init__()
        self.shown, self.read = boxed(shown), boxed(read)
        self.requests: list[Request] = []

    def respond(self, request: Request) -> Response:
        self.requests.append(request)
        texts = self.read if request.image is None else self.shown
        return Response(request.id, tuple(Completion(t, (1,), (-1.0,)) for t in texts[: request.n]))


def run_config(folder: Path, **changes: str) -> RunConfig:
    numbers = {"solver.group_size": "4", "solver.answers": "3"}
    return config.load("nano-cpu", {**numbers, **changes, "out": str(folder)})


def rows(*labels: str) -> list[LabelledQuestion]:
    return [
        LabelledQuestion(f"e{k}/0", PROPOSAL, IMAGE, PROPOSAL.hard_question, label)
        for k, label in enumerate(labels)
    ]


@pytest.mark.parametrize(
    ("design", "labels", "right", "changed", "voters"),
    [
        ("mm_zero", "fixed", [[0, 0, 0, 1], [1, 1, 0, 0]], None, []),
        ("mm_zero", "online", [[1, 1, 0, 0], [1, 1, 0, 0]], 0.5, []),
        ("caption_grounded", "fixed", [[0, 0, 0, 1], [1, 1, 0, 0]], None, []),
        ("caption_grounded", "online", [[0, 0, 1, 0], [0, 0, 1, 0]], 1.0, [3, 3]),
    ],
)
def test_what_a_group_is_graded_by(
    design: str,
    labels: str,
    right: list[list[int]],
    changed: float | None,
    voters: list[int],
    tmp_path: Path,
) -> None:
    policy = Says("5 5.0 6 7", read="6 9 6")
    made = run_config(tmp_path, reward_design=design, labels=labels)
    groups, used, metrics = ask(rows("7", "5"), policy, made, "i1/solver/0")
    assert [[int(terms["accuracy"] > 0) for terms in g.terms] for g in groups] == right
    assert metrics.get("labels_changed") == changed
    assert ("labels_changed" in metrics) == (labels == "online")
    assert labels == "online" or used == ["7", "5"]
    assert [r.n for r in policy.requests if r.image is None] == voters
    assert len({r.seed for r in policy.requests}) == len(policy.requests)


def test_reasoning_is_checked_against_the_picture_that_was_shown(tmp_path: Path) -> None:
    made = run_config(tmp_path, **{"reward.solver.grounding": "-0.5"})
    bar = '<svg viewBox="0 0 9 9"><rect fill="red" width="3" height="5"/></svg>'
    claim = "<think>I see a blue circle</think>\\boxed{5}"
    policy = Says("")
    policy.shown = (claim,) * 4
    shown = [replace(row, svg=svg) for row, svg in zip(rows("5", "5"), (bar, None), strict=True)]
    groups, _, _ = ask(shown, policy, made, "i1/solver/0")
    assert [group.rewards[0] for group in groups] == pytest.approx([0.5, 1.0])


def test_a_group_without_a_valid_answer_has_no_label(tmp_path: Path) -> None:
    made = run_config(tmp_path, labels="online")
    (group,), used, metrics = ask(rows("7"), Says("- none - -"), made, "i1/solver/0")
    assert all(terms["accuracy"] == 0 for terms in group.terms)
    assert metrics["labels_changed"] == 1 and used == [None]


@pytest.mark.parametrize("name", ["mm_zero", "caption_grounded", "mm_zero_official", "audited"])
@pytest.mark.parametrize("hard", ["5 5 6", "6 5.0 5", "- none 7", "- - none", "a b c"])
@pytest.mark.parametrize("read", ["6 6 2", "- - -"])
def test_a_label_is_the_one_that_scoring_chooses(name: str, hard: str, read: str) -> None:
    design = get_design(name)
    answers: dict[Question, tuple[str, ...]] = {"easy": boxed("2 2 2"), "hard": boxed(hard)}
    captioned: dict[Question, tuple[str, ...]] = {"easy": boxed("2 2 2"), "hard": boxed(read)}
    code = CodeOutcome("", "<svg/>", Drawing(IMAGE), answers)
    blind: dict[Question, tuple[str, ...]] = {"hard": boxed("1 2 3")}
    played = EpisodeOutcome("e", "t", "", PROPOSAL, (code,), captioned, blind)
    (scored,) = design.score([played])
    labels = scored.codes[0].labels
    chosen = labels["hard"].winner if "hard" in labels else None
    assert design.label(boxed(hard), boxed(read)) == chosen
    assert design.solver_rewards(boxed(hard), chosen, code.code) == scored.codes[0].solver["hard"]


class Unsure(Batched):
    """Draws and proposes well and answers badly, so that votes differ from step to step."""

    def text(self, request: Request, i: int) -> str:
        skill = 0.4 if request.role == "solver" else 0.8
        return players.NoisyPlay(skill)(request, random.Random(f"{request.seed}/{i}"))


def test_a_stage_votes_anew_at_every_step_if_told_to(tmp_path: Path) -> None:
    def first_step(labels: str) -> tuple[list[Group], Metrics]:
        stage = stage_of(tmp_path / labels, "solver", Unsure(), renderer)
        stage = replace(stage, config=replace(stage.config, labels=labels))
        prompts = stages._PROMPTS["solver"](stage)
        assert prompts is not None
        return prompts.collect(0)

    with Renderer(size=32, workers=0) as renderer:
        fixed, before = first_step("fixed")
        auto, same = first_step("auto")
        online, after = first_step("online")
    assert [g.rewards for g in fixed] == [g.rewards for g in auto]
    assert before["silver_accuracy"] == same["silver_accuracy"]
    assert [g.response for g in fixed] == [g.response for g in online]
    assert 0 < (after["labels_changed"] or 0) < 1
    changed = [a.rewards != b.rewards for a, b in zip(fixed, online, strict=True)]
    assert any(changed) and not all(changed)
    design, claims = get_design("mm_zero"), []
    for group in online:
        texts = [done.text for done in group.response.completions]
        label = design.label(texts)
        assert group.rewards == tuple(r.value for r in design.solver_rewards(texts, label))
        assert group.request.proposal is not None
        if label is not None:
            claims.append((group.request.proposal, "hard", label))
    assert after["silver_accuracy"] == share_right(claims) != before["silver_accuracy"]
