"""GRPO of a Solver in plain PyTorch, as short as it can be and still do the same arithmetic.

The yardstick for :mod:`benchmarks.train_step`: no TRL, no ``generate``, no requests, no
records. The prompts of a step are computed once each, sampled from with a key-value cache,
and trained on with the loss of the run: clipped ratios to the sampler's log-probabilities,
dual clip, k3 to the model as it began, token mean, AdamW.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from agents.encoding import EncodedPrompt
from trainers.grpo_settings import GRPOSettings


class BareLoop:
    """Trains a Qwen3-VL, step by step.

    Args:
        model: Trained in place.
        settings: Numbers of the stage; one update a step, groups of one size.
        max_tokens: Longest completion.
        stop: Token that ends a completion.
        banned: Tokens that are never drawn.
        seed: Seeds the sampling.
    """

    def __init__(
        self,
        model: Any,
        settings: GRPOSettings,
        *,
        max_tokens: int,
        stop: int,
        banned: Sequence[int],
        seed: int = 0,
    ) -> None:
        """See the class."""
        self.model = model
        self.settings = settings
        self.reference = copy.deepcopy(model).eval().requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self._max_tokens, self._stop, self._banned = max_tokens, stop, list(banned)
        self._chance = torch.Generator().manual_seed(seed)

    def step(
        self,
        prompts: Sequence[EncodedPrompt],
        reward: Callable[[int, list[list[int]]], Sequence[float]],
    ) -> float:
        """Sample, reward, update.

        Args:
            prompts: One a group.
            reward: Gives the rewards of a group from its place and its completions' tokens.

        Returns:
            Mean length of the completions, in tokens.
        """
        s, size = self.settings, self.settings.group_size
        batch = _collate(prompts, self._stop)
        tokens, mask, old = self._sample(batch)
        rewards = torch.tensor(
            [
                list(reward(g, [_cut(row, m) for row, m in zip(rows, masks, strict=True)]))
                for g, (rows, masks) in enumerate(
                    zip(tokens.split(size), mask.split(size), strict=True)
                )
            ]
        )
        centred = rewards - rewards.mean(1, keepdim=True)
        advantage = (centred / (rewards.std(1, keepdim=True) + 1e-4)).view(-1, 1)
        with torch.no_grad():
            reference = self._logprobs(self.reference, batch, tokens, mask)
        logprobs = self._logprobs(self.model, batch, tokens, mask)
        ratio = (logprobs - old).exp()
        if s.delta is not None:
            ratio = ratio.clamp(max=s.delta)
        clipped = (logprobs - old).exp().clamp(1 - s.epsilon, 1 + s.epsilon_high)
        gain = torch.minimum(ratio * advantage, clipped * advantage)
        drift = reference - logprobs
        loss = ((s.beta * (drift.exp() - drift - 1) - gain) * mask).sum() / mask.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), s.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(mask.sum() / len(mask))

    @torch.no_grad()
    def _sample(self, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Completions, their mask and their log-probabilities, each (groups x size, tokens)."""
        cache, attends, places, logits = self._prefill(self.model, batch)
        going = torch.ones(len(logits), dtype=torch.bool)
        tokens, masks, logprobs = [], [], []
        for _ in range(self._max_tokens):
            logits[:, self._banned] = -torch.inf
            chances = (logits / self.settings.temperature).log_softmax(-1)
            drawn = torch.multinomial(chances.exp(), 1, generator=self._chance)
            tokens.append(drawn)
            masks.append(going[:, None])
            logprobs.append(chances.gather(1, drawn))
            going = going & (drawn[:, 0] != self._stop)
            if not going.any():
                break
            attends = torch.cat([attends, attends.new_ones(len(attends), 1)], 1)
            places = places + 1
            logits = self.model(
                input_ids=drawn,
                attention_mask=attends,
                position_ids=places.expand(3, -1, -1),
                past_key_values=cache,
            ).logits[:, -1]
        mask = torch.cat(masks, 1)
        return torch.cat(tokens, 1), mask, torch.cat(logprobs, 1) * mask

    def _logprobs(
        self, model: Any, batch: dict[str, Any], tokens: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Log-probabilities of completions, behind prompts that are computed once."""
        cache, attends, places, first = self._prefill(model, batch)
        later = places + torch.arange(1, tokens.shape[1])
        logits = model(
            input_ids=tokens[:, :-1],
            attention_mask=torch.cat([attends, mask[:, :-1].long()], 1),
            position_ids=later.expand(3, -1, -1),
            past_key_values=cache,
        ).logits
        every = torch.cat([first[:, None], logits], 1) / self.settings.temperature
        return every.log_softmax(-1).gather(2, tokens[..., None])[..., 0] * mask

    def _prefill(
        self, model: Any, batch: dict[str, Any]
    ) -> tuple[DynamicCache, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Cache, mask, last position and next logits of the prompts, once a completion."""
        size = self.settings.group_size
        positions, _ = model.model.get_rope_index(
            batch["input_ids"],
            mm_token_type_ids=batch["mm_token_type_ids"],
            image_grid_thw=batch["image_grid_thw"],
            attention_mask=batch["attention_mask"],
        )
        cache = DynamicCache(config=model.config.get_text_config())
        logits = model(
            **batch, position_ids=positions, past_key_values=cache, logits_to_keep=1
        ).logits[:, -1]
        cache.batch_repeat_interleave(size)
        return (
            cache,
            batch["attention_mask"].repeat_interleave(size, 0),
            positions.amax((0, 2))[:, None].repeat_interleave(size, 0),
            logits.repeat_interleave(size, 0),
        )


def _collate(prompts: Sequence[EncodedPrompt], pad: int) -> dict[str, Any]:
    """Prompts with their pictures, left padded."""
    width = max(len(prompt.prompt_ids) for prompt in prompts)
    rows = [(pad,) * (width - len(p.prompt_ids)) + tuple(p.prompt_ids) for p in prompts]
    masks = [[0] * (width - len(p.prompt_ids)) + [1] * len(p.prompt_ids) for p in prompts]
    kinds = [(0,) * (width - len(p.prompt_ids)) + tuple(p.mm_token_type_ids) for p in prompts]
    return {
        "input_ids": torch.tensor(rows),
        "attention_mask": torch.tensor(masks),
        "mm_token_type_ids": torch.tensor(kinds),
        "pixel_values": torch.cat([p.pixel_values for p in prompts if p.pixel_values is not None]),
        "image_grid_thw": torch.cat(
            [p.image_grid_thw for p in prompts if p.image_grid_thw is not None]
        ),
    }


def _cut(row: torch.Tensor, mask: torch.Tensor) -> list[int]:
    return row[mask].tolist()
