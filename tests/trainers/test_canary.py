"""The sync canary notices weights that did not arrive."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.adapters import AdapterSettings, RoleView, with_adapters
from agents.transformers import TransformersPolicy
from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Completion, Request, Response
from trainers.canary import COMPLETION, PROMPT, SyncCanary

IDS = (5, 6, 7, 8)
NANO = Path(__file__).parents[2] / "agents" / "nano" / "model"


class Player:
    """Gives the log-probabilities that it is told to give."""

    def __init__(self, *logprobs: float, prompt: tuple[int, ...] = (1, 2)) -> None:
        self.logprobs, self.prompt = logprobs, prompt
        self.sampled: tuple[float, ...] | None = None

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        [request] = requests
        assert request.n == 1 and request.sampling.temperature == 1
        done = Completion("", IDS, self.sampled or self.logprobs)
        return [Response(request.id, (done,), self.prompt)]

    def score(
        self, request: Request, completion_ids: Sequence[int]
    ) -> tuple[tuple[int, ...], tuple[float, ...]]:
        assert request.prompt == PROMPT and tuple(completion_ids) == IDS
        return self.prompt, self.logprobs


def test_rounding_passes_and_sets_the_bound() -> None:
    trained, engine = Player(-1, -1, -1, -1), Player(-1, -1, -1, -1.0002)
    canary = SyncCanary("coder", trained, engine, IDS)
    reading = canary.check("v0")
    assert reading.drift == pytest.approx(5e-5) and reading.moved == 0
    assert reading.bound == pytest.approx(2e-4)
    trained.logprobs, engine.logprobs = (-2, -1, -1, -1), (-2, -1, -1, -1.0004)
    reading = canary.check("v1")
    assert reading.moved == pytest.approx(0.25) and reading.drift == pytest.approx(1e-4)


def test_an_engine_that_samples_from_other_weights_than_it_scores_with_stops_the_run() -> None:
    trained, engine = Player(-1, -1, -1, -1), Player(-1, -1, -1, -1)
    engine.sampled = (-1, -1, -1.01, -1)
    with pytest.raises(EngineError, match=r"off by 0.0025"):
        SyncCanary("coder", trained, engine, IDS).check("v0")


def test_an_engine_that_missed_an_update_stops_the_run() -> None:
    trained, engine = Player(-1, -1, -1, -1), Player(-1, -1, -1, -1)
    canary = SyncCanary("coder", trained, engine, IDS)
    canary.check("v0")
    trained.logprobs = (-1.001, -1, -1, -1)
    with pytest.raises(EngineError, match=r"weights v1 of the coder.*off by 0.00025.*resume"):
        canary.check("v1")


def test_a_first_reading_beyond_rounding_stops_the_run() -> None:
    with pytest.raises(EngineError, match=r"off by 0.01 .*at most 0.0001"):
        SyncCanary("coder", Player(-1, -1, -1, -1), Player(-1, -1, -1, -1.04), IDS).check("v0")
    wide = SyncCanary("coder", Player(-1, -1, -1, -1), Player(-1, -1, -1, -1.04), IDS, bound=0.1)
    assert wide.check("v0").bound == 0.1
    half = SyncCanary(
        "coder", Player(-1, -1, -1, -1), Player(-1, -1, -1, -1.04), IDS, dtype="bfloat16"
    )
    assert half.check("v0").bound == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (Player(-1, -1, -1, -1, prompt=(1, 3)), "same|share tokenizer"),
        (Player(-1, -1, -1), "expected 4 finite"),
        (Player(-1, -1, -1, float("nan")), "expected 4 finite"),
    ],
)
def test_an_engine_that_reads_something_else_stops_the_run(engine, message) -> None:
    with pytest.raises(EngineError, match=message):
        SyncCanary("coder", Player(-1, -1, -1, -1), engine, IDS).check("v0")


def test_a_trained_adapter_moves_the_canary_and_a_stale_copy_is_seen() -> None:
    first, second = (
        with_adapters(TransformersPolicy(NANO), AdapterSettings(4, 8), seed=0) for _ in range(2)
    )
    trained, engine = RoleView(first, "coder"), RoleView(second, "coder")
    ids = first.tokenizer(COMPLETION, add_special_tokens=False)["input_ids"]
    assert len(ids) > 20
    canary = SyncCanary("coder", trained, engine, ids)
    # Sampling leaves out the tokens of pictures, scoring does not.
    assert canary.check("v0").drift < 1e-4
    optimizer = torch.optim.Adam([w for w in trained.model.parameters() if w.requires_grad], 1e-3)
    prompt, _ = trained.score(Request("x", "coder", PROMPT), ids)
    logits = trained.model(input_ids=torch.tensor([[*prompt, *ids]])).logits
    logits.logsumexp(-1).mean().backward()
    optimizer.step()
    optimizer.step()
    with pytest.raises(EngineError, match="did not reach the engine"):
        canary.check("v1")


def test_only_text_is_scored() -> None:
    image = np.full((96, 96, 3), 255, np.uint8)
    with pytest.raises(UserError, match="only a text prompt"):
        TransformersPolicy(NANO).score(Request("x", "solver", "what?", image=image), (1,))
