"""One whole iteration of the loop, small; and a run that was killed."""

from __future__ import annotations

import json
import shutil

import pytest

from mmzero_env.caption_memory import CaptionMemory
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import ROLES
from mmzero_env.record import read_records
from trainers import config, evolve, stages
from trainers.progress import SilentProgress

TINY = {
    "iterations": "1",
    "threads": "1",
    "proposer.steps": "1",
    "proposer.prompts_per_step": "2",
    "coder.steps": "2",
    "coder.prompts_per_step": "2",
    "coder.pool": "16",
    "solver.steps": "2",
    "solver.prompts_per_step": "4",
    "solver.pool": "24",
    "filters.easy_low": "0.0",
    "filters.hard_low": "0.0",
    "filters.hard_high": "1.0",
    "filters.render_low": "0.0",
    "filters.render_high": "1.0",
    "probe.items": "10",
    "probe.samples": "2",
}


class Listener(SilentProgress):
    """Keeps what the loop notes."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def run(folder, resume=False, **overrides):
    made = config.load("nano-cpu", {**TINY, **overrides, "out": str(folder)})
    evolve.run(made, resume=resume, progress=SilentProgress())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(folder)
    return folder


def rows(folder):
    def steady(row):
        return {k: v for k, v in row.items() if not k.startswith("seconds")}

    return [steady(json.loads(line)) for line in (folder / "metrics.jsonl").open()]


def weights(folder):
    return {
        role: (folder / f"checkpoints/iter-1/{role}/model.safetensors").read_bytes()
        for role in ROLES
    }


def test_an_iteration_leaves_a_complete_run_directory(finished):
    logged = rows(finished)
    assert [(r["stage"], r["step"]) for r in logged] == [
        ("proposer", 0), ("coder", 0), ("coder", 1), ("solver", 0), ("solver", 1),
    ]  # fmt: skip
    for row in logged:
        assert row["iteration"] == 1 and row["groups_used"] + row["groups_dropped"] > 0
    assert any(row["updates"] > 0 and row["grad_norm"] > 0 for row in logged)
    probe = json.loads((finished / "probe.json").read_text())
    assert probe["iterations"] == [0, 1]
    for name in ("solver_easy_sampled", "solver_hard_greedy", "coder_render", "proposer_valid"):
        assert len(probe["metrics"][name]) == len(probe["change"][name]) == 2
        assert probe["change"][name][0]["mean"] == 0
    for role in ROLES:
        records = list(read_records(finished / "episodes" / f"iter-1-{role}.jsonl"))
        assert records and all(r["id"].startswith(f"i1/{role}/") for r in records)


def test_only_the_trained_role_of_a_stage_changes(finished):
    found = weights(finished)
    assert len(set(found.values())) == 3


def test_the_same_seed_gives_the_same_run(finished, tmp_path):
    run(tmp_path / "again")
    assert rows(tmp_path / "again") == rows(finished)
    assert weights(tmp_path / "again") == weights(finished)


def test_a_run_without_monitors_is_the_same_run(finished, tmp_path):
    plain = tmp_path / "plain"
    run(plain, **{"monitor.blind_items": "0", "monitor.warn": "false"})
    watched = rows(finished)
    assert [row.pop("blind_solvable") for row in rows(plain)] == [None] * len(watched)
    assert any(row["blind_solvable"] is not None for row in watched)

    def others(folder):
        return [{k: v for k, v in row.items() if k != "blind_solvable"} for row in rows(folder)]

    assert others(plain) == others(finished)
    assert weights(plain) == weights(finished)


def test_a_killed_run_goes_on_where_it_stopped(finished, tmp_path, monkeypatch):
    folder = tmp_path / "killed"
    original = stages.GroupTrainer.train

    def dies_in_the_coder_stage(self):
        steps = original(self)
        if len(steps) == 2 and not (folder / "stopped").exists():
            (folder / "stopped").touch()
            raise EngineError("the power failed")
        return steps

    monkeypatch.setattr(stages.GroupTrainer, "train", dies_in_the_coder_stage)
    with pytest.raises(EngineError, match="power"):
        run(folder)
    assert not (folder / "checkpoints/iter-1/coder").exists()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 1, "sta')
    run(folder, resume=True)
    assert rows(folder) == rows(finished)
    assert weights(folder) == weights(finished)
    assert (folder / "probe.json").read_text() == (finished / "probe.json").read_text()


def test_a_lost_checkpoint_or_damaged_state_is_named(finished, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "checkpoints/iter-1/coder")
    with pytest.raises(UserError, match="iter-1/coder"):
        run(copy, resume=True)
    (copy / "state/progress.json").write_text("{")
    with pytest.raises(UserError, match=r"progress\.json is damaged"):
        run(copy, resume=True)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("scripted:oracle", "it has no weights here. Expected an agent with weights"),
        ("openai:m@http://127.0.0.1:1", "gives no token ids with log-probabilities.*be evaluated"),
    ],
)
def test_a_model_without_weights_is_refused_before_anything_is_written(tmp_path, model, why):
    with pytest.raises(UserError, match=f"cannot be trained: .*{why}"):
        run(tmp_path / "run", model=model)
    assert not (tmp_path / "run").exists()


def test_a_stage_whose_pool_is_empty_is_skipped_and_said(tmp_path):
    listener = Listener()
    made = config.load(
        "nano-cpu",
        {
            **TINY,
            "out": str(tmp_path / "empty"),
            "proposer.steps": "0",
            "coder.steps": "0",
            "filters.hard_low": "0.999",
            "filters.hard_high": "0.9999",
        },
    )
    evolve.run(made, resume=False, progress=listener)
    assert any("was not trained" in note for note in listener.notes)
    assert not (tmp_path / "empty" / "metrics.jsonl").exists()


def test_a_run_labels_by_the_caption_and_remembers_captions(tmp_path):
    folder = tmp_path / "grounded"
    run(
        folder,
        **{
            "proposer.steps": "1",
            "coder.steps": "0",
            "solver.steps": "1",
            "reward_design": "caption_grounded",
            "reward.proposer.repetition": "-0.2",
        },
    )
    logged = rows(folder)
    assert [row["stage"] for row in logged] == ["proposer", "solver"]
    memory = CaptionMemory()
    memory.load_state_dict(json.loads((folder / "state/captions-1.json").read_text()))
    records = list(read_records(folder / "episodes" / "iter-1-proposer.jsonl"))
    captions = tuple(r["proposal"]["caption"] for r in records if r["proposal"])
    assert memory.steps == (captions,) and captions


def test_a_stage_ends_when_its_pool_has_been_seen_often_enough(tmp_path):
    listener = Listener()
    made = config.load(
        "nano-cpu",
        {
            **TINY,
            "out": str(tmp_path / "epochs"),
            "proposer.steps": "0",
            "coder.steps": "0",
            "solver.steps": "50",
            "solver.max_epochs": "1",
        },
    )
    evolve.run(made, resume=False, progress=listener)
    logged = rows(tmp_path / "epochs")
    pool = int(logged[0]["pool"])
    assert len(logged) == max(1, pool // made.solver.prompts_per_step) < 50
    assert any(f"ends after {len(logged)} steps" in note for note in listener.notes)
