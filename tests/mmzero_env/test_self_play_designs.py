"""The environment under several reward designs: what they have asked, and who is paid."""

from __future__ import annotations

from typing import Any

import pytest

from mmzero_env import self_play_v0 as module
from mmzero_env.errors import UserError
from mmzero_env.protocol import Request
from mmzero_env.rewards import get_design
from tests.mmzero_env.table_game import SMALL, act, play

# Untyped on purpose: PettingZoo's types know neither our attributes nor a render mode.
self_play_v0: Any = module


def test_a_design_of_ones_own_is_scored_with():
    design = get_design("mm_zero", **{"coder.render": 3.0})
    env = self_play_v0.env(**SMALL, reward_design=design)
    env.reset(seed=1)
    turns = play(env)["coder_0"]["info"]["turns"]
    assert turns[0]["terms"]["render"] == 3.0


def test_a_design_with_labels_from_the_caption_has_them_asked_for():
    env = self_play_v0.env(**SMALL, reward_design="caption_grounded")
    env.reset(seed=1)
    final = play(env)["solver_0"]["info"]
    assert {level: vote["winner"] for level, vote in final["caption_votes"].items()} == {
        "easy": "3",
        "hard": "6",
    }
    assert final["votes"][0]["labels"]["hard"]["winner"] == "6"
    # Answers from the caption give labels and are not turns that earn anything.
    assert len(final["turns"]) == 6
    env.close()
    with pytest.raises(UserError, match="needs the easy question"):
        env.reset(options={"questions": ["hard"]})
    with pytest.raises(UserError, match="needs the easy question"):
        self_play_v0.env(reward_design="caption_grounded", questions=("hard",))


def blind_act(request: Request) -> str:
    """Answers the hard question wrongly where there is nothing to answer it from."""
    return "\\boxed{1}" if "/blind/" in request.id else act(request)


def test_a_design_that_asks_blind_has_it_asked_and_pays_nothing_for_it():
    env = self_play_v0.env(**SMALL, reward_design="audited")
    env.reset(seed=1)
    asked = []
    final = play(env, lambda request: asked.append(request.id) or blind_act(request))
    order = [name.partition("/")[2] for name in dict.fromkeys(asked)]
    assert order == [
        "proposer", "coder", "solver/caption/easy", "solver/caption/hard", "solver/blind/hard",
        "solver/0/easy", "solver/0/hard",
    ]  # fmt: skip
    info = final["solver_0"]["info"]
    assert info["blind_votes"]["hard"]["winner"] == "1" and len(info["turns"]) == 6
    assert {turn["request"].rpartition("/")[0][-2:] for turn in info["turns"]} == {"/0"}
    assert info["votes"][0]["labels"]["hard"]["winner"] == "6"
    env.reset(seed=1)
    solved = play(env)
    assert solved["solver_0"]["info"]["votes"][0]["labels"] == {}
    assert solved["solver_0"]["reward"] == 0
    assert solved["proposer_0"]["info"]["turns"][0]["terms"]["blind"] == -0.5
    env.close()
