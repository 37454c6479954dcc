"""Pre-training batches without waste.

Several questions about one picture, or about one caption, share that prefix in one
row, under a block mask that lets each see the prefix and itself alone; short
text-only examples share rows in the same way. The loss is exactly that of separate
rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from agents.nano.architecture import GRID, MERGE, VISUAL_TOKENS


@dataclass(frozen=True)
class Example:
    """One prompt with its target.

    Attributes:
        prompt: Text of the user message.
        target: Text of the assistant message.
        task: Index of the task, for the loss by task.
        opening: How the target begins; that part counts for ``opening_task`` instead.
        opening_task: Index of a task.
    """

    prompt: str
    target: str
    task: int
    opening: str = ""
    opening_task: int = -1


@dataclass(frozen=True)
class Passage:
    """Examples whose prompts begin with the same text.

    Attributes:
        opening: The shared text; the examples' prompts are what follows it.
        examples: The examples.
    """

    opening: str
    examples: Sequence[Example]


@dataclass(frozen=True)
class Batch:
    """A packed batch of R rows of T tokens over I pictures.

    Attributes:
        input_ids: (R, T) int64, padded on the right.
        position_ids: (3, R, T) int64, temporal, vertical and horizontal.
        attention_mask: (R, 1, T, T) float32, 0 where allowed and -1e9 elsewhere.
        task: (R, T) int64, task index on target tokens and -1 elsewhere.
        pixel_values: (I * 36, 1536) float32 patches.
        image_grid_thw: (I, 3) int64.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    attention_mask: torch.Tensor
    task: torch.Tensor
    pixel_values: torch.Tensor
    image_grid_thw: torch.Tensor


@dataclass
class _Row:
    ids: list[int]
    segment: list[int]
    task: list[int]
    position: list[torch.Tensor]

    def add(self, ids: list[int], task: list[int], start: int) -> None:
        number = self.segment[-1] + 1 if self.segment else 1
        self.ids += ids
        self.segment += [number] * len(ids)
        self.task += task
        self.position.append(torch.arange(start, start + len(ids)).expand(3, -1))


class Packer:
    """Packs examples for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._encode = lambda text: tokenizer(text, add_special_tokens=False).input_ids
        vocabulary = tokenizer.get_vocab()
        self._pad = tokenizer.pad_token_id
        self._head = self._encode("<|im_start|>user\n")
        self._tail = self._encode("<|im_end|>\n<|im_start|>assistant\n")
        self._end = [vocabulary["<|im_end|>"]]
        self._image = [
            *self._head,
            vocabulary["<|vision_start|>"],
            *[vocabulary["<|image_pad|>"]] * VISUAL_TOKENS,
            vocabulary["<|vision_end|>"],
        ]
        self._image_position, self._after_image = self._positions()

    def _positions(self) -> tuple[torch.Tensor, int]:
        # The rope index of Qwen3-VL: text counts up in all three components; a picture keeps
        # the temporal one fixed and spreads rows and columns from there.
        first, side = len(self._head) + 1, GRID // MERGE
        position = torch.arange(len(self._image)).expand(3, -1).clone()
        rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        pads = slice(first, first + VISUAL_TOKENS)
        position[0, pads] = first
        position[1, pads] = first + rows.reshape(-1)
        position[2, pads] = first + columns.reshape(-1)
        position[:, first + VISUAL_TOKENS :] = first + side
        return position, first + side + 1

    def _example(self, example: Example, head: list[int]) -> tuple[list[int], list[int]]:
        prompt = head + self._encode(example.prompt) + self._tail
        first = self._encode(example.opening)
        rest = self._encode(example.target[len(example.opening) :]) + self._end
        task = [example.opening_task] * len(first) + [example.task] * len(rest)
        return prompt + first + rest, [-1] * len(prompt) + task

    def pack(
        self,
        pictures: Sequence[Sequence[Example]],
        texts: Sequence[Example],
        pixel_values: torch.Tensor,
        passages: Sequence[Passage] = (),
    ) -> Batch:
        """Pack examples into one batch.

        Args:
            pictures: For each picture, the examples that ask about it.
            texts: Examples without a picture.
            pixel_values: (len(pictures) * 36, 1536) patches, in the order of pictures.
            passages: Examples that share the beginning of a text prompt.

        Returns:
            The batch; picture rows come first.
        """
        rows = []
        for examples in pictures:
            n = len(self._image)
            row = _Row(list(self._image), [0] * n, [-1] * n, [self._image_position])
            for example in examples:
                row.add(*self._example(example, []), start=self._after_image)
            rows.append(row)
        for passage in passages:
            opening = self._head + self._encode(passage.opening)
            n = len(opening)
            row = _Row(opening, [0] * n, [-1] * n, [torch.arange(n).expand(3, -1)])
            for example in passage.examples:
                row.add(*self._example(example, []), start=n)
            rows.append(row)
        width = max((len(row.ids) for row in rows), default=256)
        bins: list[_Row] = []
        encoded = [self._example(example, self._head) for example in texts]
        for ids, task in sorted(encoded, key=lambda e: -len(e[0])):
            for row in bins:
                if len(row.ids) + len(ids) <= width:
                    break
            else:
                row = _Row([], [], [], [])
                bins.append(row)
            row.add(ids, task, start=0)
        return self._tensors(rows + bins, pixel_values, len(pictures))

    def _tensors(self, rows: list[_Row], pixel_values: torch.Tensor, images: int) -> Batch:
        count, width = len(rows), max(len(row.ids) for row in rows)
        ids = torch.full((count, width), self._pad)
        segment = torch.full((count, width), -1)
        task = torch.full((count, width), -1)
        position = torch.zeros(3, count, width, dtype=torch.long)
        for i, row in enumerate(rows):
            n = len(row.ids)
            ids[i, :n] = torch.tensor(row.ids)
            segment[i, :n] = torch.tensor(row.segment)
            task[i, :n] = torch.tensor(row.task)
            position[:, i, :n] = torch.cat(row.position, 1)
        same = segment[:, :, None] == segment[:, None, :]
        prefix = (segment == 0)[:, None, :] & (segment > 0)[:, :, None]
        causal = torch.ones(width, width, dtype=torch.bool).tril()
        allowed = causal & (same | prefix)
        mask = torch.zeros(count, 1, width, width).masked_fill_(~allowed[:, None], -1e9)
        grid = torch.tensor([[1, GRID, GRID]]).repeat(images, 1)
        return Batch(ids, position, mask, task, pixel_values, grid)
