"""Scripted texts, drawn lengths, a server that is asked for exactly them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from agents.policy import PolicyError
from benchmarks import rollout
from benchmarks.simulated_engine import Script
from benchmarks.timed_engine import TimedEngine
from mmzero_env.errors import UserError
from mmzero_env.protocol import Request
from tests.agents.fake_model import GENERATE
from tests.agents.fake_server import FakeServer, alter
from tests.agents.vllm_requests import NANO, sampled

PICTURE = np.zeros((96, 96, 3), np.uint8)
ASKED = (
    Request("e/proposer", "proposer", "about: map", seed=3),
    Request("e/several", "proposer", "about: map", n=5, seed=4, image=PICTURE),
)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer(AutoTokenizer.from_pretrained(NANO), base="nano", root=str(NANO))
    yield fake
    fake.stop()


@pytest.fixture
def engine(server: FakeServer) -> Iterator[TimedEngine]:
    made = TimedEngine(f"nano@{server.url}", 16, seed=1, backoff=0.01, retries=2)
    yield made
    made.close()


def test_the_server_decodes_drawn_lengths_and_the_script_writes(
    engine: TimedEngine, server: FakeServer
) -> None:
    found = engine.generate(ASKED)
    for request, response, written in zip(ASKED, found, Script(1).generate(ASKED), strict=True):
        assert response.request_id == request.id
        assert [each.text for each in response.completions] == [
            each.text for each in written.completions
        ]
        assert [len(each.token_ids) for each in response.completions] == [
            max(1, round(len(each.token_ids) / 16)) for each in written.completions
        ]
        assert response.prompt_ids
    limits = sorted(len(each.token_ids) for response in found for each in response.completions)
    bodies = sampled(server)
    assert sorted(body["sampling_params"]["max_tokens"] for body in bodies) == limits
    assert len(set(limits)) > 3
    for body in bodies:
        params = body["sampling_params"]
        assert params["ignore_eos"] is True
        assert params["n"] == 1 and params["stop_token_ids"] == []
    assert len({body["request_id"] for body in bodies}) == len(bodies) == 6
    assert not server.complaints


def test_a_server_that_stops_early_is_not_believed(engine: TimedEngine, server: FakeServer) -> None:
    engine.connect()

    def shorten(answer: dict) -> None:
        (choice,) = answer["choices"]
        choice["token_ids"].pop()
        choice["logprobs"]["content"].pop()

    server.script(GENERATE, *[alter(shorten)] * 3)
    (length,) = (length for _, length, _ in engine.expected(ASKED[0]))
    with pytest.raises(PolicyError, match=f"expected {length} tokens, came {length - 1}"):
        engine.generate(ASKED[:1])


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_lengths_are_divided_by_something(scale: float) -> None:
    with pytest.raises(UserError, match="above 0"):
        TimedEngine("nano@http://localhost:1", scale)


def test_both_modes_are_compared_and_what_was_made_up_is_said(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    arguments = f"--vllm nano@{server.url} --lengths 64 --episodes 2 --seeds 2 --json {path}"
    rollout.main(arguments.split())
    figures = json.loads(path.read_text())["figures"]
    assert figures["written"]["texts"] == "scripted"
    assert figures["written"]["divided_by"] == 64
    assert figures["written"]["law"]["solver"] == {"mean": 250, "sigma": 0.9}
    assert "scripted texts, lengths drawn" in " ".join(capsys.readouterr().out.split())
    for row in figures["seeds"]:
        stream, phases = (row[mode]["policies"][0] for mode in ("stream", "phases"))
        assert stream["tokens"] == phases["tokens"] > stream["completions"]
    assert not server.complaints
