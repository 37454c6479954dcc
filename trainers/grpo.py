"""GRPO for one policy and one stage, on TRL, fed with groups that were played.

TRL supplies the loss, the fused log-probabilities, the optimizer loop and the
engines below it (accelerate, DeepSpeed, FSDP). What TRL cannot know comes from here:
completions of several players' episodes, with their pictures, rewards, and the
sampler's own tokens and log-probabilities.

Differences from the MM-Zero reference: TRL does not clamp the k3 term to ±10, and
weight decay skips biases and norms.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmzero_env.errors import UserError
from trainers.episode_trainer import EpisodeTrainer, Trainable
from trainers.groups import Group
from trainers.grpo_settings import GRPOSettings, StepMetrics
from trainers.ranks import ALONE, Ranks
from trainers.sharded import gather

__all__ = ["GRPOSettings", "GroupTrainer", "StepMetrics", "Trainable"]


class GroupTrainer:
    """Trains one policy for one stage.

    Args:
        policy: What is trained; ``policy.model`` changes in place, so ``source`` can
            sample from the same object and always plays with the current weights.
        settings: Numbers of the stage.
        source: Called with the index of a step, gives the groups to learn from, at
            most ``prompts_per_step`` of them with ``group_size`` completions each.
            Fewer, down to none, are fine.
        on_step: Called after every step, when the weights have been updated.
        output_dir: A folder for TRL; nothing is written to it by default.
        seed: Seeds TRL's generators. The global generators are put back afterwards.
        reference: Model that the KL term pulls towards. None copies ``policy.model``
            as it is now, the start of the stage.
        ranks: The processes that train together. ``source`` and ``on_step`` are called on
            the main one.
    """

    def __init__(
        self,
        policy: Trainable,
        settings: GRPOSettings,
        source: Callable[[int], list[Group]],
        on_step: Callable[[StepMetrics], None] | None = None,
        *,
        output_dir: str | Path,
        seed: int = 0,
        reference: Any = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """See the class."""
        self.policy = policy
        self.settings = settings
        self.source = source
        self.on_step = on_step
        self.ranks = ranks
        self.steps_done = 0
        self._output_dir = str(output_dir)
        self._seed = seed
        # Before TRL touches the model: a copy of a patched forward would still run
        # the weights it was bound to.
        self.reference = reference
        if settings.beta and reference is None:
            self.reference = copy.deepcopy(policy.model)
        self._loaded: Mapping[str, Any] | None = None
        self._optimizer: Any = None
        self._scheduler: Any = None
        self._history: list[StepMetrics] = []
        self._trainer: Any = None

    def train(self) -> list[StepMetrics]:
        """Run the steps that are left.

        Returns:
            Metrics of every step, also of those that were skipped because no group
            could be used.

        Raises:
            UserError: If groups do not fit the settings.
            EngineError: If groups contradict themselves.
        """
        if self.steps_done >= self.settings.steps:
            return []
        self._history = []
        policy: Trainable = self.policy
        if self.ranks.engine:
            policy = _Copy(policy, copy.deepcopy(policy.model))
        with _global_generators_restored(), _forward_restored(policy.model, self.reference):
            self._trainer = EpisodeTrainer(
                policy,
                self.settings,
                self.source,
                first_step=self.steps_done,
                reference=self.reference,
                on_begin=self._begin,
                on_step=self._step,
                output_dir=self._output_dir,
                seed=self._seed,
                ranks=self.ranks,
            )
            try:
                self._trainer.train()
            finally:
                self._trainer.let_go()
                self._trainer = None
        return self._history

    def _begin(self, optimizer: Any, scheduler: Any) -> None:
        self._optimizer, self._scheduler = optimizer, scheduler
        if self._loaded is not None:
            optimizer.load_state_dict(copy.deepcopy(self._loaded["optimizer"]))
            scheduler.load_state_dict(copy.deepcopy(self._loaded["scheduler"]))

    def _step(self, metrics: StepMetrics) -> None:
        self._history.append(metrics)
        self.steps_done += 1
        trainer, on_step = self._trainer, self.on_step
        if self.ranks.engine:
            gather(trainer.model, self.policy.model, trainer.accelerator, self.ranks)
        if on_step is not None:
            self.ranks.on_main(lambda: on_step(metrics))

    def state_dict(self) -> dict[str, Any]:
        """Steps done, optimizer and schedule: with the weights, all a stage is.

        Raises:
            UserError: Before :meth:`train` has begun.
        """
        if self._optimizer is None:
            raise UserError("there is no optimizer state before training has begun")
        return {
            "steps_done": self.steps_done,
            "optimizer": copy.deepcopy(self._optimizer.state_dict()),
            "scheduler": copy.deepcopy(self._scheduler.state_dict()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue a stage from :meth:`state_dict`.

        The weights must have been put into ``policy.model`` and those of the start of
        the stage given as ``reference``.
        """
        self.steps_done = int(state["steps_done"])
        self._loaded = state


class _Copy:
    """A policy's model a second time: the one that an engine takes apart."""

    def __init__(self, policy: Trainable, model: Any) -> None:
        self.model = model
        self.tokenizer = policy.tokenizer
        self.encode = policy.encode


@contextmanager
def _forward_restored(*models: Any) -> Generator[None]:
    """Take TRL's fused head off again: it lives in the instance's ``forward``."""
    before = [(model, model.__dict__.get("forward")) for model in models if model is not None]
    try:
        yield
    finally:
        for model, forward in before:
            if forward is None:
                model.__dict__.pop("forward", None)
            else:
                model.forward = forward


@contextmanager
def _global_generators_restored() -> Generator[None]:
    """TRL seeds the global generators; nobody else's randomness may depend on that."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
