"""Whole models: new weights in servers that run, and a run with a model a role."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

import agents
from agents.transformers import TransformersPolicy, nano
from agents.vllm import VllmPolicy
from agents.vllm_process import VllmProcess
from mmzero_env.protocol import ROLES, Request, Sampling
from tests.trainers.test_evolve import TINY
from tests.vllm.lora import Reference
from tests.vllm.settings import BARE
from trainers import config, evolve
from trainers.progress import SilentProgress

TOLERANCE = 1e-4
PICTURE = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
REQUESTS = [
    Request("text", "solver", "How many red bars?" * 9, sampling=Sampling(max_tokens=24), seed=1),
    Request("picture", "solver", "How many?", image=PICTURE, sampling=Sampling(max_tokens=24)),
]


def untied() -> TransformersPolicy:
    """The nano model with an output layer of its own, as the larger Qwen3-VL have."""
    policy = nano("", dtype="float32")
    model = policy.model
    model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return policy


def saved(policy: TransformersPolicy, folder: Path) -> str:
    policy.model.save_pretrained(folder)
    policy.tokenizer.save_pretrained(folder)
    policy.image_processor.save_pretrained(folder)
    return str(folder)


def changed(policy: TransformersPolicy, seed: int) -> TransformersPolicy:
    """Every weight a little different, those of the picture's tower as well."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    return policy


def off(policy: VllmPolicy, trained: TransformersPolicy) -> list[float]:
    """Largest difference of what the engine says of its own samples and what the model says."""
    found = []
    for response, request in zip(policy.generate(REQUESTS), REQUESTS, strict=True):
        [done] = response.completions
        expected = Reference(policy=trained).logprobs(request, done.token_ids)
        found.append(float(np.abs(np.array(done.logprobs) - np.array(expected)).max()))
    return found


def scored(policy: VllmPolicy, ids: Sequence[int]) -> list[float]:
    return [value for request in REQUESTS for value in policy.score(request, ids)[1]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(untied(), tmp_path_factory.mktemp("models") / "base")


def test_log_probabilities_follow_the_weights_and_survive_a_restart(base, tmp_path):
    with (
        VllmProcess(base, log_dir=tmp_path / "log", settings=BARE, whole=True) as server,
        closing(VllmPolicy(server.agent.removeprefix("vllm:"), patience=120.0)) as policy,
    ):
        first, last = untied(), changed(untied(), 2)
        assert max(off(policy, first)) < TOLERANCE
        assert min(off(policy, last)) > 100 * TOLERANCE
        for name, seed in (("one", 1), ("two", 2)):
            policy.load_weights(ROLES, saved(changed(untied(), seed), tmp_path / name))
        # The same prompts as before: neither prefixes nor pictures of the old weights are left.
        assert max(off(policy, last)) < TOLERANCE
        expected = scored(policy, (100, 200, 300))
        server.restart()
        assert scored(policy, (100, 200, 300)) == pytest.approx(expected, abs=TOLERANCE)
        assert max(off(policy, last)) < TOLERANCE


def test_an_iteration_with_a_model_a_role(base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {
        **TINY,
        "model": f"transformers:{base}",
        "policy": "vllm",
        "coder.steps": "1",
        "probe.items": "6",
        "serve.max_model_len": str(BARE.max_model_len),
        "serve.kv_cache_gb": str(BARE.kv_cache_gb),
        "serve.threads": "1",
        "out": str(tmp_path / "run"),
    }
    evolve.run(config.load("nano-cpu", settings), resume=False, progress=SilentProgress())
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    drifts = [row["canary_drift"] for row in rows if "canary_drift" in row]
    assert drifts and max(drifts) < TOLERANCE
    for role in ROLES:
        folder = tmp_path / "run/checkpoints/iter-1" / role
        assert isinstance(agents.make(f"transformers:{folder}"), TransformersPolicy)
    assert not (tmp_path / ".run-weights").exists()
