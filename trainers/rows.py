"""From groups to padded batches: the rows that one GRPO update trains on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Request
from trainers.groups import Group
from trainers.grpo_math import Scale, advantages


class Encoded(Protocol):
    """A prompt as the model takes it: see :class:`agents.transformers.EncodedPrompt`."""

    @property
    def prompt_ids(self) -> Sequence[int]:
        """Token ids with the image tokens expanded."""
        ...

    @property
    def pixel_values(self) -> torch.Tensor | None:
        """Patches of the picture, shape (patches, features)."""
        ...

    @property
    def image_grid_thw(self) -> torch.Tensor | None:
        """Patch grid (t, h, w) of the picture, shape (1, 3)."""
        ...


@dataclass(frozen=True, eq=False)
class Picture:
    """A distinct picture as the model takes it.

    Attributes:
        pixels: Patches, float, shape (patches, features).
        grid: Patch grid (t, h, w), int64, shape (1, 3).
    """

    pixels: torch.Tensor
    grid: torch.Tensor


@dataclass(frozen=True, eq=False)
class Row:
    """One completion to train on, in the sampler's own tokens.

    Attributes:
        prompt: Prompt token ids, image tokens expanded.
        completion: Sampled token ids.
        logprobs: The sampler's log-probability of each of them, or empty.
        advantage: Its advantage within the group.
        picture: Picture of the prompt; rows on one picture share the object.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    logprobs: tuple[float, ...]
    advantage: float
    picture: Picture | None = None

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.prompt) + len(self.completion)


@dataclass(frozen=True, eq=False)
class RowGroup:
    """The rows of one group that are left to train on.

    Attributes:
        rows: In sampling order.
        banned: Completions left out because they hold a vision token.
    """

    rows: tuple[Row, ...]
    banned: int = 0


def rows_of(
    groups: Sequence[Group],
    encode: Callable[[Request], Encoded],
    *,
    scale: Scale,
    keep_equal: bool,
    vision_tokens: frozenset[int],
) -> list[RowGroup]:
    """Normalise rewards within each group and lay out its rows.

    Args:
        groups: Groups with the sampler's tokens and log-probabilities.
        encode: Gives pixels for a prompt with a picture.
        scale: How advantages are scaled.
        keep_equal: Keep groups whose rewards are all equal; their advantages are
            zero, so only the KL term acts on them.
        vision_tokens: A completion with one of these is left out, because a model
            would look for a picture behind it. Its reward still counts in the group.

    Returns:
        One entry a group; without rows for a group that is dropped.

    Raises:
        UserError: If a policy gave no tokens, so that there is nothing to train on.
        EngineError: If a reward is not finite, lengths disagree, or the prompt is
            encoded differently than the sampler had it.
    """
    pictures: dict[bytes, Picture] = {}
    laid_out: list[RowGroup] = []
    for group in groups:
        _check(group)
        gains = advantages(group.rewards, scale)
        if not keep_equal and not gains.any():
            laid_out.append(RowGroup(()))
            continue
        picture = _picture(group, encode, pictures)
        rows = tuple(
            Row(group.response.prompt_ids, done.token_ids, done.logprobs, float(gain), picture)
            for done, gain in zip(group.response.completions, gains, strict=True)
            if vision_tokens.isdisjoint(done.token_ids)
        )
        laid_out.append(RowGroup(rows, banned=len(gains) - len(rows)))
    return laid_out


def _check(group: Group) -> None:
    name, response = group.request.id, group.response
    if len(group.rewards) != len(response.completions):
        raise EngineError(
            f"group {name!r} has {len(response.completions)} completions "
            f"and {len(group.rewards)} rewards"
        )
    if not all(math.isfinite(reward) for reward in group.rewards):
        raise EngineError(f"group {name!r} has a reward that is not finite: {group.rewards}")
    if not response.prompt_ids or not all(done.token_ids for done in response.completions):
        raise UserError(
            f"group {name!r} was played by a policy without tokens; only a policy that "
            "returns token ids and log-probabilities can be trained"
        )
    for done in response.completions:
        if done.logprobs and len(done.logprobs) != len(done.token_ids):
            raise EngineError(
                f"group {name!r} has a completion of {len(done.token_ids)} tokens "
                f"with {len(done.logprobs)} log-probabilities"
            )


def _picture(
    group: Group, encode: Callable[[Request], Encoded], pictures: dict[bytes, Picture]
) -> Picture | None:
    image = group.request.image
    if image is None:
        return None
    digest = hashlib.blake2b(image.tobytes(), person=b"picture")
    digest.update(str(image.shape).encode())
    if digest.digest() not in pictures:
        encoded = encode(group.request)
        pixels, grid = encoded.pixel_values, encoded.image_grid_thw
        if pixels is None or grid is None:
            raise EngineError(f"the policy encoded group {group.request.id!r} without its picture")
        if tuple(encoded.prompt_ids) != group.response.prompt_ids:
            raise EngineError(
                f"the trained policy encodes the prompt of group {group.request.id!r} "
                "differently than the sampler did; both must share tokenizer, chat template "
                "and picture size"
            )
        pictures[digest.digest()] = Picture(pixels, grid.reshape(1, 3))
    return pictures[digest.digest()]


def micro_batches(rows: Iterable[Row], count: int, *, by_prompt: bool = False) -> list[list[Row]]:
    """Cut rows into exactly ``count`` batches of nearly equal size.

    Rows of similar length go together, which keeps padding low. The last batches
    are empty when there are fewer rows than batches.

    Args:
        rows: Any number.
        count: Batches wanted.
        by_prompt: Keep rows with the same prompt next to each other.
    """
    ordered = sorted(rows, key=lambda row: row.length)
    if by_prompt:
        groups: dict[tuple[tuple[int, ...], int], list[Row]] = {}
        for row in ordered:
            groups.setdefault((row.prompt, id(row.picture)), []).append(row)
        ordered = [row for group in groups.values() for row in group]
    small, larger = divmod(len(ordered), count)
    batches, start = [], 0
    for place in range(count):
        size = small + (place < larger)
        batches.append(ordered[start : start + size])
        start += size
    return batches


def levelled(parts: Sequence[Sequence[Row]], rows: Sequence[Row]) -> list[list[Row]]:
    """Give batches that several ranks compute at once the same number of rows.

    TRL gathers numbers of every row, so ranks must not differ in how many they have. And
    where weights are in pieces all ranks must run the same modules, so if any row of the
    update has a picture, every batch gets one. What is added has nothing to train on.

    Args:
        parts: One batch a rank; may be empty.
        rows: All rows of the update, at least one.
    """
    pictured = next((row for row in rows if row.picture is not None), None)
    filled = []
    for part in parts:
        blind = pictured is not None and all(row.picture is None for row in part)
        filled.append([*part, *([_blank(pictured)] if blind and pictured is not None else [])])
    size = max(1, *(len(part) for part in filled))
    for part in filled:
        like = part[-1] if part else min(rows, key=lambda row: row.length)
        part.extend([_blank(like)] * (size - len(part)))
    return filled


def _blank(row: Row) -> Row:
    """The prompt of a row, with nothing behind it."""
    return replace(row, completion=(), logprobs=(), advantage=0.0)


def padding_row(pad: int) -> Row:
    """A row without a single token to train on: fills an empty micro-batch."""
    return Row((pad,), (), (), 0.0)


def collate(
    rows: Sequence[Row], *, pad: int, image_token: int | None, device: torch.device
) -> dict[str, Any]:
    """Pad rows into the dictionary that TRL's loss reads.

    Args:
        rows: At least one.
        pad: Padding token id.
        image_token: Id that marks image positions in a prompt, None for a text model.
        device: Where the tensors go.

    Returns:
        ``prompt_ids``, ``prompt_mask`` int64 (B, P), left padded;
        ``completion_ids``, ``completion_mask`` int64 (B, C), right padded;
        ``advantages`` float32 (B,); ``sampler_logps`` float32 (B, C), zero at
        padding, absent if any row has none. With pictures also ``pixel_values`` of
        the distinct ones, ``picture_grids`` (U, 3), ``picture_index`` (list),
        ``image_grid_thw`` of all rows, ``num_images`` (list) and
        ``mm_token_type_ids`` (B, P + C).
    """
    size = len(rows)
    width = max(len(row.prompt) for row in rows)
    # At least two: TRL's means take a single column for one value a sequence, whatever its mask.
    length = max(2, max(len(row.completion) for row in rows))
    prompt = torch.full((size, width), pad)
    prompt_mask = torch.zeros(size, width, dtype=torch.long)
    completion = torch.full((size, length), pad)
    completion_mask = torch.zeros(size, length, dtype=torch.long)
    logps = torch.zeros(size, length)
    for i, row in enumerate(rows):
        prompt[i, width - len(row.prompt) :] = torch.tensor(row.prompt)
        prompt_mask[i, width - len(row.prompt) :] = 1
        completion[i, : len(row.completion)] = torch.tensor(row.completion, dtype=torch.long)
        completion_mask[i, : len(row.completion)] = 1
        logps[i, : len(row.logprobs)] = torch.tensor(row.logprobs)
    batch: dict[str, Any] = {
        "prompt_ids": prompt.to(device),
        "prompt_mask": prompt_mask.to(device),
        "completion_ids": completion.to(device),
        "completion_mask": completion_mask.to(device),
        "advantages": torch.tensor([row.advantage for row in rows]).to(device),
    }
    if all(len(row.logprobs) == len(row.completion) for row in rows):
        batch["sampler_logps"] = logps.to(device)
    shown = [row.picture for row in rows if row.picture is not None]
    if shown:
        places = {id(picture): place for place, picture in enumerate(dict.fromkeys(shown))}
        distinct = list(dict.fromkeys(shown))
        batch["pixel_values"] = torch.cat([picture.pixels for picture in distinct]).to(device)
        batch["picture_grids"] = torch.cat([picture.grid for picture in distinct]).to(device)
        batch["picture_index"] = [places[id(picture)] for picture in shown]
        batch["image_grid_thw"] = batch["picture_grids"][batch["picture_index"]]
        batch["num_images"] = [int(row.picture is not None) for row in rows]
        kinds = torch.zeros(size, width + length, dtype=torch.long)
        kinds[:, :width] = prompt == image_token
        batch["mm_token_type_ids"] = kinds.to(device)
    return batch
