"""Runs the prompt of a group once for all its completions.

The completions of a GRPO group continue one prompt. Laid out in one row,

    prompt | completion 1 | completion 2 | ...

with an attention mask that hides the completions from each other, the prompt is
computed once instead of once a completion. Log-probabilities and gradients are
those of separate rows up to rounding; only the arithmetic on repeated prompts is
saved. With short completions that is most of it.

The mask is dense, so this is for short rows (:data:`LONGEST`); longer ones go
through TRL's fused computation row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

# A dense mask of 4096 x 4096 takes 16 MB a row; beyond that repeated prompts are cheaper.
LONGEST = 4096
# Logits are held in full here: at most 256 MB of them in float32.
LARGEST_LOGITS = 2**26


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Rows of one micro-batch, joined by prompt.

    Attributes:
        ids: Token ids, int64 (U, P + K): U distinct prompts, left padded to P, then
            their completions, right padded.
        prompt_width: P.
        attends: Which position may look at which, bool (U, 1, P + K, P + K).
        offsets: Position of every token relative to the first after its prompt,
            int64 (U, K).
        unit: Which of the U each row went to, int64 (B, 1).
        before: For every completion token, the place among the last K + 1 positions
            whose logits predict it, int64 (B, C).
        firsts: For every prompt, the first row that has it.
    """

    ids: torch.Tensor
    prompt_width: int
    attends: torch.Tensor
    offsets: torch.Tensor
    unit: torch.Tensor
    before: torch.Tensor
    firsts: tuple[int, ...]


def pack(batch: dict[str, Any], pad: int) -> PackedRows | None:
    """Join the rows of a batch that have prompt and picture in common.

    Args:
        batch: What :func:`trainers.rows.collate` made.
        pad: Padding token id.

    Returns:
        The joined rows, or None if no prompt repeats or a row would be too long.
    """
    prompts, prompt_mask = batch["prompt_ids"].cpu(), batch["prompt_mask"].cpu()
    completions = batch["completion_ids"].cpu()
    lengths = batch["completion_mask"].cpu().sum(1).tolist()
    pictures = iter(batch.get("picture_index", ()))
    shown = batch.get("num_images", [0] * len(prompts))
    members: dict[tuple[Any, ...], list[int]] = {}
    for row, count in enumerate(shown):
        picture = next(pictures) if count else None
        key = (picture, *prompts[row][prompt_mask[row].bool()].tolist())
        members.setdefault(key, []).append(row)
    width = prompts.shape[1]
    tail = max(sum(lengths[row] for row in rows) for rows in members.values())
    if len(members) == len(prompts) or width + tail > LONGEST or not tail:
        return None
    ids = torch.full((len(members), width + tail), pad)
    segment = torch.full((len(members), width + tail), -1)
    offsets = torch.zeros(len(members), tail, dtype=torch.long)
    unit = torch.zeros(len(prompts), 1, dtype=torch.long)
    before = torch.zeros_like(completions)
    for u, rows in enumerate(members.values()):
        ids[u, :width] = prompts[rows[0]]
        segment[u, :width] = prompt_mask[rows[0]] - 1
        start = 0
        for part, row in enumerate(rows, start=1):
            length = lengths[row]
            unit[row] = u
            if not length:
                continue  # a row that only fills its batch
            ids[u, width + start : width + start + length] = completions[row, :length]
            segment[u, width + start : width + start + length] = part
            offsets[u, start : start + length] = torch.arange(length)
            # The last prompt position predicts the first token of every completion.
            before[row, 1:length] = torch.arange(start + 1, start + length)
            start += length
    device = batch["prompt_ids"].device
    return PackedRows(
        ids.to(device),
        width,
        _attention(segment).to(device),
        offsets.to(device),
        unit.to(device),
        before.to(device),
        tuple(rows[0] for rows in members.values()),
    )


def _attention(segment: torch.Tensor) -> torch.Tensor:
    """Causal attention to the prompt (segment 0) and to one's own completion."""
    place = torch.arange(segment.shape[1])
    causal = place[:, None] >= place
    related = (segment[:, None] == 0) | (segment[:, :, None] == segment[:, None])
    # Padding looks at itself alone, or its softmax would have nothing to sum over.
    real = (segment[:, None] >= 0) | (place[:, None] == place)
    return (causal & related & real).unsqueeze(1)


def packed_logprobs(
    model: Any, base: Any, batch: dict[str, Any], packed: PackedRows, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies of completion tokens, from joined rows.

    Args:
        model: Called once; may be a wrapper around ``base``.
        base: The model itself, asked for positions and configuration.
        batch: The batch that ``packed`` was made from.
        packed: What :func:`pack` made.
        temperature: Divides the logits.

    Returns:
        Log-probabilities and entropies (without gradient), (B, C), zero at padding; in
        float32, or the model's own precision if that is wider.
    """
    tail = packed.offsets.shape[1]
    firsts = list(packed.firsts)
    inputs: dict[str, Any] = {}
    if "pixel_values" in batch:
        inputs["pixel_values"] = batch["pixel_values"]
        inputs["image_grid_thw"] = batch["image_grid_thw"][_pictures_of(batch, firsts)]
    out = model(
        input_ids=packed.ids,
        attention_mask=packed.attends,
        position_ids=_positions(base, batch, packed, inputs.get("image_grid_thw")),
        use_cache=False,
        logits_to_keep=tail + 1,
        **inputs,
    )
    logits = out.logits.to(torch.promote_types(out.logits.dtype, torch.float32))
    chances = (logits / temperature).log_softmax(-1)
    mask = batch["completion_mask"]
    logps = chances[packed.unit, packed.before, batch["completion_ids"]] * mask
    with torch.no_grad():
        entropy = -(chances.exp() * chances).sum(-1)[packed.unit, packed.before] * mask
    return logps, entropy


def _pictures_of(batch: dict[str, Any], rows: Sequence[int]) -> list[int]:
    """Where the pictures of some rows are among the pictures of all rows."""
    counts = batch["num_images"]
    return [sum(counts[:row]) for row in rows if counts[row]]


def picture_index_of(batch: dict[str, Any], packed: PackedRows) -> list[int]:
    """The distinct pictures that the joined rows show, in their order."""
    return [batch["picture_index"][place] for place in _pictures_of(batch, packed.firsts)]


def _positions(
    base: Any, batch: dict[str, Any], packed: PackedRows, grids: torch.Tensor | None
) -> torch.Tensor:
    """Positions as separate rows would have them: every completion follows the prompt."""
    rows = list(packed.firsts)
    mask = batch["prompt_mask"][rows]
    if grids is None:
        prompt = (mask.cumsum(-1) - 1).clamp(min=0)
    else:
        kinds = batch["mm_token_type_ids"][rows, : packed.prompt_width]
        prompt, _ = base.get_rope_index(
            packed.ids[:, : packed.prompt_width],
            mm_token_type_ids=kinds,
            image_grid_thw=grids,
            attention_mask=mask,
        )
    # With pictures the axes are (3, U, P); the next position is past the largest axis.
    last = prompt.amax(-1).amax(0) if prompt.dim() == 3 else prompt.amax(-1)
    follow = last[:, None] + 1 + packed.offsets
    if prompt.dim() == 3:
        follow = follow.expand(3, -1, -1)
    return torch.cat([prompt, follow], dim=-1)
