from __future__ import annotations

import copy
import io
import json

import numpy as np
import pytest
from PIL import Image

from mmzero_env.difference import first_difference
from mmzero_env.errors import UserError
from mmzero_env.record import (
    convert,
    episode_to_record,
    image_to_png,
    png_to_image,
    read_records,
    write_records,
)
from mmzero_env.rendering import Renderer, RenderLimits
from mmzero_env.replay import compare, replay, replay_all
from mmzero_env.rewards import RewardDesign, get_design
from tests.mmzero_env.recorded import (
    CODES,
    ODD,
    PROPOSAL,
    SIZE,
    batch,
    finished,
    proposal_text,
    record_of,
)

DESIGN = get_design("mm_zero")


@pytest.fixture(scope="module")
def records():
    """A whole episode, one that starts from a proposal, one that fails at once, two batches."""
    return [
        record_of(finished(proposal_text()), design=DESIGN),
        record_of(finished("", {"proposal": PROPOSAL}), design=DESIGN),
        record_of(finished("<caption>half"), design=DESIGN),
        *batch(),
        *batch(first=5),
    ]


@pytest.fixture(scope="module")
def renderer():
    with Renderer(size=SIZE, workers=1) as made:
        yield made


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_number_of_workers_gives_the_same(records, tmp_path, workers):
    write_records(tmp_path / "a.jsonl", records)
    convert(tmp_path / "a.jsonl", tmp_path / "a.parquet")
    for path in tmp_path.iterdir():
        results = list(compare(read_records(path), workers=workers))
        assert [result.difference for result in results] == [None] * len(records)
        assert all(result.complete for result in results)
        for result, record in zip(results, records, strict=True):
            assert result.recorded == record
            # Not only equal by the comparison's own rules: the same text, pictures included.
            now = {**result.now, "render": record["render"]}
            assert json.dumps(now, default=bytes.hex) == json.dumps(record, default=bytes.hex)


def test_the_population_enters_the_rewards(records):
    # Were each replayed on its own, at least one reward would come out differently.
    alone = [{**record, "batch": None, "population": 1} for record in records]
    assert any(r.difference and "reward" in r.difference for r in compare(alone, workers=0))


def test_replay_gives_the_same_record(records, renderer):
    for record in records[:3]:
        outcome, rewards = replay(record, renderer, DESIGN)
        assert episode_to_record(outcome, rewards, design=DESIGN) == record


def test_windows_are_replayed_as_windows(renderer):
    env, windowed = None, []
    for n in range(6):
        env = finished(proposal_text(), env=env)
        context = {"config": env.config, "design": env.design, "renderer": renderer}
        windowed.append(record_of(env, population=n + 1, **context))
    assert len({record["reward"]["value"] for record in windowed}) > 1
    results = list(compare(windowed, workers=0))
    assert [(r.difference, r.complete) for r in results] == [(None, True)] * 6
    # Without those before, the Proposer's reward cannot be told; everything else can.
    results = list(compare(windowed[2:], workers=0))
    assert [(r.difference, r.complete) for r in results] == [(None, False)] * 4
    pair = replay_all(windowed[:2], renderer, env.design)
    assert [rewards.proposer.value for _, rewards in pair] != windowed[0]["reward"]["value"]
    assert pair[1][1].proposer.value == windowed[1]["reward"]["value"]


def test_a_window_that_starts_anew_forgets_those_before():
    env = finished(proposal_text())
    first = record_of(env, design=env.design)
    again = record_of(finished(proposal_text()), design=env.design)
    third = record_of(finished(proposal_text(), env=env), design=env.design, population=2)
    results = list(compare([first, again, third], workers=0))
    assert [(r.difference, r.complete) for r in results] == [(None, True)] * 3


def test_memory_is_replayed():
    design = get_design("mm_zero", **{"proposer.repetition": -1.0})
    recorded = batch(design=design, memory=[["a b c d 0", "a b c d 1"]])
    assert min(r["reward"]["terms"].get("repetition", 0) for r in recorded) < 0
    assert all(r.difference is None for r in compare(recorded, workers=0))
    forgotten = [{**record, "memory": []} for record in recorded]
    differences = [r.difference for r in compare(forgotten, workers=0)]
    assert "reward.value" in differences[0]


def test_incomplete_batches_are_told_and_doubled_ones_are_two(records):
    whole = batch()
    results = list(compare(whole[1:], workers=0))
    assert [(r.difference, r.complete) for r in results] == [(None, False)] * 4
    results = list(compare([*whole, *whole], workers=0))
    assert [(r.difference, r.complete) for r in results] == [(None, True)] * 10


def changed(record, path, value):
    """A copy of a record with one field changed."""
    made = copy.deepcopy(record)
    *way, last = path
    place = made
    for step in way:
        place = place[step]
    place[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("reward", "value"), 0.25, "reward.value: recorded 0.25, now "),
        (("reward", "terms", "solvability"), 9.0, "reward.terms.solvability: recorded 9.0"),
        (("codes", 0, "votes", "easy", "winner"), "4", "codes[0].votes.easy.winner: recorded '4'"),
        (("codes", 0, "answers", "easy"), ["\\boxed{4}"] * 2, "codes[0].votes.easy.winner"),
        (("codes", 0, "flags"), ["x"], "codes[0].flags: recorded 1 entries, now 0"),
        (("codes", 0, "code"), "<svg/>", "codes[0].code: recorded '<svg/>', now '<svg xmlns"),
        (("codes", 0, "reward", "value"), 5.0, "codes[0].reward.value: recorded 5.0, now"),
        (("codes", 0, "png"), None, "codes[0].png: recorded None, now a picture"),
        (("codes", 1, "text"), CODES[0], "codes[1].code: recorded None, now '<svg"),
        (("codes", 2, "failure", "reason"), "x", "codes[2].failure.reason: recorded 'x'"),
        (("codes", 0, "answers"), {}, "codes[0].votes.easy: recorded present, now absent"),
        (("proposal", "caption"), "other", "proposal.caption: recorded 'other'"),
        (("proposal_text",), "no tags", "proposal: recorded {'content_type'"),
        (("proposal",), None, "proposal: recorded None, now {"),
    ],
)
def test_the_first_difference_is_named(records, path, value, said):
    others = records[3:5]
    results = list(compare([changed(records[0], path, value), *others], workers=0))
    assert results[0].difference is not None and said in results[0].difference
    # What is wrong with one episode stays with it.
    assert [result.complete for result in results] == [True, False, False]
    assert [result.difference for result in results[1:]] == [None, None]


def test_a_picture_is_compared_by_its_pixels(records):
    image = png_to_image(records[0]["codes"][0]["png"]).copy()
    bigger = image_to_png(np.pad(image, ((0, 1), (0, 0), (0, 0))))
    image[0, :2] ^= 4
    for png, said in (
        (image_to_png(image), "codes[0].png: 2 of 576 pixels differ, the largest by 4 of 255"),
        (bigger, "codes[0].png: recorded a picture of shape (25, 24, 3), now (24, 24, 3)"),
    ):
        record = changed(records[0], ("codes", 0, "png"), png)
        record["render"] = {"size": SIZE, "backend": "cairosvg", "limits": {}}
        [result] = compare([record], workers=0)
        assert result.difference == said
    # Another compression of the same picture is the same picture.
    packed, loose = records[0]["codes"][0]["png"], io.BytesIO()
    Image.open(io.BytesIO(packed)).save(loose, format="png", compress_level=0)
    assert packed != loose.getvalue() and first_difference(packed, loose.getvalue()) is None
    said = first_difference({"png": packed[:60]}, {"png": packed})
    assert said.startswith("png: the recorded picture cannot be read: expected PNG bytes")


def test_recorded_limits_and_sizes_are_used(records):
    text = '<svg viewBox="0 0 9 9"><g><g><rect width="9" height="9"/></g></g></svg>'
    env = finished(proposal_text())
    record = record_of(env, design=DESIGN)
    for code in record["codes"]:
        code["text"] = code["code"] = text
        code.update(png=None, failure=None, answers={}, votes={}, solver_rewards={}, flags=[])
    with Renderer(9, 0, RenderLimits(max_depth=3)) as small, Renderer(9, 0) as usual:
        for renderer, depth_fits in ((small, False), (usual, True)):
            probe = episode_to_record(env.outcome, env.episode_rewards, renderer=renderer)
            [result] = compare([{**record, "render": probe["render"]}], workers=0)
            drawn = result.now["codes"][0]["png"]
            assert (drawn is not None) == depth_fits
            assert drawn is None or png_to_image(drawn).shape == (9, 9, 3)


def test_another_design_gives_other_rewards(records):
    results = list(compare(records, workers=0, design=get_design("no_diversity")))
    found = [result.difference for result in results if result.difference]
    assert found and all(difference.startswith("reward.") for difference in found)
    assert results[0].now["design"]["name"] == "no_diversity"


def test_a_design_that_is_not_known_has_to_be_given(records):
    unknown = {**records[0], "design": None}
    with pytest.raises(UserError, match="recorded with no design; give the design"):
        list(compare([unknown], workers=0))
    own = {**records[0], "design": {"name": "my_own", "overrides": None}}
    with pytest.raises(UserError, match="the unregistered design 'my_own'; give the design"):
        list(compare([own], workers=0))
    [result] = compare([own], workers=0, design=RewardDesign("my_own"))
    assert result.difference is None
    gone = {**records[0], "design": {"name": "mm_zer", "overrides": {}}}
    with pytest.raises(UserError, match="Did you mean 'mm_zero'"):
        list(compare([gone], workers=0))


def test_replay_refuses_when_the_world_has_changed(records, renderer):
    for path, value, said in (
        (("codes", 0, "png"), None, "code 0 renders now"),
        (("codes", 2, "png"), records[0]["codes"][0]["png"], "code 2 does not render now"),
        (("proposal_text",), "something else", "does not parse now"),
        (("codes", 0, "answers"), {}, "lacks answers to"),
    ):
        with pytest.raises(UserError, match=said):
            replay(changed(records[0], path, value), renderer, DESIGN)


def test_texts_that_do_not_fit_the_config_are_refused(records, renderer):
    with pytest.raises(UserError, match="misses 2 of 2 completions, got 3"):
        replay(changed(records[0], ("config", "codes"), 2), renderer, DESIGN)
    with pytest.raises(UserError, match="unknown question 'odd'"):
        replay(changed(records[0], ("config", "questions"), ["odd"]), renderer, DESIGN)


def test_numbers_of_other_types_and_other_keys_differ():
    assert first_difference({"a": [1, 2.0]}, {"a": [1, 2.0]}) is None
    assert first_difference({"a": 1}, {"a": 1.0}) == "a: recorded 1, now 1.0"
    assert first_difference({"a": 1}, {"a": 1, "b": 2}) == "b: recorded absent, now present"
    assert first_difference({"b": 1}, {}) == "b: recorded present, now absent"
    assert first_difference([ODD * 40], [""]).endswith("…, now ''")
