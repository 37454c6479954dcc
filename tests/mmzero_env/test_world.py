"""The procedural world knows the truth about its own pictures."""

from __future__ import annotations

import random

import numpy as np
import pytest

from mmzero_env import world
from mmzero_env.errors import UserError
from mmzero_env.grading import equivalent
from mmzero_env.parsing import extract_boxed, parse_proposal
from mmzero_env.protocol import CONTENT_TYPES, QUESTIONS, TOPICS, Proposal, RenderJob
from mmzero_env.rendering import Renderer
from mmzero_env.world.probe import probe_items
from mmzero_env.world.proposals import solution_text
from mmzero_env.world.split import HELD_OUT_SHARE, draw, held_out

KINDS = sorted(world.KINDS)


def specs(kind: str, count: int = 200) -> list[world.Spec]:
    rng = random.Random(kind)
    return [world.sample_spec(rng, kind) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_states_the_whole_spec(kind):
    for spec in specs(kind):
        assert world.parse_caption(spec.caption()) == spec


@pytest.mark.parametrize("kind", KINDS)
def test_every_question_asked_has_an_answer_and_its_reasoning_ends_in_it(kind):
    rng = random.Random(1)
    for spec in specs(kind):
        for level in QUESTIONS:
            question = spec.ask(level, rng)
            item = spec.solve(question)
            assert item is not None
            assert world.answer(spec, f" {question} ") == item.answer
            for from_caption in (False, True):
                text = solution_text(item, from_caption=from_caption)
                assert extract_boxed(text) == item.answer


def test_answers_are_true_where_they_can_be_counted_by_hand():
    bars = world.parse_caption("Bar chart: red 5, blue 7, green 2.")
    grid = world.parse_caption("Grid: A1 red circle, B3 blue square, C2 red square.")
    line = world.parse_caption("Timeline: red 2, blue 5, green 9.")
    chain = world.parse_caption("Diagram: red to blue to green to black.")
    table = world.parse_caption("Table: cat 4, sun 9.")
    assert bars and grid and line and chain and table
    expected = [
        (bars, "What is the value of the blue bar?", "7"),
        (bars, "What is the sum of the red and green bars?", "7"),
        (bars, "What is the difference between the green and blue bars?", "5"),
        (bars, "How many bars are above 4?", "2"),
        (bars, "Which bar is the tallest?", "blue"),
        (grid, "What color is the shape at B3?", "blue"),
        (grid, "What shape is at A1?", "circle"),
        (grid, "How many squares are there?", "2"),
        (grid, "How many red shapes are there?", "2"),
        (grid, "Are there more circles than squares?", "no"),
        (line, "How long is it between the green and red events?", "7"),
        (line, "Which event is the last?", "green"),
        (chain, "Which box comes after blue?", "green"),
        (chain, "Which box comes before blue?", "red"),
        (chain, "Which box is two steps after blue?", "black"),
        (chain, "How many steps lead from red to black?", "3"),
        (table, "What number is next to sun?", "9"),
        (table, "Which word has the largest number?", "sun"),
    ]
    for spec, question, answer in expected:
        assert world.answer(spec, question) == answer, question


@pytest.mark.parametrize(
    "question",
    [
        "What is the value of the pink bar?",
        "What is the sum of the red and red bars?",
        "How many bars are above many?",
        "What shape is at A1?",
        "",
    ],
)
def test_a_question_that_does_not_apply_has_no_answer(question):
    spec = world.parse_caption("Bar chart: red 5, blue 7, green 2.")
    assert spec is not None
    assert world.answer(spec, question) is None


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "Bar chart: red 5, red 7, green 2.",
        "Bar chart: red 0, blue 7, green 2.",
        "Bar chart: red 5, blue 7.",
        "Bar chart: pink 5, blue 7, green 2.",
        "Bar chart: red 5, blue 7, green 2",
        "Timeline: red 5, blue 2, green 9.",
        "Grid: A1 red circle, A1 blue square, C2 red square.",
        "Grid: A1 red circle extra, B1 blue square, C2 red square.",
        "Diagram: red to red to blue.",
        "Table: cat 4.",
    ],
)
def test_a_caption_that_states_no_valid_picture_gives_none(caption):
    assert world.parse_caption(caption) is None


@pytest.mark.parametrize("kind", KINDS)
def test_misreading_changes_the_spec_at_the_rate_asked_for(kind):
    rng = random.Random(2)
    assert all(spec.misread(rng, 0.0) == spec for spec in specs(kind, 20))
    changed = sum(spec.misread(rng, 0.9) != spec for spec in specs(kind))
    assert changed > 150
    assert type(specs(kind, 1)[0].misread(rng, 1.0)) is type(specs(kind, 1)[0])


def test_proposals_of_the_world_parse_and_their_answers_are_true():
    rng = random.Random(3)
    for topic in TOPICS:
        spec = world.sample_spec(rng, topic=topic)
        assert spec.kind in world.TOPIC_KINDS[topic]
        proposal = parse_proposal(world.proposal_text(spec, rng))
        assert isinstance(proposal, Proposal)
        assert proposal.content_type == spec.content_type and spec.content_type in CONTENT_TYPES
        for level in QUESTIONS:
            truth = world.answer(spec, proposal.question(level))
            given = proposal.easy_answer if level == "easy" else proposal.hard_answer
            assert truth is not None and equivalent(given, truth)


def test_every_kind_renders_and_different_specs_look_different():
    with Renderer(size=world.SIDE, workers=0) as renderer:
        for kind in KINDS:
            chosen = list({spec.caption(): spec for spec in specs(kind, 30)}.values())
            drawings = renderer.render(
                [RenderJob(str(i), spec.svg()) for i, spec in enumerate(chosen)]
            )
            images = [drawing.image for drawing in drawings]
            assert all(image is not None for image in images), kind
            distinct = {np.asarray(image).tobytes() for image in images}
            assert len(distinct) == len(chosen), kind


def test_the_probe_is_held_out_and_reproducible():
    items = probe_items(50, seed=0)
    assert [i.spec for i in items] == [i.spec for i in probe_items(50, seed=0)]
    assert [i.spec for i in items] != [i.spec for i in probe_items(50, seed=1)]
    assert all(held_out(item.spec) for item in items)
    assert {item.spec.kind for item in items} == set(KINDS)
    rng = random.Random(4)
    training = [draw(rng, world.sample_spec, probe=False) for _ in range(300)]
    assert not any(held_out(spec) for spec in training)
    share = sum(held_out(world.sample_spec(rng)) for _ in range(4000)) / 4000
    assert abs(share - 1 / HELD_OUT_SHARE) < 0.03


def test_wrong_use_says_what_was_expected():
    with pytest.raises(UserError, match="bars, diagram, grid"):
        world.sample_spec(random.Random(0), "pie")
    with pytest.raises(UserError, match="at least 5"):
        probe_items(2)
