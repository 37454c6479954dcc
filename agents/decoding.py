"""Batched sampling over ``model.forward``: tokens and their exact log-probabilities.

Why not ``model.generate()``:

* Every sample has a random stream of its own, so a completion depends on the
  request's seed alone and not on its neighbours in the batch; ``generate`` draws
  a whole batch from one global generator.
* The ``n`` samples of a request, and any requests with the same prompt and
  picture, share one prefill; ``generate`` repeats the prompt ``n`` times first.
* The log-probability of each sampled token comes out of the step that drew it,
  which is what importance ratios need; ``generate`` keeps the scores of the whole
  vocabulary for every step.
* Finished rows leave the batch; ``generate`` carries them to the end.

The loop knows a model only as an :class:`Engine`. :class:`ForwardEngine` drives
any causal image-text-to-text model of transformers through its public forward.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from agents.encoding import EncodedPrompt
from agents.policy import PolicyError
from agents.sampling import Sampler, Stream
from mmzero_env.protocol import Sampling

# Share of finished rows at which the batch is packed: packing copies the cache,
# not packing computes rows that nobody reads.
_PACK_AT = 0.25


@dataclass(frozen=True)
class Row:
    """One completion to draw.

    Attributes:
        prompt: Index into the prompts of the batch.
        stream: Its randomness.
        sampling: How it is drawn and when it is cut.
    """

    prompt: int
    stream: Stream
    sampling: Sampling


@dataclass(frozen=True)
class Sampled:
    """One completion as tokens.

    Attributes:
        token_ids: Ids in order, the stop token included if it was drawn.
        logprobs: Natural-log probability of each id under the distribution that
            it was drawn from.
        finish_reason: ``"stop"`` or ``"length"``.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: str


class Engine(Protocol):
    """A model with a key-value cache, seen from the sampling loop."""

    device: torch.device

    def prefill(self, prompts: Sequence[EncodedPrompt], owner: torch.Tensor) -> torch.Tensor:
        """Read the prompts and open one row for each entry of ``owner``.

        Args:
            prompts: Distinct prompts.
            owner: Prompt of each row, shape (rows,), int64, not decreasing.

        Returns:
            Logits of the first token of every row, shape (rows, vocabulary).
        """
        ...

    def keep(self, rows: torch.Tensor) -> None:
        """Drop every row but ``rows``, shape (k,), int64, increasing."""
        ...

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token, shape (rows,), to every row; logits of the next one."""
        ...


def decode(
    engine: Engine,
    prompts: Sequence[EncodedPrompt],
    rows: Sequence[Row],
    *,
    stop_ids: Sequence[int],
    banned_ids: Sequence[int] = (),
) -> list[Sampled]:
    """Draw every row to its stop token or its length limit.

    Args:
        engine: A fresh engine.
        prompts: Distinct prompts.
        rows: Completions to draw, ordered by prompt.
        stop_ids: Tokens that end a completion.
        banned_ids: Tokens that are never drawn.

    Returns:
        One result a row, in order.

    Raises:
        PolicyError: If the model's logits are not finite.
    """
    device = engine.device
    limits = torch.tensor([row.sampling.max_tokens for row in rows], device=device)
    stops = torch.tensor(sorted(set(stop_ids)), dtype=torch.long, device=device)
    sampler = Sampler([r.stream for r in rows], [r.sampling for r in rows], banned_ids, device)
    alive = torch.arange(len(rows), device=device)
    running = torch.ones(len(rows), dtype=torch.bool, device=device)
    drawn: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    owner = torch.tensor([row.prompt for row in rows], device=device)
    logits = engine.prefill(prompts, owner)
    while True:
        tokens, logprobs = sampler.draw(logits)
        if not torch.isfinite(logprobs).all():
            raise PolicyError(
                "the model's logits are not finite (NaN or infinite): its weights or the "
                "precision of its forward pass are broken; reload the last good checkpoint, or "
                "use dtype='float32'"
            )
        drawn.append((alive[running], tokens[running], logprobs[running]))
        running = running & ~torch.isin(tokens, stops) & (limits > len(drawn))
        left = int(running.sum())
        if left == 0:
            break
        if left <= (1 - _PACK_AT) * len(running):
            keep = running.nonzero()[:, 0]
            engine.keep(keep)
            sampler.keep(keep)
            alive, limits, tokens, running = alive[keep], limits[keep], tokens[keep], running[keep]
        logits = engine.step(tokens)
    return _assemble(drawn, len(rows), set(stop_ids))


def _assemble(
    drawn: Sequence[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], rows: int, stops: set[int]
) -> list[Sampled]:
    """Gather what was drawn, step by step, into one sequence a row."""
    row = torch.cat([r for r, _, _ in drawn])
    # A stable sort by row keeps the steps of each row in order.
    order = row.sort(stable=True).indices
    lengths = torch.bincount(row, minlength=rows).tolist()
    ids = torch.cat([t for _, t, _ in drawn])[order].tolist()
    numbers = torch.cat([p for _, _, p in drawn])[order].tolist()
    results, at = [], 0
    for length in lengths:
        tokens = tuple(ids[at : at + length])
        reason = "stop" if tokens[-1] in stops else "length"
        results.append(Sampled(tokens, tuple(numbers[at : at + length]), reason))
        at += length
    return results


@dataclass(frozen=True)
class PaddedPrompts:
    """Prompts as one left-padded batch.

    Attributes:
        input_ids: Shape (prompts, length), int64.
        attention_mask: Same shape, int64, 0 on padding.
        position_ids: Shape (prompts, length), or (3, prompts, length) for models
            with three-dimensional rotary positions; int64.
        next_position: First position after each prompt, shape (prompts,), int64.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor
    next_position: torch.Tensor


def pad_prompts(
    model: Any, prompts: Sequence[EncodedPrompt], pad_id: int, device: torch.device
) -> PaddedPrompts:
    """Left-pad prompts and give every token its explicit position.

    Args:
        model: Asked for ``get_rope_index`` if one of its modules has it.
        prompts: What to pad.
        pad_id: Fills the padding; masked, so any id of the vocabulary does.
        device: Where the tensors go.
    """
    length = max(len(prompt.prompt_ids) for prompt in prompts)
    rope = next((m for m in model.modules() if hasattr(m, "get_rope_index")), None)
    ids = torch.full((len(prompts), length), pad_id)
    mask = torch.zeros_like(ids)
    axes = 1 if rope is None else 3
    positions = torch.zeros((axes, len(prompts), length), dtype=torch.long)
    known: dict[tuple[Any, ...], torch.Tensor] = {}
    for i, prompt in enumerate(prompts):
        size = len(prompt.prompt_ids)
        ids[i, length - size :] = torch.tensor(prompt.prompt_ids)
        mask[i, length - size :] = 1
        if prompt.image_grid_thw is None or rope is None:
            positions[:, i, length - size :] = torch.arange(size)
            continue
        # Positions depend on where the picture stands and on its grid only.
        layout = (prompt.mm_token_type_ids, *prompt.image_grid_thw.flatten().tolist())
        if layout not in known:
            known[layout] = rope.get_rope_index(
                torch.tensor([prompt.prompt_ids]),
                mm_token_type_ids=torch.tensor([prompt.mm_token_type_ids]),
                image_grid_thw=prompt.image_grid_thw,
            )[0][:, 0]
        positions[:, i, length - size :] = known[layout]
    following = positions.amax(dim=(0, 2)) + 1
    if axes == 1:
        positions = positions[0]
    return PaddedPrompts(
        ids.to(device), mask.to(device), positions.to(device), following.to(device)
    )


class ForwardEngine:
    """Any causal model of transformers, through its forward and its own cache.

    Args:
        model: An ``AutoModelForImageTextToText`` (or a PEFT wrapper of one).
        pad_id: Fills the padding.
        step: Called in the model's place for every token after the prompt: its compiled
            forward, say.
    """

    def __init__(self, model: Any, pad_id: int, step: Any = None) -> None:
        """See the class."""
        self.device: torch.device = model.device
        self._model = model
        self._step = step or model
        self._pad_id = pad_id
        names = inspect.signature(getattr(model, "get_base_model", lambda: model)().forward)
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in names.parameters else {}
        self._cache: Any = None
        self._mask = torch.empty(0)
        self._next = torch.empty(0)
        self._axes = 1

    @torch.no_grad()
    def prefill(self, prompts: Sequence[EncodedPrompt], owner: torch.Tensor) -> torch.Tensor:
        """See :class:`Engine`."""
        batch = pad_prompts(self._model, prompts, self._pad_id, self.device)
        out = self._model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=True,
            **_picture_inputs(prompts, batch.input_ids.shape[1], self.device),
            **self._last_only,
        )
        self._axes = 1 if batch.position_ids.ndim == 2 else 3
        self._cache = out.past_key_values
        self._mask = batch.attention_mask
        self._next = batch.next_position
        if len(owner) != len(prompts):
            self.keep(owner)
        return out.logits[:, -1][owner]

    def keep(self, rows: torch.Tensor) -> None:
        """See :class:`Engine`; rows may also repeat, which opens the samples of a prompt."""
        self._cache.batch_select_indices(rows)
        self._mask = self._mask[rows]
        self._next = self._next[rows]

    @torch.no_grad()
    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """See :class:`Engine`."""
        self._mask = torch.cat([self._mask, self._mask.new_ones((len(tokens), 1))], dim=1)
        position = self._next[:, None]
        out = self._step(
            input_ids=tokens[:, None],
            attention_mask=self._mask,
            position_ids=position if self._axes == 1 else position.expand(3, -1, -1),
            past_key_values=self._cache,
            use_cache=True,
            **self._last_only,
        )
        self._next = self._next + 1
        return out.logits[:, -1]


def _picture_inputs(
    prompts: Sequence[EncodedPrompt], length: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """The pictures of a batch and all that a processor said about its tokens."""
    with_picture = [p for p in prompts if p.pixel_values is not None]
    if not with_picture:
        return {}
    pixels = [p.pixel_values for p in with_picture if p.pixel_values is not None]
    inputs = {"pixel_values": torch.cat(pixels)}
    grids = [p.image_grid_thw for p in with_picture if p.image_grid_thw is not None]
    if grids:
        inputs["image_grid_thw"] = torch.cat(grids)
        inputs["mm_token_type_ids"] = torch.stack(
            [_left_pad(torch.tensor(p.mm_token_type_ids), length) for p in prompts]
        )
    for name in sorted({name for prompt in with_picture for name in prompt.extras}):
        values = [prompt.extras[name] for prompt in with_picture]
        sizes = [(1, len(prompt.prompt_ids)) for prompt in with_picture]
        if [value.shape[:2] for value in values] == sizes:
            per_token = torch.zeros((len(prompts), length), dtype=values[0].dtype)
            for i, prompt in enumerate(prompts):
                if name in prompt.extras:
                    per_token[i, length - len(prompt.prompt_ids) :] = prompt.extras[name][0]
            inputs[name] = per_token
        else:
            inputs[name] = torch.cat(values)
    return {name: value.to(device) for name, value in inputs.items()}


def _left_pad(values: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(values, (length - len(values), 0))
