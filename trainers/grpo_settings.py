"""Numbers that go into a GRPO stage, and numbers that come out of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from mmzero_env.errors import UserError, unknown
from trainers.groups import Group
from trainers.grpo_math import LOSS_TYPES, SCALES, LossType, Scale
from trainers.stage_config import StageConfig

SCHEDULES = ("constant", "linear", "cosine")
OLD_LOGPROBS = ("sampler", "recompute")
AUTO = "auto"


@dataclass(frozen=True)
class GRPOSettings:
    """A GRPO stage. Defaults are the MM-Zero reference's where it names a value.

    Attributes:
        steps: Steps of the stage: one collection of groups each.
        prompts_per_step: Most groups in a step.
        group_size: Most completions in a group, on average over a step.
        micro_batch: Most rows in one forward and backward pass, of each rank.
        updates_per_step: Optimizer updates that share one collection, each on its
            own part of the groups.
        num_iterations: Passes over a collection.
        learning_rate: AdamW's, after warm-up.
        weight_decay: AdamW's.
        betas: AdamW's.
        max_grad_norm: Gradients are clipped to this norm; 0 leaves them.
        schedule: One of :data:`SCHEDULES`, after warm-up; 20-step stages use
            ``"constant"``.
        warmup_updates: Updates over which the learning rate rises.
        epsilon: Lower clip range.
        epsilon_high: Upper clip range.
        delta: Dual clip of negative advantages, or None.
        beta: Weight of the k3 KL to the model at the start of the stage; 0 needs no
            reference model.
        loss_type: ``"dapo"`` is the token mean over the update; see
            :func:`trainers.grpo_math.average`.
        scale: How advantages are scaled within a group.
        keep_zero_variance: Keep groups with equal rewards. They teach nothing but
            are counted in the average and pulled by the KL term.
        temperature: Temperature the groups are sampled at; the loss uses the same.
        old_logprobs: ``"sampler"`` divides by the sampler's own log-probabilities;
            ``"recompute"`` by the trained model's before the update.
        importance_cap: With ``"recompute"``: truncated importance weights for
            engines that differ from the trainer, or None.
        max_completion_length: The constant of ``"dr_grpo"``, in tokens.
        share_prompts: Compute the prompt of a group once for all its completions
            where rows are short enough (:mod:`trainers.shared_prompts`). Changes
            the speed, not the result.
        gradient_checkpointing: Trade time for memory.
        autocast_bf16: Train float32 weights in bfloat16 arithmetic.

    Raises:
        UserError: If a value cannot be.
    """

    steps: int = 20
    prompts_per_step: int = 8
    group_size: int = 8
    micro_batch: int = 64
    updates_per_step: int = 1
    num_iterations: int = 1
    learning_rate: float = 1e-6
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    max_grad_norm: float = 1.0
    schedule: str = "constant"
    warmup_updates: int = 0
    epsilon: float = 0.2
    epsilon_high: float = 0.3
    delta: float | None = 3.0
    beta: float = 0.01
    loss_type: LossType = "dapo"
    scale: Scale = "group"
    keep_zero_variance: bool = False
    temperature: float = 1.0
    old_logprobs: Literal["sampler", "recompute"] = "sampler"
    importance_cap: float | None = None
    max_completion_length: int = 4096
    share_prompts: bool = True
    gradient_checkpointing: bool = False
    autocast_bf16: bool = False

    def __post_init__(self) -> None:
        """Refuse values that cannot be."""
        for kind, value, valid in (
            ("loss type", self.loss_type, LOSS_TYPES),
            ("advantage scale", self.scale, SCALES),
            ("learning rate schedule", self.schedule, SCHEDULES),
            ("source of old log-probabilities", self.old_logprobs, OLD_LOGPROBS),
        ):
            if value not in valid:
                raise unknown(kind, value, valid)
        counts = ("steps", "prompts_per_step", "group_size", "micro_batch", "updates_per_step")
        for name in (*counts, "num_iterations", "max_completion_length"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, value in zip(("adam_beta1", "adam_beta2"), self.betas, strict=True):
            if not 0 <= value < 1:
                raise UserError(f"{name} must be in [0, 1), got {value}")
        for name in ("weight_decay", "max_grad_norm", "warmup_updates", "beta", "epsilon_high"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise UserError(f"learning_rate must be above 0, got {self.learning_rate}")
        if not 0 <= self.epsilon < 1:
            raise UserError(f"epsilon must be in [0, 1), got {self.epsilon}")
        if self.temperature <= 0:
            raise UserError(
                f"temperature must be above 0 (greedy groups teach nothing), got {self.temperature}"
            )
        if self.delta is not None and self.delta <= 1 + self.epsilon_high:
            raise UserError(
                f"delta must be above 1 + epsilon_high = {1 + self.epsilon_high:g}, or it clips "
                f"what epsilon_high allows; got {self.delta:g}. 0 switches the dual clip off"
            )
        if self.importance_cap is not None and self.old_logprobs != "recompute":
            raise UserError("importance_cap needs old_logprobs='recompute'")
        if self.importance_cap is not None and self.importance_cap < 1:
            raise UserError(
                f"importance_cap must be at least 1, the weight of a token on which engine and "
                f"trainer agree, got {self.importance_cap:g}; 0 switches the weights off"
            )

    def micro_batches_per_update(self, ranks: int = 1) -> int:
        """Forward and backward passes of one optimizer update, on each of the ranks."""
        groups = -(-self.prompts_per_step // self.updates_per_step)
        return -(-groups * self.group_size // (self.micro_batch * ranks))

    def check(self, groups: Sequence[Group]) -> None:
        """Refuse groups that do not fit the stage.

        Raises:
            UserError: If there are more of them than planned for, or they were
                sampled in a way the loss does not know.
        """
        rows = sum(len(group.rewards) for group in groups)
        room = self.prompts_per_step * self.group_size
        if len(groups) > self.prompts_per_step or rows > room:
            raise UserError(
                f"a step takes at most {self.prompts_per_step} groups with {room} completions "
                f"in all, got {len(groups)} with {rows}; raise prompts_per_step or group_size"
            )
        for group in groups:
            sampling = group.request.sampling
            if sampling.temperature != self.temperature:
                raise UserError(
                    f"group {group.request.id!r} was sampled at temperature "
                    f"{sampling.temperature}, the stage trains at {self.temperature}"
                )
            if self.old_logprobs == "sampler" and (sampling.top_p < 1 or sampling.top_k > 0):
                raise UserError(
                    f"group {group.request.id!r} was sampled with top_p {sampling.top_p} and "
                    f"top_k {sampling.top_k}, which bias the importance ratios; sample with "
                    "top_p 1 and top_k 0, or set old_logprobs='recompute'"
                )


def of_stage(
    stage: StageConfig,
    *,
    engine: bool,
    gradient_checkpointing: bool = False,
    autocast_bf16: bool = False,
) -> GRPOSettings:
    """What the settings of a stage mean to the trainer.

    Args:
        stage: The stage, with at least one step.
        engine: Whether an engine samples. It rounds differently than the trainer, so
            ``old_logprobs="auto"`` takes the trainer's own log-probabilities, weighted by
            the truncated quotient of the two. So it does where the trainer computes in
            another precision than it samples in.
        gradient_checkpointing: Of the run.
        autocast_bf16: Of the run.

    Raises:
        UserError: If a value cannot be, or the sampling would bias the ratios.
    """
    old = stage.old_logprobs
    if old not in (AUTO, *OLD_LOGPROBS):
        raise unknown("source of old_logprobs", old, (AUTO, *OLD_LOGPROBS))
    recompute = old == "recompute" or (old == AUTO and (engine or autocast_bf16))
    if stage.top_p < 1 and not recompute:
        raise UserError(
            f"top_p {stage.top_p} cuts off tokens that the loss divides by, which biases the "
            "importance ratios; sample with top_p=1, or set old_logprobs=recompute"
        )
    return GRPOSettings(
        steps=stage.steps,
        prompts_per_step=stage.prompts_per_step,
        group_size=stage.group_size,
        micro_batch=stage.micro_batch,
        updates_per_step=stage.updates_per_step,
        num_iterations=stage.num_iterations,
        learning_rate=stage.learning_rate,
        weight_decay=stage.weight_decay,
        betas=(stage.adam_beta1, stage.adam_beta2),
        max_grad_norm=stage.max_grad_norm,
        schedule=stage.schedule,
        warmup_updates=stage.warmup_updates,
        epsilon=stage.epsilon,
        epsilon_high=stage.epsilon_high,
        delta=stage.delta or None,
        beta=stage.beta,
        loss_type=cast("LossType", stage.loss_type),
        scale=cast("Scale", stage.advantage_scale),
        keep_zero_variance=stage.keep_zero_variance,
        temperature=stage.temperature,
        old_logprobs="recompute" if recompute else "sampler",
        importance_cap=(stage.importance_cap or None) if recompute else None,
        max_completion_length=stage.max_tokens,
        gradient_checkpointing=gradient_checkpointing,
        autocast_bf16=autocast_bf16,
    )


@dataclass(frozen=True)
class StepMetrics:
    """What one step did.

    Attributes:
        step: Index of the step within the stage, from 0.
        reward_mean: Mean reward over all completions of the step; 0 if there is none.
        reward_std: Their standard deviation.
        terms: Mean of every reward term that the groups carry.
        loss: Mean loss over the updates.
        kl: Token mean of k3; 0 without a reference.
        entropy: Token mean entropy of the policy, in nats.
        clip_share: Share of tokens whose ratio was clipped.
        grad_norm: Norm before clipping, mean over the updates.
        learning_rate: That of the last update.
        groups_used: Groups trained on.
        groups_dropped: Groups left out.
        rows: Completions trained on.
        rows_banned: Completions left out because they hold a vision token.
        completion_length: Mean tokens in a completion of the step.
        updates: Optimizer updates that were done; 0 is a skipped step.
        seconds_rollout: Time spent in the source of groups.
        seconds_train: Time spent after it.
    """

    step: int
    reward_mean: float
    reward_std: float
    terms: Mapping[str, float]
    loss: float
    kl: float
    entropy: float
    clip_share: float
    grad_norm: float
    learning_rate: float
    groups_used: int
    groups_dropped: int
    rows: int
    rows_banned: int
    completion_length: float
    updates: int
    seconds_rollout: float
    seconds_train: float

    @property
    def skipped(self) -> bool:
        """Whether the weights stayed as they were."""
        return self.updates == 0
