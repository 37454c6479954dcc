"""What is known of a model without its weights: parameters and sizes of its parts.

The numbers are read off the module itself, built on torch's meta device from its
configuration, where a tensor has a shape and no memory. They are therefore those of the
model that a run would load.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model

from agents.adapters import language_layers
from agents.vision import vision_layers
from agents.vllm_settings import NANO
from mmzero_env.errors import UserError
from trainers.serve import base_of
from trainers.shared_images import vision_tower

SHAPES = Path(__file__).parent / "shapes"
"""Configurations of the presets' models, each with its source; file names are hub ids with
``--`` for ``/``."""


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a vision-language model of the Qwen-VL families.

    Attributes:
        name: Folder or hub id.
        source: Where the configuration comes from.
        config: The configuration as JSON text, for :func:`build`.
        parameters: Of the whole model; tied ones count once.
        vision_parameters: Those of the vision tower.
        head_parameters: Those of the language-model head (also where it is tied).
        embedding_parameters: Those of the token embedding.
        tied: Whether head and embedding are one matrix.
        layers: Decoder layers.
        hidden: Width of the decoder.
        vocabulary: Rows of the head.
        heads: Attention heads of a decoder layer.
        head_size: Width of one of them.
        kv_heads: Key and value heads of a decoder layer.
        vision_depth: Blocks of the vision tower.
        deepstack: Blocks whose features enter the decoder, too (Qwen3-VL).
        patch: Side of a patch in pixels.
        patch_values: Numbers in a patch as the tower takes it.
        merge: Patches along the side of a visual token.
        longest: Positions that the model was made for.
    """

    name: str
    source: str
    config: str
    parameters: int
    vision_parameters: int
    head_parameters: int
    embedding_parameters: int
    tied: bool
    layers: int
    hidden: int
    vocabulary: int
    heads: int
    head_size: int
    kv_heads: int
    vision_depth: int
    deepstack: int
    patch: int
    patch_values: int
    merge: int
    longest: int

    def kv_values(self) -> int:
        """Numbers in the key-value cache of one token."""
        return 2 * self.layers * self.kv_heads * self.head_size

    def patches(self, side: int) -> int:
        """Patches of a square picture; the processor rounds its side to whole visual tokens."""
        unit = self.patch * self.merge
        return (max(1, round(side / unit)) * self.merge) ** 2

    def visual_tokens(self, side: int) -> int:
        """Tokens that a square picture takes in a prompt."""
        return self.patches(side) // self.merge**2


def shape_of(agent: str) -> ModelShape:
    """The shape of the model behind an agent.

    Args:
        agent: ``nano``, ``transformers:PATH-or-ID``, or an engine on a base model. The shapes
            of the presets' models ship with the package; others are asked of the hub.

    Raises:
        UserError: If there is no readable configuration, or not one of the Qwen-VL families.
    """
    return _shape(base_of(agent))


@lru_cache
def _shape(base: str) -> ModelShape:
    config, source = _find(base)
    model = build(json.dumps(config))
    tower, text = vision_tower(model), model.config.get_text_config()
    if tower is None or not hasattr(tower, "blocks"):
        raise UserError(
            f"{base}: `mmzero plan` knows models with the vision tower of the Qwen-VL families, "
            f"and {type(model).__name__} has another"
        )
    head, vision = model.get_output_embeddings().weight, model.config.vision_config
    frames = getattr(vision, "temporal_patch_size", 1)
    return ModelShape(
        name=base,
        source=source,
        config=json.dumps(config),
        parameters=count(model),
        vision_parameters=count(tower),
        head_parameters=head.numel(),
        embedding_parameters=model.get_input_embeddings().weight.numel(),
        tied=head is model.get_input_embeddings().weight,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        vocabulary=head.shape[0],
        heads=text.num_attention_heads,
        head_size=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        vision_depth=vision.depth,
        deepstack=len(getattr(vision, "deepstack_visual_indexes", ())),
        patch=vision.patch_size,
        patch_values=vision.in_channels * frames * vision.patch_size**2,
        merge=vision.spatial_merge_size,
        longest=text.max_position_embeddings,
    )


def _find(base: str) -> tuple[dict[str, Any], str]:
    """The configuration of a base model and where it was found."""
    shipped = SHAPES / f"{base.replace('/', '--')}.json"
    file = (NANO if base == "nano" else Path(base)) / "config.json"
    if not file.is_file() and shipped.is_file():
        found = json.loads(shipped.read_text(encoding="utf-8"))
        return found, found.pop("source")
    if file.is_file():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(found, dict) or "model_type" not in found:
                raise ValueError("a JSON object with 'model_type' was expected")
        except (ValueError, UnicodeDecodeError) as error:
            raise UserError(f"{file} is damaged: {error}") from error
        return found, str(file)
    try:
        return transformers.AutoConfig.from_pretrained(base).to_dict(), f"the hub: {base}"
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"no configuration of {base}: {first} Expected nano, a model folder, a hub id and a "
            f"connection to the hub, or one of {', '.join(known())}."
        ) from error


def known() -> list[str]:
    """The hub ids whose shapes ship with the package."""
    return sorted(path.stem.replace("--", "/") for path in SHAPES.glob("*.json"))


def build(
    config: str,
    *,
    dtype: torch.dtype = torch.bfloat16,
    layers: int | None = None,
    vision_depth: int | None = None,
) -> Any:
    """A model without memory, on the meta device.

    Args:
        config: JSON text of a ``config.json``.
        dtype: Type of its weights.
        layers: Decoder layers, if not the model's own.
        vision_depth: Blocks of the vision tower, if not the model's own.

    Raises:
        UserError: If it is not a model that takes an image and text.
    """
    values = json.loads(config)
    kind = values.pop("model_type")
    values.pop("architectures", None)
    values.pop("dtype", None)
    text, vision = values.get("text_config", values), values.get("vision_config", {})
    if layers is not None:
        text["num_hidden_layers"] = layers
        if text.get("layer_types"):
            text["layer_types"] = text["layer_types"][:layers]
    if vision_depth is not None:
        vision["depth"] = vision_depth
        if "deepstack_visual_indexes" in vision:
            vision["deepstack_visual_indexes"] = []
    try:
        made = transformers.CONFIG_MAPPING[kind](**values)
        with torch.device("meta"):
            model = transformers.AutoModelForImageTextToText.from_config(made, dtype=dtype)
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"a model of type {kind!r} cannot be built here: {error}. Expected an image-text-to-"
            "text model of this version of transformers, such as Qwen3-VL."
        ) from error
    model.tie_weights()
    return model


def count(module: torch.nn.Module) -> int:
    """Parameters of a module; tied ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def with_adapter(model: Any, rank: int, *, vision: bool = False) -> Any:
    """A model with one adapter, as :func:`agents.adapters.with_adapters` puts it on."""
    layers = language_layers(model) + (vision_layers(model) if vision else [])
    return get_peft_model(model, LoraConfig(r=rank, target_modules=layers))


@lru_cache
def adapter_parameters(shape: ModelShape, rank: int, vision: bool = False) -> int:
    """Parameters of one role's adapter, exactly; ``vision`` puts it on the tower, too."""
    if vision:
        return _adapted(shape, rank, vision=True)
    one, two = (_adapted(shape, rank, layers=n, vision_depth=1) for n in (1, 2))
    return one + (shape.layers - 1) * (two - one)


def _adapted(
    shape: ModelShape,
    rank: int,
    *,
    vision: bool = False,
    layers: int | None = None,
    vision_depth: int | None = None,
) -> int:
    with torch.device("meta"):
        model = build(shape.config, layers=layers, vision_depth=vision_depth)
        model = with_adapter(model, rank, vision=vision)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
