"""The settings of one stage: how one role is trained in one iteration."""

from __future__ import annotations

from dataclasses import dataclass

from mmzero_env.errors import UserError


@dataclass(frozen=True)
class StageConfig:
    """Training of one role in one iteration.

    Attributes:
        steps: GRPO steps; 0 leaves the role untrained.
        prompts_per_step: Groups collected a step.
        group_size: Completions a group.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        warmup_updates: Updates over which the learning rate rises.
        beta: Weight of the KL term to the model at the start of the stage.
        micro_batch: Rows in one forward and backward pass.
        updates_per_step: Optimizer updates that share one collection.
        temperature: Sampling temperature of the trained role.
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
    warmup_updates: int = 0
    beta: float = 0.01
    micro_batch: int = 64
    updates_per_step: int = 1
    temperature: float = 1.0
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
        for name in ("steps", "max_epochs"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, got {getattr(self, name)}")
