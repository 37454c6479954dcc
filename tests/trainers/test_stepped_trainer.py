"""Trainers that take their steps in turn against the same trainers one after the other."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, cast

import numpy as np
import pytest
import torch

from agents.adapters import AdapterSettings, RoleView, with_adapters
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import ROLES, Role, Sampling
from tests.tiny_groups import group_of, policy_of
from trainers.groups import Group
from trainers.grpo import GroupTrainer, GRPOSettings, StepMetrics
from trainers.stepped_trainer import SteppedTrainer

STEPS = 3
TEMPERATURES = {"proposer": 1.0, "coder": 0.7, "solver": 1.3}


@pytest.fixture(autouse=True, scope="module")
def quick_collection() -> Iterator[None]:
    """Every training run collects garbage; the imported libraries need no look each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def settings_of(role: Role, **changes: Any) -> GRPOSettings:
    numbers: dict[str, Any] = {
        "steps": STEPS,
        "prompts_per_step": 2,
        "group_size": 4,
        "micro_batch": 4,
        "updates_per_step": 2 if role == "coder" else 1,
        "learning_rate": 1e-3,
        "schedule": "linear",
        "beta": 0.02,
        "temperature": TEMPERATURES[role],
        # Joined prompts do without TRL's fused head, which knows one temperature.
        "share_prompts": role == "proposer",
    }
    return GRPOSettings(**{**numbers, **changes})


def groups_of(role: Role, steps: int = STEPS) -> list[list[Group]]:
    """The groups of all steps, sampled from nobody in particular."""
    rng = np.random.default_rng(ROLES.index(role))
    base = policy_of(seed=7)
    sampling = Sampling(temperature=TEMPERATURES[role])
    size = (64, 64) if role == "solver" else None
    return [
        [group_of(base, f"{step}/{k}", rng, size=size, sampling=sampling) for k in range(2)]
        for step in range(steps)
    ]


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def alone(policy: Any, role: Role, tmp_path: Any, groups: list[list[Group]]) -> list[StepMetrics]:
    trainer = GroupTrainer(
        policy, settings_of(role), lambda step: groups[step], output_dir=tmp_path, seed=3
    )
    return trainer.train()


def in_turn(policies: dict[Role, Any], tmp_path: Any, look: Any = None) -> dict[Role, list[Any]]:
    groups = {role: groups_of(role) for role in policies}
    found: dict[Role, list[Any]] = {role: [] for role in policies}
    with ExitStack() as stack:
        trainers = {
            role: SteppedTrainer(policy, settings_of(role), output_dir=tmp_path, seed=3)
            for role, policy in policies.items()
        }
        for trainer in trainers.values():
            stack.enter_context(trainer)
        for step in range(STEPS):
            if look is not None:
                look(step)
            for role, trainer in trainers.items():
                found[role].append(trainer.step(groups[role][step]))
    return found


def steady(metrics: StepMetrics) -> dict[str, Any]:
    return {k: v for k, v in vars(metrics).items() if not k.startswith("seconds")}


def test_models_that_learn_in_turn_end_as_if_each_had_learned_alone(tmp_path: Any) -> None:
    together = {role: policy_of(seed=i) for i, role in enumerate(ROLES)}
    found = in_turn(dict(together), tmp_path)
    for i, role in enumerate(ROLES):
        policy = policy_of(seed=i)
        before = weights_of(policy.model)
        expected = alone(policy, role, tmp_path, groups_of(role))
        assert [steady(m) for m in found[role]] == [steady(m) for m in expected]
        after = weights_of(policy.model)
        assert any(not torch.equal(before[name], after[name]) for name in before)
        for name, weight in together[role].model.state_dict().items():
            assert torch.equal(weight, after[name]), (role, name)


def adapted() -> tuple[Any, dict[Role, Any]]:
    shared: Any = with_adapters(cast("Any", policy_of()), AdapterSettings(4, 8), seed=1)
    return shared, {role: RoleView(shared, role) for role in ROLES}


def test_adapters_of_one_model_learn_in_turn_and_not_from_each_other(tmp_path: Any) -> None:
    shared, views = adapted()
    before = weights_of(shared.model)
    found = in_turn(views, tmp_path)
    changed = weights_of(shared.model)
    for role in ROLES:
        other, others = adapted()
        expected = alone(others[role], role, tmp_path, groups_of(role))
        assert [steady(m) for m in found[role]] == [steady(m) for m in expected]
        after = weights_of(other.model)
        own = [name for name in after if f".{role}." in name]
        assert own and any(not torch.equal(before[name], after[name]) for name in own)
        for name in own:
            assert torch.equal(changed[name], after[name]), name
    kept = [name for name in changed if "lora" not in name]
    assert kept and all(torch.equal(changed[name], before[name]) for name in kept)


def test_whoever_looks_between_steps_finds_everything_as_it_was(tmp_path: Any) -> None:
    _, views = adapted()
    model = views["coder"].model
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = (random.random(), np.random.rand(), torch.rand(1).item())

    def look(step: int) -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        assert not any("forward" in module.__dict__ for module in model.modules())

    in_turn(views, tmp_path, look)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_a_stage_goes_on_from_its_state(tmp_path: Any) -> None:
    groups = groups_of("coder")
    whole = policy_of()
    alone(whole, "coder", tmp_path, groups)
    policy = policy_of()
    start = policy_of()
    with SteppedTrainer(policy, settings_of("coder"), output_dir=tmp_path, seed=3) as trainer:
        trainer.step(groups[0])
        state = trainer.state_dict()
    assert state["steps_done"] == trainer.steps_done == 1
    again = SteppedTrainer(
        policy, settings_of("coder"), output_dir=tmp_path, seed=3, reference=start.model
    )
    again.load_state_dict(state)
    with again as trainer:
        for step in (1, 2):
            trainer.step(groups[step])
        assert trainer.steps_done == STEPS
        with pytest.raises(EngineError, match="between its start and its last step"):
            trainer.step(groups[0])
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, policy.model.state_dict()[name]), name


def test_an_error_in_one_trainer_comes_out_and_all_clear_up(tmp_path: Any) -> None:
    policies = {role: policy_of(seed=i) for i, role in enumerate(ROLES)}
    models = [policy.model for policy in policies.values()]
    torch.manual_seed(5)
    expected = torch.rand(1).item()
    torch.manual_seed(5)
    with pytest.raises(UserError, match="sampled at temperature 1.3"), ExitStack() as stack:
        trainers = [
            stack.enter_context(SteppedTrainer(policy, settings_of(role), output_dir=tmp_path))
            for role, policy in policies.items()
        ]
        trainers[0].step(groups_of("proposer")[0])
        trainers[1].step(groups_of("solver")[0])
    assert torch.rand(1).item() == expected
    assert not any("forward" in m.__dict__ for model in models for m in model.modules())
    with pytest.raises(EngineError, match="between its start and its last step"):
        trainers[2].step([])


def test_an_interrupt_in_a_step_comes_out(tmp_path: Any, monkeypatch: Any) -> None:
    policy = policy_of()

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    trainer = SteppedTrainer(policy, settings_of("coder"), output_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt), trainer:
        monkeypatch.setattr(torch.Tensor, "backward", interrupted)
        trainer.step(groups_of("coder")[0])
    assert "forward" not in policy.model.__dict__
