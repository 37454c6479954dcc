"""What a forward and a backward pass keep in memory, by counting it.

A decoder of one and of two layers is run forward and backward on the meta device, with short
and with longer rows; what stays alive in between and the peak are counted
(:mod:`trainers.live_bytes`). Everything grows in proportion to tokens and to layers, so that
these four runs give the bytes of any number of both. The vision tower is counted in the same
way. Attention is counted as torch's flash kernel, which keeps queries, keys, values, its
output and one number a row and head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from transformers import AttentionInterface

from trainers.live_bytes import LiveBytes
from trainers.model_shapes import ModelShape, build, with_adapter
from trainers.shared_images import vision_tower

_ATTENTION = "mmzero_counted"
# On the meta device length is free; short rows would hide behind gradients of weights.
_SHORT, _LONG = 4096, 8192


@dataclass(frozen=True)
class Cost:
    """Bytes of a pass over a number of layers and tokens.

    Attributes:
        fixed: Whatever is run.
        token: Each token, whatever the layers.
        layer: Each layer, whatever the tokens.
        both: Each token of each layer.
    """

    fixed: float
    token: float
    layer: float
    both: float

    def of(self, tokens: int, layers: int) -> int:
        """The bytes."""
        return round(self.fixed + self.layer * layers + tokens * (self.token + self.both * layers))


@dataclass(frozen=True)
class PassCost:
    """Bytes of one forward and backward pass.

    Attributes:
        kept: Alive when the forward pass has ended: what the backward pass needs.
        peak: The most at any time, gradients that are accumulated not counted.
    """

    kept: Cost
    peak: Cost


@dataclass(frozen=True)
class Way:
    """How a model is trained, as far as activations depend on it.

    Attributes:
        dtype: Type that is computed in.
        rank: Rank of the adapter that is trained; 0 trains all weights.
        checkpointing: Whether layers are computed again in the backward pass.
        vision: Whether the vision tower is trained.
    """

    dtype: torch.dtype = torch.bfloat16
    rank: int = 0
    checkpointing: bool = False
    vision: bool = False


def decoder_cost(shape: ModelShape, way: Way) -> PassCost:
    """The decoder's, from embedded tokens to the last norm."""
    # The tower is not run here: only what concerns the decoder may tell runs apart.
    return _decoder(shape, Way(way.dtype, way.rank, way.checkpointing))


def tower_cost(shape: ModelShape, way: Way) -> PassCost:
    """The vision tower's, by patch instead of token; a frozen tower keeps nothing."""
    if not way.vision:
        return _tower(shape, Way(way.dtype))
    return _tower(shape, way)


@lru_cache
def _decoder(shape: ModelShape, way: Way) -> PassCost:
    def run(layers: int, tokens: int) -> tuple[int, int]:
        with torch.device("meta"):
            model = build(shape.config, dtype=way.dtype, layers=layers, vision_depth=1)
            if way.rank:
                model = with_adapter(model, way.rank)
        _prepare(model, way)
        decoder = (model.get_base_model() if way.rank else model).model.language_model
        embedded = torch.empty(1, tokens, shape.hidden, device="meta", dtype=way.dtype)
        embedded.requires_grad_(not way.rank)
        positions = torch.zeros(3, 1, tokens, dtype=torch.long, device="meta")
        kept, peak = _count(
            model,
            lambda: decoder(inputs_embeds=embedded, position_ids=positions, use_cache=False)[0],
            embedded,
        )
        # The first layer's input stays like that of any other. For adapters with checkpointing,
        # TRL opens the embedding's output to gradients, and that stays, too.
        stays = embedded.nbytes * (2 if way.rank and way.checkpointing else 1)
        return kept + stays, peak + stays

    return _fit(run)


@lru_cache
def _tower(shape: ModelShape, way: Way) -> PassCost:
    def run(blocks: int, patches: int) -> tuple[int, int]:
        with torch.device("meta"):
            model = build(shape.config, dtype=way.dtype, layers=1, vision_depth=blocks)
            if way.rank:
                model = with_adapter(model, way.rank, vision=True)
        tower = vision_tower(model)
        if not way.rank:
            tower.requires_grad_(way.vision)
        _prepare(tower, way)
        pixels = torch.empty(patches, shape.patch_values, device="meta", dtype=way.dtype)
        lengths = torch.tensor([0, patches], dtype=torch.int32)
        config = tower.config
        size = config.hidden_size // config.num_heads
        turn = torch.empty(patches, size, device="meta", dtype=torch.float32)

        def forward() -> torch.Tensor:
            hidden = tower.patch_embed(pixels)
            for block in tower.blocks:
                hidden = block(hidden, cu_seqlens=lengths, position_embeddings=(turn, turn))
            # Each deepstack block has a merger of its own, like the last one.
            merged = [tower.merger(hidden) for _ in range(1 + shape.deepstack)]
            return torch.cat(merged)

        return _count(tower, forward, pixels)

    return _fit(run)


def _prepare(model: Any, way: Way) -> None:
    AttentionInterface.register(_ATTENTION, _attention)
    for module in model.modules():
        if hasattr(module, "config") and hasattr(module.config, "_attn_implementation"):
            module.config._attn_implementation = _ATTENTION
    model.train()
    if way.checkpointing:
        model.gradient_checkpointing_enable()


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    *,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of (B, heads, T, D) by the flash kernel, without looking at a mask."""
    causal = module.is_causal if is_causal is None else is_causal
    flash = torch.ops.aten._scaled_dot_product_flash_attention.default
    found = flash(query, key, value, 0.0, bool(causal), scale=scaling)[0]
    return found.transpose(1, 2).contiguous(), None


def _count(
    model: Any, forward: Callable[[], torch.Tensor], *inputs: torch.Tensor
) -> tuple[int, int]:
    """Bytes kept between the passes, and the peak."""
    parameters = list(model.parameters())
    for parameter in parameters:
        if parameter.requires_grad:
            # Micro-batches after the first add to gradients that are there.
            parameter.grad = torch.empty_like(parameter)
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    with LiveBytes([*parameters, *model.buffers(), *grads, *inputs]) as counted:
        out = forward()
        # Whoever reads the output decides whether it stays.
        kept = counted.live - out.nbytes
        if out.requires_grad:
            out.sum().backward()
    # A frozen tower leaves its output alone, which its reader keeps and counts.
    return (kept if out.requires_grad else 0), counted.peak


def _fit(run: Callable[[int, int], tuple[int, int]]) -> PassCost:
    """The cost that goes through four runs."""
    found = {(n, t): run(n, t) for n in (1, 2) for t in (_SHORT, _LONG)}

    def through(which: int) -> Cost:
        slope = {
            n: (found[n, _LONG][which] - found[n, _SHORT][which]) / (_LONG - _SHORT) for n in (1, 2)
        }
        base = {n: found[n, _SHORT][which] - slope[n] * _SHORT for n in (1, 2)}
        both, layer = slope[2] - slope[1], base[2] - base[1]
        return Cost(base[1] - layer, slope[1] - both, layer, both)

    return PassCost(through(0), through(1))
