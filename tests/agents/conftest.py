"""A tiny random Qwen3-VL as a model folder; clients of vLLM with fake servers behind them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from agents.vllm import VllmPolicy
from tests.agents.fake_server import FakeServer
from tests.agents.vllm_requests import NANO

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
TEMPLATE = """\
{%- for m in messages -%}
{{- '<|im_start|>' + m.role + '\\n' -}}
{%- for c in m.content -%}
{%- if c.type == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- else -%}{{- c.text -}}{%- endif -%}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""
CORPUS = (
    "How many red bars are there? Draw a blue circle. The answer is \\boxed{42}. user assistant"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        [CORPUS],
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLForConditionalGeneration:
    ids = {name: tokenizer.get_vocab()[name] for name in SPECIAL}
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": 320,
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "max_position_embeddings": 512,
            "tie_word_embeddings": True,
            "pad_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "bos_token_id": None,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [4, 2, 2],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": 48,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config).eval()
    with torch.no_grad():
        # Far from the near-uniform start, so that positions, pictures and the order
        # of tokens all move the distribution.
        for name, weight in model.named_parameters():
            if "embed_tokens" in name:
                weight.mul_(15)
            elif weight.ndim > 1:
                weight.mul_(4)
            elif "norm" in name and name.endswith("weight"):
                weight.add_(0.2 * torch.randn_like(weight))
    # Several stop tokens, so that samples of one prompt end at different lengths.
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *range(60, 90)]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-qwen3-vl")
    tokenizer = make_tokenizer()
    make_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(
        patch_size=8,
        temporal_patch_size=2,
        merge_size=2,
        size={"shortest_edge": 32 * 32, "longest_edge": 48 * 48},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def folder_copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.fixture(scope="session")
def nano_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(NANO)


@pytest.fixture
def vllm_servers(nano_tokenizer: Any) -> Iterator[list[FakeServer]]:
    fakes = [FakeServer(nano_tokenizer, base="nano", root=str(NANO)) for _ in range(2)]
    yield fakes
    for fake in fakes:
        fake.stop()


@pytest.fixture
def vllm_server(vllm_servers: list[FakeServer]) -> FakeServer:
    return vllm_servers[0]


@pytest.fixture
def make_vllm(vllm_servers: list[FakeServer]) -> Iterator[Callable[..., VllmPolicy]]:
    made = []

    def policy(base: str = "nano", count: int = 1, **options: Any) -> VllmPolicy:
        options = {"backoff": 0.01, "retries": 2, **options}
        urls = ",".join(fake.url for fake in vllm_servers[:count])
        made.append(VllmPolicy(f"{base}@{urls}", **options))
        return made[-1]

    yield policy
    for one in made:
        one.close()
