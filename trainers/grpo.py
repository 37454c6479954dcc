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
from mmzero_env.protocol import Request
from trainers import generators
from trainers.episode_trainer import EpisodeTrainer, Trainable
from trainers.groups import Group
from trainers.grpo_settings import GRPOSettings, StepMetrics
from trainers.ranks import ALONE, Ranks
from trainers.reference import frozen_reference, stage_start
from trainers.rows import Encoded
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
        reference: What the KL term pulls towards: a model, or with adapters the weights of
            one. None copies what is trained as it is now, the start of the stage; see
            :mod:`trainers.reference`.
        ranks: The processes that train together, all from the main rank's weights. ``source``
            and ``on_step`` are called on the main one.
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
        if not ranks.engine:
            # An engine does so by itself when it takes the model apart.
            ranks.spread(w for w in policy.model.parameters() if w.requires_grad)
        # Before TRL touches the model: a copy of a patched forward would still run
        # the weights it was bound to.
        self.reference = reference
        if settings.beta and reference is None:
            self.reference = stage_start(policy.model)
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
        model = policy.model
        with (
            _global_generators_restored(),
            frozen_reference(model, self.reference) as reference,
            _checkpointing_taken_off(model),
            _forward_restored(model, self.reference),
        ):
            self._trainer = EpisodeTrainer(
                policy,
                self.settings,
                self._groups,
                first_step=self.steps_done,
                reference=reference,
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

    def _groups(self, step: int) -> list[Group]:
        if self._loaded is not None and step == self._loaded["steps_done"]:
            # Here and not before: TRL's data loader takes a number when it starts.
            generators.go_on_from(self._loaded["generators"])
        return self.source(step)

    def _step(self, metrics: StepMetrics) -> None:
        self._history.append(metrics)
        self.steps_done += 1
        trainer, on_step = self._trainer, self.on_step
        if self.ranks.engine:
            gather(trainer.model, self.policy.model, trainer.accelerator, self.ranks)
        self.ranks.on_main(lambda: on_step(metrics) if on_step is not None else None)

    def state_dict(self) -> dict[str, Any]:
        """All that a stage is between two steps.

        Returns:
            ``steps_done``, ``weights`` (those that are trained, by name), ``optimizer``,
            ``scheduler``, and ``generators`` (of Python, numpy and torch). Tensors are the
            live ones: write or copy them before the next step.

        Raises:
            UserError: Before :meth:`train` has begun.
        """
        if self._optimizer is None:
            raise UserError("there is no optimizer state before training has begun")
        return {
            "steps_done": self.steps_done,
            "weights": {name: weight.detach() for name, weight in self._trained()},
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "generators": generators.state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue a stage from :meth:`state_dict`.

        The trainer must have been made with the model as it was at the start of the stage, or
        with a ``reference`` (:func:`trainers.reference.load_reference`): the KL term pulls
        there.

        Raises:
            UserError: If the weights are those of another model.
        """
        weights = dict(self._trained())
        saved = state["weights"]
        if saved.keys() != weights.keys():
            odd = sorted(saved.keys() ^ weights.keys())
            raise UserError(
                f"the saved stage trains other weights than this model has: {', '.join(odd[:3])} "
                f"({len(odd)} in all)"
            )
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(saved[name])
        self.steps_done = int(state["steps_done"])
        self._loaded = state

    def _trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        named = self.policy.model.named_parameters()
        return [(name, weight) for name, weight in named if weight.requires_grad]


class _Copy:
    """A policy's model a second time: the one that an engine takes apart."""

    def __init__(self, policy: Trainable, model: Any) -> None:
        self._policy = policy
        self.model = model
        self.tokenizer = policy.tokenizer

    def encode(self, request: Request) -> Encoded:
        """As the policy does."""
        return self._policy.encode(request)


@contextmanager
def _forward_restored(*models: Any) -> Generator[None]:
    """Take TRL's fused head off again: it lives in the instance's ``forward``."""
    bases = [model.get_base_model() for model in models if hasattr(model, "get_base_model")]
    patched = [model for model in (*models, *bases) if isinstance(model, torch.nn.Module)]
    before = [(model, model.__dict__.get("forward")) for model in patched]
    try:
        yield
    finally:
        for model, forward in before:
            if forward is None:
                model.__dict__.pop("forward", None)
            else:
                model.forward = forward


@contextmanager
def _checkpointing_taken_off(model: Any) -> Generator[None]:
    """TRL puts gradient checkpointing on a model and leaves it there."""
    try:
        yield
    finally:
        if model.is_gradient_checkpointing:
            model.gradient_checkpointing_disable()
            model.disable_input_require_grads()


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
