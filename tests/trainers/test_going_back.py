"""Runs that go back to their best iteration, with and without being killed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mmzero_env.errors import EngineError
from mmzero_env.protocol import ROLES
from tests.trainers.test_evolve import TINY, Listener, rows
from trainers import config, evolve, stages
from trainers.grpo_settings import StepMetrics
from trainers.rollback import HEALTH

RETRY = {"monitor.rollback": "retry", "iterations": "3"}
COLLAPSED = 2
METRICS = StepMetrics(
    step=0, reward_mean=0, reward_std=0, terms={}, loss=0, kl=0, entropy=0, clip_share=0,
    grad_norm=0, learning_rate=0, groups_used=0, groups_dropped=0, rows=0, rows_banned=0,
    completion_length=0, updates=1, seconds_rollout=0, seconds_train=0,
)  # fmt: skip


def trained(stage) -> None:
    """Stands for training: weights, captions and metrics that follow from what was there."""
    with torch.no_grad():
        for weight in stage.learners[stage.role].model.parameters():
            if weight.requires_grad:
                weight.mul_(1.01).add_(0.001 * stage.iteration)
    if stage.role == "proposer":
        stage.memory.add([f"caption {stage.iteration} after {len(stage.memory)}"])
    share = 0.1 if stage.iteration == COLLAPSED else 0.8
    health = dict.fromkeys(HEALTH[stage.role], share)
    stage.log.step(stage.iteration, stage.role, METRICS, health)


@pytest.fixture
def cheap(monkeypatch):
    monkeypatch.setattr(stages, "run", trained)
    monkeypatch.setattr(evolve, "scores", lambda policies, probe: {"x": np.ones(2)})


def run(folder, resume=False, **changes):
    listener = Listener()
    made = config.load("nano-cpu", {**TINY, **changes, "out": str(folder)})
    evolve.run(made, resume=resume, progress=listener)
    return listener.notes


def weights(folder, iteration):
    paths = (folder / f"checkpoints/iter-{iteration}/{role}" for role in ROLES)
    return [next(path.glob("*.safetensors")).read_bytes() for path in paths]


def captions(folder, iteration):
    return json.loads((folder / f"state/captions-{iteration}.json").read_text())["steps"]


@pytest.mark.parametrize("lora", ["0", "4"])
def test_an_iteration_after_a_collapse_starts_from_the_best_one(tmp_path, cheap, lora) -> None:
    folder = tmp_path / "run"
    notes = run(folder, lora_rank=lora, **RETRY, **{"reward.proposer.repetition": "-0.2"})
    (said,) = [note for note in notes if "has collapsed" in note]
    # The base and iteration 1 are equally well: the earlier one is the best.
    assert "iteration 2 has collapsed" in said and "Iteration 3 starts from the base model" in said
    assert captions(folder, 2) == [["caption 1 after 0"], ["caption 2 after 1"]]
    assert captions(folder, 3) == [["caption 3 after 0"]]
    # The same run whose second iteration never was differs from it in nothing.
    other = tmp_path / "other"
    kept = stages.run

    def only_the_third(stage):
        if stage.iteration == 3:
            kept(stage)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "run", only_the_third)
        run(other, lora_rank=lora, iterations="3")
    assert weights(folder, 3) == weights(other, 3)
    assert weights(folder, 3) != weights(folder, 2) != weights(folder, 1)


def test_a_run_that_is_to_stop_stops_and_stays_so(tmp_path, cheap) -> None:
    folder, stop = tmp_path / "run", {**RETRY, "monitor.rollback": "stop"}
    notes = run(folder, **stop)
    assert any("The run stops; the best weights are those of the base model" in n for n in notes)
    assert {row["iteration"] for row in rows(folder)} == {1, 2}
    before = (folder / "metrics.jsonl").read_bytes()
    assert any("The run stops" in note for note in run(folder, resume=True, **stop))
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_without_rollback_the_same_run_goes_on(tmp_path, cheap) -> None:
    notes = run(tmp_path / "run", iterations="3")
    assert not any("collapsed" in note for note in notes)
    assert captions(tmp_path / "run", 3)[0] == ["caption 1 after 0"]


@pytest.mark.parametrize("lora", ["0", "4"])
def test_a_run_killed_after_it_went_back_comes_out_the_same(
    tmp_path, cheap, monkeypatch, lora
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(whole, lora_rank=lora, **RETRY)
    kept, died = stages.run, []

    def dies(stage):
        # Killed before anything of the third iteration was done, and in its midst.
        if (stage.iteration, stage.role) in {(3, "proposer"), (3, "solver")} - set(died):
            died.append((stage.iteration, stage.role))
            raise EngineError("the power failed")
        kept(stage)

    monkeypatch.setattr(stages, "run", dies)
    for resume in (False, True):
        with pytest.raises(EngineError, match="power"):
            run(killed, resume, lora_rank=lora, **RETRY)
    run(killed, resume=True, lora_rank=lora, **RETRY)
    assert len(died) == 2
    assert rows(killed) == rows(whole)
    assert weights(killed, 3) == weights(whole, 3)
    assert captions(killed, 3) == captions(whole, 3)


def test_warnings_are_written_noted_and_cut_back_with_the_metrics(tmp_path, monkeypatch) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    # A limit that every step with a KL crosses: one warning a stage.
    changes = {
        "proposer.steps": "0",
        "coder.steps": "0",
        "solver.steps": "3",
        "solver.warmup_updates": "0",
        "solver.answers": "4",
        "monitor.kl_limit": "1e-9",
    }
    monkeypatch.setattr(evolve, "scores", lambda policies, probe: {"x": np.ones(2)})
    notes = run(whole, **changes)
    written = [json.loads(line) for line in (whole / "warnings.jsonl").open()]
    assert [w["text"] for w in written] == [n for n in notes if n.startswith("warning: ")]
    assert {(w["stage"], w["quantity"]) for w in written} == {("solver", "kl")}
    original = stages.GroupTrainer.train

    def dies(self):
        steps = original(self)
        if len(steps) == 3:
            raise EngineError("the power failed")
        return steps

    monkeypatch.setattr(stages.GroupTrainer, "train", dies)
    with pytest.raises(EngineError):
        run(killed, **changes)
    with (killed / "warnings.jsonl").open("a") as file:
        file.write('{"iteration": 1, "sta')
    monkeypatch.setattr(stages.GroupTrainer, "train", original)
    run(killed, resume=True, **changes)
    assert (killed / "warnings.jsonl").read_text() == (whole / "warnings.jsonl").read_text()
