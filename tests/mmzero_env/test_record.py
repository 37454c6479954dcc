from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from mmzero_env import self_play_v0
from mmzero_env.errors import UserError
from mmzero_env.protocol import Proposal
from mmzero_env.record import (
    episode_to_record,
    image_to_png,
    png_to_image,
    read_records,
    replay,
    replay_all,
    write_records,
)
from mmzero_env.rendering import Renderer
from mmzero_env.rewards import get_design

PROPOSAL = Proposal("table", "Ein Feld: 3 · {x}", "Which number?", "3", "Twice it?", "6")
PROPOSAL_TEXT = "".join(
    f"<{name}>{getattr(PROPOSAL, name)}</{name}>"
    for name in (
        "content_type",
        "caption",
        "easy_question",
        "easy_answer",
        "hard_question",
        "hard_answer",
    )
)
CODES = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle r="5" fill="red"/></svg>',
    "no code, only words",
    '<svg viewBox="0 0 9 9"><rect </svg>',
)
SIZE = 24


def finished(proposal: str, options: dict | None = None, env=None):
    """Play one episode with three codes, the first of which renders."""
    env = env or self_play_v0.raw_env(codes=3, answers=2, image_size=SIZE, render_workers=0)
    env.reset(seed=3 if not env.outcome else None, options=options)
    codes = iter(CODES)
    answers = iter(("\\boxed{3}", "3 \ud800", "<think>é</think>\\boxed{6}", "\\boxed{5}"))
    while env.request is not None:
        role = env.request.role
        env.step(proposal if role == "proposer" else next(codes if role == "coder" else answers))
    env.close()
    return env


def record_of(env):
    return episode_to_record(env.outcome, env.episode_rewards)


@pytest.fixture(scope="module")
def records():
    """A whole episode, one that starts from a proposal, and one that fails at once."""
    return [
        record_of(finished(PROPOSAL_TEXT)),
        record_of(finished("", {"proposal": PROPOSAL})),
        record_of(finished("<caption>half")),
    ]


@pytest.fixture(scope="module")
def renderer():
    with Renderer(size=SIZE, workers=1) as made:
        yield made


def test_a_record_holds_the_episode(records):
    whole, given, failed = records
    assert whole["proposal"]["caption"] == PROPOSAL.caption and whole["failure"] is None
    drawn, wordy, broken = whole["codes"]
    assert drawn["png"].startswith(b"\x89PNG") and drawn["failure"] is None
    assert drawn["answers"] == {
        "easy": ["\\boxed{3}", "3 \ud800"],
        "hard": ["<think>é</think>\\boxed{6}", "\\boxed{5}"],
    }
    assert drawn["votes"]["easy"]["winner"] == "3" and drawn["reward"]["terms"]
    assert len(drawn["solver_rewards"]["hard"]) == 2
    assert wordy["png"] is None and wordy["failure"]["reason"] == "no_code"
    assert broken["failure"]["stage"] == "render" and broken["answers"] == {}
    assert given["proposal_text"] == "" and given["proposal"] == whole["proposal"]
    assert failed["proposal"] is None and failed["failure"]["stage"] == "proposal"
    assert failed["codes"] == [] and failed["reward"]["value"] == -1.0


def test_files_give_back_what_was_written(records, tmp_path):
    path = tmp_path / "episodes.jsonl"
    assert write_records(path, records[:1]) == 1
    assert write_records(path, records[1:]) == 2
    assert list(read_records(path)) == records
    assert len(path.read_text().splitlines()) == 3


def test_png_is_lossless():
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    assert (png_to_image(image_to_png(image)) == image).all()


def test_replay_gives_the_same_record(records, renderer, tmp_path):
    path = tmp_path / "episodes.jsonl"
    write_records(path, records)
    design = get_design("mm_zero")
    for record in read_records(path):
        outcome, rewards = replay(record, renderer, design)
        assert episode_to_record(outcome, rewards) == record
    with Renderer(size=SIZE, workers=2) as two:
        assert episode_to_record(*replay(records[0], two, design)) == records[0]


def test_replay_of_a_window_gives_the_same_proposer_reward(renderer):
    env = finished(PROPOSAL_TEXT)
    first = record_of(env)
    second = record_of(finished(PROPOSAL_TEXT, env=env))
    design = get_design("mm_zero")
    assert second["reward"] != first["reward"]
    (_, _), (outcome, rewards) = replay_all([first, second], renderer, design)
    assert episode_to_record(outcome, rewards) == second


def test_replay_refuses_when_the_world_has_changed(records, renderer):
    design = get_design("mm_zero")
    record = copy.deepcopy(records[0])
    record["codes"][0]["png"] = None
    with pytest.raises(UserError, match="code 0 renders now"):
        replay(record, renderer, design)
    record = copy.deepcopy(records[0])
    record["codes"][2]["png"] = record["codes"][0]["png"]
    with pytest.raises(UserError, match="code 2 does not render now"):
        replay(record, renderer, design)
    record = copy.deepcopy(records[0])
    record["proposal_text"] = "something else"
    with pytest.raises(UserError, match="does not parse now"):
        replay(record, renderer, design)


def test_damaged_files_are_named(records, tmp_path):
    path = tmp_path / "episodes.jsonl"
    with pytest.raises(UserError, match=r"episodes\.jsonl: No such file"):
        list(read_records(path))
    write_records(path, records)
    good = path.read_text().splitlines()
    cases = {
        "line 2: expected one JSON object": good[1][:-5],
        "line 2: expected an episode record of schema 1, got schema 9": good[1].replace(
            '"schema": 1', '"schema": 9'
        ),
        "line 2: the record lacks topic": json.dumps(
            {k: v for k, v in json.loads(good[1]).items() if k != "topic"}
        ),
        "line 2: 'codes' must be a list": json.dumps(json.loads(good[1]) | {"codes": [3]}),
        "line 2: 'png' is not base64": good[1].replace('"png": "', '"png": "!'),
    }
    for message, line in cases.items():
        path.write_text("\n".join([good[0], line, good[2]]))
        with pytest.raises(UserError, match=message):
            list(read_records(path))
    with pytest.raises(UserError, match="0 codes"):
        outcome = finished("x").outcome
        episode_to_record(outcome, finished(PROPOSAL_TEXT).episode_rewards)
