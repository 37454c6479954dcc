"""A faster, equivalent engine for Qwen3-VL on a CPU.

A small model spends most of a decode step outside its matrix products: building
masks, copying a growing cache, repeating key heads, reading one prompt's keys
once for every sample. This engine runs the prefill through the model's own
modules and then repeats the arithmetic of its text stack (transformers 5.17,
``models/qwen3_vl/modeling_qwen3_vl.py``: ``Qwen3VLTextDecoderLayer``) with

* one copy of the prompt's keys and values for all samples of a prompt: attention
  to the prompt and to the sample's own tokens are computed apart and merged by
  their log-sum-exp, which is exact (Milakov & Gimelshein 2018, "Online normalizer
  calculation for softmax"),
* fused projections, and a cache that grows in blocks,
* every picture of a batch encoded once, however many prompts show it.

The results equal the plain forward up to float32 rounding; a test holds them to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from transformers import DynamicCache, Qwen3VLForConditionalGeneration

from agents.decoding import PaddedPrompts, pad_prompts
from agents.encoding import EncodedPrompt

_BLOCK = 32  # Cache positions added at a time.
_PREFILL = 64  # Prompts read at once: more of them push the activations out of the CPU's caches.


def supports(model: Any) -> bool:
    """Whether the engine computes the same as ``model``'s own forward.

    True for a plain ``Qwen3VLForConditionalGeneration`` in float32 on a CPU:
    no adapter, no quantised or hooked layer, no bias in attention, default rotary
    positions, SiLU.

    Args:
        model: Any module.
    """
    if type(model) is not Qwen3VLForConditionalGeneration:
        return False
    config = model.config.text_config
    stack = model.model.language_model
    linears = [m for n, m in stack.named_modules() if n.endswith("_proj")]
    plain = (*linears, model.lm_head, stack.embed_tokens)
    return (
        model.device.type == "cpu"
        and model.dtype == torch.float32
        and all(type(m) in (torch.nn.Linear, torch.nn.Embedding) for m in plain)
        and not any(m._forward_hooks or m._forward_pre_hooks for m in stack.modules())
        and not config.attention_bias
        and config.hidden_act == "silu"
        and stack.rotary_emb.rope_type == "default"
    )


class _Layer:
    """The weights of one decoder layer, projections fused.

    The attention scale is folded into the query norm's weight.
    """

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.norm_in = layer.input_layernorm.weight
        self.qkv = torch.cat(
            [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
        )
        q, k = attention.q_norm.weight, attention.k_norm.weight
        heads = attention.q_proj.out_features // attention.head_dim
        kv_heads = attention.k_proj.out_features // attention.head_dim
        self.norm_qk = torch.cat(
            [(q * attention.scaling).expand(heads, -1), k.expand(kv_heads, -1)]
        )
        self.out = attention.o_proj.weight
        self.norm_mlp = layer.post_attention_layernorm.weight
        self.gate_up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
        self.down = mlp.down_proj.weight


class _Groups:
    """Which rows share a prompt, and the way between rows and prompt blocks.

    Rows stay ordered by prompt. Queries of a prompt's rows are laid side by side,
    padded to the largest group, so that one matrix product per prompt and key head
    serves all of them.

    Args:
        owner: Prompt of each row, shape (rows,), int64, not decreasing, every
            prompt present.
    """

    def __init__(self, owner: torch.Tensor) -> None:
        sizes = torch.bincount(owner)
        self.prompts = len(sizes)
        self.width = int(sizes.max())
        starts = sizes.cumsum(0) - sizes
        slot = torch.arange(len(owner)) - starts[owner]
        full = bool((sizes == self.width).all())
        self._place = None if full else owner * self.width + slot

    def gather(self, queries: torch.Tensor) -> torch.Tensor:
        """(rows, kv, group, dim) to (prompts * kv, width * group, dim)."""
        _, kv, group, dim = queries.shape
        if self._place is not None:
            padded = queries.new_zeros((self.prompts * self.width, kv, group, dim))
            queries = padded.index_copy_(0, self._place, queries)
        blocks = queries.view(self.prompts, self.width, kv, group, dim).transpose(1, 2)
        return blocks.reshape(self.prompts * kv, self.width * group, dim)

    def scatter(self, blocks: torch.Tensor, kv: int, group: int) -> torch.Tensor:
        """(prompts * kv, width * group, x) back to (rows * kv, group, x)."""
        size = blocks.shape[-1]
        rows = blocks.view(self.prompts, kv, self.width, group, size).transpose(1, 2)
        rows = rows.reshape(self.prompts * self.width, kv, group, size)
        if self._place is not None:
            rows = rows[self._place]
        return rows.reshape(-1, group, size)


class Qwen3VLEngine:
    """See the module; implements :class:`agents.decoding.Engine`.

    Args:
        model: A model that :func:`supports` accepts. Its weights are read when the
            engine is made; make a new engine after an update.
        pad_id: Fills the padding.
    """

    def __init__(self, model: Any, pad_id: int) -> None:
        """See the class."""
        self.device: torch.device = model.device
        self._model = model
        self._pad_id = pad_id
        stack, config = model.model.language_model, model.config.text_config
        self._eps: float = config.rms_norm_eps
        self._heads: int = config.num_attention_heads
        self._kv: int = config.num_key_value_heads
        self._dim: int = stack.layers[0].self_attn.head_dim
        self._frequencies: torch.Tensor = stack.rotary_emb.inv_freq.float()
        with torch.no_grad():
            self._layers = [_Layer(layer) for layer in stack.layers]
        self._prompt_keys: list[torch.Tensor] = []
        self._prompt_values: list[torch.Tensor] = []
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._used = 0

    @torch.no_grad()
    def prefill(self, prompts: Sequence[EncodedPrompt], owner: torch.Tensor) -> torch.Tensor:
        """See :class:`agents.decoding.Engine`."""
        batch = pad_prompts(self._model, prompts, self._pad_id, self.device)
        embedded = self._model.model.language_model.embed_tokens(batch.input_ids)
        where = batch.input_ids == self._model.config.image_token_id
        deep: list[torch.Tensor] = []
        features = self._encode_pictures(prompts)
        if features is not None:
            final, deep = features
            embedded = embedded.masked_scatter(where[..., None], final)
        else:
            where = torch.zeros_like(where)
        hidden, keys, values, seen = [], [], [], 0
        for start in range(0, len(prompts), _PREFILL):
            part = slice(start, start + _PREFILL)
            tokens = int(where[part].sum())
            visual: dict[str, Any] = {}
            if tokens:
                layers = [layer[seen : seen + tokens] for layer in deep]
                visual = {"visual_pos_masks": where[part], "deepstack_visual_embeds": layers}
            seen += tokens
            last, cache = self._read(embedded[part], batch, part, visual)
            hidden.append(last)
            keys.append([layer.keys.flatten(0, 1) for layer in cache])
            values.append([layer.values.flatten(0, 1) for layer in cache])
        self._prompt_keys = [torch.cat(parts) for parts in zip(*keys, strict=True)]
        self._prompt_values = [torch.cat(parts) for parts in zip(*values, strict=True)]
        padding = batch.attention_mask == 0
        self._bias = None
        if padding.any():
            bias = torch.zeros(padding.shape).masked_fill_(padding, -torch.inf)
            self._bias = bias.repeat_interleave(self._kv, dim=0)[:, None]
        self._owner = owner
        self._groups = _Groups(owner)
        self._position = batch.next_position[owner]
        return F.linear(torch.cat(hidden), self._model.lm_head.weight)[owner]

    def _read(
        self, embedded: torch.Tensor, batch: PaddedPrompts, part: slice, visual: dict[str, Any]
    ) -> tuple[torch.Tensor, list[Any]]:
        """Run the model's own text stack over some prompts.

        Returns:
            The last position's hidden state, shape (prompts, hidden), and the cache's
            layers with their keys and values, shape (prompts, kv, length, dim).
        """
        cache = DynamicCache(config=self._model.config.text_config)
        out = self._model.model.language_model(
            inputs_embeds=embedded,
            attention_mask=batch.attention_mask[part],
            position_ids=batch.position_ids[:, part],
            past_key_values=cache,
            use_cache=True,
            **visual,
        )
        return out.last_hidden_state[:, -1], list(cache.layers)

    def keep(self, rows: torch.Tensor) -> None:
        """See :class:`agents.decoding.Engine`."""
        shape = (-1, self._kv)
        self._keys = [k.unflatten(0, shape)[rows].flatten(0, 1) for k in self._keys]
        self._values = [v.unflatten(0, shape)[rows].flatten(0, 1) for v in self._values]
        self._position = self._position[rows]
        prompts, self._owner = self._owner[rows].unique_consecutive(return_inverse=True)
        if len(prompts) < self._groups.prompts:
            self._prompt_keys = [
                k.unflatten(0, shape)[prompts].flatten(0, 1) for k in self._prompt_keys
            ]
            self._prompt_values = [
                v.unflatten(0, shape)[prompts].flatten(0, 1) for v in self._prompt_values
            ]
            if self._bias is not None:
                self._bias = self._bias.unflatten(0, shape)[prompts].flatten(0, 1)
        self._groups = _Groups(self._owner)

    @torch.no_grad()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """See :class:`agents.decoding.Engine`."""
        rows = len(tokens)
        self._reserve(rows)
        # All three rotary axes agree on text, so the interleaved layout of the
        # multimodal rotation reduces to the ordinary one.
        angles = self._position[:, None, None].float() * self._frequencies
        cos, sin = angles.cos(), angles.sin()
        x = self._model.model.language_model.embed_tokens.weight[tokens]
        for index, layer in enumerate(self._layers):
            z = F.linear(self._norm(x, layer.norm_in), layer.qkv)
            z = z.view(rows, self._heads + 2 * self._kv, self._dim)
            turned = self._turn(z[:, : -self._kv], layer.norm_qk, cos, sin)
            keys, values = self._keys[index], self._values[index]
            keys[:, self._used] = turned[:, self._heads :].reshape(-1, self._dim)
            values[:, self._used] = z[:, -self._kv :].reshape(-1, self._dim)
            attended = self._attend(index, turned[:, : self._heads])
            x = x + F.linear(attended, layer.out)
            gate, up = F.linear(self._norm(x, layer.norm_mlp), layer.gate_up).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate).mul_(up), layer.down)
        self._used += 1
        self._position = self._position + 1
        final = self._norm(x, self._model.model.language_model.norm.weight)
        return F.linear(final, self._model.lm_head.weight)

    def _attend(self, index: int, queries: torch.Tensor) -> torch.Tensor:
        """Attention of one query a row to its prompt and to its own tokens.

        Args:
            index: Layer.
            queries: Shape (rows, heads, dim), scaled.

        Returns:
            Shape (rows, heads * dim).
        """
        rows, group = len(queries), self._heads // self._kv
        queries = queries.reshape(rows, self._kv, group, self._dim)
        shared = torch.bmm(self._groups.gather(queries), self._prompt_keys[index].transpose(1, 2))
        if self._bias is not None:
            shared += self._bias
        shared_peak = shared.amax(-1, keepdim=True)
        shared = shared.sub_(shared_peak).exp_()
        shared_sum = shared.sum(-1, keepdim=True)
        shared_out = torch.bmm(shared, self._prompt_values[index])
        # One tensor back to row order: output, mass and peak side by side.
        packed = self._groups.scatter(
            torch.cat([shared_out, shared_sum, shared_peak], dim=-1), self._kv, group
        )
        shared_out, shared_sum, shared_peak = packed.split([self._dim, 1, 1], dim=-1)

        end = self._used + 1
        own = torch.bmm(queries.flatten(0, 1), self._keys[index][:, :end].transpose(1, 2))
        own_peak = own.amax(-1, keepdim=True)
        own = own.sub_(own_peak).exp_()
        own_sum = own.sum(-1, keepdim=True)
        own_out = torch.bmm(own, self._values[index][:, :end])

        peak = torch.maximum(shared_peak, own_peak)
        a, b = (shared_peak - peak).exp_(), (own_peak - peak).exp_()
        out = (a * shared_out + b * own_out) / (a * shared_sum + b * own_sum)
        return out.view(rows, self._heads * self._dim)

    def _turn(
        self, x: torch.Tensor, weight: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        """Normalise heads, then rotate them: (rows, heads, dim) to the same shape."""
        first, second = self._norm(x, weight).chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self._eps))

    def _reserve(self, rows: int) -> None:
        """Make room for one more token in every row."""
        if not self._keys:
            shape = (rows * self._kv, _BLOCK, self._dim)
            self._keys = [torch.zeros(shape) for _ in self._layers]
            self._values = [torch.zeros(shape) for _ in self._layers]
        elif self._used == self._keys[0].shape[1]:
            more = (0, 0, 0, _BLOCK)
            self._keys = [F.pad(k, more) for k in self._keys]
            self._values = [F.pad(v, more) for v in self._values]

    def _encode_pictures(
        self, prompts: Sequence[EncodedPrompt]
    ) -> tuple[torch.Tensor, list[torch.Tensor]] | None:
        """Features of every picture in prompt order, each distinct one computed once.

        Returns:
            The final features, shape (image tokens, hidden), and those for the
            first layers (DeepStack), each of the same shape; None without pictures.
        """
        distinct: dict[bytes, EncodedPrompt] = {}
        order = []
        for prompt in prompts:
            if prompt.image_key is not None:
                distinct.setdefault(prompt.image_key, prompt)
                order.append(prompt.image_key)
        if not order:
            return None
        pixels = torch.cat(
            [p.pixel_values for p in distinct.values() if p.pixel_values is not None]
        )
        grids = torch.cat(
            [p.image_grid_thw for p in distinct.values() if p.image_grid_thw is not None]
        )
        out = self._model.model.get_image_features(pixels, grids, return_dict=True)
        sizes = [len(part) for part in out.pooler_output]
        index = {key: i for i, key in enumerate(distinct)}

        def in_order(parts: Sequence[torch.Tensor]) -> torch.Tensor:
            return torch.cat([parts[index[key]] for key in order])

        return in_order(out.pooler_output), [
            in_order(deep.split(sizes)) for deep in out.deepstack_features
        ]
