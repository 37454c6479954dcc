from __future__ import annotations

import dataclasses

import pytest

from mmzero_env.errors import UserError
from mmzero_env.prompts import PromptSet, get_prompts, register_prompts
from mmzero_env.protocol import CONTENT_TYPES, TOPICS, Proposal

PROPOSAL = Proposal(
    content_type="table",
    caption="A table of {topic} with 3 rows, f = {hard_answer} \\1 {0}",
    easy_question="What is in <b>row 1</b>?",
    easy_answer="{easy_question}",
    hard_question="Sum of {x} and {y}?",
    hard_answer="{{}}",
)
TAGS = (
    "content_type",
    "caption",
    "easy_question",
    "easy_answer",
    "hard_question",
    "hard_answer",
)


def test_mm_zero_proposer_states_topic_first_then_six_tags_in_order():
    for topic in TOPICS:
        prompt = get_prompts("mm_zero").proposer(topic)
        assert topic in prompt.splitlines()[0]
        positions = [prompt.index(f"<{tag}>") for tag in TAGS]
        assert positions == sorted(positions)
        assert all(prompt.count(f"</{tag}>") == 1 for tag in TAGS)
        assert all(kind in prompt for kind in CONTENT_TYPES)
    assert prompt.count("\nBad: ") == 2 and prompt.count("\nGood: ") == 2
    assert "at least three" in prompt


def test_mm_zero_coder_shows_every_field_and_asks_for_a_white_background():
    prompt = get_prompts("mm_zero").coder(PROPOSAL)
    for name in TAGS:
        assert getattr(PROPOSAL, name) in prompt
    for fact in ("Visual type: svg", "viewBox", "```svg", "white rectangle", "font-size 14"):
        assert fact in prompt


def test_the_coders_message_follows_the_forms_of_code():
    prompts = get_prompts("mm_zero")
    assert prompts.coder(PROPOSAL, ("svg",)) == prompts.coder(PROPOSAL)
    python = prompts.coder(PROPOSAL, ("python",))
    either = prompts.coder(PROPOSAL, ("svg", "python"))
    assert either == prompts.coder(PROPOSAL, ("python", "svg"))
    for prompt, facts in (
        (python, ("Visual type: python", "```python", "no SVG")),
        (either, ("Visual type: svg or python", "```python", "```svg", "viewBox")),
    ):
        assert all(getattr(PROPOSAL, name) in prompt for name in TAGS)
        assert all(fact in prompt for fact in (*facts, "matplotlib", "PIL", "no network"))
    assert "```svg" not in python
    with pytest.raises(UserError, match=r"'nano'.*either_template is empty.*mm_zero"):
        get_prompts("nano").check_forms(("svg", "python"))
    with pytest.raises(UserError, match=r"python_template.*\{caption\}"):
        dataclasses.replace(prompts, python_template="draw")


def test_mm_zero_solver_asks_for_thoughts_and_a_box():
    prompt = get_prompts("mm_zero").solver("How many {caption}?")
    assert prompt.startswith("How many {caption}?")
    assert prompt.index("<think>") < prompt.index("</think>") < prompt.index("\\boxed{}")
    from_words = get_prompts("mm_zero").solver_from_caption("Cap {question}", "How many?")
    assert "Cap {question}" in from_words and "How many?" in from_words
    assert from_words.endswith(prompt[len("How many {caption}?\n\n") :])


def test_nano_strings_are_exact():
    nano = get_prompts("nano")
    p = PROPOSAL
    assert nano.proposer("maps") == "maps\nPropose a picture with an easy and a hard question."
    assert nano.coder(p) == (
        f"Draw this as SVG. {p.caption}\n{p.easy_question} {p.easy_answer}\n"
        f"{p.hard_question} {p.hard_answer}"
    )
    assert nano.solver("How many?") == "How many?\nThink, then answer in \\boxed{}."
    assert (
        nano.solver_from_caption("Three bars.", "How many?")
        == "Three bars.\nHow many?\nThink, then answer in \\boxed{}."
    )


def test_third_party_sets_register_once():
    mine = PromptSet(
        "test_prompts_mine", "{topic}!", "{caption}!", "{question}!", "{caption} {question}!"
    )
    register_prompts(mine)
    register_prompts(mine)
    assert get_prompts("test_prompts_mine") is mine
    assert get_prompts(mine) is mine
    with pytest.raises(UserError, match="another name"):
        register_prompts(dataclasses.replace(mine, solver_template="{question}?"))


def test_wrong_use_says_what_was_expected():
    with pytest.raises(UserError, match=r"mm_zeros.*mm_zero.*nano"):
        get_prompts("mm_zeros")
    with pytest.raises(UserError, match=r"solver_template.*\{question\}"):
        PromptSet("bad", "{topic}", "{caption}", "{querstion}", "{caption} {question}")
