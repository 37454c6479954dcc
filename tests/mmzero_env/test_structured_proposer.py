from __future__ import annotations

import pickle
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

import mmzero_env  # noqa: F401
from mmzero_env.errors import UserError
from mmzero_env.protocol import TOPICS, Completion, Response
from mmzero_env.rewards import DESIGNS, get_design
from mmzero_env.scenes import EXPLOITS, KINDS
from mmzero_env.structured_proposer import StructuredProposer
from mmzero_env.world import players

HONEST = np.array([0, 0, 0, 0, 0, 0])
MALFORMED = np.array([0, 0, 0, 0, 0, EXPLOITS.index("malformed")])
REPEAT = np.array([0, 0, 0, 0, 0, EXPLOITS.index("repeat")])


def test_gymnasium_and_stable_baselines_accept_it_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make("mmzero/StructuredProposer-v0").unwrapped)
        check_env_for_sb3(StructuredProposer(reward_design="r_zero"))


def play(env, steps, seed=5):
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    found = [observation]
    for _ in range(steps):
        observation, reward, *_ = env.step(env.action_space.sample())
        found += [observation, reward]
    return found


def test_a_seed_gives_the_same_proposals_and_rewards():
    one, other = play(StructuredProposer(), 12), play(StructuredProposer(), 12)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert not np.array_equal(one[-1], play(StructuredProposer(), 12, seed=6)[-1])


@pytest.mark.parametrize("name", DESIGNS)
def test_the_reward_is_that_of_the_design_for_the_window(name):
    env = StructuredProposer(reward_design=name, window=3)
    env.action_space.seed(1)
    env.reset(seed=1)
    outcomes = []
    for _ in range(5):
        _, reward, _, _, info = env.step(env.action_space.sample())
        outcomes.append(env.outcome)
        wanted = get_design(name).score(outcomes[-4:])[-1].proposer
        assert reward == pytest.approx(wanted.value)
        assert info["terms"] == pytest.approx(dict(wanted.terms))


def test_a_malformed_proposal_pays_minus_one_and_repeating_costs_diversity():
    env = StructuredProposer(coder=players.oracle(), solver=players.oracle())
    env.reset(seed=2)
    assert env.step(MALFORMED)[1] == -1.0
    first = env.step(HONEST)
    again = env.step(REPEAT)
    assert first[4]["good"] and first[4]["choices"]["kind"] == "bars"
    assert again[4]["terms"]["diversity"] < first[4]["terms"]["diversity"]
    assert again[4]["choices"]["exploit"] == "repeat" and not again[4]["good"]


def test_observations_show_topic_and_what_the_window_holds():
    env = StructuredProposer(coder=players.oracle(), solver=players.oracle(), window=2)
    observation, info = env.reset(seed=3)
    assert observation[: len(TOPICS)].tolist() == [float(t == info["topic"]) for t in TOPICS]
    assert not observation[len(TOPICS) :].any()
    for action in (HONEST, HONEST, MALFORMED):
        observation, reward, *_ = env.step(action)
    rest = observation[len(TOPICS) :]
    kinds = len(KINDS)
    # Of the three proposals the window holds the last two, an honest one and a malformed one.
    assert rest[3 * kinds : 4 * kinds].tolist() == [1.0, 0, 0, 0, 0]
    assert rest[4 * kinds + EXPLOITS.index("malformed")] == 0.5
    assert rest[-1] == 0.5
    # A reset without a seed goes on with the window.
    assert env.reset()[0][len(TOPICS) :].tolist() == rest.tolist()
    assert not env.reset(seed=3)[0][len(TOPICS) :].any()


def test_pictures_can_be_drawn():
    env = StructuredProposer(render_backend="cairosvg", image_size=32, codes=1)
    try:
        env.reset(seed=1)
        env.step(HONEST)
        image = env.outcome.codes[0].drawing.image
        assert image.shape == (32, 32, 3) and len(np.unique(image)) > 2
    finally:
        env.close()


def test_it_can_be_pickled_and_shown():
    env = pickle.loads(pickle.dumps(StructuredProposer(codes=2, render_mode="ansi")))
    env.reset(seed=1)
    assert env.render().startswith("no proposal yet; the first topic is")
    env.step(HONEST)
    assert len(env.outcome.codes) == 2
    assert "Bar chart" in env.render()


class Lazy:
    """Answers one sample fewer than it was asked for."""

    def generate(self, requests):
        return [Response(r.id, (Completion("\\boxed{1}"),) * (r.n - 1)) for r in requests]


def test_mistakes_are_named():
    with pytest.raises(UserError, match="call reset"):
        StructuredProposer().step(HONEST)
    with pytest.raises(UserError, match=r"solver must be an object with generate\(requests\)"):
        StructuredProposer(solver="noisy")
    with pytest.raises(UserError, match="Did you mean 'window'"):
        StructuredProposer(windw=3)
    with pytest.raises(UserError, match="unknown render mode 'human'"):
        StructuredProposer(render_mode="human")
    with pytest.raises(UserError, match="needs render_mode"):
        StructuredProposer().render()
    env = StructuredProposer(solver=Lazy())
    env.reset(seed=1)
    with pytest.raises(UserError, match="solver must answer request .*with 5 completions, 1 are"):
        env.step(HONEST)
