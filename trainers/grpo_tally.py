"""Adds up what a GRPO step did."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from trainers.groups import Group
from trainers.grpo_settings import StepMetrics
from trainers.rows import RowGroup


@dataclass
class StepTally:
    """Adds up one step while it runs."""

    step: int
    planned_updates: int
    seconds_rollout: float = 0.0
    started: float = 0.0
    updates: int = 0
    _closed: int = 0
    _loss: float = 0.0
    _tokens: int = 0
    _sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _grad_norms: list[float] = field(default_factory=list)
    _learning_rate: float = 0.0
    _rewards: list[float] = field(default_factory=list)
    _terms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _lengths: list[int] = field(default_factory=list)
    _used: int = 0
    _dropped: int = 0
    _rows: int = 0
    _banned: int = 0

    def count(self, groups: Sequence[Group], laid_out: Sequence[RowGroup]) -> None:
        """Take in the groups of the step and what became of them."""
        for group, kept in zip(groups, laid_out, strict=True):
            self._rewards.extend(group.rewards)
            self._lengths.extend(len(done.token_ids) for done in group.response.completions)
            for terms in group.terms:
                for name, value in terms.items():
                    self._terms[name].append(value)
            self._used += bool(kept.rows)
            self._dropped += not kept.rows
            self._rows += len(kept.rows)
            self._banned += kept.banned

    def add(self, loss: float, tokens: int, logged: Mapping[str, Sequence[float]]) -> None:
        """Take in one micro-batch: its loss, its tokens and TRL's last entries."""
        self._loss += loss
        self._tokens += tokens
        for name in ("kl", "entropy", "clip_ratio/region_mean"):
            if name in logged:
                self._sums[name] += logged[name][-1] * tokens

    def close_update(self, grad_norm: float, learning_rate: float) -> None:
        """Take in one update of the optimizer."""
        self._closed += 1
        self._grad_norms.append(grad_norm)
        self._learning_rate = learning_rate

    def share_loss(self, accelerator: Any) -> None:
        """Average the loss over the ranks; every other number is the same on all of them."""
        loss = torch.tensor(self._loss, dtype=torch.float64, device=accelerator.device)
        self._loss = float(accelerator.reduce(loss, reduction="mean"))

    @property
    def complete(self) -> bool:
        """Whether all updates of the step are through."""
        return self._closed == self.planned_updates

    def metrics(self) -> StepMetrics:
        """The step in numbers."""
        tokens = max(self._tokens, 1)
        return StepMetrics(
            step=self.step,
            reward_mean=float(np.mean(self._rewards)) if self._rewards else 0.0,
            reward_std=float(np.std(self._rewards)) if self._rewards else 0.0,
            terms={name: float(np.mean(values)) for name, values in self._terms.items()},
            loss=self._loss / self.planned_updates,
            kl=self._sums["kl"] / tokens,
            entropy=self._sums["entropy"] / tokens,
            clip_share=self._sums["clip_ratio/region_mean"] / tokens,
            grad_norm=float(np.mean(self._grad_norms)),
            learning_rate=self._learning_rate,
            groups_used=self._used,
            groups_dropped=self._dropped,
            rows=self._rows,
            rows_banned=self._banned,
            completion_length=float(np.mean(self._lengths)) if self._lengths else 0.0,
            updates=self.updates,
            seconds_rollout=self.seconds_rollout,
            seconds_train=time.perf_counter() - self.started,
        )
