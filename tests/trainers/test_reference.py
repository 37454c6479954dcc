"""The reference of the KL term: a frozen adapter, or a second model where all is trained."""

from __future__ import annotations

import copy
import gc
from dataclasses import replace
from typing import Any

import pytest
import torch

from agents.adapters import AdapterSettings
from mmzero_env.errors import UserError
from tests.nano_groups import Nano, disturb, nano_groups
from trainers import checkpoints
from trainers.groups import Group
from trainers.grpo import GroupTrainer, GRPOSettings, StepMetrics
from trainers.reference import load_reference, stage_start

NUMBERS = GRPOSettings(
    steps=2, prompts_per_step=6, group_size=3, learning_rate=1e-2, beta=0.2, share_prompts=False
)
LORA = AdapterSettings(4, 8)


def untimed(history: list[StepMetrics]) -> list[StepMetrics]:
    return [replace(each, seconds_rollout=0.0, seconds_train=0.0) for each in history]


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def tensor_bytes() -> int:
    """Bytes of all tensors that are alive."""
    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)
    found = (thing for thing in gc.get_objects() if type(thing) in kinds)
    storages = {w.untyped_storage().data_ptr(): w.untyped_storage().nbytes() for w in found}
    return sum(storages.values())


def test_a_frozen_adapter_pulls_as_a_second_model_would_and_costs_an_adapter(tmp_path: Any) -> None:
    histories, ends, grown = [], [], []
    for second_model in (False, True):
        nano = Nano(torch.float32, LORA)
        groups = nano_groups(nano, noise=0.3)
        view = nano.view()
        before, peaks = tensor_bytes(), []

        def source(step: int, peaks: list[int] = peaks, groups: Any = groups) -> list[Group]:
            if not peaks:  # the optimizer's moments come later
                peaks.append(tensor_bytes())
            return groups

        trainer = GroupTrainer(
            view,
            NUMBERS,
            source,
            output_dir=tmp_path,
            reference=copy.deepcopy(view.model) if second_model else None,
        )
        histories.append(untimed(trainer.train()))
        ends.append(weights(view.model))
        grown.append(peaks[0] - before)
        adapter = sum(w.nbytes for n, w in view.model.named_parameters() if ".coder." in n)
        model = sum(w.nbytes for n, w in view.model.named_parameters() if "lora" not in n)
        del trainer, view, nano
    assert histories[0] == histories[1]
    assert same(*ends)
    assert histories[0][0].kl == pytest.approx(0, abs=1e-6) and histories[0][1].kl > 1e-3
    # The copy that is kept, and the one that is switched on.
    assert 2 * adapter <= grown[0] < 2.1 * adapter < model / 5
    assert grown[1] > model


def test_a_stage_with_adapters_leaves_no_traces(tmp_path: Any) -> None:
    nano = Nano(torch.float32, LORA)
    view, groups = nano.view(), nano_groups(nano, noise=0.3)
    before = weights(view.model)

    def source(step: int) -> list[Group]:
        view.policy.model.set_adapter("solver")  # as if the Solver had played last
        return groups

    numbers = replace(NUMBERS, gradient_checkpointing=True, autocast_bf16=True)
    GroupTrainer(view, numbers, source, output_dir=tmp_path).train()
    after = weights(view.model)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(".coder." in name for name in moved)
    model = view.model
    assert sorted(model.peft_config) == ["coder", "proposer", "solver"]
    assert model.active_adapter == "coder"
    base = model.get_base_model()
    assert "forward" not in model.__dict__ and "forward" not in base.__dict__
    assert not model.is_gradient_checkpointing
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("lora", [LORA, None], ids=["adapter", "model"])
def test_a_stage_goes_on_from_a_checkpoint_of_its_start(
    lora: AdapterSettings | None, tmp_path: Any
) -> None:
    nano, again = Nano(torch.float32, lora), Nano(torch.float32, lora)
    groups = nano_groups(nano, noise=0.3)
    learner: Any = nano.view() if lora else nano
    later: Any = again.view() if lora else again
    checkpoints.save(learner, tmp_path / "begin")
    saved: dict[str, Any] = {}
    after_one: dict[str, torch.Tensor] = {}

    def save(metrics: StepMetrics) -> None:
        if metrics.step == 0:
            saved.update(copy.deepcopy(trainer.state_dict()))
            after_one.update(weights(learner.model))

    numbers = replace(NUMBERS, steps=3)
    trainer = GroupTrainer(learner, numbers, lambda step: groups, save, output_dir=tmp_path)
    whole = untimed(trainer.train())
    for name, weight in later.model.named_parameters():
        weight.data.copy_(after_one[name])
    reference = load_reference(later.model, tmp_path / "begin")
    resumed = GroupTrainer(
        later, numbers, lambda step: groups, output_dir=tmp_path, reference=reference
    )
    resumed.load_state_dict(saved)
    assert untimed(resumed.train()) == whole[1:]
    assert same(weights(later.model), weights(learner.model))


def test_a_reference_of_another_shape_or_place_is_refused(tmp_path: Any) -> None:
    nano = Nano(torch.float32, LORA)
    view, groups = nano.view(), nano_groups(nano, noise=0.3)

    def refused(lora: AdapterSettings) -> str:
        other = stage_start(Nano(torch.float32, lora).model)
        with pytest.raises(UserError) as caught:
            GroupTrainer(
                view, NUMBERS, lambda step: groups, output_dir=tmp_path, reference=other
            ).train()
        assert sorted(view.model.peft_config) == ["coder", "proposer", "solver"]
        return str(caught.value)

    assert "Use the lora_rank that they were trained with" in refused(AdapterSettings(2, 8))
    assert "Use the vision setting" in refused(AdapterSettings(4, 8, vision=True))
    with pytest.raises(UserError, match="holds no adapter"):
        load_reference(view.model, tmp_path)


def test_a_reference_does_not_follow_the_weights() -> None:
    nano = Nano(torch.float32, LORA)
    start = stage_start(nano.model)
    before = {name: weight.clone() for name, weight in start.items()}
    disturb(nano.model, "coder", seed=1)
    assert before and same(before, start)
