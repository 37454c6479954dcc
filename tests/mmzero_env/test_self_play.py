from __future__ import annotations

import json
import pickle
import random
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pettingzoo
import pytest
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given, settings
from hypothesis import strategies as st

import mmzero_env  # noqa: F401  (registers the ids)
from benchmarks.environment import fuzz
from mmzero_env import self_play_v0 as module
from mmzero_env.episode import MAX_TEXT
from mmzero_env.errors import UserError
from mmzero_env.prompts import PromptSet
from mmzero_env.protocol import TOPICS
from tests.mmzero_env.table_game import BAD, GOOD, PROPOSAL, PROPOSAL_TEXT, SMALL, act, play

# Untyped on purpose: PettingZoo's types know neither our attributes nor a render mode.
self_play_v0: Any = module


@pytest.fixture
def env():
    made = self_play_v0.env(**SMALL)
    yield made
    made.close()


def test_render_modes(capsys):
    env = self_play_v0.env(render_mode="human", **SMALL)
    env.reset(seed=1)
    env.step("no tags")
    assert "no proposal: " in capsys.readouterr().out
    env = self_play_v0.env(render_mode="rgb_array", **SMALL)
    env.reset(seed=1)
    assert env.render().shape == (32, 64, 3) and env.render().min() == 255
    play(env)
    strip = env.render()
    assert strip[:, :32].min() < 255 and strip[:, 32:].min() == 255
    env.close()
    env = self_play_v0.env(render_mode="ansi", **SMALL)
    env.reset(seed=1)
    play(env)
    for fact in (PROPOSAL.caption, "code 0: rendered", "hard vote: '6'", "proposal reward"):
        assert fact in env.render()
    env.close()


def test_both_forms_are_registered():
    env: Any = pettingzoo.make("aec", "mmzero/self-play-v0", reward_design="mm_zero", **SMALL)
    env.reset(seed=3)
    assert env.possible_agents == ["proposer_0", "coder_0", "solver_0"]
    assert env.unwrapped.config.codes == 2
    parallel: Any = pettingzoo.make("parallel", "mmzero/self-play-v0", **SMALL)
    observations, _ = parallel.reset(seed=3)
    assert observations["proposer_0"]["text"] == env.observe("proposer_0")["text"]
    default: Any = pettingzoo.make("aec", "mmzero/self-play-v0").unwrapped
    assert (default.config.codes, default.config.answers) == (4, 5)


def test_an_episode_from_topic_to_rewards(env):
    env.reset(seed=7, options={"topic": "maps of islands"})
    assert "maps of islands" in env.observe("proposer_0")["text"]
    assert (env.observe("solver_0")["image"] == 255).all()
    final = play(env)
    assert set(final) == set(env.possible_agents) and env.agents == []
    raw = env.unwrapped
    rewards, outcome = raw.episode_rewards, raw.outcome
    assert outcome.proposal == PROPOSAL and [c.drawing.ok for c in outcome.codes] == [True, False]

    proposer, coder, solver = (final[f"{role}_0"] for role in ("proposer", "coder", "solver"))
    assert proposer["info"]["proposal"]["caption"] == PROPOSAL.caption
    assert proposer["info"]["failure"] is None
    assert [code["rendered"] for code in coder["info"]["codes"]] == [True, False]
    assert coder["info"]["codes"][1]["failure"]["stage"] == "render"
    votes = solver["info"]["votes"]
    assert votes[0]["votes"]["easy"]["winner"] == "3" and votes[0]["votes"]["hard"]["winner"] == "6"
    assert votes[1]["votes"] == {}

    assert proposer["reward"] == pytest.approx(rewards.proposer.value)
    assert coder["reward"] == pytest.approx(np.mean([code.coder.value for code in rewards.codes]))
    every = [turn.value for turns in rewards.codes[0].solver.values() for turn in turns]
    assert len(every) == 6 and solver["reward"] == pytest.approx(np.mean(every))
    turns = solver["info"]["turns"]
    assert [turn["reward"] for turn in turns] == pytest.approx(every)
    assert turns[0]["request"] == f"{outcome.id}/solver/0/easy" and turns[0]["terms"]
    assert len(coder["info"]["turns"]) == 2 and len(proposer["info"]["turns"]) == 1
    assert json.loads(json.dumps(solver["info"])) == solver["info"]


def test_the_solver_sees_the_picture_of_its_code(env):
    env.reset(seed=7)
    seen = []

    def watch(request):
        if request.role == "solver":
            observed = env.observe("solver_0")["image"]
            assert observed.shape == (32, 32, 3) and observed.dtype == np.uint8
            seen.append(int(observed.min()))
        return act(request)

    play(env, watch)
    assert len(seen) == 6 and max(seen) < 255


def test_a_malformed_proposal_ends_with_minus_one(env):
    env.reset(seed=7)
    env.step("no tags")
    assert env.terminations == dict.fromkeys(env.possible_agents, True)
    assert env.rewards == {"proposer_0": -1.0, "coder_0": 0.0, "solver_0": 0.0}
    info = env.infos["proposer_0"]
    assert info["proposal"] is None and info["failure"]["stage"] == "proposal"
    assert env.infos["coder_0"]["turns"] == []


def test_a_given_proposal_starts_with_the_coder(env):
    env.reset(seed=7, options={"proposal": PROPOSAL})
    assert env.agent_selection == "coder_0"
    final = play(env)
    assert final["proposer_0"]["reward"] == 0.0 and final["proposer_0"]["info"]["turns"] == []
    assert final["coder_0"]["reward"] != 0.0


def test_equal_seeds_give_equal_episodes_whatever_came_before():
    a, b = self_play_v0.env(**SMALL), self_play_v0.env(**SMALL)
    for seed in (1, 2):  # fills the window of one of the two
        a.reset(seed=seed)
        play(a)
    ends = []
    for env in (a, b):
        env.reset(seed=11)
        first = play(env)
        env.reset()
        ends.append((first, play(env)))
        env.close()
    assert data_equivalence(ends[0], ends[1], exact=True)
    assert (
        ends[0][0]["solver_0"]["info"]["episode_id"] != ends[0][1]["solver_0"]["info"]["episode_id"]
    )


def test_topics_are_drawn_from_the_list():
    env = self_play_v0.raw_env(topics=("kites", "locks"), **SMALL)
    drawn = set()
    for _ in range(30):
        env.reset()
        drawn.add(env.infos["proposer_0"]["topic"])
    assert drawn == {"kites", "locks"}
    assert self_play_v0.raw_env().topics == TOPICS


def test_repetition_is_measured_over_the_window():
    """The same valid proposal again and again is worth less, unless the window is one."""
    worth = {}
    for window in (1, 4):
        env = self_play_v0.env(**SMALL, window=window)
        env.reset(seed=0)
        values = []
        for _ in range(3):
            play(env)
            values.append(env.unwrapped.episode_rewards.proposer.value)
            env.reset()
        worth[window] = values
        env.close()
    assert worth[1][0] == worth[1][1] == worth[1][2] == worth[4][0]
    assert worth[4][1] < worth[4][0] and worth[4][2] < worth[4][0]


def test_the_parallel_form_gives_the_same_rewards(env):
    env.reset(seed=9)
    final = play(env)
    parallel = self_play_v0.parallel_env(**SMALL)
    parallel.reset(seed=9)
    coded = 0
    while parallel.agents:
        request = parallel.unwrapped.request
        text = act(request)
        if text == GOOD.format(20):
            text, coded = (text, BAD)[coded % 2], coded + 1
        actions = {agent: "not read" for agent in parallel.agents} | {f"{request.role}_0": text}
        _, rewards, _, _, infos = parallel.step(actions)
    parallel.close()
    assert rewards == {agent: final[agent]["reward"] for agent in final}
    for agent, info in infos.items():
        assert info["turns"] == final[agent]["info"]["turns"]


def test_pickled_environments_play_on():
    env = pickle.loads(pickle.dumps(self_play_v0.env(**SMALL | {"render_workers": 1})))
    env.reset(seed=7)
    assert set(play(env)) == set(env.possible_agents)
    env.close()
    env.reset(seed=7)  # closing stops only the workers
    play(env)
    env.close()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), noise=st.lists(st.text(), min_size=4, max_size=4))
def test_any_text_at_any_turn_gives_finite_rewards(seed, noise):
    env = self_play_v0.raw_env(codes=1, answers=1, image_size=8)
    pick = random.Random(seed)
    env.reset(seed=seed)
    while env.request is not None:
        text = pick.choice(noise)
        if env.request.role == "proposer" and pick.random() < 0.7:
            text = PROPOSAL_TEXT.replace("cell", text)
        env.step(text)
    env.close()
    assert all(np.isfinite(value) for value in env.rewards.values())
    assert all(info["turns"] is not None for info in env.infos.values())


def test_a_million_characters_are_legal_and_more_are_cut(env):
    env.reset(seed=7)
    env.step(PROPOSAL_TEXT + " " * MAX_TEXT)
    assert env.agent_selection == "coder_0"
    request_id = f"{env.unwrapped.infos['coder_0']['episode_id']}/proposer"
    assert env.infos["proposer_0"]["cut"] == [[request_id, 0]]


def test_wrong_use_raises_at_once(env):
    for arguments, message in (
        ({"window": 0}, "window must"),
        ({"image_size": 1.5}, "image_size must"),
        ({"topics": "map"}, "topics must"),
        ({"render_mode": "humna"}, "Did you mean 'human'"),
        ({"prompts": "mm_one"}, "mm_zero"),
        ({"codes": 0}, "codes must"),
        ({"reward_design": "mm_one"}, "mm_zero"),
        ({"reward_design": 3}, "name of a reward design or a RewardDesign, got 3"),
        ({"questions": "hard"}, "questions must be a sequence of easy, hard"),
        ({"questions": ("heard",)}, "Did you mean 'hard'"),
        ({"render_backend": "cairo"}, "Did you mean 'cairosvg'"),
        ({"render_backend": None, "image_size": 5000}, "1 to 4096"),
        ({"topics": ("x" * (MAX_TEXT + 1),)}, "topic must be a str of at most 1,000,000"),
        ({"code": 3}, "unknown argument 'code'. Did you mean 'codes'"),
    ):
        for make in (self_play_v0.raw_env, self_play_v0.env, self_play_v0.parallel_env):
            with pytest.raises(UserError, match=message):
                make(**arguments)
    raw = self_play_v0.raw_env(**SMALL)
    with pytest.raises(UserError, match=r"call reset\(\)"):
        raw.step("x")
    with pytest.raises(UserError, match="Did you mean 'topic'"):
        raw.reset(options={"topics": "map"})
    with pytest.raises(UserError, match="must be a Proposal"):
        raw.reset(options={"proposal": PROPOSAL_TEXT})
    with pytest.raises(UserError, match="caption of a proposal must be a str of at most"):
        raw.reset(options={"proposal": replace(PROPOSAL, caption="x" * (MAX_TEXT + 1))})
    raw.reset()
    with pytest.raises(UserError, match="must be a str, got int"):
        raw.step(3)
    with pytest.raises(UserError, match="render_mode"):
        raw.render()
    raw.step("no tags")
    for _ in raw.possible_agents:
        raw.step(None)
    with pytest.raises(UserError, match="over for all agents"):
        raw.step("x")


CHART = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect width="30" height="9"/>'
    '<rect y="20" width="{0}" height="9"/><text y="50">{1}</text></svg>'
)


def drawn_infos(env: Any, codes: list[str]) -> list[dict[str, Any]]:
    """The infos of codes that are drawn for the fixed proposal."""
    env.reset(options={"proposal": PROPOSAL})
    for code in codes:
        assert all("svg" not in info for info in env.infos["coder_0"]["codes"])
        env.step(code)
    return env.infos["coder_0"]["codes"]


def test_infos_measure_every_picture():
    env = self_play_v0.raw_env(**SMALL | {"codes": 4})
    env.reset(seed=1)
    first = drawn_infos(env, [CHART.format(9, "cells"), CHART.format(9, "answer: 6"), BAD, "words"])
    svg = first[0]["svg"]
    assert svg["elements"] == 3 and svg["text_share"] == pytest.approx(1 / 3)
    assert svg["type_entropy"] == pytest.approx(0.9183, abs=1e-4) and svg["cost"] > 3
    assert len(svg["phash"]) == 16 and svg["phash_distance"] is None
    quiet = {
        "hard_answer": False, "telltale": False, "question_share": 0.0, "caption_share": 0.0
    }  # fmt: skip
    assert first[0]["leaks"] == quiet
    assert first[1]["leaks"] == quiet | {"hard_answer": True, "telltale": True}
    assert (
        [code["svg"] for code in first[2:]] == [code["leaks"] for code in first[2:]] == [None] * 2
    )
    while env.request is not None:
        env.step("\\boxed{6}")
    again = drawn_infos(env, [CHART.format(9, "cells"), CHART.format(60, ""), "", ""])
    assert again[0]["svg"]["phash_distance"] == 0 < again[1]["svg"]["phash_distance"] <= 64
    env.reset(seed=1)
    assert drawn_infos(env, [CHART.format(9, "cells")] * 4)[3]["svg"]["phash_distance"] is None


def test_the_window_of_pictures_ends():
    env = self_play_v0.raw_env(**SMALL | {"codes": 1, "window": 2})
    env.reset(seed=1)
    distances = []
    for width in (5, 60, 5, 5):
        distances.append(drawn_infos(env, [CHART.format(width, "")])[0]["svg"]["phash_distance"])
        while env.request is not None:
            env.step("x")
    assert distances[0] is None and distances[1] > 0 and distances[2] > 0 and distances[3] == 0


def test_without_a_backend_nothing_is_passed_off_as_a_drawing():
    env = self_play_v0.raw_env(**SMALL, render_backend=None)
    env.reset(seed=1, options={"proposal": PROPOSAL})
    env.step(GOOD.format(9))
    env.step(BAD)
    good, bad = env.infos["coder_0"]["codes"]
    assert good["rendered"] and good["flags"] == ["not_drawn"]
    assert good["svg"]["elements"] == 2 and good["svg"]["phash"] is None
    assert good["svg"]["phash_distance"] is None
    assert not bad["rendered"] and bad["failure"]["reason"] == "malformed_xml"
    assert (env.observe("solver_0")["image"] == 255).all()


def test_the_coder_may_write_python_where_the_environment_says_so():
    svg = "```svg\n<svg viewBox='0 0 9 9'><rect width='4' height='4'/></svg>\n```"
    python = "```python\nimport matplotlib.pyplot as plt\nplt.bar([1, 2], [3, 4])\n```"
    seen = {}
    for forms in (("svg",), ("svg", "python")):
        env = self_play_v0.env(codes=2, answers=1, render_backend=None, code_forms=forms)
        env.reset(seed=1, options={"proposal": PROPOSAL})
        assert ("matplotlib" in env.last()[0]["text"]) == ("python" in forms)
        env.step(svg)
        env.step(python)
        seen[forms] = env.infos["coder_0"]["codes"]
    alone, both = seen.values()
    assert [code["form"] for code in alone] == ["svg", None]
    assert alone[1]["failure"]["reason"] == "no_code"
    assert [code["form"] for code in both] == ["svg", "python"]
    assert both[1]["flags"] == ["not_drawn"]
    assert both[0]["svg"] is not None and both[1]["svg"] is None
    for wrong, message in (
        ({"code_forms": "svg"}, "must be a sequence"),
        ({"code_forms": ("svg", "pyhton")}, "Did you mean 'python'"),
        ({"code_forms": ()}, "each once"),
        ({"code_forms": ("python",), "prompts": "nano"}, "python_template is empty"),
    ):
        with pytest.raises(UserError, match=message):
            self_play_v0.env(**wrong)


def test_questions_are_asked_as_told():
    env = self_play_v0.env(**SMALL, questions=("hard",))
    for options, asked in (({}, ["hard"]), ({"questions": ["hard", "easy"]}, ["hard", "easy"])):
        env.reset(seed=1, options=options)
        final = play(env)
        turns = final["solver_0"]["info"]["turns"]
        assert [turn["request"].rpartition("/")[2] for turn in turns[::3]] == asked
    with pytest.raises(UserError, match="unknown question"):
        env.reset(options={"questions": ["middle"]})
    env.close()


def test_writing_into_what_was_handed_out_changes_nothing(env):
    env.reset(seed=1, options={"proposal": PROPOSAL})
    env.step(GOOD.format(9))
    env.step(BAD)
    before = env.observe("solver_0")["image"].copy()
    env.observe("solver_0")["image"][:] = 7
    env.observe("proposer_0")["image"][:] = 7
    env.infos["coder_0"]["codes"].clear()
    env.infos["proposer_0"]["proposal"]["caption"] = "changed"
    assert (env.observe("solver_0")["image"] == before).all()
    assert (env.observe("proposer_0")["image"] == 255).all()
    env.step("x")
    assert len(env.infos["coder_0"]["codes"]) == 2
    assert env.infos["proposer_0"]["proposal"]["caption"] == PROPOSAL.caption


def test_open_requests_come_in_the_order_of_turns(env):
    raw = env.unwrapped
    assert raw.open_requests() == ()
    env.reset(seed=1, options={"proposal": PROPOSAL})
    env.step(GOOD.format(9))
    env.step(GOOD.format(9))
    asked = [request.id.split("/", 1)[1] for request in raw.open_requests()]
    assert asked == ["solver/0/easy", "solver/0/hard", "solver/1/easy", "solver/1/hard"]
    while raw.request is not None:
        assert raw.request is raw.open_requests()[0]
        env.step("x")


def test_the_prompt_of_the_longest_proposal_is_an_observation():
    """Nested tags make every field as long as the text they were read from."""
    tags = ("caption", "easy_question", "easy_answer", "hard_question", "hard_answer")
    opened, closed = ("".join(f"<{mark}{tag}>" for tag in tags) for mark in ("", "/"))
    text = opened + "w " * ((MAX_TEXT - len(opened + closed)) // 2) + closed
    twice = PromptSet(
        "twice", "{topic}", "{caption}{caption}{hard_answer}", "{question}", "{caption}{question}"
    )
    for prompts in ("mm_zero", twice):
        env = self_play_v0.raw_env(**SMALL, prompts=prompts)
        env.reset(seed=1)
        env.step(text)
        observation = env.observe("coder_0")
        assert len(observation["text"]) > 2.9 * MAX_TEXT
        assert env.observation_space("coder_0").contains(observation)


def test_printing_survives_what_no_terminal_can_show(capsys):
    env = self_play_v0.raw_env(**SMALL, render_mode="human")
    env.reset(seed=1)
    env.step(PROPOSAL_TEXT.replace("cell", "\ud800 \x1b 图"))
    assert "\\ud800" in capsys.readouterr().out


NASTY = (
    "\\boxed{" * (MAX_TEXT // 7),
    "{" * (MAX_TEXT // 2) + "}" * (MAX_TEXT // 2),
    "<caption>" * (MAX_TEXT // 9),
    "<svg>" * (MAX_TEXT // 5) + "</svg>",
    "```svg" * (MAX_TEXT // 6),
    "```svg\n" + "<g>" * 70_000 + "```",
    "\\boxed{" + "9" * MAX_TEXT + "}",
    "\\boxed{" + "(" * (MAX_TEXT - 20) + "}",
    "<think>" + " " * MAX_TEXT + "</think>\\boxed{3}",
    "\x00\ud800\u202e" * (MAX_TEXT // 3),
    "1 + " * (MAX_TEXT // 4),
    '<svg viewBox="0 0 9 9"><text>' + "answer 6 " * (MAX_TEXT // 10) + "</text></svg>",
)


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_a_million_awkward_characters_at_every_turn(text):
    env = self_play_v0.raw_env(codes=2, answers=2, image_size=16, render_backend=None)
    env.reset(seed=1)
    started = time.process_time()
    for turns in ([text], [PROPOSAL_TEXT, text, text], [PROPOSAL_TEXT, GOOD.format(9), text]):
        env.reset()
        for turn in turns:
            env.step(turn)
        while env.request is not None:
            env.step(text)
        assert all(np.isfinite(value) for value in env.rewards.values())
    assert env.infos["proposer_0"]["failure"] is None
    assert time.process_time() - started < 4


@pytest.mark.parametrize("design", ["mm_zero", "mm_zero_official"])
def test_fuzzed_actions_end_in_finite_rewards_and_reasons(design):
    report = fuzz(600, seed=3, reward_design=design)
    assert report.actions == 600 and report.episodes > 100
    assert set(report.turns) == {"proposer", "coder", "solver"} and min(report.turns.values()) > 20
    assert {"missing_tag", "no_code", "malformed_xml", "drawn"} <= set(report.ends)
