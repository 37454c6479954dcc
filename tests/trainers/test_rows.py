"""From groups to batches: formulas, layout, and what rows share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mmzero_env.errors import UserError
from tests.tiny_groups import IMAGE_PAD, mixed_groups, policy_of
from trainers.grpo_math import advantages, truncated_importance
from trainers.grpo_settings import GRPOSettings
from trainers.rows import collate, micro_batches, rows_of
from trainers.shared_images import shared_images, vision_tower
from trainers.shared_prompts import pack, packed_logprobs, picture_index_of


def test_advantages_are_normalised_with_the_unbiased_deviation() -> None:
    assert np.allclose(advantages([0.0, 1.0]), [-0.5 / np.sqrt(0.5), 0.5 / np.sqrt(0.5)], atol=1e-5)
    assert np.allclose(advantages([1.0, 2.0, 6.0], "none"), [-2, -1, 3])
    assert not advantages([0.1, 0.1, 0.1]).any()
    assert not advantages([3.0]).any()


def test_importance_weights_are_cut_off_above_only() -> None:
    weights = truncated_importance(np.log([0.5, 0.2, 0.9]), np.log([0.5, 0.4, 0.1]), 2.0)
    assert np.allclose(weights, [1.0, 0.5, 2.0])


@pytest.mark.parametrize("pictured", [True, False])
def test_joined_rows_have_the_logprobs_of_single_rows(pictured: bool) -> None:
    policy = policy_of()
    groups = mixed_groups(policy)
    if not pictured:
        groups = groups[2:3]
    laid_out = rows_of(
        groups,
        policy.encode,
        scale="group",
        keep_equal=False,
        vision_tokens=frozenset({IMAGE_PAD}),
    )
    rows = [row for each in laid_out for row in each.rows]
    batch = collate(rows, pad=0, image_token=IMAGE_PAD, device=torch.device("cpu"))
    assert ("pixel_values" in batch) == pictured
    if pictured:
        assert batch["picture_grids"].tolist() == [[1, 4, 6], [1, 6, 6]]
    packed = pack(batch, pad=0)
    assert packed is not None
    assert len(packed.ids) == len(groups)
    tower = vision_tower(policy.model)
    assert tower is not None
    with torch.no_grad():
        if pictured:
            index = picture_index_of(batch, packed)
            assert index == [0, 1, 1]
            with shared_images(tower, batch["picture_grids"], index):
                logps, entropy = packed_logprobs(
                    policy.model, policy.model.model, batch, packed, 1.0
                )
        else:
            logps, entropy = packed_logprobs(policy.model, policy.model.model, batch, packed, 1.0)
    assert torch.allclose(logps, batch["sampler_logps"], atol=2e-5)
    real = batch["completion_mask"].bool()
    assert not entropy[~real].any()
    assert ((entropy[real] > 4) & (entropy[real] <= np.log(272) + 1e-4)).all()


def test_hooks_are_gone_after_a_shared_forward() -> None:
    policy = policy_of()
    tower = vision_tower(policy.model)
    assert tower is not None
    grids = torch.tensor([[1, 6, 6]])
    pixels = torch.zeros(36, 1536)
    with torch.no_grad():
        with shared_images(tower, grids, [0, 0]):
            twice = tower(pixels, grid_thw=grids.repeat(2, 1)).pooler_output
        once = tower(pixels, grid_thw=grids).pooler_output
    assert torch.equal(twice, once.repeat(2, 1))


def test_micro_batches_are_even_and_hold_every_row() -> None:
    policy = policy_of()
    groups = mixed_groups(policy)
    laid_out = rows_of(
        groups, policy.encode, scale="group", keep_equal=False, vision_tokens=frozenset()
    )
    rows = [row for each in laid_out for row in each.rows]
    for count, by_prompt in ((4, True), (4, False), (20, False)):
        parts = micro_batches(rows, count, by_prompt=by_prompt)
        sizes = [len(part) for part in parts]
        assert len(parts) == count
        assert max(sizes) - min(sizes) <= 1
        assert sorted(map(id, rows)) == sorted(id(row) for part in parts for row in part)
    lengths = [row.length for part in micro_batches(rows, 4) for row in part]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss_type": "dr_grop"}, "Did you mean 'dr_grpo'"),
        ({"schedule": "konstant"}, "Did you mean 'constant'"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"epsilon": 1.0}, "epsilon must be in"),
        ({"delta": 1.2}, "delta must be above"),
        ({"beta": -1.0}, "beta must not be negative"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"importance_cap": 2.0}, "importance_cap needs"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        GRPOSettings(**change)
