"""A simultaneous iteration, small: all roles learn from the same episodes."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import agents
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import ROLES, Role
from mmzero_env.record import read_records
from tests.trainers.test_evolve import TINY, rows
from tests.trainers.test_killed_runs import content
from trainers import config, evolve, joint_stage
from trainers.groups import Group
from trainers.grpo import GroupTrainer
from trainers.grpo_settings import GRPOSettings
from trainers.progress import SilentProgress
from trainers.run_config import RunConfig
from trainers.stepped_trainer import SteppedTrainer

SMALL = {
    **TINY,
    "mode": "simultaneous",
    "proposer.steps": "2",
    "coder.group_size": "3",
    "solver.prompts_per_step": "3",
    "solver.group_size": "4",
    "probe.items": "5",
    "probe.samples": "1",
    "reward.proposer.repetition": "-0.2",
}


@pytest.fixture(autouse=True, scope="module")
def quick_collection() -> Iterator[None]:
    """Every training run collects garbage; the imported libraries need no look each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def settings(folder: Path, **changes: str) -> RunConfig:
    return config.load("nano-cpu", {**SMALL, **changes, "out": str(folder)})


def run(folder: Path, **changes: str) -> None:
    evolve.run(settings(folder, **changes), resume=False, progress=SilentProgress())


class Fed(SteppedTrainer):
    """Keeps what every trainer was made of and given."""

    all: list[Fed] = []

    def __init__(self, policy: Any, numbers: GRPOSettings, **rest: Any) -> None:
        super().__init__(policy, numbers, **rest)
        self.numbers, self.seed = numbers, rest["seed"]
        self.fed: list[list[Group]] = []
        Fed.all.append(self)

    def step(self, groups: Any) -> Any:
        self.fed.append(list(groups))
        return super().step(groups)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Role, Fed]]:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint_stage, "SteppedTrainer", Fed)
        patch.setattr(Fed, "all", [])
        run(folder)
        return folder, dict(zip(ROLES, Fed.all, strict=True))


def test_one_stage_leaves_a_complete_run_directory(finished: tuple[Path, Any]) -> None:
    folder, _ = finished
    logged = rows(folder)
    assert [(r["stage"], r["step"]) for r in logged] == [(r, s) for s in (0, 1) for r in ROLES]
    assert all(row["updates"] == 1 and row["grad_norm"] > 0 for row in logged)
    assert all("render_rate" in row for row in logged if row["stage"] != "solver")
    assert all("silver_accuracy" in row for row in logged if row["stage"] == "solver")
    spent = [json.loads(line)["seconds_rollout"] for line in (folder / "metrics.jsonl").open()]
    assert [each > 0 for each in spent] == [True, False, False] * 2
    records = list(read_records(folder / "episodes" / "iter-1-simultaneous.jsonl"))
    assert len(records) == 2 * 2 * 4
    assert all(len(r["codes"]) in (0, 3) for r in records)
    assert json.loads((folder / "state/progress.json").read_text())["done"] == [
        "0/probe", "1/simultaneous", "1/probe",
    ]  # fmt: skip
    assert not list((folder / "state").glob("stages/*"))


def test_every_role_is_fed_from_the_same_episodes(finished: tuple[Path, dict[Role, Fed]]) -> None:
    _, trainers = finished
    for step in (0, 1):
        groups = {role: trainer.fed[step] for role, trainer in trainers.items()}
        assert [len(g.rewards) for g in groups["proposer"]] == [4, 4]
        assert [len(g.rewards) for g in groups["coder"]] == [3, 3]
        assert [len(g.rewards) for g in groups["solver"]] == [4, 4, 4]
        for role in ROLES:
            names = [g.request.id for g in groups[role]]
            assert all(name.startswith(f"i1/simultaneous/{step}/") for name in names)
            assert all(g.request.role == role for g in groups[role])
        assert all(g.request.id.endswith("/hard") for g in groups["solver"])


def test_every_role_learns_what_it_would_have_learned_alone(
    finished: tuple[Path, dict[Role, Fed]], tmp_path: Path
) -> None:
    folder, trainers = finished
    base = {n: w.clone() for n, w in agents.make("nano").model.state_dict().items()}  # type: ignore[attr-defined]
    for role, fed in trainers.items():
        policy: Any = agents.make("nano")
        GroupTrainer(
            policy, fed.numbers, fed.fed.__getitem__, output_dir=tmp_path, seed=fed.seed
        ).train()
        expected = policy.model.state_dict()
        found = load_file(folder / f"checkpoints/iter-1/{role}/model.safetensors")
        assert any(not torch.equal(found[name], base[name]) for name in found)
        for name, weight in found.items():
            assert torch.equal(weight, expected[name]), (role, name)


def test_a_role_without_steps_plays_but_does_not_learn(tmp_path: Path) -> None:
    run(tmp_path / "two", **{"proposer.steps": "0", "coder.steps": "1", "solver.steps": "1"})
    assert [row["stage"] for row in rows(tmp_path / "two")] == ["coder", "solver"]
    base = agents.make("nano").model.state_dict()  # type: ignore[attr-defined]
    kept = load_file(tmp_path / "two/checkpoints/iter-1/proposer/model.safetensors")
    assert all(torch.equal(kept[name], base[name]) for name in kept)


def test_a_run_that_failed_between_two_updates_goes_on_to_the_bit(
    finished: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = finished
    original = SteppedTrainer.step
    calls: list[int] = []

    def fails(self: SteppedTrainer, groups: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise EngineError("the power failed")
        return original(self, groups)

    monkeypatch.setattr(SteppedTrainer, "step", fails)
    folder = tmp_path / "failed"
    with pytest.raises(EngineError, match="power"):
        run(folder)
    assert [(r["stage"], r["step"]) for r in rows(folder)] == [(role, 0) for role in ROLES]
    evolve.run(config.read(folder), resume=True, progress=SilentProgress())
    left, right = content(whole), content(folder)
    assert left.keys() == right.keys()
    assert {name for name in left if left[name] != right[name]} == set()


@pytest.mark.parametrize(("rank", "file"), [("0", "model"), ("4", "adapter_model")])
def test_roles_that_are_one_set_of_weights_are_updated_at_once(
    rank: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint_stage, "SteppedTrainer", Fed)
    monkeypatch.setattr(Fed, "all", [])
    same = {f"{role}.learning_rate": "1e-4" for role in ROLES}
    same |= {"shared_weights": "true", "lora_rank": rank}
    with pytest.raises(UserError, match=r"need one beta, got proposer.beta=0.02, .*solver.beta"):
        run(tmp_path / "odd", **same)
    assert not (tmp_path / "odd").exists()
    run(tmp_path / "one", **same, **{f"{role}.beta": "0.02" for role in ROLES})
    (trainer,) = Fed.all
    assert [len(fed) for fed in trainer.fed] == [2 + 2 + 3] * 2
    logged = rows(tmp_path / "one")
    assert [(r["stage"], r["step"]) for r in logged] == [(r, s) for s in (0, 1) for r in ROLES]
    for step in (logged[:3], logged[3:]):
        assert len({row["loss"] for row in step}) == 1
        assert len({row["completion_length"] for row in step}) == 3
    found = [
        (tmp_path / f"one/checkpoints/iter-1/{role}/{file}.safetensors").read_bytes()
        for role in ROLES
    ]
    assert len(set(found)) == 1


def test_settings_of_one_model_hold_the_groups_of_all(tmp_path: Path) -> None:
    made = settings(tmp_path)
    equal = replace(made.solver, learning_rate=1e-4, beta=0.1, warmup_updates=0)
    made = replace(
        made,
        proposer=replace(equal, prompts_per_step=2, group_size=4, max_tokens=96),
        coder=replace(equal, prompts_per_step=2, group_size=3, max_tokens=112),
        solver=replace(equal, prompts_per_step=3, group_size=5),
    )
    joint = made.joint(ROLES)
    assert (joint.prompts_per_step, joint.group_size, joint.max_tokens) == (7, 5, 112)
    assert joint.prompts_per_step * joint.group_size >= 2 * 4 + 2 * 3 + 3 * 5
    assert made.joint(["coder"]) == made.coder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "parallel"}, "parallel.*phased, simultaneous"),
        ({"labels": "silver"}, "silver.*auto, fixed, online"),
        ({"mode": "simultaneous", "labels": "fixed"}, "Leave labels out, or set mode=phased"),
    ],
)
def test_modes_that_cannot_be_are_refused(
    changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        config.load("nano-cpu", {**changes, "out": str(tmp_path)})


def test_a_simultaneous_stage_has_the_proposers_steps(tmp_path: Path) -> None:
    made = settings(tmp_path, **{"coder.steps": "5"})
    assert made.stages == ("simultaneous",) and made.steps("simultaneous") == 2
    assert made.online_labels
    alone = settings(tmp_path, **{"proposer.steps": "0", "coder.steps": "5"})
    assert alone.steps("simultaneous") == 5
    phased = settings(tmp_path, mode="phased")
    assert phased.stages == ROLES and phased.steps("coder") == 2 and not phased.online_labels
