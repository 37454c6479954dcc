"""Placeholders of pictures are never sampled, even from a model that writes nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx
import torch
from transformers import AutoModelForImageTextToText

from agents.vllm import VllmPolicy
from agents.vllm_process import VllmProcess
from agents.vllm_settings import NANO
from tests.vllm.lora import Reference
from tests.vllm.play import some
from tests.vllm.settings import BARE

IMAGE_PAD = 5
VISION = {3, 4, IMAGE_PAD, 6}


@torch.no_grad()
def biased(folder: Path) -> Path:
    """The nano model, so changed that image placeholders are far likelier than all else."""
    model = AutoModelForImageTextToText.from_pretrained(NANO, dtype=torch.float32)
    ids = torch.tensor([Reference().prompt_ids(request) for request in some(1)])
    states = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
    mean = states.mean(0)
    # The input side of this row is never read: pictures take the place of the token.
    model.get_input_embeddings().weight[IMAGE_PAD] = 60 * mean / mean.dot(mean)
    model.save_pretrained(folder)
    for file in NANO.iterdir():
        if not (folder / file.name).exists():
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_vision_tokens_are_not_sampled_however_much_the_model_wants_them(tmp_path):
    folder = biased(tmp_path / "model")
    with VllmProcess(str(folder), log_dir=tmp_path / "log", settings=BARE) as server:
        policy = VllmPolicy(server.agent.removeprefix("vllm:"))
        requests = some(6, n=4)
        responses = policy.generate(requests)
        policy.close()
        ids = responses[0].prompt_ids
        params = {"max_tokens": 16, "temperature": 1.0, "top_p": 1.0, "n": 4, "ignore_eos": True}
        body = {"model": server.name, "token_ids": list(ids), "sampling_params": params}
        with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as http:
            answer = http.post("/inference/v1/generate", json=body).json()
    free = [token for choice in answer["choices"] for token in choice["token_ids"]]
    # Left alone, the model does write them.
    assert free.count(IMAGE_PAD) > len(free) / 2
    sampled = [t for response in responses for done in response.completions for t in done.token_ids]
    assert sampled and not VISION & set(sampled)
