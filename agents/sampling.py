"""Drawing tokens: one private random stream a sample, exact log-probabilities.

A sample is the function of (request seed, index of the sample, position) that
inverts the cumulative distribution at a number drawn in advance. It depends on
nothing else, so whatever a request is batched with, and whatever order rows
finish in, it gets the same completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmzero_env.protocol import Sampling

_BLOCK = 32  # Uniforms drawn at once for a row: most completions need one or two blocks.


@dataclass(frozen=True)
class Stream:
    """Where the randomness of one sample comes from.

    Attributes:
        seed: Seed of the request; reduced to 64 bits.
        index: Position of the sample among the ``n`` of its request.
    """

    seed: int
    index: int

    def generator(self) -> np.random.Generator:
        """A Philox generator keyed by (seed, index): streams never overlap."""
        key = np.array([self.seed % 2**64, self.index], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=key))


class Sampler:
    """Draws one token a row and step for a batch whose rows may leave.

    Args:
        streams: Randomness of every row.
        samplings: How every row is sampled, same length.
        banned: Token ids that are never drawn.
        device: Where the logits live.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        samplings: Sequence[Sampling],
        banned: Sequence[int],
        device: torch.device,
    ) -> None:
        """See the class."""
        self._generators = [stream.generator() for stream in streams]
        self._block = torch.empty((len(streams), 0))
        self._column = 0
        self._device = device
        self._banned = torch.tensor(sorted(set(banned)), dtype=torch.long, device=device)
        temperature = torch.tensor([s.temperature for s in samplings], dtype=torch.float32)
        self._greedy = (temperature == 0).to(device)
        # Greedy rows report log-probabilities of the unscaled distribution.
        self._temperature = torch.where(temperature == 0, 1.0, temperature).to(device)[:, None]
        self._top_p = torch.tensor([s.top_p for s in samplings], device=device)[:, None]
        self._top_k = torch.tensor([s.top_k for s in samplings], device=device)[:, None]
        self._refresh()

    def keep(self, rows: torch.Tensor) -> None:
        """Drop every row but ``rows``.

        Args:
            rows: Indices of the rows that stay, shape (k,), dtype int64.
        """
        self._generators = [self._generators[row] for row in rows.tolist()]
        self._block = self._block[rows.to(self._block.device)]
        self._greedy = self._greedy[rows]
        self._temperature = self._temperature[rows]
        self._top_p = self._top_p[rows]
        self._top_k = self._top_k[rows]
        self._refresh()

    def draw(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw the next token of every row.

        Args:
            logits: Shape (rows, vocabulary), floating point; may be overwritten.

        Returns:
            The token ids, shape (rows,), int64, and the natural-log probability of
            each under the distribution that it was drawn from: after temperature,
            ban and truncation. Greedy rows are reported at temperature 1. A row
            without one possible token (logits that are not finite) reports NaN.
        """
        logits = logits.float()
        if len(self._banned):
            logits[:, self._banned] = -torch.inf
        if self._scaled:
            logits = logits / self._temperature
        if self._truncated:
            logits = truncate(logits, self._top_p, self._top_k)
        peak = logits.amax(-1, keepdim=True)
        # Rounding of a parallel float32 scan could make the sums decrease, so the
        # accelerator scans in float64; the CPU scan is sequential.
        wide = torch.float32 if self._device.type == "cpu" else torch.float64
        cumulative = (logits - peak).exp_().cumsum(-1, dtype=wide)
        total = cumulative[:, -1:]
        if self._all_greedy:
            tokens = logits.argmax(-1, keepdim=True)
            self._column += 1
        else:
            # The first sum strictly above a target below the total belongs to a
            # token of positive probability, whatever the rounding of the product.
            below = torch.nextafter(total, torch.zeros_like(total))
            target = torch.minimum(self._uniforms().to(wide) * total, below)
            tokens = torch.searchsorted(cumulative, target, right=True)
            tokens = tokens.clamp_(max=logits.shape[-1] - 1)
            if self._any_greedy:
                best = logits.argmax(-1, keepdim=True)
                tokens = torch.where(self._greedy[:, None], best, tokens)
        logprobs = logits.gather(-1, tokens) - peak - total.log().float()
        return tokens[:, 0], logprobs[:, 0]

    def _uniforms(self) -> torch.Tensor:
        """The next number of every row's stream, shape (rows, 1), float32 in [0, 1)."""
        column = self._column % _BLOCK
        if column == 0:
            block = [g.random(_BLOCK, dtype=np.float32) for g in self._generators]
            self._block = torch.from_numpy(np.stack(block))
        self._column += 1
        return self._block[:, column : column + 1].to(self._device)

    def _refresh(self) -> None:
        self._any_greedy = bool(self._greedy.any())
        self._all_greedy = bool(self._greedy.all())
        self._scaled = bool((self._temperature != 1).any())
        self._truncated = bool((self._top_p < 1).any() or (self._top_k > 0).any())


def truncate(logits: torch.Tensor, top_p: torch.Tensor, top_k: torch.Tensor) -> torch.Tensor:
    """Cut the tail of every row: first to the ``top_k`` best, then to the nucleus.

    The nucleus is the smallest set of best tokens whose probability, among those
    left by ``top_k``, reaches ``top_p`` (Holtzman et al. 2020, "The Curious Case of
    Neural Text Degeneration", section 3.1).

    Args:
        logits: Shape (rows, vocabulary), float32.
        top_p: Shape (rows, 1); 1 keeps everything.
        top_k: Shape (rows, 1); 0 keeps everything.

    Returns:
        The logits with minus infinity in the tail; the best token always stays.
    """
    ordered, index = logits.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(logits.shape[-1], device=logits.device)[None]
    ordered = ordered.masked_fill((top_k > 0) & (rank >= top_k), -torch.inf)
    probability = ordered.softmax(-1)
    before = probability.cumsum(-1) - probability
    outside = (top_p < 1) & (before >= top_p) & (rank > 0)
    return torch.empty_like(logits).scatter_(-1, index, ordered.masked_fill(outside, -torch.inf))
