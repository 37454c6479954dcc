"""Where the weights of the roles come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from agents.vision import in_vision
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, Request, Role, Sampling
from tests.trainers.test_evolve import TINY
from trainers import checkpoints, config, evolve
from trainers.learners import make_learners
from trainers.progress import SilentProgress

NANO = Path(__file__).parents[2] / "agents" / "nano" / "model"
ASKED = Request("r", "coder", "draw it", 1, sampling=Sampling(temperature=0, max_tokens=6))


def run_config(folder: Path, **overrides: str) -> config.RunConfig:
    return config.load("nano-cpu", {"out": str(folder), **overrides})


def learners_of(folder: Path, finished: Any = None, **overrides: str) -> dict[Role, Any]:
    return dict(make_learners(run_config(folder, **overrides), finished or {}))


def trained(model: Any) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("rank", ["0", "4"])
@pytest.mark.parametrize("vision", ["auto", "trained", "frozen"])
def test_the_tower_is_trained_or_frozen_as_the_run_says(
    rank: str, vision: str, tmp_path: Path
) -> None:
    model = learners_of(tmp_path, lora_rank=rank, vision=vision)["coder"].model
    names = trained(model)
    assert any(not in_vision(name) for name in names)
    assert any(map(in_vision, names)) == (vision == "trained" or (vision, rank) == ("auto", "0"))
    assert all(("lora_" in name) == (rank != "0") for name in names)


@pytest.mark.parametrize("rank", ["0", "4"])
def test_shared_weights_are_one_set_that_goes_on_from_the_last_checkpoint(
    rank: str, tmp_path: Path
) -> None:
    numbers = {"lora_rank": rank, "shared_weights": "true"}
    learners = learners_of(tmp_path, **numbers)
    assert len({id(learner.model) for learner in learners.values()}) == 1
    names = trained(learners["solver"].model)
    assert names == trained(learners["proposer"].model)
    assert all(".shared." in name for name in names) == (rank != "0")
    found: dict[Role, Path] = {}
    for iteration, role in ((1, "coder"), (1, "solver"), (2, "proposer")):
        for name, weight in learners["coder"].model.named_parameters():
            if name in names:
                weight.data += 0.01
        found[role] = checkpoints.folder(tmp_path, iteration, role)
        checkpoints.save(learners[role], found[role])
    assert checkpoints.last(found) == found["proposer"]
    again = learners_of(tmp_path, found, **numbers)
    answers = [each["solver"].generate([ASKED])[0].completions for each in (learners, again)]
    assert answers[0] == answers[1]
    for role in ROLES:
        assert all(
            torch.equal(one, two)
            for one, two in zip(
                learners[role].model.parameters(), again[role].model.parameters(), strict=True
            )
        )


def test_the_last_checkpoint_is_by_iteration_and_then_by_role(tmp_path: Path) -> None:
    def at(**iterations: int) -> Path | None:
        found: Any = {r: checkpoints.folder(tmp_path, i, r) for r, i in iterations.items()}  # type: ignore[arg-type]
        return checkpoints.last(found)

    assert at() is None
    assert at(proposer=10, coder=9, solver=9) == checkpoints.folder(tmp_path, 10, "proposer")
    assert at(proposer=2, coder=2, solver=1) == checkpoints.folder(tmp_path, 2, "coder")


def test_precision_is_the_runs_and_full_training_is_in_float32(tmp_path: Path) -> None:
    half = f"transformers:{NANO}?dtype=bfloat16"
    assert learners_of(tmp_path, model=half)["coder"].model.dtype == torch.float32
    model = learners_of(tmp_path, lora_rank="4", dtype="bfloat16")["coder"].model
    kinds = {w.dtype for n, w in model.named_parameters() if "lora_" in n}
    assert (model.dtype, kinds) == (torch.bfloat16, {torch.float32})
    with pytest.raises(UserError, match="device 'gpu' cannot be used"):
        learners_of(tmp_path, device="gpu")
    with pytest.raises(UserError, match=r"option 'dtype' .* is given twice"):
        learners_of(tmp_path, model=half, dtype="float32")


def test_a_run_with_shared_weights_trains_one_model(tmp_path: Path) -> None:
    small = {"coder.steps": "0", "solver.steps": "1", "solver.pool": "12", "probe.items": "5"}
    at_once = {"proposer.warmup_updates": "0", "solver.warmup_updates": "0"}
    made = config.load(
        "nano-cpu",
        {
            **TINY,
            **small,
            **at_once,
            "out": str(tmp_path / "run"),
            "shared_weights": "true",
            "gradient_checkpointing": "true",
            "autocast_bf16": "true",
        },
    )
    evolve.run(made, resume=False, progress=SilentProgress())
    folders = {role: checkpoints.folder(tmp_path / "run", 1, role) for role in ROLES}
    proposer, coder, solver = ((folders[role] / "model.safetensors").read_bytes() for role in ROLES)
    assert proposer == coder != solver
    resumed = make_learners(made, folders)
    checkpoints.save(resumed["proposer"], tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == solver
