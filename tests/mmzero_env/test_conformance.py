"""Farama's own tests over every registered id, as anyone would run them."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pettingzoo
import pytest
from gymnasium import wrappers
from gymnasium.utils.env_checker import check_env, data_equivalence
from pettingzoo.test import (
    api_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    seed_test,
)
from pettingzoo.utils.wrappers import (
    AssertOutOfBoundsWrapper,
    BaseWrapper,
    CaptureStdoutWrapper,
    MultiEpisodeEnv,
    OrderEnforcingWrapper,
)

import mmzero_env  # noqa: F401  (registers the ids)
from tests.mmzero_env.table_game import SMALL, lively, play

AEC = sorted(id for id in pettingzoo.aec_registry if id.startswith("mmzero/"))
PARALLEL = sorted(id for id in pettingzoo.parallel_registry if id.startswith("mmzero/"))
# Its actions are numbers; tests/mmzero_env/test_structured_proposer.py has its checks.
STRUCTURED = "mmzero/StructuredProposer-v0"
VIEWS = sorted(id for id in gymnasium.registry if id.startswith("mmzero/") and id != STRUCTURED)
TINY = {"image_size": 32, "render_workers": 0}

# A space of text is neither a Box nor an array; PettingZoo may say that much, not more.
ALLOWED = ("Observation is not a NumPy", "Observation space", "Action space", "Agent")


def test_every_environment_is_registered():
    assert AEC == PARALLEL == ["mmzero/self-play-v0"]
    assert VIEWS == ["mmzero/Coder-v0", "mmzero/Proposer-v0", "mmzero/Solver-v0"]
    assert STRUCTURED in gymnasium.registry


@pytest.fixture
def strict():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for text in ALLOWED:
            warnings.filterwarnings("ignore", message=text)
        yield


def maker(kind: str, id: str, alive: bool) -> Callable[..., Any]:
    def make(**kwargs: Any) -> Any:
        env = pettingzoo.make(kind, id, **SMALL, **kwargs)
        return lively(env) if alive else env

    return make


@pytest.mark.parametrize("alive", [False, True], ids=["any-text", "good-text"])
@pytest.mark.parametrize("id", AEC)
def test_the_turn_based_form(id, alive, strict):
    make = maker("aec", id, alive)
    for cycles in (1, 5, 60):
        env = make()
        ends = []
        step = env.unwrapped.step
        env.unwrapped.step = lambda action, step=step, env=env, ends=ends: (
            step(action),
            ends.append(env.unwrapped.outcome),
        )
        api_test(env, num_cycles=cycles)
        drawn = [code for end in ends if end is not None for code in end.codes if code.drawing.ok]
        # Good text reaches every role as soon as there are turns enough for it.
        assert bool(drawn) == (alive and cycles > 1)
    seed_test(make, num_cycles=40)
    render_test(make)


@pytest.mark.parametrize("alive", [False, True], ids=["any-text", "good-text"])
@pytest.mark.parametrize("id", PARALLEL)
def test_the_parallel_form(id, alive, strict):
    make = maker("parallel", id, alive)
    for cycles in (1, 5, 60):
        parallel_api_test(make(), num_cycles=cycles)
    parallel_seed_test(make, num_cycles=40)


@pytest.mark.parametrize("id", AEC)
def test_pettingzoo_wrappers_that_apply(id, capsys):
    make = maker("aec", id, False)
    for wrap in (BaseWrapper, OrderEnforcingWrapper, AssertOutOfBoundsWrapper):
        env = wrap(make())
        env.reset(seed=5)
        # Out-of-bounds assertion: Unicode is inside.
        play(env, lambda request: "größer als π? 图表 \ud800")
        assert env.agents == []
    env = MultiEpisodeEnv(make(), num_episodes=3)
    env.reset(seed=5)
    steps = 0
    for _ in env.agent_iter():
        *_, terminated, truncated, _ = env.last()
        env.step(None if terminated or truncated else "no tags")
        steps += 1
    assert steps > 3
    env = CaptureStdoutWrapper(make(render_mode="human"))
    env.reset(seed=5)
    assert "next: " in env.render()
    assert env.render_mode == "ansi"


@pytest.mark.parametrize("id", VIEWS)
def test_a_view_passes_the_gymnasium_checker(id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(id, **TINY)
        check_env(env.unwrapped)
        env.close()


def rollout(env: Any, steps: int = 12) -> list[Any]:
    seen: list[Any] = [env.reset(seed=3)]
    for step in range(steps):
        seen.append(env.step(f"<think>π</think>\\boxed{{{step % 2}}}"))
        if seen[-1][2] or seen[-1][3]:
            seen.append(env.reset())
    return seen


@pytest.mark.parametrize("id", VIEWS)
def test_equal_seeds_give_equal_views_and_pickles_too(id):
    env = gymnasium.make(id, **TINY)
    first = rollout(env)
    for other in (env, gymnasium.make(id, **TINY), pickle.loads(pickle.dumps(env))):
        assert data_equivalence(first, rollout(other), exact=True)
    env.reset(seed=4)
    assert env.reset(seed=4)[1] != env.reset()[1]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("id", VIEWS)
def test_vector_environments_need_no_option(id, mode):
    single = [gymnasium.make(id, **TINY) for _ in range(2)]
    vector = gymnasium.make_vec(id, num_envs=2, vectorization_mode=mode, **TINY)
    try:
        observations, _ = vector.reset(seed=7)
        expected = [env.reset(seed=7 + index)[0] for index, env in enumerate(single)]
        for step in range(8):
            assert vector.observation_space.contains(observations)
            assert observations["text"] == tuple(each["text"] for each in expected)
            assert (observations["image"] == [each["image"] for each in expected]).all()
            actions = (f"\\boxed{{{step}}}", "größer als π 图表")
            observations, rewards, ended, cut, _ = vector.step(actions)
            if ended.any() or cut.any():
                break
            results = [env.step(act) for env, act in zip(single, actions, strict=True)]
            expected = [each[0] for each in results]
        assert rewards.shape == (2,) and np.isfinite(rewards).all()
    finally:
        vector.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_structured_view_runs_in_vector_environments(mode):
    vector = gymnasium.make_vec(STRUCTURED, num_envs=2, vectorization_mode=mode)
    try:
        observations, _ = vector.reset(seed=7)
        assert vector.observation_space.contains(observations)
        vector.action_space.seed(1)
        observations, rewards, *_ = vector.step(vector.action_space.sample())
        assert vector.observation_space.contains(observations)
        assert rewards.shape == (2,) and np.isfinite(rewards).all()
    finally:
        vector.close()


def test_a_vector_environment_may_hand_out_its_live_texts():
    vector = gymnasium.make_vec(
        "mmzero/Solver-v0",
        num_envs=2,
        vectorization_mode="async",
        vector_kwargs={"copy": False},
        **TINY,
    )
    try:
        texts = vector.reset(seed=7)[0]["text"]
        before = list(texts)
        vector.reset(seed=11)
        assert all(before) and list(texts) != before and texts[-1] == texts[1]
        assert texts[:1] == (texts[0],) and len(texts) == 2
        with pytest.raises(IndexError, match="2 texts"):
            texts[2]
    finally:
        vector.close()


@pytest.mark.parametrize("id", VIEWS)
def test_gymnasium_wrappers_that_apply(id):
    def wrapped(wrap: Callable[..., Any], **options: Any) -> Any:
        env = wrap(gymnasium.make(id, render_mode="rgb_array", **TINY), **options)
        env.reset(seed=2)
        return env

    statistics = wrapped(wrappers.RecordEpisodeStatistics)
    over = False
    turns = 0
    while not over:
        _, reward, over, _, info = statistics.step("\\boxed{1}")
        turns += 1
    assert info["episode"]["l"] == turns == len(info["turns"])
    assert info["episode"]["r"] == pytest.approx(reward, abs=1e-6)

    limited = wrapped(wrappers.TimeLimit, max_episode_steps=1)
    _, _, terminated, truncated, _ = limited.step("\\boxed{1}")
    assert truncated and terminated == (turns == 1)

    again = wrapped(wrappers.Autoreset)
    for _ in range(7):
        observation, *_ = again.step("\\boxed{1}")
        assert again.observation_space.contains(observation)

    assert set(wrapped(wrappers.FilterObservation, filter_keys=["text"]).step("x")[0]) == {"text"}
    quiet = wrapped(wrappers.TransformReward, func=lambda reward: 7.0)
    assert quiet.step("x")[1] == 7.0
    clipped = wrapped(wrappers.ClipReward, min_reward=0.25, max_reward=0.5)
    assert 0.25 <= clipped.step("x")[1] <= 0.5
    doubled = wrapped(
        wrappers.TransformAction,
        func=lambda action: action * 2,
        action_space=statistics.action_space,
    )
    doubled.step("x" * 600_000)
    assert len(doubled.unwrapped.render().shape) == 3
    frames = wrapped(wrappers.RenderCollection)
    frames.step("x")
    assert len(frames.render()) == 2
