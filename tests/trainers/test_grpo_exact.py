"""Loss, gradient and log-probabilities of the nano model against plain float64 arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import trl.trainer.utils
from transformers.models.qwen3_vl import modeling_qwen3_vl

from agents.adapters import AdapterSettings
from tests.nano_groups import Nano, disturb, nano_groups
from tests.tiny_groups import logprobs_of
from trainers.episode_trainer import EpisodeTrainer
from trainers.groups import Group
from trainers.grpo import GroupTrainer, GRPOSettings
from trainers.grpo_math import advantages, objective, truncated_importance
from trainers.reference import stage_start

NOISE = 0.7  # nats; puts ratios beyond all three clips
NUMBERS: dict[str, Any] = {
    "steps": 1,
    "prompts_per_step": 6,
    "group_size": 3,
    "micro_batch": 4,
    "beta": 0.3,
    "max_completion_length": 9,
    "max_grad_norm": 0.0,
}


class PlainHead:
    """TRL's fused head adds up in float32 whatever the model; this one does not."""

    @staticmethod
    def apply(hidden: Any, weight: Any, bias: Any, targets: Any, temperature: Any, *rest: Any):
        """Log-probability and entropy of every position."""
        chances = (hidden @ weight.T / temperature).log_softmax(-1)
        picked = chances.gather(-1, targets[:, None])[:, 0]
        entropy = -(chances.exp() * chances).sum(-1).detach()
        return picked, entropy, None, None, None


def wide_norm(self: Any, hidden: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.rms_norm(
        hidden, self.weight.shape, self.weight, self.variance_epsilon
    )


def wide_rotation(q: Any, k: Any, cos: Any, sin: Any) -> tuple[torch.Tensor, torch.Tensor]:
    cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    turned = [x * cos + modeling_qwen3_vl.rotate_half(x) * sin for x in (q, k)]
    return turned[0], turned[1]


@contextmanager
def float64_throughout() -> Iterator[None]:
    """Without the places where TRL's head and Qwen3-VL go through float32 whatever the model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trl.trainer.utils, "_ChunkedLogProbFunction", PlainHead)
        patch.setattr(modeling_qwen3_vl.Qwen3VLTextRMSNorm, "forward", wide_norm)
        patch.setattr(modeling_qwen3_vl, "apply_rotary_pos_emb_vision", wide_rotation)
        yield


@dataclass(frozen=True)
class Plain:
    """A model, a reference, groups, and the plain log-probabilities of every completion."""

    policy: Nano
    reference: Any
    groups: list[Group]
    rows: list[tuple[Group, int]]
    new: torch.Tensor
    old: torch.Tensor
    ref: torch.Tensor
    mask: torch.Tensor


def plain_of(lora: AdapterSettings | None, temperature: float = 1.0) -> Plain:
    policy = Nano(torch.float64, lora)
    if lora is None:
        other = policy.copy()
        for weight in other.model.parameters():
            weight.data += 0.02 * torch.randn(
                weight.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
            )
        reference = other.model
    else:
        other = policy.copy()
        disturb(other.model, "coder", seed=9)
        reference = stage_start(other.model)
    groups = nano_groups(policy, NOISE, temperature)
    rows = [(group, i) for group in groups for i in range(len(group.rewards))]
    shape = (
        len(rows),
        max(len(done.token_ids) for group in groups for done in group.response.completions),
    )
    old, ref, mask = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
    new = []
    for place, (group, i) in enumerate(rows):
        done = group.response.completions[i]
        length = len(done.token_ids)
        row = logprobs_of(policy, group.request, done.token_ids)
        new.append(torch.nn.functional.pad(row, (0, shape[1] - length)))
        with torch.no_grad():
            ref[place, :length] = logprobs_of(other, group.request, done.token_ids)
        # The trainer is given the sampler's numbers in float32.
        old[place, :length] = torch.tensor(done.logprobs).double()
        mask[place, :length] = 1
    return Plain(policy, reference, groups, rows, torch.stack(new), old, ref, mask)


def expected(plain: Plain, numbers: GRPOSettings) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradient by :func:`trainers.grpo_math.objective`."""
    gains, kept = [], []
    for group in plain.groups:
        values = advantages(group.rewards, numbers.scale)
        gains.extend(torch.tensor(values, dtype=torch.float32).double())
        kept.extend([numbers.keep_zero_variance or bool(values.any())] * len(values))
    rows = torch.tensor(kept)
    advantage = torch.stack(gains)[rows, None]
    old, new, mask = plain.old[rows], plain.new[rows], plain.mask[rows]
    if numbers.old_logprobs == "recompute":
        own = new.detach()
        if numbers.importance_cap is not None:
            weight = truncated_importance(own.numpy(), old.numpy(), numbers.importance_cap)
            assert (weight == numbers.importance_cap).any() and (weight < 1).any()
            advantage = advantage * torch.from_numpy(weight)
        old = own
    else:
        ratio = (new - old).detach().exp()[mask.bool()]
        assert ratio.min() < 1 - numbers.epsilon and ratio.max() > max(numbers.delta or 0, 1)
    loss = objective(
        new,
        old,
        plain.ref[rows] if numbers.beta else None,
        advantage,
        mask,
        epsilon=numbers.epsilon,
        epsilon_high=numbers.epsilon_high,
        delta=numbers.delta,
        beta=numbers.beta,
        loss_type=numbers.loss_type,
        max_length=numbers.max_completion_length,
    )
    weights = {n: w for n, w in plain.policy.model.named_parameters() if w.requires_grad}
    found = torch.autograd.grad(loss, list(weights.values()), retain_graph=True, allow_unused=True)
    return loss.item(), {
        name: grad for name, grad in zip(weights, found, strict=True) if grad is not None
    }


@pytest.fixture(scope="module")
def whole() -> Plain:
    with float64_throughout():
        return plain_of(None)


@pytest.fixture(scope="module")
def adapted() -> Plain:
    with float64_throughout():
        return plain_of(AdapterSettings(4, 8))


RECOMPUTE = {"old_logprobs": "recompute"}
WHOLE: dict[str, dict[str, Any]] = {
    "dapo": {},
    "grpo": {"loss_type": "grpo"},
    "bnpo": {"loss_type": "bnpo"},
    "dr_grpo without scaling": {"loss_type": "dr_grpo", "scale": "none"},
    "other clips, one micro-batch": {"epsilon": 0.1, "epsilon_high": 0.6, "micro_batch": 64},
    "no dual clip, no KL": {"delta": None, "beta": 0.0},
    "equal rewards kept": {"keep_zero_variance": True},
    "equal rewards kept by grpo": {"keep_zero_variance": True, "loss_type": "grpo"},
    "recomputed": RECOMPUTE,
    "truncated importance": {**RECOMPUTE, "importance_cap": 1.3, "loss_type": "bnpo"},
    "rows one by one": {"share_prompts": False},
}
ADAPTED: dict[str, dict[str, Any]] = {
    "dapo": {},
    "rows one by one, truncated importance": {
        **RECOMPUTE,
        "importance_cap": 1.3,
        "loss_type": "grpo",
        "share_prompts": False,
    },
}


def compare(plain: Plain, change: dict[str, Any], folder: Any) -> None:
    numbers = GRPOSettings(**{**NUMBERS, **change})
    loss, wanted = expected(plain, numbers)
    learner = plain.policy.copy()
    summed: dict[str, torch.Tensor] = {}
    for name, weight in learner.model.named_parameters():
        if weight.requires_grad:
            weight.register_hook(
                lambda grad, name=name: summed.__setitem__(name, summed.get(name, 0) + grad)
            )
    adapters = hasattr(learner.model, "peft_config")

    def source(step: int) -> list[Group]:
        if adapters:
            learner.model.set_adapter("solver")  # other roles have played since
        return plain.groups

    (metrics,) = GroupTrainer(
        learner.view() if adapters else learner,
        numbers,
        source,
        output_dir=folder,
        reference=plain.reference,
    ).train()
    assert metrics.loss == pytest.approx(loss, rel=1e-9)
    assert metrics.groups_used == 5 + numbers.keep_zero_variance
    assert summed.keys() == wanted.keys()
    size = torch.stack([grad.norm() for grad in wanted.values()]).norm()
    error = torch.stack([(summed[name] - wanted[name]).norm() for name in wanted]).norm()
    assert error / size < 1e-9
    assert metrics.grad_norm == pytest.approx(size.item(), rel=1e-9)


@pytest.mark.parametrize("change", WHOLE.values(), ids=WHOLE.keys())
def test_loss_and_gradient_of_the_whole_model_are_the_plain_ones(
    change: dict[str, Any], whole: Plain, tmp_path: Any
) -> None:
    with float64_throughout():
        compare(whole, change, tmp_path)


@pytest.mark.parametrize("change", ADAPTED.values(), ids=ADAPTED.keys())
def test_loss_and_gradient_of_an_adapter_are_the_plain_ones(
    change: dict[str, Any], adapted: Plain, tmp_path: Any
) -> None:
    with float64_throughout():
        compare(adapted, change, tmp_path)


def test_loss_and_gradient_at_another_temperature_with_adapters_on_the_tower(
    tmp_path: Any,
) -> None:
    with float64_throughout():
        plain = plain_of(AdapterSettings(4, 8, vision=True), temperature=0.7)
        compare(plain, {"temperature": 0.7}, tmp_path)


def batched(policy: Nano, groups: list[Group], folder: Any, *, share: bool) -> Iterator[Any]:
    """Old log-probabilities as the trainer recomputes them, all rows in two padded batches."""
    trainer = EpisodeTrainer(
        policy,
        GRPOSettings(
            **{**NUMBERS, **RECOMPUTE, "micro_batch": 9, "share_prompts": share, "beta": 0.0}
        ),
        lambda step: groups,
        first_step=0,
        reference=None,
        on_begin=lambda optimizer, scheduler: None,
        on_step=lambda metrics: None,
        output_dir=str(folder),
        seed=0,
    )
    for batch in trainer._generate_and_score_completions(None)["micro_batches"]:
        lengths = batch["completion_mask"].sum(1).tolist()
        for i, length in enumerate(lengths):
            ids = tuple(batch["completion_ids"][i, :length].tolist())
            yield ids, batch["old_per_token_logps"][i, :length]


@pytest.mark.parametrize("share", [True, False], ids=["joined prompts", "rows"])
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 5e-5)], ids=["float64", "float32"]
)
def test_batches_of_mixed_pictures_score_like_rows_alone(
    dtype: torch.dtype, bound: float, share: bool, tmp_path: Any
) -> None:
    exact = Nano(torch.float64)
    with float64_throughout():
        groups = nano_groups(exact, noise=0.0)[:-1]
        alone = {
            done.token_ids: logprobs_of(exact, group.request, done.token_ids).detach()
            for group in groups
            for done in group.response.completions
        }
    with float64_throughout() if dtype == torch.float64 else nullcontext():
        found = dict(batched(Nano(dtype), groups, tmp_path, share=share))
    assert found.keys() == alone.keys() and len(found) == 15
    assert {each.dtype for each in found.values()} == {dtype}
    assert max(float((found[ids] - alone[ids]).abs().max()) for ids in alone) < bound
