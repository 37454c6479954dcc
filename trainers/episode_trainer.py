"""TRL's ``GRPOTrainer`` with episodes in place of its generator.

What is overridden (TRL 1.16.0, pinned; a test holds what is relied on):

* ``_generate_and_score_completions`` gives the micro-batches of a whole step instead
  of generating from a dataset;
* ``training_step`` hands them out in order and leaves out updates without a row;
  ``_prepare_inputs``, which does so in TRL, wants a constant number of rows and shuffles
  them with the global generator. Ours takes any number, sorted by length;
* ``compute_loss`` scales a micro-batch's loss so that batches of unequal size add
  up to the loss of the update;
* ``_get_per_token_logps_and_entropies`` computes what rows have in common once:
  pictures (:mod:`trainers.shared_images`) and prompts (:mod:`trainers.shared_prompts`).
  Where prompts are not shared, TRL's own method runs.

On several ranks (:mod:`trainers.ranks`) the groups come from the main rank. Every rank lays
out all rows in the same way and takes its share of each micro-batch's, so that loss, gradient
and metrics are those of one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from datasets import Dataset
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Request
from trainers.devices import moved
from trainers.groups import Group
from trainers.grpo_math import truncated_importance
from trainers.grpo_settings import GRPOSettings, StepMetrics
from trainers.grpo_tally import StepTally
from trainers.ranks import ALONE, Ranks
from trainers.reference import switched_on
from trainers.rows import Encoded, Row, collate, levelled, micro_batches, padding_row, rows_of
from trainers.sharded import accept_update, check_engine, shard_frozen
from trainers.shared_images import shared_images, vision_tower
from trainers.shared_prompts import (
    LARGEST_LOGITS,
    PackedRows,
    pack,
    packed_logprobs,
    picture_index_of,
)


class Trainable(Protocol):
    """A policy whose weights can be trained: a ``TransformersPolicy`` or alike."""

    @property
    def model(self) -> Any:
        """The model, trained in place."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Its tokenizer, with a padding token."""
        ...

    def encode(self, request: Request) -> Encoded:
        """A request as the model takes it."""
        ...


class EpisodeTrainer(GRPOTrainer):
    """TRL's trainer with the environment in place of its generator.

    Args:
        policy: What is trained.
        settings: Numbers of the stage.
        source: Gives the groups of a step.
        first_step: Where a resumed stage goes on.
        reference: The frozen model of the KL term, or the name of a frozen adapter of
            ``policy.model``; needed if ``settings.beta``.
        on_begin: Called with optimizer and scheduler before the first update.
        on_step: Called with the metrics of every step.
        output_dir: A folder for TRL.
        seed: Seeds TRL's generators.
        ranks: The processes that train together; ``source`` is called on the main one.

    Raises:
        UserError: If the policy has no tokenizer that TRL can use.
    """

    def __init__(
        self,
        policy: Trainable,
        settings: GRPOSettings,
        source: Callable[[int], list[Group]],
        *,
        first_step: int,
        reference: Any,
        on_begin: Callable[[Any, Any], None],
        on_step: Callable[[StepMetrics], None],
        output_dir: str,
        seed: int,
        ranks: Ranks = ALONE,
    ) -> None:
        """See the class."""
        if not isinstance(policy.tokenizer, PreTrainedTokenizerBase):
            raise UserError(
                f"policy.tokenizer must be a tokenizer, got {type(policy.tokenizer).__name__}"
            )
        self.policy = policy
        self.settings = settings
        self.source = source
        self.ranks = ranks
        self.tally: StepTally | None = None
        self._first_step = first_step
        self._per_update = settings.micro_batches_per_update(ranks.size)
        self._updates = settings.updates_per_step * settings.num_iterations
        updates_left = (settings.steps - first_step) * self._updates
        tower = vision_tower(policy.model)
        config = _trl_config(
            settings,
            updates=updates_left,
            micro_batches=self._per_update,
            # Text leaves a trained vision tower without gradients.
            unused=tower is None or any(weight.requires_grad for weight in tower.parameters()),
            # An engine moves the weights to where they are trained.
            on_cpu=policy.model.device.type == "cpu" and not ranks.engine,
            output_dir=output_dir,
            seed=seed,
        )
        # TRL reads one dataset row for every micro-batch it is going to run.
        rows = updates_left * self._per_update * config.world_size
        super().__init__(
            model=policy.model,
            reward_funcs=_no_reward,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": [""] * rows}),
            processing_class=policy.tokenizer,
            callbacks=[_Hooks(self, on_begin, on_step)],
        )
        check_engine(self.accelerator, ranks)
        self.remove_callback(PrinterCallback)
        self.beta = settings.beta
        checkpointing = self.args.gradient_checkpointing_kwargs
        if not (isinstance(checkpointing, dict) and checkpointing.get("use_reentrant")):
            # TRL opens the embeddings of models with adapters for re-entrant checkpointing,
            # which would make a frozen vision tower compute gradients for nobody.
            policy.model.disable_input_require_grads()
        self._towers = {id(policy.model): tower}
        self._reference = reference if settings.beta else None
        if isinstance(self._reference, torch.nn.Module):
            add_fused_lm_head(_plain(self._reference), temperature=settings.temperature)
            self._towers[id(self._reference)] = vision_tower(self._reference)
            self._reference = shard_frozen(self._reference, self.accelerator, ranks)
        self._vision_tokens = _vision_tokens(policy.model.config)
        self._image_token = getattr(policy.model.config, "image_token_id", None)
        self._micro: list[dict[str, Any]] = []
        self.idle = False
        self._batch: dict[str, Any] = {}

    def let_go(self) -> None:
        """Take off the model what trained it on several ranks; nothing for one process."""
        if isinstance(self.model_wrapped, DistributedDataParallel):
            # They would reduce the gradients of the next stage once more.
            self.model_wrapped._remove_autograd_hooks()
        if self.ranks != ALONE:
            self.accelerator.free_memory()

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """A resumed stage keeps the schedule of the whole stage."""
        whole = self.settings.steps * self._updates
        return super().create_scheduler(whole, optimizer)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any) -> torch.Tensor:
        """One micro-batch; a new step begins when all have been handed out."""
        place = self._step % (self._per_update * self._updates)
        if place == 0:
            self._micro = self._generate_and_score_completions(inputs)["micro_batches"]
        batch = self._micro[place % len(self._micro)]
        self.idle = not batch
        if self.idle:
            # Nothing to learn: no backward, so no parameter gets a gradient and the
            # optimizer leaves weights and moments as they are.
            self._step += 1
            return torch.zeros((), device=self.accelerator.device)
        return super().training_step(model, batch, num_items_in_batch)

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        """Collect the groups of a step and lay out the micro-batches of its updates."""
        step = self._first_step + self._step // (self._per_update * self._updates)
        settings = self.settings
        self.tally = tally = StepTally(step, settings.updates_per_step * settings.num_iterations)
        started = time.perf_counter()
        self.policy.model.eval()
        groups = self.ranks.share(lambda: self._collect(step))
        # Other roles may have played since, through adapters of their own on this model.
        self.policy.model.eval()
        tally.seconds_rollout = time.perf_counter() - started
        started = time.perf_counter()
        laid_out = rows_of(
            groups,
            self.policy.encode,
            scale=settings.scale,
            keep_equal=settings.keep_zero_variance,
            vision_tokens=self._vision_tokens,
        )
        tally.count(groups, laid_out)
        batches: list[dict[str, Any]] = []
        for part in np.array_split(np.arange(len(laid_out)), settings.updates_per_step):
            rows = [row for place in part for row in laid_out[place].rows]
            batches.extend(self._update(rows))
        self.policy.model.train()
        tally.started = started
        return {"micro_batches": batches}

    def _collect(self, step: int) -> list[Group]:
        groups = self.source(step)
        self.settings.check(groups)
        return groups

    def _update(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """The micro-batches of one optimizer update."""
        device, ranks = self.accelerator.device, self.ranks
        total_rows, total_tokens = len(rows), sum(len(row.completion) for row in rows)
        if not total_rows:
            return [{} for _ in range(self._per_update)]
        pad = self._tokenizer.pad_token_id
        share = self._per_update * ranks.size
        batches = []
        sharing = self.settings.share_prompts
        parts = micro_batches(rows, share, by_prompt=sharing)
        for start in range(0, share, ranks.size):
            at_once = parts[start : start + ranks.size]
            if ranks.size > 1:
                at_once = levelled(at_once, rows)
            batch = collate(
                at_once[ranks.rank] or [padding_row(pad)],
                pad=pad,
                image_token=self._image_token,
                device=device,
            )
            if sharing:
                batch["packed"] = self._pack(batch)
            tokens = int(batch["completion_mask"].sum())
            size = len(batch["completion_ids"])
            # TRL averages over a micro-batch, then over micro-batches, and the engine over
            # ranks, except for dapo; unequal micro-batches need their own weight.
            batch["tokens_at_once"] = sum(len(row.completion) for part in at_once for row in part)
            batch["loss_scale"] = {
                "dapo": 1.0,
                "bnpo": tokens * share / total_tokens,
                "grpo": size * share / total_rows,
                "dr_grpo": size * share / total_rows,
            }[self.loss_type]
            batch["num_items_in_batch"] = torch.tensor(float(total_tokens), device=device)
            self._freeze(batch)
            # A step of large pictures is many times what a GPU holds.
            batches.append(moved(batch, "cpu"))
        return batches

    def _freeze(self, batch: dict[str, Any]) -> None:
        """Add what stays fixed while the weights change: old and reference log-probabilities."""
        settings = self.settings
        sampler = batch.pop("sampler_logps", None)
        if settings.old_logprobs == "recompute":
            old = self._score(self.model, batch)
            if settings.importance_cap is not None:
                if sampler is None:
                    raise EngineError("importance weights need the sampler's log-probabilities")
                weight = truncated_importance(
                    old.double().cpu().numpy(),
                    sampler.double().cpu().numpy(),
                    settings.importance_cap,
                )
                weight = torch.from_numpy(weight).to(old)
                batch["advantages"] = batch["advantages"].unsqueeze(1) * weight
            batch["old_per_token_logps"] = old
        elif sampler is None:
            raise EngineError(
                "the sampler gave no log-probabilities; set old_logprobs='recompute' to take "
                "the trained model's own"
            )
        else:
            batch["old_per_token_logps"] = sampler
        if isinstance(self._reference, str):
            with switched_on(self.accelerator.unwrap_model(self.model), self._reference):
                batch["ref_per_token_logps"] = self._score(self.model, batch)
        elif self._reference is not None:
            batch["ref_per_token_logps"] = self._score(self._reference, batch)

    def _pack(self, batch: dict[str, Any]) -> PackedRows | None:
        config = self.policy.model.config
        # Only these take the dense mask that joined rows need.
        if config._attn_implementation != "sdpa" or (
            "pixel_values" in batch and self._towers[id(self.model)] is None
        ):
            return None
        packed = pack(batch, self._tokenizer.pad_token_id)
        if packed is None:
            return None
        logits = packed.offsets.numel() * config.get_text_config().vocab_size
        return packed if logits <= LARGEST_LOGITS else None

    @torch.no_grad()
    def _score(self, model: Any, batch: dict[str, Any]) -> torch.Tensor:
        """Log-probabilities of the completions under a model, zero at padding."""
        names = ("pixel_values", "image_grid_thw", "num_images", "mm_token_type_ids")
        self._batch = batch
        logps, _, _ = self._get_per_token_logps_and_entropies(
            model,
            torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
            torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
            batch["completion_ids"].size(1),
            **{name: batch[name] for name in names if name in batch},
        )
        return logps

    def _get_per_token_logps_and_entropies(
        self, model: Any, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        batch = self._batch
        base = self.accelerator.unwrap_model(model)
        packed: PackedRows | None = batch.get("packed")
        index = batch.get("picture_index", [])
        if packed is not None and index:
            index = picture_index_of(batch, packed)
        tower = self._towers[id(base)] if index else None
        if index and tower is None:
            # No tower whose features can be repeated: repeat the pixels instead.
            pictures = kwargs["pixel_values"].split(batch["picture_grids"].prod(-1).tolist())
            kwargs["pixel_values"] = torch.cat([pictures[i] for i in index])
        with shared_images(tower, batch["picture_grids"], index) if tower else nullcontext():
            if packed is None:
                return super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
            with self.accelerator.autocast():
                logps, entropies = packed_logprobs(
                    model, _core(base), batch, packed, self.temperature
                )
        return logps, entropies, None

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """TRL's loss of one micro-batch, weighted into the loss of the update."""
        self._batch = inputs = moved(inputs, self.accelerator.device)
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = loss * inputs["loss_scale"]
        assert self.tally is not None  # made when the step began
        self.tally.add(float(loss.detach()), inputs["tokens_at_once"], self._metrics["train"])
        return loss


class _Hooks(TrainerCallback):
    """What happens between backward, update and the next step."""

    def __init__(
        self,
        trainer: EpisodeTrainer,
        on_begin: Callable[[Any, Any], None],
        on_step: Callable[[StepMetrics], None],
    ) -> None:
        self._trainer = trainer
        self._on_begin = on_begin
        self._on_step = on_step

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Let a resumed stage put its optimizer back."""
        self._on_begin(kwargs["optimizer"], kwargs["lr_scheduler"])

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Leave out an update whose gradient is not finite, as the reference does."""
        trainer = self._trainer
        assert trainer.tally is not None  # made when the step began
        trainer.tally.updates += accept_update(kwargs["model"], trainer.accelerator, trainer.ranks)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the step after its last update."""
        logs, tally = kwargs["logs"], self._trainer.tally
        # TRL logs once after every update, and once more, without a loss, at the end.
        if "loss" not in logs or tally is None:
            return
        # DeepSpeed repeats the norm of its last step.
        norm = 0.0 if self._trainer.idle else logs["grad_norm"]
        tally.close_update(norm, logs["learning_rate"])
        if tally.complete:
            if self._trainer.ranks.size > 1:
                tally.share_loss(self._trainer.accelerator)
            self._on_step(tally.metrics())


def _trl_config(
    settings: GRPOSettings,
    *,
    updates: int,
    micro_batches: int,
    unused: bool,
    on_cpu: bool,
    output_dir: str,
    seed: int,
) -> GRPOConfig:
    return GRPOConfig(
        output_dir=output_dir,
        seed=seed,
        use_cpu=on_cpu,
        bf16=settings.autocast_bf16,
        max_steps=updates,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        max_grad_norm=settings.max_grad_norm,
        lr_scheduler_type=_schedule(settings),
        warmup_steps=settings.warmup_updates,
        optim="adamw_torch",
        epsilon=settings.epsilon,
        epsilon_high=settings.epsilon_high,
        delta=settings.delta,
        # TRL would load a reference from the hub by the name in the model's config;
        # ours is in memory, so the trainer puts beta in after construction.
        beta=0.0,
        # TRL would weigh the KL term by the importance ratio; MM-Zero does not.
        use_bias_correction_kl=False,
        loss_type=settings.loss_type,
        temperature=settings.temperature,
        max_completion_length=settings.max_completion_length,
        gradient_checkpointing=settings.gradient_checkpointing,
        # The smallest batches TRL accepts: its rows are dummies.
        per_device_train_batch_size=2,
        num_generations=2,
        gradient_accumulation_steps=micro_batches,
        shuffle_dataset=False,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=unused,
        report_to="none",
        log_level_replica="error",
        save_strategy="no",
        logging_strategy="steps",
        logging_steps=1,
        disable_tqdm=True,
    )


def _schedule(settings: GRPOSettings) -> str:
    """The name of the schedule in transformers, whose plain constant one has no warm-up."""
    if settings.schedule == "constant" and settings.warmup_updates:
        return "constant_with_warmup"
    return settings.schedule


def _no_reward(**kwargs: Any) -> list[float | None]:
    raise EngineError("TRL asked for a reward; rewards come with the groups")


def _core(model: Any) -> Any:
    """The network below the language-model head, adapters or not."""
    return _plain(model).base_model


def _plain(model: Any) -> Any:
    """The model below its adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _vision_tokens(config: Any) -> frozenset[int]:
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    found = (getattr(config, name, None) for name in names)
    return frozenset(token for token in found if token is not None)
