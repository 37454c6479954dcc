"""Random LoRA adapters of the nano model, and what transformers makes of them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from agents.transformers import TransformersPolicy, nano
from mmzero_env.protocol import Request

LANGUAGE_LAYERS = (
    r".*language_model\.layers\.\d+\."
    r"(self_attn\.(q|k|v|o)_proj|mlp\.(gate|up|down)_proj)"
)


def save_adapter(folder: Path, seed: int, *, size: float = 0.03) -> Path:
    """Write an adapter of rank 8 whose weights are all random.

    Args:
        folder: Where to.
        seed: Of the weights.
        size: Standard deviation of the second factor, which starts at zero in training.
    """
    torch.manual_seed(seed)
    model = get_peft_model(
        nano("", dtype="float32").model,
        LoraConfig(r=8, lora_alpha=16, target_modules=LANGUAGE_LAYERS),
    )
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=size)
    model.save_pretrained(folder)
    return folder


def copied(adapter: Path, folder: Path) -> Path:
    """The same adapter at another path, which is another adapter to vLLM."""
    return Path(shutil.copytree(adapter, folder))


class Reference:
    """The nano model with one adapter or none, as transformers and PEFT compute it."""

    def __init__(self, adapter: Path | None = None) -> None:
        self._policy: TransformersPolicy = nano("", dtype="float32")
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
