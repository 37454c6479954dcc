from __future__ import annotations

import math
from pathlib import Path

import pytest

from mmzero_env.protocol import (
    CodeRewards,
    Completion,
    Proposal,
    Request,
    Response,
    TurnReward,
    Vote,
)
from mmzero_env.rewards import get_design
from tests.trainers.rollout_players import Player
from trainers import config, quantities
from trainers.groups import Group

DESIGN = get_design("mm_zero")


def proposal(caption: str = "a red bar of 7", kind: str = "data_chart", easy: str = "7"):
    return Proposal(kind, caption, "How tall?", easy, "Sum?", "9")


def vote(winner: str, consistency: float = 0.5) -> Vote:
    return Vote(winner, consistency, 4 if winner else 0, 4)


def judged(winner: str) -> CodeRewards:
    label = vote(winner)
    return CodeRewards(TurnReward(0.0, {}), labels={"easy": label} if winner else {})


def group(texts: list[str], logprobs: tuple[float, ...] = ()) -> Group:
    done = tuple(Completion(text, (1,) * len(logprobs), logprobs) for text in texts)
    return Group(Request("r", "solver", "?", len(texts)), Response("r", done), (0.0,) * len(texts))


def test_answer_diversity_is_0_when_all_get_one_answer_and_1_when_no_two_do() -> None:
    same = quantities.of_votes([vote("7"), vote("7.0"), vote(r"\frac{14}{2}")])
    assert same["answer_diversity"] == 0.0 and same["consistency"] == 0.5
    apart = quantities.of_votes([vote("1"), vote("2"), vote("red")])
    assert apart["answer_diversity"] == pytest.approx(1.0)
    half = quantities.of_votes([vote("1"), vote("1"), vote("2"), vote("2"), vote("", 0.0)])
    assert half["answer_diversity"] == pytest.approx(math.log(2) / math.log(4))
    assert half["consistency"] == pytest.approx(0.4)
    assert quantities.of_votes([]) == {"consistency": None, "answer_diversity": None}


def test_diversity_of_proposals_falls_when_types_and_captions_become_one() -> None:
    alike = quantities.of_proposals([proposal()] * 3)
    assert alike == {"content_type_diversity": 0.0, "caption_diversity": pytest.approx(0, abs=1e-9)}
    kinds = ("data_chart", "diagram", "geometry", "timeline", "map", "table", "other")
    words = ("one two three four", "five six seven eight", "nine ten red blue", "a b c d")
    varied = quantities.of_proposals([proposal(words[i % 4], k) for i, k in enumerate(kinds)])
    assert varied["content_type_diversity"] == pytest.approx(1.0)
    assert varied["caption_diversity"] is not None and varied["caption_diversity"] > 0.8
    assert set(quantities.of_proposals([proposal()]).values()) == {None}


def test_easy_labels_are_compared_with_the_proposers_answer() -> None:
    assert quantities.easy_agrees(proposal(easy="7"), judged("7.0"), DESIGN) is True
    assert quantities.easy_agrees(proposal(easy="7"), judged("8"), DESIGN) is False
    assert quantities.easy_agrees(proposal(easy="7"), judged(""), DESIGN) is None
    assert quantities.easy_agrees(proposal(easy=" "), judged("7"), DESIGN) is None
    assert quantities.share([True, None, False]) == 0.5
    assert quantities.share([None]) is None


def test_groups_vote_and_their_tokens_tell_the_entropy() -> None:
    groups = [
        group([r"\boxed{3}", r"\boxed{3}", "no box"], (-0.1, -0.3)),
        group([r"\boxed{5}"], (-1.0, -1.0)),
    ]
    votes = quantities.group_votes(groups, DESIGN)
    assert [(v.winner, v.consistency, v.valid, v.total) for v in votes] == [
        ("3", 1.0, 2, 3),
        ("5", 1.0, 1, 1),
    ]
    assert quantities.sampled_entropy(groups) == pytest.approx((3 * 0.4 + 2.0) / 8)
    assert quantities.sampled_entropy([group(["x"])]) is None


class Guesser(Player):
    """Answers 4 to everything."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: dict[str, Request] = {}

    def respond(self, request: Request) -> Response:
        self.requests[request.id] = request
        return super().respond(request)

    def text(self, request: Request, i: int) -> str:
        return r"<think>4</think>\boxed{4}"


def test_blind_questions_show_no_picture_and_count_labels_that_are_found(tmp_path: Path) -> None:
    made = config.load("nano-cpu", {"out": str(tmp_path), "monitor.blind_items": "4"})
    asked = [(proposal(), label) for label in ("4", "5", "4.0", "6", "4", "7", "8", "9")]
    policy = Guesser()
    # Evenly spaced: the labels 4, 4.0, 4 and 8.
    assert quantities.blind_solvable(policy, made, "i1/solver/0", asked, 3) == 0.75
    asked_for = policy.requests.values()
    assert sorted(policy.requests) == [f"i1/solver/0/blind/{k}" for k in range(4)]
    assert all(r.image is None and r.n == 3 and "Sum?" in r.prompt for r in asked_for)
    assert len({r.seed for r in asked_for}) == 4
    assert quantities.blind_solvable(policy, made, "i1/solver/0", [], 3) is None
    none = config.load("nano-cpu", {"out": str(tmp_path), "monitor.blind_items": "0"})
    assert quantities.blind_solvable(policy, none, "i1/solver/0", asked, 3) is None
    assert len(policy.asked) == 1
