"""The yardsticks of a training step compute what they say: the same loss, the same prompts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from agents.transformers import nano
from benchmarks import train_step
from benchmarks.bare_grpo import BareLoop, _collate
from benchmarks.trl_processor import PictureProcessor
from mmzero_env.protocol import Completion, Request, Response, Sampling
from trainers.groups import Group
from trainers.grpo import GroupTrainer


@pytest.fixture(scope="module")
def policy():
    return nano("")


def requests(count=2, size=3):
    rng = np.random.default_rng(0)
    return [
        Request(
            f"r{k}",
            "solver",
            "how many " * (k + 1) + "?",
            size,
            image=rng.integers(0, 256, (96, 96, 3), dtype=np.uint8),
            sampling=Sampling(max_tokens=6),
        )
        for k in range(count)
    ]


def settings(size=3):
    from trainers.grpo_settings import GRPOSettings

    return GRPOSettings(
        steps=1, prompts_per_step=2, group_size=size, beta=0.05, keep_zero_variance=True
    )


def loop_of(policy, banned):
    return BareLoop(policy.model, settings(), max_tokens=6, stop=2, banned=banned)


def test_the_bare_loop_samples_with_the_log_probabilities_that_it_trains_on(policy):
    loop = loop_of(policy, banned=[])
    batch = _collate([policy.encode(request) for request in requests()], 2)
    tokens, mask, sampled = loop._sample(batch)
    with torch.no_grad():
        again = loop._logprobs(policy.model, batch, tokens, mask)
    assert mask.sum() > 20
    torch.testing.assert_close(again, sampled, atol=1e-4, rtol=0)


def test_the_bare_loop_moves_the_weights_as_the_trainer_does(tmp_path):
    asked = requests()
    bare, ours = nano(""), nano("")
    loop = loop_of(bare, banned=[3, 4, 5, 6])
    batch = _collate([bare.encode(request) for request in asked], 2)
    tokens, mask, logprobs = loop._sample(batch)
    loop._sample = lambda batch: (tokens, mask, logprobs)
    rewards = [(0.0, 1.0, 0.25), (1.0, 0.0, 0.5)]
    loop.step([bare.encode(request) for request in asked], lambda group, rows: rewards[group])

    groups = []
    for g, request in enumerate(asked):
        done = tuple(
            Completion("", tuple(tokens[i][mask[i]].tolist()), tuple(logprobs[i][mask[i]].tolist()))
            for i in range(3 * g, 3 * g + 3)
        )
        prompt = tuple(ours.encode(request).prompt_ids)
        groups.append(Group(request, Response(request.id, done, prompt), rewards[g]))
    GroupTrainer(ours, settings(), lambda step: groups, output_dir=tmp_path).train()

    before = nano("").model.state_dict()
    moved = bare.model.state_dict()
    for name, weight in ours.model.state_dict().items():
        if "norm" in name or name.endswith("bias"):
            continue  # the trainer spares them weight decay
        change, expected = moved[name] - before[name], weight - before[name]
        # Adam's first step is the sign of the gradient: where that is next to nothing, rounding
        # decides.
        same = torch.isclose(change, expected, atol=1e-8, rtol=1e-2).float().mean()
        assert same > 0.98, (name, float(same))


def test_trl_reads_the_same_prompts(policy):
    (request,) = requests(1)
    processor = PictureProcessor(policy.image_processor, policy.tokenizer)
    picture = {"type": "image", "image": PILImage.fromarray(request.image)}
    content = [picture, {"type": "text", "text": request.prompt}]
    read = processor.apply_chat_template(
        conversation=[[{"role": "user", "content": content}]],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
    )
    encoded = policy.encode(request)
    assert tuple(read["input_ids"][0]) == tuple(encoded.prompt_ids)
    assert torch.equal(torch.as_tensor(read["pixel_values"]), encoded.pixel_values)


def test_a_ratio_is_taken_repetition_by_repetition():
    def turn(ours, bare, trl):
        times = {"ours": ours, "bare": bare, "TRL": trl}
        return {name: train_step.Timed(cpu, cpu, 0.0) for name, cpu in times.items()}

    found = train_step.ratios([turn(2.0, 1.0, 3.0), turn(3.0, 2.0, 9.0)])
    assert found == {"ours / bare": [2.0, 1.5], "TRL / ours": [1.5, 3.0]}


def test_questions_have_pictures_and_labels():
    asked = train_step.questions(3)
    assert [each.image.shape for each in asked] == [(96, 96, 3)] * 3
    assert all(each.label and each.prompt for each in asked)
    assert len({each.prompt + each.label for each in asked}) == 3
