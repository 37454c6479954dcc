"""States of unfinished stages: whole or not there, and damage is named."""

from __future__ import annotations

import numpy as np
import pytest

from mmzero_env.errors import UserError
from mmzero_env.protocol import Proposal
from trainers import atomic
from trainers.filters import LabelledQuestion
from trainers.progress import SilentProgress
from trainers.prompt_files import (
    load_proposals,
    load_questions,
    save_proposals,
    save_questions,
)
from trainers.run_log import RunLog
from trainers.stage_state import StageStore

PROPOSAL = Proposal("chart", "a chart \ud800", "how many?", "3", "which?", "the left one")


def save(store: StageStore, steps: int) -> None:
    store.save("2/coder", steps, files={"metrics.jsonl": 7 * steps}, memory={}, trainers={})


def test_the_newest_whole_state_is_the_one_that_counts(tmp_path):
    store = StageStore(tmp_path)
    assert store.unfinished() is None and store.load("2/coder") is None
    save(store, 3)
    save(store, 4)
    stages = tmp_path / "state/stages/2-coder"
    assert [path.name for path in stages.iterdir()] == ["step-000004"]
    # What a kill leaves: a draft of the next state, and an old one that was not removed yet.
    (stages / ".step-000005.partial").mkdir()
    (stages / "step-000003").mkdir()
    found = store.unfinished()
    assert found is not None and (found.part, found.steps) == ("2/coder", 4)
    assert found.files == {"metrics.jsonl": 28}
    store.forget("2/coder")
    assert store.unfinished() is None


def test_a_damaged_state_names_the_folder_to_remove(tmp_path):
    store = StageStore(tmp_path)
    save(store, 1)
    state = store.unfinished()
    assert state is not None
    (state.folder / "coder.pt").write_bytes(b"PK half")
    with pytest.raises(UserError, match=r"coder\.pt is damaged .*Remove the folder .*2-coder:"):
        state.trainer("coder")
    (state.folder / "state.json").write_text('{"part": "2/coder"')
    with pytest.raises(UserError, match=r"state\.json is damaged .*begins again"):
        store.load("2/coder")


def test_what_a_stage_learns_from_survives_the_disk(tmp_path):
    save_proposals(tmp_path / "a/prompts", [PROPOSAL, PROPOSAL])
    assert load_proposals(tmp_path / "a/prompts") == [PROPOSAL, PROPOSAL]
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    question = LabelledQuestion("x/0", PROPOSAL, image, "which?", "left", True, "<svg/>")
    save_questions(tmp_path / "b/prompts", [question])
    (found,) = load_questions(tmp_path / "b/prompts")
    assert np.array_equal(found.image, image) and found.image.dtype == np.uint8
    assert (found.id, found.proposal, found.question, found.label) == (
        question.id, PROPOSAL, "which?", "left",
    )  # fmt: skip
    assert found.easy_agrees is True and found.svg == "<svg/>"
    rows = tmp_path / "b/prompts/rows.json"
    rows.write_text(rows.read_text().replace(', "svg": "<svg/>"', ""))
    assert load_questions(tmp_path / "b/prompts")[0].svg is None
    (tmp_path / "b/prompts/images.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"images\.npz is damaged"):
        load_questions(tmp_path / "b/prompts")
    (tmp_path / "a/prompts/rows.json").write_text("{}")
    with pytest.raises(UserError, match=r"rows\.json is damaged .*a list was expected, got dict"):
        load_proposals(tmp_path / "a/prompts")


def test_a_folder_that_was_not_filled_to_the_end_does_not_appear(tmp_path):
    with pytest.raises(RuntimeError), atomic.new_folder(tmp_path / "model") as draft:
        (draft / "half").write_text("x")
        raise RuntimeError("killed")
    assert not (tmp_path / "model").exists()
    with atomic.new_folder(tmp_path / "model") as draft:
        assert list(draft.iterdir()) == []
        (draft / "whole").write_text("x")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["whole"]


def test_files_that_grow_are_cut_back_and_a_lost_end_is_told(tmp_path):
    log = RunLog(tmp_path, SilentProgress())
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("line 1\nline 2\nhal")
    log.cut_back({"metrics.jsonl": 14})
    assert metrics.read_text() == "line 1\nline 2\n"
    assert log.sizes(1, "coder") == {"metrics.jsonl": 14, "episodes/iter-1-coder.jsonl": 0}
    with pytest.raises(UserError, match="has 14 bytes, and the state of the run says 21"):
        log.cut_back({"metrics.jsonl": 21})
