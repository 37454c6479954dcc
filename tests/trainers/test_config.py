"""Settings: presets, overrides, and what a person is told about mistakes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mmzero_env.errors import UserError
from trainers import config


def test_every_preset_loads_and_survives_the_round_trip(tmp_path):
    assert "nano-cpu" in config.presets()
    for preset in config.presets():
        loaded = config.load(preset, {"out": str(tmp_path)})
        config.save(loaded, tmp_path)
        assert config.read(tmp_path) == loaded


def test_overrides_reach_their_place_with_their_type(tmp_path):
    loaded = config.load(
        "nano-cpu",
        {"out": str(tmp_path), "solver.learning_rate": "3e-5", "coder.steps": "7", "seed": "5"},
    )
    assert loaded.solver.learning_rate == 3e-5
    assert loaded.coder.steps == 7 and loaded.seed == 5
    base = config.load("nano-cpu", {"out": str(tmp_path)})
    assert replace(loaded, solver=base.solver, coder=base.coder, seed=base.seed) == base


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("nano-gpu", {}, "unknown preset 'nano-gpu'. Did you mean 'nano-cpu'"),
        ("nano-cpu", {"solver.step": "3"}, "Did you mean 'solver.steps'"),
        ("nano-cpu", {"solver.steps": "many"}, "solver.steps expects a value of type int"),
        ("nano-cpu", {"solver.steps": "-1"}, "steps must not be negative, got -1"),
        ("nano-cpu", {"reward_design": "mm_hero"}, "mm_zero"),
        ("nano-cpu", {"prompts": "micro"}, "nano"),
        ("nano-cpu", {"iterations": "0"}, "iterations must be at least 1, got 0"),
    ],
)
def test_mistakes_name_the_mend(preset, overrides, message):
    with pytest.raises(UserError) as caught:
        config.load(preset, overrides)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", json.dumps({"preset": "nano-cpu", "out": "x", "surprise": 1})]
)
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        config.read(tmp_path)
