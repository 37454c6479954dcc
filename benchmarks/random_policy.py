"""A policy of a given shape with random weights: for measuring steps, not for playing."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from transformers import AutoTokenizer

from agents.adapters import AdapterSettings, RoleView, with_adapters
from agents.encoding import EncodedPrompt
from agents.transformers import TransformersPolicy
from agents.vllm_settings import NANO
from mmzero_env.errors import UserError
from mmzero_env.protocol import Completion, Request, Response, Role
from trainers.groups import Group
from trainers.model_shapes import ModelShape, build


class RandomPolicy:
    """What :class:`trainers.grpo.GroupTrainer` trains, without a checkpoint.

    Args:
        shape: Of the model.
        dtype: Of its weights.
        device: Where they lie.
        rank: Of one LoRA adapter a role; 0 trains all weights.
        prompt: Tokens of every prompt, those of the picture included.
        side: Side of a picture, in pixels.
        seed: Seeds weights, pictures and tokens.
    """

    def __init__(
        self,
        shape: ModelShape,
        *,
        dtype: torch.dtype,
        device: torch.device,
        rank: int,
        prompt: int,
        side: int,
        seed: int = 0,
    ) -> None:
        """See the class."""
        if prompt < shape.visual_tokens(side) + 3:
            raise UserError(
                f"a prompt of {prompt} tokens has no room for a picture of {side} pixels, which "
                f"takes {shape.visual_tokens(side)}; raise --prompt or lower --pixels"
            )
        self.name = f"random:{shape.name}"
        self.shape = shape
        self.image_processor = None
        # Only its padding token is used: prompts and completions are token ids from the start.
        self.tokenizer = AutoTokenizer.from_pretrained(NANO)
        self.model: Any = _random_model(shape, dtype, device, seed)
        self._prompt, self._side = prompt, side
        self._chance = np.random.default_rng(seed)
        self._prompts: dict[str, EncodedPrompt] = {}
        if rank:
            settings = AdapterSettings(rank, 2 * rank)
            with_adapters(cast(TransformersPolicy, self), settings, seed)

    def learner(self, role: Role) -> Any:
        """What the trainer of a role trains."""
        lora = hasattr(self.model, "peft_config")
        return RoleView(cast(TransformersPolicy, self), role) if lora else self

    def encode(self, request: Request) -> EncodedPrompt:
        """A random prompt, the same for a request whenever it is asked for."""
        if request.id not in self._prompts:
            self._prompts[request.id] = self._draw(request)
        return self._prompts[request.id]

    def group(self, role: Role, name: str, size: int, completion: int) -> Group:
        """Random completions of one length to a random prompt, with unequal rewards.

        The sampler's log-probabilities are those of a uniform distribution.
        """
        picture = None
        if role == "solver":
            # Stands for the patches that encode() draws: the trainer encodes equal pictures once.
            picture = self._chance.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        request = Request(name, role, name, size, image=picture)
        chance = -float(np.log(self.shape.vocabulary))
        done = tuple(
            Completion("", self._tokens(completion), (chance,) * completion, "length")
            for _ in range(size)
        )
        prompt = tuple(self.encode(request).prompt_ids)
        rewards = tuple(float(k) for k in range(size))
        return Group(request, Response(name, done, prompt), rewards)

    def _draw(self, request: Request) -> EncodedPrompt:
        if request.image is None:
            return EncodedPrompt(self._tokens(self._prompt))
        shape, config = self.shape, self.model.config
        visual = shape.visual_tokens(self._side)
        rows = round(shape.patches(self._side) ** 0.5)
        ids = (
            config.vision_start_token_id,
            *(config.image_token_id,) * visual,
            config.vision_end_token_id,
            *self._tokens(self._prompt - visual - 2),
        )
        patches = self._chance.standard_normal((rows * rows, shape.patch_values), np.float32)
        grid = torch.tensor([[1, rows, rows]])
        return EncodedPrompt(ids, torch.from_numpy(patches), grid)

    def _tokens(self, count: int) -> tuple[int, ...]:
        """Ordinary words: special tokens are the first of the nano model and the last of Qwen's."""
        top = self.shape.vocabulary
        low, high = (8, top) if top < 10_000 else (1000, 150_000)
        return tuple(int(token) for token in self._chance.integers(low, high, count))


def _random_model(
    shape: ModelShape, dtype: torch.dtype, device: torch.device, seed: int
) -> torch.nn.Module:
    """A model that never was on disk: drawn where it lies."""
    model = build(shape.config, dtype=dtype)
    model.to_empty(device=device)
    for module in model.modules():
        module._is_hf_initialized = False
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model.init_weights()
    model.tie_weights()
    return model.eval()
