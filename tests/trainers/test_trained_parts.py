"""What of a model is trained, and that recomputed activations change nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from agents.adapters import AdapterSettings
from agents.vision import freeze_vision, in_vision, vision_layers
from mmzero_env.errors import UserError
from tests.nano_groups import Nano, nano_groups
from trainers.grpo import GroupTrainer, GRPOSettings

NUMBERS = GRPOSettings(
    steps=1, prompts_per_step=6, group_size=3, learning_rate=1e-2, weight_decay=0.5, beta=0.2
)
KINDS = {
    "all weights": None,
    "adapters": AdapterSettings(4, 8),
    "adapters, tower too": AdapterSettings(4, 8, vision=True),
}


def train(nano: Nano, numbers: GRPOSettings, folder: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """One step; the summed gradients by name, and the trainer."""
    groups = nano_groups(nano, noise=0.3)
    learner: Any = nano.view() if hasattr(nano.model, "peft_config") else nano
    summed: dict[str, torch.Tensor] = {}
    for name, weight in learner.model.named_parameters():
        if weight.requires_grad:
            weight.register_hook(
                lambda grad, name=name: summed.__setitem__(name, summed.get(name, 0) + grad)
            )
    trainer = GroupTrainer(learner, numbers, lambda step: groups, output_dir=folder)
    trainer.train()
    return summed, trainer


@pytest.mark.parametrize("lora", KINDS.values(), ids=KINDS.keys())
def test_gradient_checkpointing_computes_twice_and_changes_no_gradient(
    lora: AdapterSettings | None, tmp_path: Any
) -> None:
    gradients, calls = [], []
    for on in (False, True):
        nano = Nano(torch.float32, lora)
        plain = nano.model.get_base_model() if lora else nano.model
        seen: list[bool] = []
        layer = plain.model.language_model.layers[1].mlp
        handle = layer.register_forward_pre_hook(lambda *_, seen=seen: seen.append(True))
        numbers = replace(NUMBERS, gradient_checkpointing=on, micro_batch=6)
        gradients.append(train(nano, numbers, tmp_path)[0])
        handle.remove()
        calls.append(len(seen))
    without, with_it = gradients
    updates = NUMBERS.prompts_per_step * NUMBERS.group_size // 6
    assert calls[1] == calls[0] + updates
    assert without.keys() == with_it.keys()
    assert any("visual" in name for name in without) == (lora is None or lora.vision)
    assert all(torch.equal(without[name], with_it[name]) for name in without)


def test_a_frozen_tower_is_in_no_optimizer_and_gets_no_gradient(tmp_path: Any) -> None:
    nano = Nano(torch.float32)
    freeze_vision(nano.model)
    before = {name: weight.clone() for name, weight in nano.model.named_parameters()}
    gradients, trainer = train(nano, NUMBERS, tmp_path)
    assert gradients and not any(in_vision(name) for name in gradients)
    trained = {
        id(weight) for group in trainer._optimizer.param_groups for weight in group["params"]
    }
    for name, weight in nano.model.named_parameters():
        assert (id(weight) in trained) == (not in_vision(name))
        # Weight decay of a half would shrink what the optimizer holds.
        assert torch.equal(before[name], weight) == in_vision(name)


def test_adapters_on_the_tower_are_trained_with_the_others(tmp_path: Any) -> None:
    nano = Nano(torch.float32, AdapterSettings(4, 8, vision=True))
    before = {name: weight.clone() for name, weight in nano.model.named_parameters()}
    _, trainer = train(nano, NUMBERS, tmp_path)
    moved = {n for n, w in nano.model.named_parameters() if not torch.equal(before[n], w)}
    assert any(in_vision(name) for name in moved) and not all(in_vision(name) for name in moved)
    assert all(".coder." in name for name in moved)
    held = sum(len(group["params"]) for group in trainer._optimizer.param_groups)
    assert held == sum(".coder." in name for name in before)


def test_a_frozen_tower_keeps_no_activations(tmp_path: Any) -> None:
    nano = Nano(torch.float32, AdapterSettings(4, 8))
    needs: list[bool] = []
    tower = nano.model.get_base_model().model.visual
    tower.register_forward_hook(
        lambda module, args, output: needs.append(output.pooler_output.requires_grad)
    )
    train(nano, replace(NUMBERS, gradient_checkpointing=True), tmp_path)
    assert needs and not any(needs)


def test_a_model_without_a_tower_is_named() -> None:
    bare = torch.nn.Sequential(torch.nn.Linear(2, 2))
    for ask in (freeze_vision, vision_layers):
        with pytest.raises(UserError, match="Sequential has no vision tower"):
            ask(bare)
