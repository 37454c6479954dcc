from __future__ import annotations

import json
from typing import Any

import pytest

from mmzero_env.caption_memory import CaptionMemory
from mmzero_env.errors import UserError
from mmzero_env.protocol import EpisodeOutcome, Proposal
from mmzero_env.rewards import get_design


def test_old_steps_leave_first_and_empty_steps_count() -> None:
    memory = CaptionMemory(steps=3)
    for step in (["a"], [], ["b", "c"], ["d"]):
        memory.add(step)
    assert memory.steps == ((), ("b", "c"), ("d",))
    assert len(memory) == 3


def test_captions_are_bounded_too() -> None:
    memory = CaptionMemory(steps=5, captions=4)
    memory.add(["a", "b"])
    memory.add(["c", "d", "e"])
    assert memory.steps == (("c", "d", "e"),)
    memory.add(str(number) for number in range(9))
    assert memory.steps == (("5", "6", "7", "8"),)


def test_it_survives_json() -> None:
    memory = CaptionMemory()
    memory.add(["ein Schiff", "\ud800 half"])
    memory.add([])
    again = CaptionMemory()
    again.add(["something else"])
    again.load_state_dict(json.loads(json.dumps(memory.state_dict())))
    assert again.steps == memory.steps
    small = CaptionMemory(steps=1)
    small.load_state_dict(memory.state_dict())
    assert small.steps == ((),)


@pytest.mark.parametrize(
    "state", [{}, [], {"version": 2, "steps": []}, {"version": 1, "steps": [["a", 1]]}]
)
def test_a_damaged_state_changes_nothing(state: Any) -> None:
    memory = CaptionMemory()
    memory.add(["a"])
    with pytest.raises(UserError, match="caption memory is restored from"):
        memory.load_state_dict(state)
    assert memory.steps == (("a",),)


@pytest.mark.parametrize("bounds", [{"steps": 0}, {"captions": True}, {"captions": 1.5}])
def test_bounds_are_whole_numbers(bounds: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="whole number of at least 1"):
        CaptionMemory(**bounds)


def test_the_repetition_term_reads_it() -> None:
    design = get_design("mm_zero", **{"proposer.repetition": -0.2})
    memory = CaptionMemory()
    outcome = EpisodeOutcome("e", "t", "", Proposal("map", "a map of two towns", "", "", "", ""))
    assert design.score([outcome], memory.steps)[0].proposer.terms["repetition"] == 0
    memory.add(["a map of two towns"])
    for _ in range(4):
        memory.add(["a table"])
    (scored,) = design.score([outcome], memory.steps)
    assert scored.proposer.terms["repetition"] == pytest.approx(-0.2)
    memory.add(["a table"])
    assert design.score([outcome], memory.steps)[0].proposer.terms["repetition"] > -0.2
