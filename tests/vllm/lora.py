"""Random LoRA adapters of the nano model, and what transformers makes of them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import PeftModel

from agents.transformers import TransformersPolicy, nano
from benchmarks.vllm_adapters import random_adapter
from mmzero_env.protocol import Request


def save_adapter(folder: Path, seed: int, *, size: float = 0.03) -> Path:
    """Write a random adapter that changes what the model says."""
    return random_adapter(folder, seed, size=size)


def copied(adapter: Path, folder: Path) -> Path:
    """The same adapter at another path, which is another adapter to vLLM."""
    return Path(shutil.copytree(adapter, folder))


class Reference:
    """The nano model or another one, with one adapter or none, as transformers computes it."""

    def __init__(
        self, adapter: Path | None = None, *, policy: TransformersPolicy | None = None
    ) -> None:
        self._policy: TransformersPolicy = policy or nano("", dtype="float32")
        self._model = self._policy.model
        if adapter is not None:
            self._model = PeftModel.from_pretrained(self._model, str(adapter)).eval()

    def prompt_ids(self, request: Request) -> tuple[int, ...]:
        """The prompt as :mod:`agents.encoding` writes it."""
        return self._policy.encode(request).prompt_ids

    def logprobs(
        self, request: Request, completion: Sequence[int], *, banned: bool = True
    ) -> list[float]:
        """Log-probability of each token of a completion as it would be sampled."""
        table = self._table(request, completion, banned)[:-1]
        return table.gather(1, torch.tensor(completion)[:, None])[:, 0].tolist()

    def first(self, request: Request) -> list[float]:
        """Log-probability of every token right after the prompt, none being banned."""
        return self._table(request, (), banned=False)[0].tolist()

    @torch.no_grad()
    def _table(self, request: Request, completion: Sequence[int], banned: bool) -> torch.Tensor:
        prompt = self._policy.encode(request)
        ids = torch.tensor([[*prompt.prompt_ids, *completion]])
        types = torch.tensor([[*prompt.mm_token_type_ids, *[0] * len(completion)]])
        picture = {}
        if prompt.pixel_values is not None:
            picture = {
                "pixel_values": prompt.pixel_values,
                "image_grid_thw": prompt.image_grid_thw,
                "mm_token_type_ids": types,
            }
        logits = self._model(input_ids=ids, use_cache=False, **picture).logits[0]
        logits = logits[len(prompt.prompt_ids) - 1 :].float()
        if banned:
            logits[:, list(self._policy.banned_ids)] = -torch.inf
        return (logits / (request.sampling.temperature or 1.0)).log_softmax(-1)
