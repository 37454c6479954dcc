import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.reward_measures import MEASURES
from benchmarks.simulated_world import HONEST, OWN_TRUE, QUICK, World, measures, play, series
from mmzero_env.rewards import get_design
from mmzero_env.scenes import EXPLOITS, OWN_ANSWERS
from mmzero_env.structured_proposer import StructuredProposer

TINY = replace(QUICK, rounds=2, proposals=16, coder=4, solver=4)


def test_ppo_learns_to_earn_more_than_it_did_and_more_than_chance():
    # Coder and Solver stay as they are, so that only the Proposer can change its reward.
    settings = replace(QUICK, proposals=128, coder=1, solver=1, rate=0.0)
    world = World(get_design("mm_zero"), 0, settings)
    chance = world._env(codes=2)
    chance.action_space.seed(0)
    chance.reset(seed=0)
    random_pay = np.mean([chance.step(chance.action_space.sample())[1] for _ in range(256)])
    pay = [world.round()["reward"] for _ in range(14)]
    assert np.mean(pay[-3:]) > np.mean(pay[:3]) + 0.1
    assert np.mean(pay[-3:]) > random_pay + 0.25


def test_a_seed_gives_the_same_cell_and_another_one_another():
    def rows(seed):
        return play(get_design("r_zero"), seed, TINY)["rows"]

    assert rows(3) == rows(3)
    assert rows(3) != rows(4)


def test_the_proposer_begins_as_the_bundled_model_does_and_stays_if_untrained():
    world = World(get_design("mm_zero"), 1, TINY, untrained=True)
    bias = world.ppo.policy.get_parameter("action_net.bias").detach().clone()
    world.round()
    assert world.ppo.policy.get_parameter("action_net.bias").equal(bias)
    scenes = [world.play().scene.choices for _ in range(300)]
    honest = np.mean([EXPLOITS[choices.exploit] == "none" for choices in scenes])
    true = np.mean([OWN_ANSWERS[choices.own_answer] == "true" for choices in scenes])
    assert honest == pytest.approx(HONEST, abs=0.1)
    assert true == pytest.approx(OWN_TRUE[0], abs=0.1)


@pytest.mark.parametrize("name", ["caption_grounded", "evolmm"])
def test_every_measure_of_a_cell_is_a_number_in_its_range(name):
    cell = play(get_design(name), 0, replace(TINY, solver=12, coder=12))
    found = measures(cell)
    assert {measure.key for measure in MEASURES} <= set(found)
    assert all(value is None or math.isfinite(value) for value in found.values())
    for key in ("diversity", "hack_rate", "good", "silver_accuracy"):
        assert found[key] is None or 0 <= found[key] <= 1
    assert abs(found["solver_gain"]) < 0.5
    assert {len(values) for values in series(cell).values()} == {TINY.rounds}


def test_the_environment_of_the_world_scores_by_its_design():
    design = get_design("learnability")
    env = World(design, 0, TINY)._env(codes=4)
    assert isinstance(env, StructuredProposer) and env.design == design and env.config.codes == 4
