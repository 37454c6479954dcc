from __future__ import annotations

import random
import re
import string
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

import agents
from agents.policy import Policy
from agents.scripted import wrong_value
from mmzero_env import world
from mmzero_env.errors import UserError
from mmzero_env.protocol import TOPICS, Proposal, Request

TAGS = (
    "content_type",
    "caption",
    "easy_question",
    "easy_answer",
    "hard_question",
    "hard_answer",
)


def read(text: str) -> Any:
    """The six tags in order and nothing else, as the protocol asks."""
    pattern = "".join(rf"<{tag}>(.+?)</{tag}>" for tag in TAGS)
    found = re.fullmatch(pattern, text)
    return Proposal(*found.groups()) if found else None


def spec_of(caption: str) -> Any:
    return world.parse_caption(caption)


def boxed(text: str) -> str:
    return re.findall(r"\\boxed\{(.*)\}$", text)[0]


def code(text: str) -> str:
    return re.findall(r"\A```svg\n(.*)\n```\Z", text, flags=re.DOTALL)[0]


def parses(svg: str) -> bool:
    try:
        return ElementTree.fromstring(svg).tag.endswith("svg")
    except ElementTree.ParseError:
        return False


def texts(
    policy: Policy, role: Any, n: int = 1, proposal: Proposal | None = None, **more: Any
) -> list[str]:
    prompt = more.pop("prompt", "")
    request = Request(id="r", role=role, prompt=prompt, n=n, proposal=proposal, **more)
    (response,) = policy.generate([request])
    assert len(response.completions) == n and response.request_id == "r"
    assert response.prompt_ids == () and response.completions[0].token_ids == ()
    return [completion.text for completion in response.completions]


def proposals(count: int) -> list[Proposal]:
    rng = random.Random(4)
    return [read(world.proposal_text(world.sample_spec(rng), rng)) for _ in range(count)]


def test_the_oracle_plays_every_role_right():
    oracle = agents.make("scripted:oracle")
    written = texts(oracle, "proposer", n=60)
    assert len(set(written)) > 50
    for text in written:
        proposal = read(text)
        spec = spec_of(proposal.caption)
        assert proposal.content_type == spec.content_type
        for level in ("easy", "hard"):
            question = proposal.question(level)
            truth = world.answer(spec, question)
            assert truth == getattr(proposal, f"{level}_answer")
            prompt = f"{question}\nAnswer in \\boxed{{}}."
            (answer,) = texts(oracle, "solver", proposal=proposal, prompt=prompt)
            assert boxed(answer) == truth
        (drawn,) = texts(oracle, "coder", proposal=proposal)
        assert code(drawn) == spec.svg()


def test_the_oracle_follows_the_topic():
    oracle = agents.make("scripted:oracle")
    for topic in TOPICS:
        kinds = {
            spec_of(read(text).caption).kind
            for text in texts(oracle, "proposer", n=25, prompt=f"{topic}\nPropose.")
        }
        assert kinds == set(world.TOPIC_KINDS[topic])


def test_the_oracle_outside_the_world():
    oracle = agents.make("scripted:oracle")
    foreign = Proposal("map", "A map of <Rome> & its hills.", "How many?", "7", "How many x?", "9")
    assert boxed(texts(oracle, "solver", proposal=foreign, prompt="How many?")[0]) == "7"
    assert boxed(texts(oracle, "solver", proposal=foreign, prompt="How many x?")[0]) == "9"
    drawn = code(texts(oracle, "coder", proposal=foreign)[0])
    assert "Rome" in "".join(ElementTree.fromstring(drawn).itertext())


def test_a_caption_in_the_prompt_is_enough():
    oracle = agents.make("scripted:oracle")
    for proposal in proposals(20):
        spec = spec_of(proposal.caption)
        prompt = f"Draw this as SVG. {proposal.caption}\n{proposal.hard_question}\nThink."
        assert code(texts(oracle, "coder", prompt=prompt)[0]) == spec.svg()
        assert boxed(texts(oracle, "solver", prompt=prompt)[0]) == proposal.hard_answer
    with pytest.raises(UserError, match="without a proposal"):
        texts(oracle, "solver", prompt="What is the value of the red bar?")
    with pytest.raises(UserError, match=r"request\.proposal"):
        texts(oracle, "solver", prompt=f"{proposals(1)[0].caption}\nWhy?")


def is_right(role: str, proposal: Proposal, text: str) -> bool:
    if role == "proposer":
        made = read(text)
        spec = made and spec_of(made.caption)
        return bool(spec) and world.answer(spec, made.easy_question) == made.easy_answer
    spec = spec_of(proposal.caption)
    if role == "coder":
        return code(text) == spec.svg()
    return boxed(text) == proposal.easy_answer


@pytest.mark.parametrize("skill", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("role", ["proposer", "coder", "solver"])
def test_the_noisy_player_errs_as_often_as_it_says(role, skill):
    noisy = agents.make(f"scripted:noisy?skill={skill}")
    results = [
        is_right(role, proposal, text)
        for k, proposal in enumerate(proposals(25))
        for text in texts(
            noisy, role, n=16, proposal=proposal, prompt=proposal.easy_question, seed=k
        )
    ]
    # Three standard errors of a share of 400.
    assert abs(sum(results) / len(results) - skill) <= 3 * (skill * (1 - skill) / 400) ** 0.5


def test_errors_come_in_the_kinds_that_models_make():
    noisy = agents.make("scripted:noisy", skill=0)
    assert noisy.name == "scripted:noisy?skill=0"
    written = texts(noisy, "proposer", n=80)
    parsed = [read(text) for text in written]
    assert 20 < parsed.count(None) < 60
    damaged = [text for text, made in zip(written, parsed, strict=True) if made is None]
    assert all(len(re.findall(r"</?\w+>", text)) == 11 for text in damaged)
    proposal = proposals(1)[0]
    drawn = [code(text) for text in texts(noisy, "coder", n=80, proposal=proposal)]
    whole = [parses(svg) for svg in drawn]
    assert 20 < sum(whole) < 60
    assert spec_of(proposal.caption).svg() not in drawn


@pytest.mark.parametrize("right", ["red", "Yes", "circle", "cat", "0", "7", "-3", "1.5", "dogma"])
def test_a_wrong_value_is_of_the_same_type(right):
    wrong = {wrong_value(right, random.Random(i)) for i in range(40)}
    assert right not in wrong and right.lower() not in wrong
    if re.fullmatch(r"-?[\d.]+", right):
        assert all(float(value) != float(right) for value in wrong)
    else:
        assert all(value.isalpha() for value in wrong)
    assert wrong_value("red", random.Random(1)) in world.spec.COLORS


def test_random_is_short_printable_noise():
    noise = agents.make("scripted:random")
    written = texts(noise, "solver", n=200)
    assert len(set(written)) > 190
    assert all(1 <= len(text) <= 40 and set(text) <= set(string.printable[:95]) for text in written)


@pytest.mark.parametrize("name", ["oracle", "noisy?skill=0.5", "random"])
def test_equal_requests_get_equal_completions(name):
    policy = agents.make(f"scripted:{name}")
    assert isinstance(policy, Policy)
    assert policy.name == f"scripted:{name}"
    first, again = (texts(policy, "proposer", n=5, seed=9) for _ in range(2))
    assert first == again
    assert texts(policy, "proposer", n=7, seed=9)[:5] == first
    assert texts(policy, "proposer", n=5, seed=10) != first


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("scripted:orakel", "Did you mean 'oracle'"),
        ("scripted", "Valid: noisy, oracle, random"),
        ("scripted:noisy?skill=1.5", "from 0 to 1, came 1.5"),
        ("scripted:noisy?skill=good", "from 0 to 1, came 'good'"),
        ("scripted:oracle?skill=1", "has no skill"),
        ("scripted:noisy?skil=1", "skil.*Options: name, skill"),
    ],
)
def test_names_that_mean_nothing(spec, message):
    with pytest.raises(UserError, match=message):
        agents.make(spec)
