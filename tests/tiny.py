"""A tiny random Qwen3-VL and a plain policy around it, for tests of the trainers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mmzero_env.protocol import Completion, Request, Response

SPECIALS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Seven special tokens and then one token a byte."""
    names = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    core = Tokenizer(models.BPE({name: place for place, name in enumerate(names)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIALS))
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )


def tiny_qwen3vl(
    *,
    seed: int = 0,
    vocab: int = 768,
    hidden: int = 128,
    layers: int = 4,
    ffn: int = 384,
    side: int = 96,
) -> Qwen3VLForConditionalGeneration:
    """A random Qwen3-VL: 1.6 M parameters by default, far fewer on request.

    Args:
        seed: Seeds the weights.
        vocab: Tokens; the tokenizer above needs at least 263.
        hidden: Width of the text model, in heads of 32.
        layers: Layers of the text model.
        ffn: Width of its feed-forward layers.
        side: Picture side in pixels whose position grid is learned.
    """
    place = SPECIALS.index
    grid = side // 16
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": vocab,
            "hidden_size": hidden,
            "intermediate_size": ffn,
            "num_hidden_layers": layers,
            "num_attention_heads": hidden // 32,
            "num_key_value_heads": max(1, hidden // 64),
            "head_dim": 32,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
            "pad_token_id": place("<|endoftext|>"),
            "eos_token_id": place("<|im_end|>"),
            "bos_token_id": None,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_heads": 3,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": hidden,
            "num_position_embeddings": grid * grid,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=place("<|image_pad|>"),
        video_token_id=place("<|video_pad|>"),
        vision_start_token_id=place("<|vision_start|>"),
        vision_end_token_id=place("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3VLForConditionalGeneration(config).eval()


@dataclass(frozen=True, eq=False)
class TinyPrompt:
    """An encoded prompt."""

    prompt_ids: tuple[int, ...]
    pixel_values: torch.Tensor | None
    image_grid_thw: torch.Tensor | None


class TinyPolicy:
    """Samples from a model without a cache: slow, short and plain."""

    name = "tiny"

    def __init__(self, model: Qwen3VLForConditionalGeneration) -> None:
        self.model = model
        self.tokenizer = tiny_tokenizer()
        self.image_processor = Qwen2VLImageProcessorPil(
            patch_size=16, merge_size=2, size={"shortest_edge": 1024, "longest_edge": 262144}
        )

    def encode(self, request: Request) -> TinyPrompt:
        """The prompt's bytes, behind the picture if there is one."""
        text = self.tokenizer(request.prompt).input_ids
        if request.image is None:
            return TinyPrompt((1, *text, 2), None, None)
        picture = self.image_processor(images=[request.image], return_tensors="pt")
        grid = picture["image_grid_thw"]
        visual = int(grid.prod()) // 4
        ids = (1, 3, *[5] * visual, 4, *text, 2)
        return TinyPrompt(ids, picture["pixel_values"], grid)

    def logits(self, prompt: TinyPrompt, completion: Sequence[int]) -> torch.Tensor:
        """Logits before every token of a completion and after it, (T + 1, vocab)."""
        ids = torch.tensor([[*prompt.prompt_ids, *completion]])
        pictured = {}
        if prompt.pixel_values is not None:
            pictured = {
                "pixel_values": prompt.pixel_values.to(self.model.dtype),
                "image_grid_thw": prompt.image_grid_thw,
                "mm_token_type_ids": (ids == self.model.config.image_token_id).long(),
            }
        out = self.model(input_ids=ids, use_cache=False, **pictured)
        return out.logits[0, len(prompt.prompt_ids) - 1 :]

    @torch.no_grad()
    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Sample token by token; vision tokens are never drawn."""
        responses = []
        for request in requests:
            prompt = self.encode(request)
            chance = torch.Generator().manual_seed(request.seed)
            done = tuple(self._sample(request, prompt, chance) for _ in range(request.n))
            responses.append(Response(request.id, done, prompt.prompt_ids))
        return responses

    def _sample(self, request: Request, prompt: TinyPrompt, chance: torch.Generator) -> Completion:
        tokens: list[int] = []
        logprobs: list[float] = []
        while len(tokens) < request.sampling.max_tokens and 2 not in tokens:
            logits = self.logits(prompt, tokens)[-1] / request.sampling.temperature
            logits[3:7] = -torch.inf
            choices = logits.log_softmax(-1)
            token = int(torch.multinomial(choices.exp(), 1, generator=chance))
            tokens.append(token)
            logprobs.append(float(choices[token]))
        ended = tokens[-1] == 2
        return Completion(
            str(self.tokenizer.decode([token for token in tokens if token != 2])),
            tuple(tokens),
            tuple(logprobs),
            "stop" if ended else "length",
        )
