"""The engine in this process, and what it has in common with a server."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

import agents
from agents.policy import PolicyError, StreamingPolicy
from agents.vllm_engine import VllmEngine
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, Request, Sampling
from tests.vllm.lora import Reference, copied, save_adapter
from tests.vllm.play import some
from tests.vllm.settings import SMALL

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmEngine]:
    options = {"max_model_len": SMALL.max_model_len, "kv_cache_gb": SMALL.kv_cache_gb}
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    made = agents.make("vllm-engine:nano", **options)
    # vLLM seeds everything when it starts; whoever makes an engine must not notice.
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == before
    assert isinstance(made, VllmEngine) and isinstance(made, StreamingPolicy)
    yield made
    made.close()


@pytest.fixture
def playing(engine, adapters, tmp_path):
    """The engine with an adapter for each role."""
    for role, path in adapters.items():
        place = copied(path, tmp_path / "engine" / role)
        engine.load_adapter(role, f"{role}-{tmp_path.name}", str(place))
    return engine


def test_the_engine_gives_what_the_server_gives(playing, policy):
    requests = some(18, tag="both")
    differing = 0
    for request, here, there in zip(
        requests, playing.generate(requests), policy.generate(requests), strict=True
    ):
        assert here.request_id == there.request_id == request.id
        assert here.prompt_ids == there.prompt_ids
        for one, other in zip(here.completions, there.completions, strict=True):
            if one.token_ids != other.token_ids:
                differing += 1
                continue
            assert one.text == other.text and one.finish_reason == other.finish_reason
            assert np.abs(np.subtract(one.logprobs, other.logprobs)).max() < TOLERANCE
    # Rounding differs with the batch, so a draw on the edge may fall to the other side.
    assert differing <= 1
    tokens = here.completions[0].token_ids
    ids, mine = playing.score(request, tokens)
    assert ids == here.prompt_ids
    assert np.abs(np.subtract(mine, policy.score(request, tokens)[1])).max() < TOLERANCE


def test_prompts_and_log_probabilities_are_those_of_transformers(playing, adapters):
    requests = some(6, tag="exact")
    for request, response in zip(requests, playing.generate(requests), strict=True):
        reference = Reference(adapters[request.role])
        assert response.prompt_ids == reference.prompt_ids(request)
        for done in response.completions:
            expected = reference.logprobs(request, done.token_ids)
            assert np.abs(np.subtract(done.logprobs, expected)).max() < TOLERANCE


def test_a_new_version_takes_effect_and_the_old_one_is_let_go(playing, tmp_path):
    request = some(3, tag="swap")[2]
    running = playing.submit(replace(request, sampling=Sampling(max_tokens=200), n=8))
    newer = save_adapter(tmp_path / "newer", 77)
    playing.load_adapter("solver", f"newer-{tmp_path.name}", str(newer))
    (after,) = playing.generate([replace(request, id="swap/again")])
    reference = Reference(newer)
    for done in after.completions:
        expected = reference.logprobs(request, done.token_ids)
        assert np.abs(np.subtract(done.logprobs, expected)).max() < TOLERANCE
    assert len(running.result(120).completions) == 8
    playing.generate([replace(request, id="swap/once more")])
    assert set(playing._core._loras) == set(playing.adapters.values())
    with pytest.raises(UserError, match="a new name and a new path"):
        playing.load_adapter("solver", "another", str(newer))
    with pytest.raises(UserError, match="adapter_config.json"):
        playing.load_adapter("solver", "another", str(tmp_path))
    broken = copied(newer, tmp_path / "broken")
    (broken / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(PolicyError, match="does not take adapter 'broken'"):
        playing.load_adapter("solver", "broken", str(broken))
    assert playing.adapters["solver"] == f"newer-{tmp_path.name}"
    assert len(playing.generate([request])) == 1


def test_one_adapter_plays_all_roles(playing, tmp_path):
    newer = save_adapter(tmp_path / "all", 78)
    playing.load_adapter(ROLES, f"all-{tmp_path.name}", str(newer))
    reference = Reference(newer)
    requests = some(6, tag="all")
    for request, response in zip(requests, playing.generate(requests), strict=True):
        for done in response.completions:
            expected = reference.logprobs(request, done.token_ids)
            assert np.abs(np.subtract(done.logprobs, expected)).max() < TOLERANCE
    assert set(playing._core._loras) == {f"all-{tmp_path.name}"}


def test_a_request_that_is_given_up_frees_its_place(playing):
    long = Request("long", "coder", "Draw.", n=16, sampling=Sampling(max_tokens=600))
    future = playing.submit(long)
    assert future.cancel()
    playing.generate(some(3, tag="after"))
    assert not playing._core._open


def test_what_cannot_be_sampled_is_refused_with_the_mend(playing):
    with pytest.raises(UserError, match="training=False"):
        playing.submit(Request("a", "solver", "x", sampling=Sampling(top_p=0.9)))
    with pytest.raises(UserError, match="n >= 1"):
        playing.submit(Request("b", "solver", "x", n=0))
    with pytest.raises(PolicyError, match="raise max_model_len"):
        playing.generate([Request("c", "solver", "How many? " * 600)])
    assert (
        len(playing.generate([Request("d", "solver", "x", sampling=Sampling(max_tokens=3))])) == 1
    )


def test_more_prompts_than_fit_into_a_step_are_read_one_after_the_other(playing):
    # With prompts in pieces a CPU build fails at this: see VllmSettings.engine_options.
    text = "How many red shapes are there? " * 20
    requests = [
        Request(f"many/{i}", "solver", f"{i} {text}", sampling=Sampling(max_tokens=2), seed=i)
        for i in range(64)
    ]
    assert [response.request_id for response in playing.generate(requests)] == [
        request.id for request in requests
    ]


def test_the_number_of_threads_can_still_be_set(engine):
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
