"""The nano model: a real Qwen3-VL, 1.6 million parameters small."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import (
    PreTrainedTokenizerBase,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mmzero_env.world import SIDE

PATCH = 16
MERGE = 2
GRID = SIDE // PATCH
"""Patches along one side of a picture."""
VISUAL_TOKENS = (GRID // MERGE) ** 2
"""Tokens that one picture takes in a prompt: 9."""


def config(tokenizer: PreTrainedTokenizerBase) -> Qwen3VLConfig:
    """The configuration that goes with a tokenizer."""
    vocabulary = tokenizer.get_vocab()
    hidden = 128
    return Qwen3VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": hidden,
            "intermediate_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": None,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 2,
            "hidden_size": 96,
            "intermediate_size": 256,
            "num_heads": 3,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "temporal_patch_size": 2,
            "out_hidden_size": hidden,
            "num_position_embeddings": GRID * GRID,
            "deepstack_visual_indexes": [0],
        },
        image_token_id=vocabulary["<|image_pad|>"],
        video_token_id=vocabulary["<|video_pad|>"],
        vision_start_token_id=vocabulary["<|vision_start|>"],
        vision_end_token_id=vocabulary["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def initial_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> Qwen3VLForConditionalGeneration:
    """A freshly initialised nano model in float32.

    With query-key normalisation and a head dimension of 32, attention logits are
    capped at sqrt(32) = 5.7 times the norm weights: too flat to look a key up. The
    query norms start at 2.5 for that reason.
    """
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config(tokenizer))
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.q_norm.weight.fill_(2.5)
    return model


def image_processor() -> Qwen2VLImageProcessorPil:
    """Resizes square pictures to 96 by 96 pixels, others to about as many, into patches."""
    return Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        temporal_patch_size=2,
        merge_size=MERGE,
        size={"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def save_processors(folder: Path) -> None:
    """Write the image and video settings under the names of the Qwen3-VL releases.

    ``Qwen3VLProcessor``, which vLLM and ``AutoProcessor`` use, has a video part that
    cannot be built without torchvision. Its settings are therefore written as data.
    Without them it would be inferred from the image processor, as Qwen2-VL's.

    Args:
        folder: An existing model folder; gets ``preprocessor_config.json`` and
            ``video_preprocessor_config.json``.
    """
    image = json.loads(image_processor().to_json_string())
    image["processor_class"] = "Qwen3VLProcessor"
    video = {
        **{name: image[name] for name in ("image_mean", "image_std", "merge_size", "patch_size")},
        "processor_class": "Qwen3VLProcessor",
        # A clip's budget counts pixels of all frames: two frames, one grid of patches.
        "size": {"longest_edge": 2 * SIDE * SIDE, "shortest_edge": 2 * SIDE * SIDE},
        "temporal_patch_size": image["temporal_patch_size"],
        "video_processor_type": "Qwen3VLVideoProcessor",
    }
    for name, settings in (("preprocessor", image), ("video_preprocessor", video)):
        text = json.dumps(settings, indent=2, sort_keys=True)
        (folder / f"{name}_config.json").write_text(text + "\n", encoding="utf-8")
