from __future__ import annotations

import pickle
from collections import deque
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

from mmzero_env import self_play_v0, world
from mmzero_env.episode import MAX_TEXT
from mmzero_env.errors import UserError
from mmzero_env.parsing import parse_proposal
from mmzero_env.protocol import Completion, Proposal, Request, Response
from mmzero_env.rewards import get_design
from mmzero_env.single_role import PATIENCE, Coder, Proposer, Solver
from mmzero_env.world import players
from tests.mmzero_env.table_game import BAD, GOOD, PROPOSAL, PROPOSAL_TEXT, act

TINY: dict[str, Any] = {"image_size": 32, "render_workers": 0}
VIEWS = {"proposer": Proposer, "coder": Coder, "solver": Solver}


class Recorder:
    """Plays by the book and keeps the batches it was asked for."""

    name = "recorder"

    def __init__(self) -> None:
        self.batches: list[list[Request]] = []

    def generate(self, requests):
        self.batches.append(list(requests))
        return [Response(r.id, (Completion(act(r)),) * r.n) for r in requests]


def finish(env: Any, player=act) -> tuple[float, dict[str, Any], int]:
    """Play a started episode to its end: return, last info, turns."""
    total, turns = 0.0, 0
    while True:
        _, reward, terminated, truncated, info = env.step(player(env.unwrapped.request))
        total, turns = total + reward, turns + 1
        assert isinstance(reward, float) and not truncated
        if terminated:
            return total, info, turns
        assert reward == 0.0


def others_of(role: str, player: Any = act) -> dict[str, Any]:
    return {name: player for name in VIEWS if name != role}


@pytest.mark.parametrize("role", VIEWS)
def test_a_view_pays_what_the_environment_of_all_roles_pays(role):
    env = gymnasium.make(f"mmzero/{role.capitalize()}-v0", **TINY, **others_of(role))
    _, info = env.reset(seed=11)
    asked = info["request"]["id"].rpartition("/")[2]
    total, info, _ = finish(env)

    settings = {"codes": 4 if role == "proposer" else 1, **TINY}
    whole = self_play_v0.raw_env(**settings)
    whole.reset(seed=11, options={"questions": [asked]} if role == "solver" else None)
    while whole.request is not None:
        whole.step(act(whole.request))
    agent = f"{role}_0"
    assert info["episode_id"] == whole.infos[agent]["episode_id"]
    assert info["turns"] == whole.infos[agent]["turns"] != []
    assert info["votes"] == whole.infos[agent]["votes"]
    assert total == pytest.approx(whole.rewards[agent])
    assert total == pytest.approx(np.mean([turn["reward"] for turn in info["turns"]]))
    assert total > 0


@pytest.mark.parametrize(("role", "turns"), [("proposer", 1), ("coder", 1), ("solver", 5)])
def test_episodes_are_short_and_show_only_the_own_prompt(role, turns):
    env = gymnasium.make(f"mmzero/{role.capitalize()}-v0", **TINY)
    for seed in range(4):
        observation, info = env.reset(seed=seed)
        request = env.unwrapped.request
        assert request.role == role and observation["text"] == request.prompt
        assert observation["image"].shape == (32, 32, 3)
        assert (observation["image"].min() < 255) == (role == "solver")
        assert info["request"]["id"] == request.id and info["skipped"] == 0
        assert finish(env, lambda r: "x")[2] == turns


def test_the_scripted_others_make_every_reward_reachable():
    oracle = players.oracle()
    for role, view in VIEWS.items():
        env = view(**TINY)
        values = []
        for seed in range(12):
            env.reset(seed=seed)
            value, info, _ = finish(env, lambda r: oracle.generate([r])[0].completions[0].text)
            values.append(value)
            assert info["failure"] is None and all(code["rendered"] for code in info["codes"])
        assert min(values) > 0, role
        env.reset(seed=0)
        assert finish(env, lambda r: "noise")[0] < min(values)


def test_the_solver_is_asked_one_question_an_episode():
    env = Solver(**TINY, **others_of("solver"))
    asked = [env.reset(seed=seed)[1]["request"]["id"].rpartition("/")[2] for seed in range(30)]
    assert set(asked) == {"easy", "hard"}
    for level in ("easy", "hard"):
        env.reset(seed=0, options={"questions": [level]})
        boxes = deque(f"<think>x</think>\\boxed{{{answer}}}" for answer in "33366")
        total, info, turns = finish(env, lambda r, boxes=boxes: boxes.popleft())
        vote = info["votes"][0]["votes"][level]
        assert turns == 5 and list(info["votes"][0]["votes"]) == [level]
        assert (vote["winner"], vote["consistency"]) == ("3", 0.6)
        assert total == pytest.approx(0.9 * 0.6 + 0.1)
    only = Solver(**TINY, questions=("hard",), answers=2, **others_of("solver"))
    for seed in range(5):
        assert only.reset(seed=seed)[1]["request"]["id"].endswith("/hard")
    assert finish(only)[2] == 2


def test_a_batched_player_gets_everything_that_is_open_at_once():
    recorder = Recorder()
    env = Proposer(**TINY, codes=2, answers=3, coder=recorder, solver=recorder)
    env.reset(seed=1)
    finish(env)
    assert [[r.role for r in batch] for batch in recorder.batches] == [["coder"], ["solver"] * 4]
    assert [r.n for r in recorder.batches[1]] == [3] * 4


def test_players_answer_by_id_not_by_position():
    class Backwards(Recorder):
        def generate(self, requests):
            return super().generate(requests)[::-1]

    totals = []
    for player in (Recorder(), Backwards()):
        env = Proposer(**TINY, coder=act, solver=player)
        env.reset(seed=1)
        totals.append(finish(env)[0])
    assert totals[0] == totals[1] > 0


def test_episodes_without_a_turn_are_skipped_and_counted():
    writes = iter(["no tags", PROPOSAL_TEXT, PROPOSAL_TEXT])
    draws = iter([BAD, GOOD.format(9)])
    env = Solver(**TINY, proposer=lambda r: next(writes), coder=lambda r: next(draws))
    _, info = env.reset(seed=1)
    assert info["skipped"] == 2 and info["codes"][0]["rendered"]
    hopeless = Solver(**TINY, coder=lambda r: "no code")
    with pytest.raises(UserError, match=rf"{PATIENCE} episodes .* better players.*: no_code"):
        hopeless.reset(seed=1)


def test_options_reach_the_episode():
    env = Coder(**TINY, **others_of("coder"))
    _, info = env.reset(seed=1, options={"topic": "maps of islands"})
    assert info["topic"] == "maps of islands"
    given = replace(PROPOSAL, caption="Another table.")
    assert "Another table." in env.reset(seed=1, options={"proposal": given})[0]["text"]
    with pytest.raises(UserError, match="leave the option 'proposal' out"):
        Proposer(**TINY).reset(options={"proposal": given})


def test_wrong_use_raises_at_once():
    for arguments, message in (
        ({"coder": act}, "the coder of this environment is you.*proposer and solver"),
        ({"solver": "oracle"}, "generate.requests. or a function.*got 'oracle'"),
        ({"solver": Recorder}, "generate.requests. or a function"),
        ({"solvr": act}, "unknown argument 'solvr'. Did you mean 'solver'"),
        ({"code": 1}, "Did you mean 'codes'"),
        ({"answers": 0}, "answers must"),
        ({"questions": ()}, "questions must"),
        ({"reward_design": "mm_one"}, "Did you mean 'mm_zero'"),
        ({"render_mode": "humna"}, "Did you mean 'human'"),
    ):
        with pytest.raises(UserError, match=message):
            Coder(**arguments)
        if "render_mode" not in arguments:
            with pytest.raises(UserError, match=message):
                gymnasium.make("mmzero/Coder-v0", **arguments)
    env = Coder(**TINY)
    with pytest.raises(UserError, match=r"call reset\(\) before step"):
        env.step("x")
    env.reset()
    with pytest.raises(UserError, match="must be a str, got int"):
        env.step(3)  # type: ignore[arg-type]
    env.step("x")
    with pytest.raises(UserError, match="episode is over"):
        env.step("x")
    with pytest.raises(UserError, match="render_mode"):
        env.render()


@pytest.mark.parametrize(
    ("player", "message"),
    [
        (lambda r: 3, "solver must answer request .*/solver/0/easy with str, got int"),
        (type("Few", (), {"generate": lambda self, rs: []})(), "with 5 completions, got 0"),
    ],
)
def test_a_player_that_does_not_answer_is_told_so(player, message):
    env = Coder(**TINY, solver=player)
    env.reset(seed=1)
    with pytest.raises(UserError, match=message):
        env.step(GOOD.format(9))


def test_bad_texts_are_data_and_long_ones_are_cut():
    env = Coder(**TINY)
    for text in ("", "\ud800", "<svg>" * 1000, GOOD.format(9) + " " * MAX_TEXT):
        env.reset(seed=1)
        _, reward, terminated, _, info = env.step(text)
        assert terminated and np.isfinite(reward)
    assert info["cut"] == [[f"{info['episode_id']}/coder", 0]] and info["codes"][0]["rendered"]


def test_rendering_shows_the_episode(capsys):
    shown = Coder(render_mode="ansi", **TINY)
    shown.reset(seed=1)
    shown.step(GOOD.format(9))
    assert "code 0: rendered" in shown.render()
    pictures = Solver(render_mode="rgb_array", **TINY)
    pictures.reset(seed=1)
    assert pictures.render().shape == (32, 32, 3) and pictures.render().min() < 255
    Coder(render_mode="human", **TINY).reset(seed=1)
    assert "next: " in capsys.readouterr().out


def test_views_and_scripted_players_can_be_pickled():
    env = Solver(**TINY, coder=players.noisy(0.9), proposer=players.oracle())
    observation, _ = env.reset(seed=5)
    again, _ = pickle.loads(pickle.dumps(env)).reset(seed=5)
    assert again["text"] == observation["text"] and (again["image"] == observation["image"]).all()


def test_a_renderer_of_its_own_process_draws_for_a_view():
    env = gymnasium.make("mmzero/Solver-v0", image_size=32)
    observation, _ = env.reset(seed=5)
    assert observation["image"].min() < 255
    env.close()
    assert (
        gymnasium.make("mmzero/Solver-v0", **TINY).reset(seed=5)[0]["text"] == observation["text"]
    )


def test_players_play_the_world_without_the_agents_package():
    (response,) = players.oracle().generate([Request("r", "proposer", "")])
    proposal = parse_proposal(response.completions[0].text)
    assert isinstance(proposal, Proposal)
    spec = world.parse_caption(proposal.caption)
    assert spec is not None and world.answer(spec, proposal.hard_question) == proposal.hard_answer
    with pytest.raises(UserError, match="from 0 to 1, came True"):
        players.noisy(True)


@pytest.mark.parametrize("role", VIEWS)
def test_views_score_with_labels_from_the_caption(role):
    arguments = {**TINY, **others_of(role), "reward_design": "caption_grounded"}
    env = VIEWS[role](**arguments)
    for seed in range(3):
        env.reset(seed=seed)
        total, info, turns = finish(env)
        assert info["caption_votes"]["hard"]["winner"] == "6" and total > 0
        # Two questions, answered five times from the caption and five times from the picture.
        assert turns == (20 if role == "solver" else 1)
        assert len(info["turns"]) == (10 if role == "solver" else 1)


def test_views_ask_blind_what_the_design_compares_with():
    def guess(request: Request) -> str:
        return "\\boxed{1}" if "/blind/" in request.id else act(request)

    for role, view in VIEWS.items():
        env = view(**TINY, **others_of(role, guess), reward_design="audited")
        env.reset(seed=1)
        total, info, turns = finish(env, guess)
        assert info["blind_votes"]["hard"]["winner"] == "1" and total > 0
        # As with labels from the caption alone, and the hard question five times more.
        assert turns == (25 if role == "solver" else 1)
        assert len(info["turns"]) == (10 if role == "solver" else 1)
    by_picture = get_design("mm_zero", blind_limit=0.5)
    env = Solver(**TINY, **others_of("solver"), reward_design=by_picture)
    for question, turns in (("easy", 5), ("hard", 10)):
        env.reset(seed=1, options={"questions": [question]})
        assert finish(env, guess)[2] == turns
