"""The base that reads captions beside trained adapters, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmzero_env.protocol import Request, Role
from tests.vllm.lora import Reference
from tests.vllm.play import some
from trainers.reader import StreamingSplitSolver

TOLERANCE = 1e-4


@pytest.fixture
def reader(server) -> Iterator:
    """A second client of the server, which has loaded nothing yet."""
    from agents.vllm import VllmPolicy

    made = VllmPolicy(server.agent.removeprefix("vllm:"), patience=120.0)
    try:
        yield made
    finally:
        made.close()


def worst(split: StreamingSplitSolver, adapters: dict[Role, Path]) -> dict[str, float]:
    """Largest error of answers about pictures and from captions, all in one batch."""
    seen = [request for request in some(24, tag="reader") if request.role == "solver"]
    read = [replace(request, id=f"{request.id}/read", image=None) for request in seen]
    models = {"seen": Reference(adapters["solver"]), "read": Reference()}
    found = dict.fromkeys(models, 0.0)
    asked: list[tuple[str, Request]] = [
        (kind, request)
        for pair in zip(seen, read, strict=True)
        for kind, request in zip(models, pair, strict=True)
    ]
    futures = [split.submit(request) for _, request in asked]
    for (kind, request), future in zip(asked, futures, strict=True):
        for done in future.result(timeout=120).completions:
            expected = models[kind].logprobs(request, done.token_ids)
            error = float(np.abs(np.subtract(done.logprobs, expected)).max())
            found[kind] = max(found[kind], error)
    return found


def test_an_idle_adapter_reads_as_the_base_beside_the_one_that_sees(
    policy, reader, adapters, tmp_path
):
    import agents
    from agents.adapters import AdapterSettings, RoleView, save_idle, with_adapters
    from agents.transformers import TransformersPolicy

    base = agents.make("nano")
    assert isinstance(base, TransformersPolicy)
    view = RoleView(with_adapters(base, AdapterSettings(8, 16), seed=1), "solver")
    save_idle(view, tmp_path / "idle")
    reader.load_adapter("solver", f"idle-{tmp_path.name}", str(tmp_path / "idle"))
    for _ in range(3):
        assert max(worst(StreamingSplitSolver(policy, reader), adapters).values()) < TOLERANCE


@pytest.mark.xfail(strict=True, reason="vLLM 0.31 on a CPU takes index -1 for its last adapter")
def test_no_adapter_is_the_base_beside_one_that_sees(policy, reader, adapters, tmp_path):
    """When this passes, vLLM is mended and readers need no adapter of their own."""
    from tests.vllm.lora import copied

    # Every slot has held something.
    for number in range(4):
        path = copied(adapters["coder"], tmp_path / f"full-{number}")
        policy.load_adapter("coder", f"full-{number}-{tmp_path.name}", str(path))
        policy.generate([replace(each, id=f"{each.id}/{number}") for each in some(3)])
    errors = worst(StreamingSplitSolver(policy, reader), adapters)
    assert errors["seen"] < TOLERANCE
    assert errors["read"] < TOLERANCE
