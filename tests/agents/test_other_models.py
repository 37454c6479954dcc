"""Families beside Qwen-VL through their processor, and adapters over a base model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from agents.qwen3vl_decode import supports
from agents.transformers import TransformersPolicy
from mmzero_env.protocol import Request, Sampling

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
REQUESTS = [
    Request(id="a", role="solver", prompt="How many red <image> bars", image=IMAGE, n=3, seed=1),
    Request(id="b", role="coder", prompt="Draw a blue circle", n=2, seed=2),
    Request(id="c", role="solver", prompt="Draw", image=IMAGE, n=1, seed=3),
]
REQUESTS = [replace(r, sampling=Sampling(max_tokens=6, temperature=0.9)) for r in REQUESTS]


@pytest.fixture(scope="module")
def llava(model_folder) -> TransformersPolicy:
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "<|vision_start|><|image_pad|><|vision_end|>", "<image>"
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=CLIPVisionConfig(
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=32,
                patch_size=8,
            ),
            text_config=LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=48,
                intermediate_size=96,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                initializer_range=0.2,
            ),
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        )
    ).eval()
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    return TransformersPolicy(model, tokenizer=tokenizer, processor=processor)


def teacher_forced(policy: TransformersPolicy, request: Request, ids: tuple[int, ...]):
    encoded = policy.encode(request)
    inputs = {}
    if encoded.pixel_values is not None:
        inputs["pixel_values"] = encoded.pixel_values
    if encoded.image_grid_thw is not None:
        types = torch.tensor([encoded.mm_token_type_ids + (0,) * len(ids)])
        inputs |= {"image_grid_thw": encoded.image_grid_thw, "mm_token_type_ids": types}
    with torch.no_grad():
        logits = policy.model(
            input_ids=torch.tensor([encoded.prompt_ids + ids]), use_cache=False, **inputs
        ).logits[0]
    logits[:, list(policy.banned_ids)] = -torch.inf
    at = len(encoded.prompt_ids) - 1
    steps = (logits / request.sampling.temperature).log_softmax(-1)[at : at + len(ids)]
    return steps.gather(1, torch.tensor(ids)[:, None])[:, 0].numpy()


def assert_exact(policy: TransformersPolicy) -> None:
    together = policy.generate(REQUESTS)
    for request, response in zip(REQUESTS, together, strict=True):
        (alone,) = policy.generate([request])
        for a, b in zip(response.completions, alone.completions, strict=True):
            assert a.token_ids == b.token_ids
            assert np.allclose(a.logprobs, b.logprobs, atol=1e-4)
            expected = teacher_forced(policy, request, a.token_ids)
            assert np.allclose(a.logprobs, expected, atol=1e-4)


def test_llava_through_its_own_processor(llava):
    encoded = llava.encode(REQUESTS[0])
    # 16 patches; the "<image>" that the prompt spells out is text.
    assert encoded.prompt_ids.count(llava.model.config.image_token_id) == 16
    assert "<image> bars" in llava.tokenizer.decode(list(encoded.prompt_ids))
    assert llava.model.config.image_token_id in llava.banned_ids
    assert_exact(llava)


def test_a_lora_adapter_is_sampled_from_exactly(model_folder):
    base = Qwen3VLForConditionalGeneration.from_pretrained(model_folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder)
    pictures = Qwen2VLImageProcessorPil.from_pretrained(model_folder)
    before = TransformersPolicy(base, tokenizer=tokenizer, image_processor=pictures)
    assert supports(base)
    reference = before.generate(REQUESTS)
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "down_proj"])).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    policy = TransformersPolicy(adapted, tokenizer=tokenizer, image_processor=pictures)
    assert not supports(adapted) and not supports(base)
    assert_exact(policy)
    changed = policy.generate(REQUESTS)
    assert changed[0].prompt_ids == reference[0].prompt_ids
    assert changed[0].completions[0].logprobs != reference[0].completions[0].logprobs
