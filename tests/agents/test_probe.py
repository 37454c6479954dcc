"""The probe tells good players from bad ones."""

from __future__ import annotations

import numpy as np
import pytest

import agents
from agents.probe import Estimate, Probe
from mmzero_env.prompts import get_prompts
from mmzero_env.rendering import Renderer
from mmzero_env.world import SIDE
from mmzero_env.world.probe import probe_items


@pytest.fixture(scope="module")
def probe():
    with Renderer(size=SIDE, workers=0) as renderer:
        yield Probe(probe_items(20), get_prompts("nano"), renderer, samples=4)


def measure(probe: Probe, name: str) -> dict[str, float]:
    policy = agents.make(name)
    found = {**probe.solver(policy), **probe.coder(policy), **probe.proposer(policy)}
    assert all(len(values) == 20 for values in found.values())
    assert all(0 <= v.min() and v.max() <= 1 for v in found.values())
    return {metric: float(np.mean(values)) for metric, values in found.items()}


def test_an_oracle_is_perfect(probe):
    found = measure(probe, "scripted:oracle")
    assert found.pop("proposer_unique") > 0.5
    assert min(found.values()) == 1.0, found


def test_random_text_is_worthless(probe):
    found = measure(probe, "scripted:random")
    assert max(found.values()) == 0.0, found


def test_votes_repair_random_errors(probe):
    found = measure(probe, "scripted:noisy?skill=0.7")
    assert 0.5 < found["solver_hard_sampled"] < 0.9
    assert found["solver_hard_sampled"] < found["solver_hard_majority"]
    assert found["solver_hard_pass"] >= found["solver_hard_majority"]
    assert 0.3 < found["coder_faithful"] < 0.95


def test_a_share_has_wilson_s_interval_with_the_item_as_unit():
    estimate = Estimate.share(np.array([1.0] * 81 + [0.0] * 182))
    # Newcombe (1998), table I: 81 of 263 gives .2553 to .3662.
    assert estimate.low == pytest.approx(0.2553, abs=2e-3)
    assert estimate.high == pytest.approx(0.3662, abs=2e-3)
    certain = Estimate.share(np.ones(20))
    assert certain.high == 1.0 and 0.8 < certain.low < 0.9
    steady = Estimate.share(np.full(20, 0.5))
    assert steady.low < 0.5 < steady.high


def test_a_change_is_paired():
    rng = np.random.default_rng(0)
    before = rng.random(200)
    estimate = Estimate.change(before, before + 0.1)
    assert estimate.low == pytest.approx(0.1) and estimate.high == pytest.approx(0.1)
    assert Estimate.change(before, rng.permutation(before)).low < 0
