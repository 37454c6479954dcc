"""LoRA adapters: one base, three roles, switched by request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import agents
from agents.adapters import AdapterSettings, RoleView, language_layers, with_adapters
from agents.transformers import TransformersPolicy
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, Request, Response, Role, Sampling
from trainers.groups import Group
from trainers.grpo import GroupTrainer, GRPOSettings

GREEDY = Sampling(temperature=0, max_tokens=12)
IMAGE = np.full((96, 96, 3), 255, np.uint8)


def policy_with_adapters(folder: Path, seed: int = 0, rank: int = 4) -> TransformersPolicy:
    return with_adapters(TransformersPolicy(folder), AdapterSettings(rank, 8), seed)


def disturb(policy: TransformersPolicy, role: Role) -> None:
    """Make a role's adapter do something."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in policy.model.named_parameters():
        if f"lora_B.{role}." in name:
            weight.data.normal_(std=0.3, generator=generator)


def requests() -> list[Request]:
    return [
        Request(f"{role}/{i}", role, f"say {i}", 2, IMAGE if role == "solver" else None, GREEDY, i)
        for i in range(2)
        for role in ROLES
    ]


def logprobs(responses: Sequence[Response]) -> list[float]:
    return [p for response in responses for done in response.completions for p in done.logprobs]


def same(first: Response, second: Response) -> bool:
    """Equal tokens; rounding depends on what was in the batch."""
    ids = [[done.token_ids for done in each.completions] for each in (first, second)]
    return ids[0] == ids[1] and logprobs([first]) == pytest.approx(logprobs([second]), abs=1e-5)


def base_weights(policy: TransformersPolicy) -> dict[str, torch.Tensor]:
    return {n: w.clone() for n, w in policy.model.named_parameters() if "lora_" not in n}


def adapter_weights(policy: TransformersPolicy, role: Role) -> dict[str, torch.Tensor]:
    return {n: w.clone() for n, w in policy.model.named_parameters() if f".{role}." in n}


def test_fresh_adapters_change_nothing(model_folder: Path) -> None:
    plain = TransformersPolicy(model_folder, fast=False).generate(requests())
    fresh = policy_with_adapters(model_folder).generate(requests())
    assert all(map(same, fresh, plain))


def test_every_request_goes_through_the_adapter_of_its_role(model_folder: Path) -> None:
    policy = policy_with_adapters(model_folder)
    before = policy.generate(requests())
    disturb(policy, "coder")
    after = policy.generate(requests())
    for request, old, new in zip(requests(), before, after, strict=True):
        assert new.request_id == request.id
        assert same(old, new) == (request.role != "coder")
    [alone] = policy.generate([requests()[1]])
    assert same(alone, after[1])
    everything = RoleView(policy, "coder").generate(requests())
    assert not any(map(same, everything, before))


def test_adapters_sit_on_the_language_model_alone(model_folder: Path) -> None:
    policy = TransformersPolicy(model_folder)
    layers = language_layers(policy.model)
    assert len(layers) == 7 * policy.model.config.text_config.num_hidden_layers
    assert not any("visual" in name for name in layers)
    with pytest.raises(UserError, match="Llama or Qwen"):
        language_layers(torch.nn.Sequential(torch.nn.Linear(2, 2)))
    with pytest.raises(UserError, match="rank must be at least 1"):
        AdapterSettings(rank=0)


def test_equal_seeds_give_equal_adapters_and_leave_the_global_generator(model_folder) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    first, second = (policy_with_adapters(model_folder, seed=7) for _ in range(2))
    assert torch.equal(torch.rand(3), expected)
    for role in ROLES:
        one, two = adapter_weights(first, role), adapter_weights(second, role)
        assert one and all(torch.equal(one[name], two[name]) for name in one)


def test_saved_adapters_play_the_same_by_name(model_folder: Path, tmp_path: Path) -> None:
    policy = policy_with_adapters(model_folder)
    for role in ROLES:
        disturb(policy, role)
        RoleView(policy, role).save_adapter(tmp_path / role)
    expected = policy.generate(requests())
    loaded = agents.make(f"transformers:{model_folder}?adapters={tmp_path}")
    assert all(map(same, loaded.generate(requests()), expected))
    shutil.rmtree(tmp_path / "solver")
    partly = agents.make(f"transformers:{model_folder}?adapters={tmp_path}")
    bare = TransformersPolicy(model_folder, fast=False).generate(requests())
    for request, found, old, base in zip(
        requests(), partly.generate(requests()), expected, bare, strict=True
    ):
        assert same(found, base if request.role == "solver" else old)


def test_an_adapter_folder_loads_as_a_model_of_its_own(model_folder: Path, tmp_path: Path) -> None:
    policy = policy_with_adapters(model_folder)
    disturb(policy, "coder")
    RoleView(policy, "coder").save_adapter(tmp_path / "coder")
    asked = [requests()[1]]
    merged = agents.make(f"transformers:{tmp_path / 'coder'}")
    [found], [expected] = merged.generate(asked), policy.generate(asked)
    assert found.completions[0].token_ids == expected.completions[0].token_ids
    assert logprobs([found]) == pytest.approx(logprobs([expected]), abs=1e-4)
    config = tmp_path / "coder" / "adapter_config.json"
    settings = json.loads(config.read_text())
    config.write_text(json.dumps({**settings, "base_model_name_or_path": str(tmp_path / "gone")}))
    with pytest.raises(UserError, match=r"names cannot be loaded.*\?adapters=DIR"):
        agents.make(f"transformers:{tmp_path / 'coder'}")


def test_weights_come_back_into_an_adapter(model_folder: Path, tmp_path: Path) -> None:
    policy = policy_with_adapters(model_folder)
    disturb(policy, "proposer")
    view = RoleView(policy, "proposer")
    view.save_adapter(tmp_path / "v1")
    saved = adapter_weights(policy, "proposer")
    other = policy_with_adapters(model_folder, seed=9)
    RoleView(other, "proposer").load_adapter(tmp_path / "v1")
    loaded = adapter_weights(other, "proposer")
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v1"]


def test_what_does_not_fit_is_refused(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no adapters; expected folders named proposer"):
        agents.make(f"transformers:{model_folder}?adapters={tmp_path}")
    with pytest.raises(UserError, match="no adapter for the coder"):
        RoleView(TransformersPolicy(model_folder), "coder")
    with pytest.raises(UserError, match="holds no adapter"):
        RoleView(policy_with_adapters(model_folder), "coder").load_adapter(tmp_path)
    RoleView(policy_with_adapters(model_folder), "coder").save_adapter(tmp_path / "coder")
    (tmp_path / "coder" / "adapter_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="does not fit"):
        agents.make(f"transformers:{model_folder}?adapters={tmp_path}")


def test_training_a_role_moves_its_adapter_alone(model_folder: Path, tmp_path: Path) -> None:
    policy = policy_with_adapters(model_folder)
    others = [adapter_weights(policy, role) for role in ("proposer", "solver")]
    own, base = adapter_weights(policy, "coder"), base_weights(policy)
    view = RoleView(policy, "coder")

    def groups(step: int) -> list[Group]:
        # The frozen roles play in between, as they do in a stage.
        policy.generate(requests())
        sampling = Sampling(max_tokens=6)
        asked = [Request(f"{step}/{i}", "coder", f"draw {i}", 4, None, sampling, i) for i in (1, 2)]
        return [
            Group(request, response, (0.0, 1.0, 0.0, 2.0))
            for request, response in zip(asked, view.generate(asked), strict=True)
        ]

    settings: dict[str, Any] = {"steps": 2, "prompts_per_step": 2, "group_size": 4}
    history = GroupTrainer(
        view, GRPOSettings(**settings, learning_rate=1e-2, beta=0.1), groups, output_dir=tmp_path
    ).train()
    assert len(history) == 2
    moved = adapter_weights(policy, "coder")
    assert any(not torch.equal(own[name], moved[name]) for name in own)
    for role, before in zip(("proposer", "solver"), others, strict=True):
        after = adapter_weights(policy, role)
        assert all(torch.equal(before[name], after[name]) for name in before)
    after = base_weights(policy)
    assert all(torch.equal(base[name], after[name]) for name in base)
