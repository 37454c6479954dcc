from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import agents
from agents import qwen3vl_decode
from agents.policy import Policy, PolicyError
from agents.qwen3vl_decode import supports
from agents.transformers import TransformersPolicy
from mmzero_env.errors import UserError
from mmzero_env.protocol import Request, Sampling

GREEDY = Sampling(temperature=0, max_tokens=12)


def picture(seed: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def request(i: int, **changes: Any) -> Request:
    words = ["red", "bars", "Draw", "circle", "How many", "42", "blue"]
    text = " ".join(words[(i * 3 + k) % 7] for k in range(2 + i % 5))
    settings: dict[str, Any] = {"sampling": Sampling(max_tokens=14), "seed": 100 + i}
    return Request(id=f"r{i}", role="solver", prompt=text, **{**settings, **changes})


def mixture() -> list[Request]:
    """Texts of several lengths, pictures of two grids, shared pictures, all samplings."""
    big, small = picture(0, 48, 32), picture(1)
    return [
        request(0, n=3),
        request(1, n=2, image=big),
        request(2, image=small, n=4),
        request(3, image=small, sampling=GREEDY),
        request(4, n=2, sampling=Sampling(temperature=0.7, max_tokens=9)),
        request(5, image=big.copy(), n=3, sampling=Sampling(top_p=0.8, top_k=20, max_tokens=20)),
        request(6, sampling=GREEDY, n=2),
    ]


@pytest.fixture(scope="module")
def fast(model_folder: Path) -> TransformersPolicy:
    return TransformersPolicy(model_folder, device="cpu")


@pytest.fixture(scope="module")
def plain(fast: TransformersPolicy) -> TransformersPolicy:
    return TransformersPolicy(
        fast.model, tokenizer=fast.tokenizer, image_processor=fast.image_processor, fast=False
    )


@pytest.fixture(params=["fast", "plain"])
def policy(request: pytest.FixtureRequest) -> TransformersPolicy:
    return request.getfixturevalue(request.param)


def teacher_forced(policy: TransformersPolicy, asked: Request, ids: tuple[int, ...]) -> np.ndarray:
    """Log-probabilities of a completion from one plain forward, image and all."""
    encoded = policy.encode(asked)
    whole = torch.tensor([encoded.prompt_ids + ids])
    inputs = {}
    if asked.image is not None:
        types = encoded.mm_token_type_ids + (0,) * len(ids)
        inputs = {
            "pixel_values": encoded.pixel_values,
            "image_grid_thw": encoded.image_grid_thw,
            "mm_token_type_ids": torch.tensor([types]),
        }
    with torch.no_grad():
        logits = policy.model(input_ids=whole, use_cache=False, **inputs).logits[0]
    logits[:, list(policy.banned_ids)] = -torch.inf
    scaled = logits / (asked.sampling.temperature or 1.0)
    at = len(encoded.prompt_ids)
    steps = scaled.log_softmax(-1)[at - 1 : at - 1 + len(ids)]
    return steps.gather(1, torch.tensor(ids)[:, None])[:, 0].numpy()


def test_it_is_a_policy_and_uses_the_fast_engine_exactly_where_it_applies(fast, plain):
    assert isinstance(fast, Policy)
    assert supports(fast.model)
    assert type(fast._engine()) is not type(plain._engine())
    handle = fast.model.model.language_model.layers[0].register_forward_hook(lambda *_: None)
    assert not supports(fast.model)
    handle.remove()
    assert supports(fast.model)


@pytest.mark.parametrize("with_image", [False, True])
def test_greedy_tokens_equal_generate(policy, with_image):
    image = picture(3) if with_image else None
    asked = [request(i, image=image, sampling=GREEDY) for i in range(4)]
    for one, response in zip(asked, policy.generate(asked), strict=True):
        encoded = policy.encode(one)
        ids = torch.tensor([encoded.prompt_ids])
        inputs = {}
        if with_image:
            inputs = {
                "pixel_values": encoded.pixel_values,
                "image_grid_thw": encoded.image_grid_thw,
                "mm_token_type_ids": torch.tensor([encoded.mm_token_type_ids]),
            }
        expected = policy.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=12,
            suppress_tokens=list(policy.banned_ids),
            **inputs,
        )[0, ids.shape[1] :]
        assert response.completions[0].token_ids == tuple(expected.tolist())


def test_logprobs_equal_a_teacher_forced_forward(policy):
    asked = [r for r in mixture() if r.sampling.top_p == 1 and r.sampling.top_k == 0]
    worst = 0.0
    for one, response in zip(asked, policy.generate(asked), strict=True):
        for completion in response.completions:
            expected = teacher_forced(policy, one, completion.token_ids)
            worst = max(worst, float(np.abs(expected - completion.logprobs).max()))
    assert worst < 1e-4


def test_a_request_gets_the_same_completions_alone_and_in_any_batch(policy):
    asked = mixture()
    together = policy.generate(asked)
    shuffled = {r.request_id: r for r in policy.generate(asked[::-1])}
    for one, batched in zip(asked, together, strict=True):
        (alone,) = policy.generate([one])
        for other in (alone, shuffled[one.id]):
            assert other.prompt_ids == batched.prompt_ids
            for a, b in zip(other.completions, batched.completions, strict=True):
                assert (a.text, a.token_ids, a.finish_reason) == (
                    b.text,
                    b.token_ids,
                    b.finish_reason,
                )
                assert np.allclose(a.logprobs, b.logprobs, atol=1e-4)


@pytest.mark.parametrize("small_blocks", [False, True])
def test_the_fast_engine_samples_what_the_plain_forward_samples(
    fast, plain, monkeypatch, small_blocks
):
    if small_blocks:
        monkeypatch.setattr(qwen3vl_decode, "_PREFILL", 2)
        monkeypatch.setattr(qwen3vl_decode, "_BLOCK", 4)
    asked = mixture()
    for a, b in zip(fast.generate(asked), plain.generate(asked), strict=True):
        assert [c.token_ids for c in a.completions] == [c.token_ids for c in b.completions]
        for c, d in zip(a.completions, b.completions, strict=True):
            assert np.allclose(c.logprobs, d.logprobs, atol=1e-4)


def test_small_batches_give_the_same(policy):
    asked = mixture()
    small = TransformersPolicy(
        policy.model,
        tokenizer=policy.tokenizer,
        image_processor=policy.image_processor,
        max_rows=2,
        fast=policy._fast,
    )
    narrow = TransformersPolicy(
        policy.model,
        tokenizer=policy.tokenizer,
        image_processor=policy.image_processor,
        max_cache_tokens=60,
        fast=policy._fast,
    )
    expected = [[c.token_ids for c in r.completions] for r in policy.generate(asked)]
    for other in (small, narrow):
        assert [[c.token_ids for c in r.completions] for r in other.generate(asked)] == expected
    sizes = [len(rows) for _, rows, _ in small._batches(asked, small._encoder.encode_all(asked))]
    assert max(sizes) == 2
    assert sum(sizes) == sum(one.n for one in asked)


def test_seeds_and_samples_differ_and_repeat(policy):
    one = request(0, n=4, sampling=Sampling(max_tokens=10))
    first, again = policy.generate([one])[0], policy.generate([one])[0]
    assert first == again
    assert len({c.token_ids for c in first.completions}) == 4
    other = policy.generate([request(0, n=4, sampling=Sampling(max_tokens=10), seed=7)])[0]
    assert {c.token_ids for c in other.completions}.isdisjoint(
        c.token_ids for c in first.completions
    )
    more = policy.generate([request(0, n=6, sampling=Sampling(max_tokens=10))])[0]
    assert [c.token_ids for c in more.completions[:4]] == [c.token_ids for c in first.completions]


def test_stop_token_is_kept_and_length_is_reported(policy):
    asked = request(1, n=64, sampling=Sampling(max_tokens=6))
    completions = policy.generate([asked])[0].completions
    reasons = {c.finish_reason for c in completions}
    assert reasons == {"stop", "length"}
    for c in completions:
        stopped = c.token_ids[-1] in policy.stop_ids
        assert c.finish_reason == ("stop" if stopped else "length")
        assert stopped or len(c.token_ids) == 6
        assert not set(c.token_ids[:-1]) & set(policy.stop_ids)
        assert len(c.logprobs) == len(c.token_ids) and max(c.logprobs) <= 0
        assert "<|im_end|>" not in c.text


def test_vision_tokens_are_never_sampled(policy):
    head = policy.model.lm_head.weight
    banned = list(policy.banned_ids)
    assert set(banned) == set(
        policy.tokenizer.convert_tokens_to_ids(
            ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
        )
    )
    kept = head[banned].clone()
    with torch.no_grad():
        head[banned] = 50 * head[banned].sign()
    try:
        asked = [
            request(0, n=8, sampling=Sampling(temperature=3.0, max_tokens=8)),
            request(1, sampling=GREEDY),
        ]
        for response in policy.generate(asked):
            for completion in response.completions:
                assert not set(completion.token_ids) & set(banned)
                assert np.isfinite(completion.logprobs).all()
    finally:
        with torch.no_grad():
            head[banned] = kept


def test_training_in_place_reaches_the_next_generation(policy):
    asked = request(2, sampling=GREEDY)
    before = policy.generate([asked])[0].completions[0]
    norm = policy.model.model.language_model.norm.weight
    kept = norm.detach().clone()
    policy.model.train()
    try:
        with torch.no_grad():
            norm.mul_(0.1)
        after = policy.generate([asked])[0].completions[0]
        assert policy.model.training
    finally:
        policy.model.eval()
        with torch.no_grad():
            norm.copy_(kept)
    assert after.logprobs[0] != pytest.approx(before.logprobs[0], abs=1e-3)


def test_the_picture_matters(policy):
    a, b = policy.generate([request(0, image=picture(s), sampling=GREEDY) for s in (5, 6)])
    assert a.prompt_ids == b.prompt_ids
    assert a.completions[0].logprobs != b.completions[0].logprobs


def test_equal_pictures_are_encoded_once(fast, monkeypatch):
    seen = []
    real = fast.model.model.visual.forward

    def spy(pixels, **options):
        seen.append(len(options["grid_thw"]))
        return real(pixels, **options)

    monkeypatch.setattr(fast.model.model.visual, "forward", spy)
    image = picture(8)
    fast.generate([request(i, image=image.copy(), n=2) for i in range(5)])
    assert seen == [1]


def test_broken_weights_are_an_error_and_not_an_answer(policy):
    weight = policy.model.model.language_model.layers[1].mlp.down_proj.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight[0, 0] = torch.nan
    try:
        with pytest.raises(PolicyError, match="not finite"):
            policy.generate([request(0)])
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def test_unusable_requests_and_options(policy):
    with pytest.raises(UserError, match="max_tokens"):
        policy.generate([request(0, sampling=Sampling(max_tokens=0))])
    with pytest.raises(UserError, match="top_p"):
        policy.generate([request(0, sampling=Sampling(top_p=0.0))])
    with pytest.raises(UserError, match="uint8"):
        policy.generate([request(0, image=np.zeros((4, 4, 3)))])
    with pytest.raises(UserError, match="tokenizer"):
        TransformersPolicy(policy.model)
    blind = TransformersPolicy(policy.model, tokenizer=policy.tokenizer)
    with pytest.raises(UserError, match="preprocessor_config.json"):
        blind.generate([request(0, image=picture(0))])
    assert policy.generate([]) == []


def test_folders_that_are_no_model(folder_copy, tmp_path):
    weights = folder_copy / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged.*whole safetensors"):
        agents.make(f"transformers:{folder_copy}")
    weights.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors is missing"):
        agents.make(f"transformers:{folder_copy}")
    weights.write_bytes(whole)

    config = folder_copy / "config.json"
    text = config.read_text()
    wider = json.loads(text)
    wider["text_config"]["intermediate_size"] = 100
    config.write_text(json.dumps(wider))
    with pytest.raises(UserError, match=r"do not fit config\.json|could not be loaded"):
        agents.make(f"transformers:{folder_copy}")
    config.write_text(text[:-20])
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        agents.make(f"transformers:{folder_copy}")
    config.write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UserError, match="'llama' does not take an image"):
        agents.make(f"transformers:{folder_copy}")
    config.unlink()
    with pytest.raises(UserError, match=r"config\.json is missing"):
        agents.make(f"transformers:{folder_copy}")
    with pytest.raises(UserError, match="not a folder"):
        agents.make(f"transformers:{tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="model folder or a hub id"):
        agents.make("transformers:a/b/c")


def test_options_in_the_name(model_folder):
    policy = agents.make(f"transformers:{model_folder}?max_rows=3&dtype=float32&name=mine")
    assert isinstance(policy, TransformersPolicy)
    assert (policy.name, policy._max_rows) == ("mine", 3)
    with pytest.raises(UserError, match="'auto', 'float32'"):
        agents.make(f"transformers:{model_folder}?dtype=int8")
    with pytest.raises(UserError, match="device 'toaster'"):
        agents.make(f"transformers:{model_folder}?device=toaster")
    with pytest.raises(UserError, match="max_rows"):
        agents.make(f"transformers:{model_folder}?max_row=3")


def test_without_torch_the_extra_is_named():
    code = "import sys; sys.modules['torch'] = None; import agents; agents.make('nano')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UserError: module 'torch' is needed here" in done.stderr
    assert "pip install 'mmzero-env[train]'" in done.stderr


def test_nano_is_the_bundled_model(monkeypatch, model_folder, tmp_path):
    import agents.transformers as module

    monkeypatch.setattr(module, "_NANO", model_folder)
    assert agents.make("nano").name == "nano"
    with pytest.raises(UserError, match="no argument"):
        agents.make("nano:big")
    monkeypatch.setattr(module, "_NANO", tmp_path)
    with pytest.raises(UserError, match=r"agents\.nano\.pretrain"):
        agents.make("nano")
