"""The settings of one stage: how one role is trained in one iteration."""

from __future__ import annotations

from dataclasses import dataclass

from mmzero_env.errors import UserError


@dataclass(frozen=True)
class StageConfig:
    """Training of one role in one iteration.

    What the numbers mean to the loss is in :class:`trainers.grpo_settings.GRPOSettings`
    and, with formulas and sources, in ``docs/training.md``.

    Attributes:
        steps: GRPO steps; 0 leaves the role untrained.
        prompts_per_step: Groups collected a step.
        group_size: Completions a group.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        adam_beta1: AdamW's decay of the mean gradient.
        adam_beta2: AdamW's decay of the mean square.
        max_grad_norm: Gradients are clipped to this norm; 0 leaves them.
        schedule: ``"constant"``, ``"linear"`` or ``"cosine"``, after warm-up.
        warmup_updates: Updates over which the learning rate rises.
        beta: Weight of the KL term to the model at the start of the stage.
        loss_type: ``"dapo"`` (token mean), ``"grpo"``, ``"bnpo"`` or ``"dr_grpo"``.
        advantage_scale: ``"group"`` divides advantages by the group's deviation,
            ``"none"`` does not.
        epsilon: Lower clip range.
        epsilon_high: Upper clip range.
        delta: Dual clip of negative advantages; 0 for none.
        keep_zero_variance: Keep groups with equal rewards, as the reference does.
        old_logprobs: What ratios are taken to: ``"sampler"``, the log-probabilities of
            whoever sampled; ``"recompute"``, the trained model's own before the update;
            ``"auto"``, the former where the trained weights sample, the latter else.
        importance_cap: With recomputed ones: truncated importance weights between
            sampler and trainer; 0 for none. The default is the constant of Yao et al.
            (2025), "Your efficient RL framework secretly brings you off-policy RL training".
        micro_batch: Rows in one forward and backward pass.
        updates_per_step: Optimizer updates that share one collection.
        num_iterations: Passes over a collection.
        temperature: Sampling temperature of the role.
        top_p: Nucleus that the role is sampled from, from above 0 to 1, the whole vocabulary.
        max_tokens: Longest completion of the role, in tokens.
        codes: Codes a proposal when this role is trained (the Coder's is ``group_size``).
        answers: Answers to each question about each picture. In the Solver's stage:
            answers that vote on the label.
        pool: Proposals that a pool of training prompts is filtered from (not the Proposer's).
        max_epochs: The stage ends early when every prompt of its pool has been seen so
            often; labels are fixed for a stage, and a few prompts repeated for long teach
            their errors. 0 sets no limit, as in the reference.
    """

    steps: int = 20
    prompts_per_step: int = 8
    group_size: int = 4
    learning_rate: float = 1e-6
    weight_decay: float = 0.01
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    max_grad_norm: float = 1.0
    schedule: str = "constant"
    warmup_updates: int = 0
    beta: float = 0.01
    loss_type: str = "dapo"
    advantage_scale: str = "group"
    epsilon: float = 0.2
    epsilon_high: float = 0.3
    delta: float = 3.0
    keep_zero_variance: bool = False
    old_logprobs: str = "auto"
    importance_cap: float = 2.0
    micro_batch: int = 64
    updates_per_step: int = 1
    num_iterations: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 4096
    codes: int = 4
    answers: int = 5
    pool: int = 1000
    max_epochs: int = 0

    def __post_init__(self) -> None:
        """Refuse values that cannot be."""
        for name in ("prompts_per_step", "group_size", "codes", "answers", "pool", "max_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        for name in ("steps", "max_epochs", "delta", "importance_cap"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, got {getattr(self, name)}")
