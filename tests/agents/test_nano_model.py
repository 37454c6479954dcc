"""The bundled model folder is a plain one: nothing of this package is needed to load it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from safetensors import safe_open
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import agents
from agents.nano import architecture
from agents.transformers import TransformersPolicy
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import RenderJob, Request, Sampling
from mmzero_env.rendering import Renderer
from mmzero_env.world.probe import probe_items

FOLDER = Path(agents.__file__).parent / "nano" / "model"
PROCESSORS = ("preprocessor_config.json", "video_preprocessor_config.json")


def read(name: str) -> dict:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def policy() -> TransformersPolicy:
    return TransformersPolicy(FOLDER, device="cpu")


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    """One text-only and two pictured requests an item."""
    items, prompts = probe_items(5), get_prompts("nano")
    with Renderer(size=96, workers=0) as renderer:
        drawn = renderer.render([RenderJob(item.id, item.spec.svg()) for item in items])
    made, sampling = [], Sampling(temperature=0, max_tokens=24)
    for item, drawing in zip(items, drawn, strict=True):
        coder = prompts.coder(item.proposal())
        made.append(Request(f"{item.id}/coder", "coder", coder, sampling=sampling))
        for level, question in item.questions.items():
            text = prompts.solver(question.question)
            name = f"{item.id}/{level}"
            made.append(Request(name, "solver", text, image=drawing.image, sampling=sampling))
    return made


def test_it_holds_data_only_and_at_most_ten_megabytes():
    files = {file.name: file.stat().st_size for file in FOLDER.iterdir()}
    assert files.keys() - {"README.md"} == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        *PROCESSORS,
    }
    assert sum(files.values()) <= 10e6
    for name in files:
        if name.endswith(".json"):
            assert "auto_map" not in read(name)  # would ask for trust_remote_code


def test_the_files_name_classes_of_transformers():
    assert read("config.json")["architectures"] == ["Qwen3VLForConditionalGeneration"]
    image, video = map(read, PROCESSORS)
    assert image["processor_class"] == video["processor_class"] == "Qwen3VLProcessor"
    assert image["image_processor_type"] == "Qwen2VLImageProcessor"
    assert video["video_processor_type"] == "Qwen3VLVideoProcessor"
    assert read("tokenizer_config.json")["eos_token"] == "<|im_end|>"


def test_processor_files_are_those_of_the_architecture(tmp_path):
    architecture.save_processors(tmp_path)
    for name in PROCESSORS:
        assert json.loads((tmp_path / name).read_text(encoding="utf-8")) == read(name)
    loaded = Qwen2VLImageProcessorPil.from_pretrained(tmp_path)
    made = architecture.image_processor()
    assert loaded.to_dict() == made.to_dict()
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    a, b = (p(images=[PILImage.fromarray(picture)], return_tensors="pt") for p in (loaded, made))
    assert torch.equal(a["pixel_values"], b["pixel_values"])
    assert a["image_grid_thw"].tolist() == [[1, architecture.GRID, architecture.GRID]]


def test_vision_settings_agree_between_the_files():
    vision = read("config.json")["vision_config"]
    for settings in map(read, PROCESSORS):
        assert settings["patch_size"] == vision["patch_size"]
        assert settings["temporal_patch_size"] == vision["temporal_patch_size"]
        assert settings["merge_size"] == vision["spatial_merge_size"]


def test_transformers_loads_it_whole():
    loaded: Any = AutoModelForImageTextToText.from_pretrained(FOLDER, output_loading_info=True)
    model, report = loaded
    assert type(model) is Qwen3VLForConditionalGeneration
    assert not any(report.values()), report
    with safe_open(FOLDER / "model.safetensors", framework="pt") as weights:
        kinds = {weights.get_tensor(name).dtype for name in weights.keys()}
    assert kinds == {torch.bfloat16}
    tokenizer: Any = AutoTokenizer.from_pretrained(FOLDER)
    assert len(tokenizer) == model.config.text_config.vocab_size
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    parts = ("image", "video", "vision_start", "vision_end")
    ids = [getattr(model.config, f"{part}_token_id") for part in parts]
    names = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    assert tokenizer.convert_ids_to_tokens(ids) == names


def test_template_ids_are_the_encoder_s_ids(policy, requests):
    tokenizer: Any = AutoTokenizer.from_pretrained(FOLDER)
    for request in requests:
        content = [{"type": "text", "text": request.prompt}]
        if request.image is not None:
            content.insert(0, {"type": "image"})
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, return_dict=False
        )
        copies = {policy.model.config.image_token_id: architecture.VISUAL_TOKENS}
        expanded = tuple(i for i in ids for _ in range(copies.get(i, 1)))
        assert policy.encode(request).prompt_ids == expanded


def test_a_string_message_is_a_message_of_one_text(policy):
    def written(content) -> str:
        return policy.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )

    assert written("How many?") == written([{"type": "text", "text": "How many?"}])


def test_generate_of_transformers_gives_the_policy_s_greedy_tokens(policy, requests):
    for request, response in zip(requests, policy.generate(requests), strict=True):
        encoded = policy.encode(request)
        pictured = {}
        if request.image is not None:
            pictured = {
                "pixel_values": encoded.pixel_values,
                "image_grid_thw": encoded.image_grid_thw,
                "mm_token_type_ids": torch.tensor([encoded.mm_token_type_ids]),
            }
        prompt = torch.tensor([encoded.prompt_ids])
        out = policy.model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=request.sampling.max_tokens,
            suppress_tokens=list(policy.banned_ids),
            **pictured,
        )
        assert tuple(out[0, prompt.shape[1] :].tolist()) == response.completions[0].token_ids
