"""The script for real shapes, tried on the nano model's shape, and its count of operations."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import gpu_step
from benchmarks.random_policy import RandomPolicy
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES
from trainers.grpo import GroupTrainer, GRPOSettings
from trainers.model_shapes import shape_of

TINY = {"groups": 1, "size": 2, "prompt": 24, "completion": 104, "pixels": 96, "dtype": "float32"}
CPU = torch.device("cpu")


def policy_of(work):
    return RandomPolicy(
        shape_of("nano"),
        dtype=torch.float32,
        device=CPU,
        rank=work.lora,
        prompt=work.prompt,
        side=work.pixels,
    )


@pytest.mark.parametrize("lora", [0, 4])
def test_every_role_does_a_step_and_is_measured(lora):
    work = gpu_step.Work(**TINY, lora=lora)
    found = gpu_step.run(shape_of("nano"), work, CPU, peak=0.1)
    assert list(found) == list(ROLES)
    for figures in found.values():
        assert list(figures["phases"]) == [gpu_step.SCORE, gpu_step.TRAIN, gpu_step.UPDATE]
        assert all(each["seconds"] > 0 for each in figures["phases"].values())
        assert figures["tokens_a_second"] == pytest.approx(work.tokens / figures["seconds"])
        assert figures["hfu"] > figures["mfu"] > 0 and figures["grad_norm"] > 0
        assert figures["peak_bytes"] is None  # a CPU counts none


@pytest.mark.parametrize("role", ["coder", "solver"])
@pytest.mark.parametrize("lora", [0, 4])
def test_the_operations_of_a_step_are_those_that_torch_counts(tmp_path, role, lora):
    work = gpu_step.Work(**TINY, lora=lora, checkpointing=False)
    policy = policy_of(work)
    groups = [policy.group(role, "g", work.size, work.completion)]
    settings = GRPOSettings(
        steps=1,
        prompts_per_step=1,
        group_size=2,
        micro_batch=1,
        old_logprobs="recompute",
        share_prompts=False,
    )
    trainer = GroupTrainer(policy.learner(role), settings, lambda step: groups, output_dir=tmp_path)
    with FlopCounterMode(display=False) as counter:
        trainer.train()
    counted = counter.get_total_flops()
    # Away from GPUs the head scores the prompt, too, and attention is counted without its mask;
    # both are small here.
    assert gpu_step.operations(shape_of("nano"), work, role).model == pytest.approx(
        counted, rel=0.2
    )


@pytest.mark.parametrize(("name", "weights", "peak"), [("4b", 4.02e9, 17e9), ("8b", 8.2e9, 29e9)])
def test_real_shapes_are_known_without_a_gpu_or_a_hub(name, weights, peak):
    shape, work = shape_of(gpu_step.SHAPES[name]), gpu_step.Work()
    plan = gpu_step.predicted(shape, work, "solver", triton=True)
    assert sum(plan.values()) == pytest.approx(peak, rel=0.1)
    # Three passes forward and one backward to inputs alone: 8 operations a weight and token, less
    # the head at prompts, and attention on top.
    parameters = shape.parameters - shape.vision_parameters
    assert parameters == pytest.approx(weights, rel=0.01)
    model = gpu_step.operations(shape, work, "solver").model
    assert 0.8 < model / (8 * weights * work.tokens) < 1.4


def test_the_command_writes_its_figures_and_how_to_get_them_again(tmp_path):
    out = tmp_path / "results" / "step.json"
    sizes = "--groups 1 --group-size 2 --prompt 24 --completion 8 --pixels 96 --dtype float32"
    arguments = f"--shape tiny --device cpu --lora 0 {sizes}"
    gpu_step.main([*arguments.split(), "--out", str(out)])
    result = json.loads(out.read_text())
    assert result["command"] == f"python -m benchmarks.gpu_step {arguments}"
    found = result["figures"]
    assert found["device"] == "CPU" and set(found["roles"]) == set(ROLES)
    assert found["roles"]["solver"]["plan_bytes"]["weights"] == found["shape"]["parameters"] * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"size": 3, "micro_batch": 2}, "a divisor of it"), ({"completion": 0}, "at least 1")],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        gpu_step.Work(**{**TINY, **changes})


def test_a_picture_must_fit_its_prompt():
    with pytest.raises(UserError, match="a prompt of 24 tokens has no room for a picture"):
        policy_of(gpu_step.Work(**{**TINY, "pixels": 448}))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_step_of_every_role_of_the_4b_shape_fits_80_gb():
    found = gpu_step.run(
        shape_of(gpu_step.SHAPES["4b"]), gpu_step.Work(), torch.device("cuda"), 989
    )
    for figures in found.values():
        assert 8e9 < figures["peak_bytes"] < 80e9
        assert 0 < figures["mfu"] <= figures["hfu"] < 1
