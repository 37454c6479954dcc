"""Settings: presets, overrides, and what a person is told about mistakes."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from mmzero_env.errors import UserError
from mmzero_env.rewards import get_design
from trainers import config
from trainers.grpo_settings import GRPOSettings


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
        ("nano-cpu", {"reward_design": "no/where.toml"}, "where.toml cannot be read"),
        ("nano-cpu", {"reward.solvability_cup": "1"}, "Did you mean 'solvability_cap'"),
        ("nano-cpu", {"reward.solvability_cap": "2"}, "expected a number from 0 to 1, got 2"),
        ("nano-cpu", {"reward.coder.rendr": "2"}, "Did you mean 'coder.render'"),
        ("nano-cpu", {"reward": "2"}, "unknown setting 'reward'"),
        ("nano-cpu", {"prompts": "micro"}, "nano"),
        ("nano-cpu", {"iterations": "0"}, "iterations must be at least 1, got 0"),
        (
            "nano-cpu",
            {"solver.keep_zero_variance": "1"},
            "keep_zero_variance expects true or",
        ),
        (
            "nano-cpu",
            {"coder.loss_type": "dappo"},
            "coder: unknown loss type 'dappo'. Did you",
        ),
        ("nano-cpu", {"coder.advantage_scale": "batch"}, "Valid: group, none"),
        ("nano-cpu", {"coder.schedule": "step"}, "Valid: constant, cosine, linear"),
        ("nano-cpu", {"coder.old_logprobs": "engine"}, "Valid: auto, recompute, sampler"),
        ("nano-cpu", {"coder.epsilon_high": "2.5"}, "delta must be above 1 + epsilon_high = 3.5"),
        ("nano-cpu", {"coder.delta": "-1"}, "delta must not be negative, got -1"),
        ("nano-cpu", {"coder.adam_beta2": "1"}, "coder: adam_beta2 must be in [0, 1), got 1"),
        (
            "nano-cpu",
            {"coder.old_logprobs": "recompute", "coder.importance_cap": "0.5"},
            "importance_cap must be at least 1",
        ),
        ("nano-cpu", {"coder.top_p": "0.95"}, "top_p=1, or set old_logprobs=recompute"),
        ("nano-cpu", {"coder.top_p": "0"}, "top_p must be above 0 and at most 1"),
        ("nano-cpu", {"vision": "on"}, "Valid: auto, frozen, trained"),
        ("nano-cpu", {"dtype": "float16"}, "Valid: auto, bfloat16, float32"),
        ("nano-cpu", {"dtype": "bfloat16"}, "Set dtype=float32 and autocast_bf16=true"),
        (
            "nano-cpu",
            {"lora_rank": "8", "policy": "vllm", "vision": "trained"},
            "policy=vllm does not serve adapters on the vision tower; set vision=frozen",
        ),
        (
            "nano-cpu",
            {"lora_rank": "8", "policy": "vllm-engine", "dtype": "bfloat16"},
            "set serve.dtype=bfloat16",
        ),
    ],
)
def test_mistakes_name_the_mend(preset, overrides, message):
    with pytest.raises(UserError) as caught:
        config.load(preset, overrides)
    assert message in str(caught.value)


def test_a_stage_becomes_the_settings_of_the_trainer(tmp_path):
    made = config.load("nano-cpu", {"out": str(tmp_path)})
    plain = made.grpo(made.coder)
    defaults = GRPOSettings()
    own = {"steps", "prompts_per_step", "group_size", "learning_rate", "warmup_updates", "beta"}
    for field in fields(GRPOSettings):
        if field.name not in {*own, "max_completion_length"}:
            assert getattr(plain, field.name) == getattr(defaults, field.name), field.name
    changes = {
        "loss_type": "dr_grpo", "advantage_scale": "none", "epsilon": "0.1", "epsilon_high": "0.4",
        "delta": "0", "max_grad_norm": "0.5", "num_iterations": "2", "schedule": "cosine",
        "keep_zero_variance": "true", "adam_beta1": "0.8", "adam_beta2": "0.95", "top_p": "0.9",
        "importance_cap": "3", "old_logprobs": "recompute",
    }  # fmt: skip
    loaded = config.load(
        "nano-cpu",
        {
            "out": str(tmp_path),
            "gradient_checkpointing": "true",
            "autocast_bf16": "true",
            **{f"coder.{name}": value for name, value in changes.items()},
        },
    )
    assert loaded.grpo(loaded.coder) == replace(
        plain, loss_type="dr_grpo", scale="none", epsilon=0.1, epsilon_high=0.4, delta=None,
        max_grad_norm=0.5, num_iterations=2, schedule="cosine", keep_zero_variance=True,
        betas=(0.8, 0.95), importance_cap=3.0, old_logprobs="recompute",
        gradient_checkpointing=True, autocast_bf16=True,
    )  # fmt: skip
    assert loaded.sampling("coder").top_p == 0.9
    config.save(loaded, tmp_path)
    assert config.read(tmp_path) == loaded


def test_ratios_are_to_whoever_computes_as_the_trainer_does(tmp_path):
    def source(**overrides):
        loaded = config.load("nano-cpu", {"out": str(tmp_path), **overrides})
        made = loaded.grpo(loaded.solver)
        return made.old_logprobs, made.importance_cap

    assert source() == ("sampler", None)
    assert source(policy="vllm", lora_rank="8") == ("recompute", 2.0)
    assert source(autocast_bf16="true") == ("recompute", 2.0)
    off = {"solver.importance_cap": "0"}
    assert source(policy="vllm", lora_rank="8", **off) == ("recompute", None)
    forced = {"solver.old_logprobs": "sampler"}
    assert source(policy="vllm", lora_rank="8", **forced) == ("sampler", None)


def test_the_reward_is_set_and_survives_the_round_trip(tmp_path):
    loaded = config.load(
        "nano-cpu",
        {
            "out": str(tmp_path),
            "reward_design": "r_zero",
            "reward.solvability_cap": "1.0",
            "reward.coder.render": "2",
            "reward.grading": "official",
            "reward.strict_format": "true",
        },
    )
    assert loaded.reward == {
        "solvability_cap": 1.0, "coder.render": 2, "grading": "official", "strict_format": True,
    }  # fmt: skip
    assert loaded.design() == get_design("r_zero", **loaded.reward)
    config.save(loaded, tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["reward"]["coder.render"] == 2
    assert config.read(tmp_path) == loaded


def test_a_reward_design_from_a_file_goes_into_the_config(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("base = 'visplay'\n[constants]\nsolvability_cap = 0.7\n[coder]\nrender = 3\n")
    loaded = config.load(
        "nano-cpu",
        {"out": str(tmp_path), "reward_design": str(path), "reward.coder.render": "2"},
    )
    path.unlink()
    assert loaded.reward_design == "visplay"
    assert loaded.reward == {"solvability_cap": 0.7, "coder.render": 2}
    config.save(loaded, tmp_path)
    assert config.read(tmp_path).design().coder["render"] == 2


def test_episodes_ask_for_what_the_design_needs(tmp_path):
    plain, grounded, audited = (
        config.load("nano-cpu", {"out": str(tmp_path), "reward_design": name}).episode(
            codes=2, answers=5
        )
        for name in ("mm_zero", "caption_grounded", "audited")
    )
    assert (plain.caption_answers, plain.blind_answers) == (0, 0)
    assert (grounded.caption_answers, grounded.blind_answers) == (5, 0)
    assert (audited.caption_answers, audited.blind_answers) == (5, 5)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", json.dumps({"preset": "nano-cpu", "out": "x", "surprise": 1})]
)
def test_a_damaged_config_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        config.read(tmp_path)


def test_the_monitors_are_set_like_everything_else():
    made = config.load("nano-cpu", {"monitor.warn": "false", "monitor.rollback": "retry"})
    assert made.monitor.warn is False and made.monitor.rollback == "retry"
    with pytest.raises(UserError, match="monitor.warn expects true or false, got 'no'"):
        config.load("nano-cpu", {"monitor.warn": "no"})
    with pytest.raises(UserError, match="monitor.*unknown rollback"):
        config.load("nano-cpu", {"monitor.rollback": "back"})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"executor": "rya"}, "unknown executor 'rya'.*Did you mean 'ray'"),
        ({"executor": "ray"}, "policy=local samples in this process.*executor=local"),
        ({"ray_address": "auto"}, "ray_address=auto is for executor=ray only"),
    ],
)
def test_an_executor_that_cannot_play_is_refused(wrong: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config.load("nano-cpu", wrong)
