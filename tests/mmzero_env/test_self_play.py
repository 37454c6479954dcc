from __future__ import annotations

import json
import pickle
import random
import warnings
from typing import Any

import numpy as np
import pettingzoo
import pytest
from gymnasium.utils.env_checker import data_equivalence
from hypothesis import given, settings
from hypothesis import strategies as st
from pettingzoo.test import (
    api_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    seed_test,
)

import mmzero_env  # noqa: F401  (registers the ids)
from mmzero_env import self_play_v0 as module
from mmzero_env.episode import MAX_TEXT
from mmzero_env.errors import UserError
from mmzero_env.protocol import TOPICS, Proposal
from mmzero_env.spaces import Utterance

# Untyped on purpose: PettingZoo's types know neither our attributes nor a render mode.
self_play_v0: Any = module

PROPOSAL = Proposal("table", "A table with a cell 3.", "Which number?", "3", "Twice it?", "6")
PROPOSAL_TEXT = (
    "<content_type>table</content_type><caption>A table with a cell 3.</caption>"
    "<easy_question>Which number?</easy_question><easy_answer>3</easy_answer>"
    "<hard_question>Twice it?</hard_question><hard_answer>6</hard_answer>"
)
GOOD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
    '<rect width="64" height="64" fill="white"/><rect x="8" y="8" width="{0}" height="20" '
    'fill="blue"/></svg>'
)
BAD = '<svg viewBox="0 0 64 64"><rect </svg>'
SMALL: dict[str, Any] = {"codes": 2, "answers": 3, "image_size": 32, "render_workers": 0}


def act(request) -> str:
    """A player that proposes well, draws well then badly, and answers 3 and 6."""
    if request.role == "proposer":
        return PROPOSAL_TEXT
    if request.role == "coder":
        return GOOD
    return "<think>I look.</think>\\boxed{3}" if "easy" in request.id else "\\boxed{6}"


def play(env: Any, player=act) -> dict[str, dict]:
    """Play one episode; what each agent had seen when it ended."""
    final = {}
    coded = 0
    for agent in env.agent_iter():
        observation, reward, terminated, _, info = env.last()
        if terminated:
            final[agent] = {"reward": reward, "info": info, "observation": observation}
            env.step(None)
            continue
        request = env.unwrapped.request
        assert agent == f"{request.role}_0" and observation["text"] == request.prompt
        assert env.observation_space(agent).contains(observation)
        assert info["request"]["id"] == request.id and reward == 0
        text = player(request)
        if text == GOOD:
            text, coded = (GOOD.format(20), BAD)[coded % 2], coded + 1
        env.step(text)
    return final


@pytest.fixture
def env():
    made = self_play_v0.env(**SMALL)
    yield made
    made.close()


class Lines(Utterance):
    """Samples of one of a few lines, so that random play reaches every role."""

    def __init__(self, *lines: str) -> None:
        super().__init__(MAX_TEXT)
        self.lines = lines

    def sample(self, mask=None, probability=None) -> str:
        return self.lines[int(self.np_random.integers(len(self.lines)))]


def lively(make):
    """Environments whose random actions propose and draw well most of the time."""

    def made(**kwargs):
        env = make(**SMALL, **kwargs)
        env.unwrapped._action_spaces |= {
            "proposer_0": Lines(PROPOSAL_TEXT),
            "coder_0": Lines(GOOD.format(9), GOOD.format(40), BAD, "words"),
            "solver_0": Lines("\\boxed{3}", "\\boxed{6}", "<think>x</think>\\boxed{3}", "π"),
        }
        return env

    return made


def plain(make):
    return lambda **kwargs: make(**SMALL, **kwargs)


def watch_drawings(env) -> list[bool]:
    """Collects, while the environment is used, whether each code of an episode rendered."""
    drawn: list[bool] = []
    raw = env.unwrapped
    draw = raw._draw

    def watched():
        draw()
        drawn.extend(drawing.ok for _, drawing in raw._episode.codes)

    raw._draw = watched
    return drawn


@pytest.mark.parametrize("actions", [plain, lively])
def test_farama_tests_pass(actions):
    with warnings.catch_warnings():
        # A text space is neither a Box nor an array; that is all that may be said.
        warnings.simplefilter("error")
        for text in ("Observation is not a NumPy", "Observation space", "Action space", "Agent"):
            warnings.filterwarnings("ignore", message=text)
        for cycles in (1, 5, 40):
            env = actions(self_play_v0.env)()
            drawn = watch_drawings(env)
            api_test(env, num_cycles=cycles)
            assert bool(drawn) == (actions is lively)
            parallel_api_test(actions(self_play_v0.parallel_env)(), num_cycles=cycles)
    seed_test(actions(self_play_v0.env), num_cycles=40)
    parallel_seed_test(actions(self_play_v0.parallel_env), num_cycles=40)
    render_test(actions(self_play_v0.env))


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
    assert ends[0][0]["solver_0"]["info"]["episode"] != ends[0][1]["solver_0"]["info"]["episode"]


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
        if text == GOOD:
            text, coded = (GOOD.format(20), BAD)[coded % 2], coded + 1
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
    request_id = f"{env.unwrapped.infos['coder_0']['episode']}/proposer"
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
    ):
        with pytest.raises(UserError, match=message):
            self_play_v0.raw_env(**arguments)
    raw = self_play_v0.raw_env(**SMALL)
    with pytest.raises(UserError, match=r"call reset\(\)"):
        raw.step("x")
    with pytest.raises(UserError, match="Did you mean 'topic'"):
        raw.reset(options={"topics": "map"})
    with pytest.raises(UserError, match="must be a Proposal"):
        raw.reset(options={"proposal": PROPOSAL_TEXT})
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


def test_utterance_holds_any_script_and_samples_short_text():
    space = Utterance(100, seed=4)
    assert all(space.contains(text) for text in ("", "π ≈ 3.14", "图表\n\x00", "x" * 100))
    assert not any(space.contains(value) for value in ("x" * 101, 3, None, b"bytes"))
    samples = [space.sample() for _ in range(200)]
    assert all(space.contains(text) and len(text) <= 64 for text in samples)
    assert len(set(samples)) > 150 and max(map(len, samples)) > 50
    again = Utterance(100, seed=4)
    assert [again.sample() for _ in range(200)] == samples
    copy = pickle.loads(pickle.dumps(space))
    assert copy == space and copy.sample() == space.sample()
    assert space != Utterance(99) and space != "Utterance(100)"
    assert Utterance(5, seed=1).sample_length == 5
