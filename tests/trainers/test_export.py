"""Exports: the folders load with the libraries that people use, and nothing is sent unasked."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from datasets import load_dataset
from huggingface_hub.errors import LocalTokenNotFoundError

import agents
from agents import nano
from mmzero_env import parquet
from mmzero_env.record_files import read_records
from tests.trainers.synthetic_run import SCRIPT
from trainers import cli, config


@pytest.fixture
def run(make_run):
    path = make_run(caption="Five | bars\ud800")
    changes = {"reward.solvability_cap": "0.7", "filters.hard_high": "0.6", "seed": "7"}
    config.save(config.load("nano-cpu", {"out": str(path), **changes}), path)
    return path


@pytest.fixture
def pushed(monkeypatch):
    calls = []

    class Hub:
        def create_repo(self, repo, **kwargs):
            calls.append(("create", repo, kwargs))

        def upload_folder(self, **kwargs):
            calls.append(("upload", sorted(p.name for p in kwargs["folder_path"].iterdir())))
            return "https://hub/commit"

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    return calls


def test_a_dataset_opens_with_pictures_labels_and_every_episode(run, tmp_path, pushed, capsys):
    out = tmp_path / "data"
    assert cli.main(["export", "dataset", str(run), "--out", str(out)]) == 0
    assert "96 questions and 54 episodes" in capsys.readouterr().out
    found = load_dataset(str(out), "questions", split="train", cache_dir=str(tmp_path / "cache"))
    # 6 files of 8 episodes with 2 pictures each.
    assert len(found) == 96 and set(found["iteration"]) == {1, 2}
    row = found[0]
    assert row["image"].size == (96, 96)
    assert (row["easy_label"], row["easy_answer"], row["easy_truth"]) == ("7", "7", None)
    assert row["easy_consistency"] == pytest.approx(2 / 3)
    assert row["hard_label"] in ("18", "19") and row["hard_consistency"] == 0.5
    # Easy 2/3 and hard 1/2 lie within the filters of this run.
    assert all(found["passes_filters"])
    record = next(read_records(run / "episodes" / "iter-1-coder.jsonl"))
    assert SCRIPT in record["codes"][0]["answers"]["hard"][1]
    again = list(parquet.read(out / "episodes" / "iter-1-coder.parquet"))
    assert again[0] == record and len(again) == 9
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0")
    assert "changed: `{'solvability_cap': 0.7}`" in card and "from 0.25 to 0.6" in card
    assert "| 1/coder | 16 |" in card
    assert pushed == []


def test_only_kept_questions_and_none_that_pass(run, tmp_path, capsys):
    changed = json.loads((run / "config.json").read_text())
    changed["filters"]["hard_low"] = 0.55
    (run / "config.json").write_text(json.dumps(changed))
    asked = ["export", "dataset", str(run), "--only-kept", "--out", str(tmp_path / "data")]
    assert cli.main(asked) == 2
    assert "no picture passes the run's filters" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_cut_off_episode_is_left_out_and_said_in_the_card(run, tmp_path):
    file = run / "episodes" / "iter-2-solver.jsonl"
    file.write_bytes(file.read_bytes()[:-40])
    out = tmp_path / "data"
    assert cli.main(["export", "dataset", str(run), "--out", str(out)]) == 0
    assert "iter-2-solver.jsonl is cut off" in (out / "README.md").read_text()


@pytest.fixture
def trained(run):
    for iteration in (1, 2):
        shutil.copytree(
            Path(nano.__file__).parent / "model",
            run / "checkpoints" / f"iter-{iteration}" / "solver",
        )
    return run


def test_a_model_folder_loads_and_its_card_tells_how_it_was_made(trained, tmp_path):
    out = tmp_path / "model"
    assert cli.main(["export", "model", str(trained), "--iteration", "1", "--out", str(out)]) == 0
    card = (out / "README.md").read_text()
    assert "# Solver after iteration 1" in card and "pipeline_tag: image-text-to-text" in card
    assert "| easy sampled | 0.641 [0.617, 0.664] | 0.702 [0.679, 0.724] |" in card
    command = next(line for line in card.splitlines() if line.startswith("mmzero evolve"))
    again = config.load("nano-cpu", cli.parse_settings(command.split()[4:][1::2]) | {"out": "x"})
    assert command.startswith("mmzero evolve --preset nano-cpu --set ")
    assert again == config.read(trained).__class__(**vars(config.read(trained)) | {"out": "x"})
    made = agents.make(f"transformers:{out}")
    base = agents.make("nano")
    theirs = dict(base.model.named_parameters())
    for name, values in made.model.named_parameters():
        assert np.array_equal(values.detach().numpy(), theirs[name].detach().numpy())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--role", "judge"], "unknown role 'judge'"),
        (["--role", "coder"], "no checkpoint of the coder"),
        (["--iteration", "5"], "there are those of 1, 2"),
        (["--private"], "--push-to-hub"),
    ],
)
def test_what_is_not_there_is_named(trained, tmp_path, capsys, words, said):
    out = tmp_path / "model"
    assert cli.main(["export", "model", str(trained), *words, "--out", str(out)]) == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_with_something_in_it_is_left_alone(trained, capsys):
    assert cli.main(["export", "model", str(trained), "--out", str(trained)]) == 2
    assert "not a new or an empty folder" in capsys.readouterr().err


def test_it_is_pushed_when_asked_to_the_repository_that_was_named(
    trained, tmp_path, pushed, capsys
):
    words = ["--push-to-hub", "me/solver", "--private", "--out", str(tmp_path / "model")]
    assert cli.main(["export", "model", str(trained), *words]) == 0
    kwargs = {"repo_type": "model", "private": True, "exist_ok": True}
    assert pushed[0] == ("create", "me/solver", kwargs)
    assert "README.md" in pushed[1][1]
    assert "pushed: https://hub/commit" in capsys.readouterr().out
    assert "transformers:me/solver" in (tmp_path / "model" / "README.md").read_text()


def test_a_hub_that_refuses_leaves_the_folder_and_says_how_to_go_on(
    trained, tmp_path, monkeypatch, capsys
):
    class Refusing:
        def create_repo(self, *args, **kwargs):
            raise LocalTokenNotFoundError("Token is required")

    monkeypatch.setattr(huggingface_hub, "HfApi", Refusing)
    out = tmp_path / "model"
    words = ["--push-to-hub", "me/solver", "--out", str(out)]
    assert cli.main(["export", "model", str(trained), *words]) == 1
    said = capsys.readouterr().err
    assert "Token is required" in said and f"hf upload me/solver {out} --repo-type model" in said
    assert (out / "model.safetensors").is_file()
