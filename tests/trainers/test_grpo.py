"""GRPO on TRL against plain arithmetic, and the ways a step can go."""

from __future__ import annotations

import copy
import gc
import inspect
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import trl
from trl import GRPOTrainer

from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Request, Sampling
from tests.tiny import TinyPolicy
from tests.tiny_groups import IMAGE_PAD, group_of, logprobs_of, mixed_groups, policy_of
from trainers.groups import Group
from trainers.grpo import GroupTrainer, GRPOSettings, StepMetrics
from trainers.grpo_math import LOSS_TYPES, advantages, objective


@pytest.fixture(autouse=True, scope="module")
def quick_collection() -> Iterator[None]:
    """Every training run collects garbage; the imported libraries need no look each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def train(
    policy: TinyPolicy,
    source: Callable[[int], list[Group]],
    tmp_path: Any,
    *,
    reference: Any = None,
    on_step: Callable[[StepMetrics], None] | None = None,
    **settings: Any,
) -> list[StepMetrics]:
    chosen: dict[str, Any] = {
        "steps": 1,
        "prompts_per_step": 4,
        "group_size": 4,
        "beta": 0.0,
        **settings,
    }
    trainer = GroupTrainer(
        policy,
        GRPOSettings(**chosen),
        source,
        on_step,
        output_dir=tmp_path,
        reference=reference,
    )
    return trainer.train()


def test_trl_still_offers_what_is_overridden() -> None:
    assert trl.__version__ == "1.16.0"
    loss = inspect.getsource(GRPOTrainer._compute_loss)
    read = set(re.findall(r'inputs(?:\.get\(|\[)"(\w+)"', loss))
    ours = {
        "prompt_ids",
        "prompt_mask",
        "completion_ids",
        "completion_mask",
        "advantages",
        "num_items_in_batch",
        "old_per_token_logps",
        "ref_per_token_logps",
        "pixel_values",
        "image_grid_thw",
        "num_images",
        "mm_token_type_ids",
    }
    not_ours = {
        "tool_mask",
        "pixel_attention_mask",
        "spatial_shapes",
        "num_tiles",
        "image_sizes",
        "token_type_ids",
        "image_position_ids",
        "importance_sampling_ratio",
        "sampling_per_token_logps",
    }
    assert read == ours | not_ours
    step = inspect.getsource(GRPOTrainer.training_step)
    assert "self._step += 1" in step
    prepare = inspect.getsource(GRPOTrainer._prepare_inputs)
    assert "self._generate_and_score_completions(generation_batch)" in prepare
    scored = inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters
    assert list(scored)[1:5] == ["model", "input_ids", "attention_mask", "logits_to_keep"]


def plain_loss(
    policy: TinyPolicy, reference: TinyPolicy, groups: list[Group], settings: GRPOSettings
) -> torch.Tensor:
    """The loss from one forward a completion, without padding, in float64."""
    rows = [
        (group.request, done, gain)
        for group in groups
        for done, gain in zip(group.response.completions, advantages(group.rewards), strict=True)
    ]
    shape = (len(rows), max(len(done.token_ids) for _, done, _ in rows))
    new, old, ref, mask = (torch.zeros(shape, dtype=torch.float64) for _ in range(4))
    for i, (request, done, _) in enumerate(rows):
        length = len(done.token_ids)
        new[i, :length] = logprobs_of(policy, request, done.token_ids)
        ref[i, :length] = logprobs_of(reference, request, done.token_ids).detach()
        old[i, :length] = torch.tensor(done.logprobs, dtype=torch.float64)
        mask[i, :length] = 1
    return objective(
        new,
        old,
        ref,
        torch.tensor([[gain] for _, _, gain in rows], dtype=torch.float64),
        mask,
        epsilon=settings.epsilon,
        epsilon_high=settings.epsilon_high,
        delta=settings.delta,
        beta=settings.beta,
        loss_type=settings.loss_type,
        max_length=settings.max_completion_length,
    )


@pytest.mark.parametrize(
    ("loss_type", "micro_batch", "share"),
    [*((name, 4, True) for name in LOSS_TYPES), ("dapo", 64, True), ("grpo", 4, False)],
)
def test_loss_and_gradient_equal_plain_arithmetic(
    loss_type: str, micro_batch: int, share: bool, tmp_path: Any
) -> None:
    policy, other = policy_of(), policy_of(seed=1)
    # Noise of 0.7 nats puts ratios beyond all three clips.
    groups = mixed_groups(policy, noise=0.7)
    numbers: dict[str, Any] = {
        "loss_type": loss_type,
        "beta": 0.3,
        "max_completion_length": 9,
        "max_grad_norm": 0.0,
        "micro_batch": micro_batch,
        "share_prompts": share,
    }
    exact, exact_other = (
        TinyPolicy(copy.deepcopy(each.model).double()) for each in (policy, other)
    )
    expected = plain_loss(exact, exact_other, groups, GRPOSettings(**numbers))
    expected.backward()

    summed: dict[str, torch.Tensor] = {}
    for name, weight in policy.model.named_parameters():
        weight.register_hook(
            lambda grad, name=name: summed.__setitem__(name, summed.get(name, 0) + grad.double())
        )
    (metrics,) = train(policy, lambda step: groups, tmp_path, reference=other.model, **numbers)
    assert metrics.loss == pytest.approx(expected.item(), rel=1e-5)
    assert metrics.clip_share > 0.1
    assert metrics.kl > 0
    wanted = {
        name: weight.grad
        for name, weight in exact.model.named_parameters()
        if weight.grad is not None
    }
    assert summed.keys() == wanted.keys()
    size = torch.stack([grad.norm() for grad in wanted.values()]).norm()
    error = torch.stack([(summed[name] - wanted[name]).norm() for name in summed]).norm()
    assert error / size < 2e-5
    assert metrics.grad_norm == pytest.approx(size.item(), rel=1e-4)


def test_empty_micro_batches_change_nothing(tmp_path: Any) -> None:
    after = []
    for micro_batch in (64, 1):
        policy = policy_of()
        group = mixed_groups(policy)[0]
        (metrics,) = train(
            policy,
            lambda step, group=group: [group],
            tmp_path,
            micro_batch=micro_batch,
            loss_type="grpo",
            learning_rate=1e-3,
        )
        assert (metrics.rows, metrics.groups_used, metrics.updates) == (4, 1, 1)
        after.append((metrics, policy.model.state_dict()))
    (one, weights), (many, others) = after
    assert many.loss == pytest.approx(one.loss, abs=1e-6)
    assert many.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)
    gaps = [float((weights[name] - others[name]).abs().max()) for name in weights]
    # AdamW's first step has the size of the learning rate whatever the gradient, so
    # rounding shows where the gradient is nearly zero.
    assert np.mean([gap < 1e-4 for gap in gaps]) > 0.9


def test_a_step_without_a_usable_group_leaves_the_weights_alone(tmp_path: Any) -> None:
    policy = policy_of()
    group = group_of(policy, "dull", np.random.default_rng(0))
    flat = replace(group, rewards=(0.25,) * 4, terms=({"correct": 0.25},) * 4)
    offered = {0: [group], 1: [flat], 2: [], 3: [group]}
    weights: list[dict[str, torch.Tensor]] = []
    seen: list[StepMetrics] = []

    def remember(metrics: StepMetrics) -> None:
        seen.append(metrics)
        weights.append(copy.deepcopy(policy.model.state_dict()))

    history = train(
        policy, offered.__getitem__, tmp_path, steps=4, learning_rate=1e-3, on_step=remember
    )
    assert history == seen
    assert [metrics.step for metrics in history] == [0, 1, 2, 3]
    assert [metrics.skipped for metrics in history] == [False, True, True, False]
    assert [metrics.groups_used for metrics in history] == [1, 0, 0, 1]
    assert [metrics.groups_dropped for metrics in history] == [0, 1, 0, 0]
    assert history[1].reward_mean == 0.25
    assert history[1].terms == {"correct": 0.25}
    assert history[1].loss == history[2].reward_mean == 0.0

    def same(a: int, b: int) -> bool:
        return all(torch.equal(weights[a][name], weights[b][name]) for name in weights[a])

    assert same(0, 1) and same(1, 2) and not same(2, 3)


def test_equal_rewards_can_be_kept(tmp_path: Any) -> None:
    policy, other = policy_of(), policy_of(seed=1)
    group = group_of(policy, "dull", np.random.default_rng(0))
    flat = replace(group, rewards=(1.0,) * 4)
    (metrics,) = train(
        policy,
        lambda step: [flat],
        tmp_path,
        keep_zero_variance=True,
        beta=0.1,
        reference=other.model,
    )
    assert (metrics.groups_used, metrics.updates) == (1, 1)
    assert metrics.loss == pytest.approx(0.1 * metrics.kl, rel=1e-5)
    assert metrics.grad_norm > 0


def test_a_completion_with_a_vision_token_is_left_out(tmp_path: Any) -> None:
    policy = policy_of()
    group = group_of(policy, "odd", np.random.default_rng(0), size=(96, 96))
    done = list(group.response.completions)
    ids = (*done[1].token_ids[:-1], IMAGE_PAD)
    done[1] = replace(done[1], token_ids=ids)
    odd = replace(group, response=replace(group.response, completions=tuple(done)))
    (metrics,) = train(policy, lambda step: [odd], tmp_path)
    assert (metrics.rows, metrics.rows_banned, metrics.updates) == (3, 1, 1)


def test_a_gradient_that_is_not_finite_is_left_out(tmp_path: Any) -> None:
    policy = policy_of()
    group = group_of(policy, "wild", np.random.default_rng(0))
    done = tuple(
        replace(each, logprobs=(-1e4,) * len(each.logprobs)) for each in group.response.completions
    )
    wild = replace(group, response=replace(group.response, completions=done))
    before = copy.deepcopy(policy.model.state_dict())
    (metrics,) = train(policy, lambda step: [wild], tmp_path, delta=None)
    assert metrics.skipped
    after = policy.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_importance_weights_scale_the_advantage(tmp_path: Any) -> None:
    # The sampler gave every token half the probability that the trainer gives it.
    losses = {}
    for cap in (None, 1.5, 5.0):
        policy = policy_of()
        group = group_of(policy, "drift", np.random.default_rng(0))
        done = tuple(
            replace(each, logprobs=tuple(value - np.log(2) for value in each.logprobs))
            for each in group.response.completions
        )
        drift = replace(group, response=replace(group.response, completions=done))
        (metrics,) = train(
            policy,
            lambda step, drift=drift: [drift],
            tmp_path,
            old_logprobs="recompute",
            importance_cap=cap,
        )
        losses[cap] = metrics.loss
    assert losses[1.5] == pytest.approx(1.5 * losses[None], rel=1e-4)
    assert losses[5.0] == pytest.approx(2.0 * losses[None], rel=1e-4)


def test_rewarded_tokens_become_likely(tmp_path: Any) -> None:
    def run() -> tuple[float, float, list[StepMetrics]]:
        policy = policy_of()
        sampling = Sampling(max_tokens=1)

        def source(step: int) -> list[Group]:
            asked = [
                Request(f"{step}/{i}", "coder", "?", n=12, sampling=sampling, seed=100 * step + i)
                for i in range(2)
            ]
            return [
                Group(
                    request,
                    response,
                    tuple(float(done.token_ids[0] >= 200) for done in response.completions),
                )
                for request, response in zip(asked, policy.generate(asked), strict=True)
            ]

        question = policy.encode(Request("q", "coder", "?"))

        def chance() -> float:
            with torch.no_grad():
                return float(policy.logits(question, ())[-1].softmax(-1)[200:].sum())

        before = chance()
        history = train(
            policy, source, tmp_path, steps=12, group_size=12, learning_rate=1e-2, beta=0.001
        )
        return before, chance(), history

    before, after, history = run()
    assert before < 0.35
    assert after > 0.8
    assert history[-1].reward_mean > history[0].reward_mean + 0.3
    assert history[-1].kl > history[0].kl
    untimed = [replace(each, seconds_rollout=0.0, seconds_train=0.0) for each in history]
    again = [replace(each, seconds_rollout=0.0, seconds_train=0.0) for each in run()[2]]
    assert untimed == again


def test_a_stage_continues_to_the_bit(tmp_path: Any) -> None:
    numbers = GRPOSettings(
        steps=4,
        prompts_per_step=4,
        group_size=4,
        micro_batch=4,
        updates_per_step=2,
        learning_rate=1e-3,
        schedule="linear",
        warmup_updates=2,
    )
    policy = policy_of()
    groups = mixed_groups(policy)
    start = copy.deepcopy(policy.model)
    saved: dict[str, Any] = {}

    def source(step: int) -> list[Group]:
        return groups[step % 2 :]

    def save(metrics: StepMetrics) -> None:
        if metrics.step == 1:
            saved.update(copy.deepcopy(trainer.state_dict()))
            torch.rand(3), random.random(), np.random.random()

    trainer = GroupTrainer(policy, numbers, source, save, output_dir=tmp_path)
    whole = trainer.train()
    assert [metrics.updates for metrics in whole] == [2, 2, 2, 2]

    later = policy_of(seed=9)
    resumed = GroupTrainer(later, numbers, source, output_dir=tmp_path, reference=start)
    resumed.load_state_dict(saved)
    rest = resumed.train()
    assert [metrics.step for metrics in rest] == [2, 3]
    assert [metrics.loss for metrics in rest] == [metrics.loss for metrics in whole[2:]]
    assert [each.learning_rate for each in rest] == [each.learning_rate for each in whole[2:]]
    ours, theirs = later.model.state_dict(), policy.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_training_leaves_no_traces(tmp_path: Any) -> None:
    policy = policy_of()
    group = group_of(policy, "q", np.random.default_rng(0))
    python, numpy, tensor = (
        random.getstate(),
        np.random.get_state(legacy=False)["state"]["key"],
        torch.get_rng_state(),
    )
    train(policy, lambda step: [group], tmp_path, beta=0.1)
    assert "forward" not in policy.model.__dict__
    assert random.getstate() == python
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], numpy)
    assert torch.equal(torch.get_rng_state(), tensor)
    assert not list(tmp_path.iterdir())


def test_groups_that_do_not_fit_are_refused(tmp_path: Any) -> None:
    policy = policy_of()
    rng = np.random.default_rng(0)
    group = group_of(policy, "q", rng)

    def refused(change: Callable[[Group], list[Group]], **settings: Any) -> str:
        with pytest.raises((UserError, EngineError)) as error:
            train(policy, lambda step: change(group), tmp_path, **settings)
        return f"{type(error.value).__name__}: {error.value}"

    def sampled(sampling: Sampling) -> Callable[[Group], list[Group]]:
        return lambda group: [replace(group, request=replace(group.request, sampling=sampling))]

    def completed(**change: Any) -> Callable[[Group], list[Group]]:
        def changed(group: Group) -> list[Group]:
            done = tuple(replace(each, **change) for each in group.response.completions)
            return [replace(group, response=replace(group.response, completions=done))]

        return changed

    assert "UserError: a step takes at most 4 groups" in refused(lambda group: [group] * 5)
    assert "sampled at temperature 0.7" in refused(sampled(Sampling(temperature=0.7)))
    assert "old_logprobs='recompute'" in refused(sampled(Sampling(top_p=0.9)))
    assert "UserError: group 'q' was played by a policy without tokens" in refused(
        completed(token_ids=(), logprobs=())
    )
    assert "EngineError: the sampler gave no log-probabilities" in refused(completed(logprobs=()))
    assert "EngineError: group 'q' has a completion of" in refused(completed(logprobs=(-1.0,)))
    assert "not finite" in refused(lambda group: [replace(group, rewards=(0.0, 1.0, 0.0, np.nan))])
    assert "4 completions and 1 rewards" in refused(lambda group: [replace(group, rewards=(1.0,))])
    pictured = group_of(policy, "p", rng, size=(96, 96))
    other = replace(pictured.response, prompt_ids=(*pictured.response.prompt_ids, 9))
    assert "encodes the prompt of group 'p' differently" in refused(
        lambda group: [replace(pictured, response=other)]
    )
