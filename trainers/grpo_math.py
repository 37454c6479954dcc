"""The formulas of GRPO, small enough to read.

* Advantages: group-normalised rewards (DeepSeekMath, arXiv 2402.03300, section 4.1),
  with the unbiased deviation and the 1e-6 of the MM-Zero reference.
* :func:`objective` writes the whole loss down in plain tensor algebra. Training
  does not call it: TRL's fused computation runs there, and the tests hold it to
  this one in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Scale = Literal["group", "none"]
LossType = Literal["dapo", "grpo", "bnpo", "dr_grpo"]

SCALES: tuple[Scale, ...] = ("group", "none")
LOSS_TYPES: tuple[LossType, ...] = ("dapo", "grpo", "bnpo", "dr_grpo")

# Keeps the division finite in a group whose rewards hardly differ (reference value).
DEVIATION_FLOOR = 1e-6


def advantages(rewards: Sequence[float], scale: Scale = "group") -> NDArray[np.float64]:
    """Advantage of every completion of one group.

    ``A = (r - mean) / (std + 1e-6)`` with ``ddof = 1``.

    Args:
        rewards: Finite rewards of the completions, shape (n,).
        scale: ``"group"`` divides by the deviation, ``"none"`` only centres
            (Dr. GRPO, arXiv 2503.20783).

    Returns:
        float64 of shape (n,). All zero when the rewards are equal or there is one.
    """
    values = np.asarray(rewards, dtype=np.float64)
    if values.size < 2 or np.all(values == values[0]):
        return np.zeros_like(values)
    centred = values - values.mean()
    return centred if scale == "none" else centred / (values.std(ddof=1) + DEVIATION_FLOOR)


def truncated_importance(
    trainer: NDArray[np.float64], sampler: NDArray[np.float64], cap: float
) -> NDArray[np.float64]:
    """Truncated importance weight of sampled tokens, ``min(p_trainer / p_sampler, cap)``.

    Corrects for an engine whose numbers differ from the trainer's.

    Args:
        trainer: Log-probabilities by the model that is trained, before any update.
        sampler: Log-probabilities by the engine that sampled; same shape.
        cap: Largest weight.
    """
    return np.minimum(np.exp(trainer - sampler), cap)


def token_losses(
    logprobs: torch.Tensor,
    old: torch.Tensor,
    advantage: torch.Tensor,
    *,
    epsilon: float,
    epsilon_high: float,
    delta: float | None,
) -> torch.Tensor:
    """Clipped loss of every token, before KL and averaging.

    ``max(-A r, -A clip(r, 1 - low, 1 + high))``; where A is negative the loss is
    also at most ``delta |A|`` (dual clip, arXiv 1912.09729).

    Args:
        logprobs: Log-probabilities under the model, shape (B, T).
        old: The same under the sampler; no gradient.
        advantage: Shape (B, 1) or (B, T).
        epsilon: Lower clip range.
        epsilon_high: Upper clip range.
        delta: Dual clip, or None.
    """
    ratio = (logprobs - old).exp()
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon_high)
    loss = (-advantage * ratio).maximum(-advantage * clipped)
    if delta is None:
        return loss
    bounded = loss.minimum(-advantage * delta)
    return bounded.where(advantage < 0, loss)


def k3(logprobs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The k3 estimate of KL(model || reference) at every token, never negative.

    ``exp(q - p) - (q - p) - 1`` with p the model's and q the reference's
    log-probability (J. Schulman, "Approximating KL divergence").
    """
    gap = reference - logprobs
    return gap.exp() - gap - 1


def average(
    losses: torch.Tensor, mask: torch.Tensor, loss_type: LossType, max_length: int
) -> torch.Tensor:
    """One number from the losses of all tokens of an update.

    Args:
        losses: Shape (B, T).
        mask: 1 at completion tokens, shape (B, T).
        loss_type: ``"dapo"`` and ``"bnpo"`` average over tokens; ``"grpo"`` over
            tokens of a completion, then over completions; ``"dr_grpo"`` divides by
            completions times ``max_length``.
        max_length: Longest completion, in tokens.
    """
    masked = losses * mask
    if loss_type == "grpo":
        return (masked.sum(1) / mask.sum(1)).mean()
    if loss_type == "dr_grpo":
        return masked.sum() / (len(losses) * max_length)
    return masked.sum() / mask.sum()


def objective(
    logprobs: torch.Tensor,
    old: torch.Tensor,
    reference: torch.Tensor | None,
    advantage: torch.Tensor,
    mask: torch.Tensor,
    *,
    epsilon: float,
    epsilon_high: float,
    delta: float | None,
    beta: float,
    loss_type: LossType,
    max_length: int,
) -> torch.Tensor:
    """The whole GRPO loss of one update; see the functions above for the arguments."""
    losses = token_losses(
        logprobs, old, advantage, epsilon=epsilon, epsilon_high=epsilon_high, delta=delta
    )
    if reference is not None:
        losses = losses + beta * k3(logprobs, reference)
    return average(losses, mask, loss_type, max_length)
