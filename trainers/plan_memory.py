"""The memory of a run, part by part, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mmzero_env.protocol import ROLES, Role
from trainers.model_shapes import ModelShape, adapter_parameters
from trainers.plan_activations import Way, decoder_cost, tower_cost
from trainers.plan_layout import GB, Layout
from trainers.plan_prompts import PromptTokens
from trainers.reader import BASE
from trainers.run_config import RunConfig

HEAD_TOKENS, HEAD_WORDS = 4096, 32768
"""Tile in which the fused head computes logits (trl/kernels/chunked_logprob.py, TRL 1.16)."""

FOLDED = 5
"""Tiles in float32 that its backward pass in plain torch holds at a time (``_backward_tile``)."""

LIVE_PARAMETERS = 10**9
"""Weights that are whole at a time while the model is in pieces: DeepSpeed's default of
``stage3_max_live_parameters``. FSDP2 holds two layers, which is less."""

LOCAL_ROWS, LOCAL_TOKENS = 512, 2**18
"""Rows and tokens that :class:`agents.transformers.TransformersPolicy` decodes together."""


@dataclass(frozen=True)
class Reserves:
    """What cannot be derived: allowances, in bytes.

    Attributes:
        process: CUDA context, libraries and what the allocator cannot use, each process.
        engine: Activations, graphs and buffers of an engine beside weights and cache.
    """

    process: int = 2 * GB
    engine: int = 4 * GB


@dataclass(frozen=True)
class Training:
    """How a role is trained, resolved.

    Attributes:
        weights: Type of the weights.
        autocast: Whether float32 weights are computed with in bfloat16.
        way: What activations depend on.
    """

    weights: torch.dtype
    autocast: bool
    way: Way


@dataclass(frozen=True)
class Memory:
    """Bytes of each part on each GPU of one kind.

    Attributes:
        place: What the GPU is for.
        parts: Bytes by name of the part.
        room: Bytes of the GPU.
        cache_tokens: Tokens that the engine's key-value cache has room for; 0 without one.
        problem: Why the parts do not work although they fit, or empty.
    """

    place: str
    parts: dict[str, int]
    room: int
    cache_tokens: int = 0
    problem: str = ""

    @property
    def total(self) -> int:
        """Sum of the parts."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether it can run."""
        return self.total <= self.room and not self.problem


def training(config: RunConfig) -> Training:
    """How a run trains on a GPU."""
    # On a GPU "auto" is the checkpoint's own type, which is bfloat16 for all models here, and
    # float32 where all weights are trained.
    small = config.lora_rank and config.dtype != "float32"
    weights = torch.bfloat16 if small else torch.float32
    autocast = config.autocast_bf16 and weights == torch.float32
    compute = torch.bfloat16 if autocast else weights
    way = Way(compute, config.lora_rank, config.gradient_checkpointing, config.vision_trained)
    return Training(weights, autocast, way)


def trainer_memory(
    config: RunConfig, shape: ModelShape, layout: Layout, prompts: PromptTokens
) -> dict[str, int]:
    """Bytes of the trainer on one of its GPUs, for the role that needs the most."""
    found = [_role_memory(config, shape, layout, prompts, role) for role in ROLES]
    return max(found, key=lambda parts: sum(parts.values()))


def _role_memory(
    config: RunConfig, shape: ModelShape, layout: Layout, prompts: PromptTokens, role: Role
) -> dict[str, int]:
    how = training(config)
    parts = state_bytes(config, shape, how, pieces=layout.trainers if layout.sharded else 1)
    stage = config.stage(role)
    rows = min(stage.micro_batch, stage.prompts_per_step * stage.group_size)
    prompt, completion = prompts.longest(role)
    tokens = rows * (prompt + completion)
    pictures = rows if role == "solver" else 0
    step = step_bytes(shape, how, tokens, rows * completion, pictures, config.image_size)
    working = {
        "one micro-batch": step.working,
        # AdamW over lists of tensors holds one more copy of what it updates (torch.optim.AdamW,
        # note on foreach).
        "optimizer step": max(0, parts["gradients"] - step.kept),
    }
    if not layout.engines and not layout.sharded:
        row = prompt + config.stage(role).max_tokens
        cached = min(LOCAL_ROWS * row, LOCAL_TOKENS) * shape.kv_values() * how.weights.itemsize
        working["cache of sampling"] = max(0, cached - step.kept)
    if config.caption_reader == BASE and config.policy == "local" and not config.lora_rank:
        # Never trained, so it stays in the checkpoint's own type.
        parts["caption reader"] = shape.parameters * (4 if config.dtype == "float32" else 2)
    if layout.sharded:
        parts["weights gathered for computing"] = min(LIVE_PARAMETERS, shape.parameters) * 2
    if pictures:
        parts["pixels of a micro-batch"] = pictures * pixel_bytes(shape, config.image_size)
    parts["activations kept for backward"] = step.kept
    name = max(working, key=lambda name: working[name])
    parts[f"working memory ({name})"] = working[name]
    return parts


def state_bytes(
    config: RunConfig, shape: ModelShape, how: Training, *, pieces: int = 1
) -> dict[str, int]:
    """Bytes of weights, gradients and optimizer on one GPU.

    Args:
        config: The run.
        shape: The model.
        how: From :func:`training`.
        pieces: Number of GPUs that they are cut over. Then whole models wait in host memory.
    """
    size = how.weights.itemsize
    models = 1 if pieces > 1 or config.shared_weights else len(ROLES)
    if config.lora_rank:
        adapter = adapter_parameters(shape, config.lora_rank, how.way.vision)
        # peft holds adapters in float32 over a bfloat16 base (autocast_adapter_dtype).
        parts = {
            "base weights": shape.parameters * size,
            "adapters": adapter * 4 * (1 if config.shared_weights else len(ROLES)),
            "reference": adapter * 4 if _needs_reference(config) else 0,
        }
        trained, size = adapter, 4
    else:
        frozen = 0 if how.way.vision else shape.vision_parameters
        trained = shape.parameters - frozen
        parts = {
            "weights": shape.parameters * size * models // pieces,
            "reference": shape.parameters * size // pieces if _needs_reference(config) else 0,
        }
        if how.autocast and pieces == 1:
            parts["bfloat16 copies of weights"] = shape.parameters * 2
    parts["gradients"] = trained * size // pieces
    parts["AdamW moments"] = trained * size * 2 // pieces
    return parts


def _needs_reference(config: RunConfig) -> bool:
    return any(config.stage(role).beta for role in ROLES)


@dataclass(frozen=True)
class StepBytes:
    """Activations of one micro-batch.

    Attributes:
        kept: Alive between forward and backward.
        working: What the peak adds to it.
    """

    kept: int
    working: int


def step_bytes(
    shape: ModelShape,
    how: Training,
    tokens: int,
    scored: int,
    pictures: int,
    side: int,
    *,
    triton: bool = True,
) -> StepBytes:
    """Activations of one micro-batch.

    Args:
        shape: The model.
        how: From :func:`training`.
        tokens: Prompt and completion tokens, visual ones included.
        scored: Completion tokens.
        pictures: Distinct pictures.
        side: Of a picture, in pixels.
        triton: Whether there is Triton, as on a GPU. Plain torch folds logits in several steps.
    """
    size = how.way.dtype.itemsize
    decoder, tower = decoder_cost(shape, how.way), tower_cost(shape, how.way)
    patches = pictures * shape.patches(side)
    kept = decoder.kept.of(tokens, shape.layers) + scored * shape.hidden * size
    kept_tower = 0
    peaks = [decoder.peak.of(tokens, shape.layers) + scored * shape.hidden * size]
    if pictures:
        kept_tower = tower.kept.of(patches, shape.vision_depth)
        peaks.append(tower.peak.of(patches, shape.vision_depth) - kept_tower)
        # Features before and after they are laid among the words.
        kept += 2 * pictures * shape.visual_tokens(side) * shape.hidden * size
    peaks.append(kept + _head(shape, how, scored, triton))
    return StepBytes(kept + kept_tower, max(0, max(peaks) - kept))


def pixel_bytes(shape: ModelShape, side: int) -> int:
    """Bytes of one picture as the vision tower takes it, in float32."""
    return shape.patches(side) * shape.patch_values * 4


def _head(shape: ModelShape, how: Training, scored: int, triton: bool) -> int:
    """Working memory of the fused head: a tile of logits, and gradients in float32."""
    rows = min(scored, HEAD_TOKENS)
    tile = rows * HEAD_WORDS * how.way.dtype.itemsize
    if not triton:
        tile += FOLDED * rows * min(HEAD_WORDS, shape.vocabulary) * 4
    gradients = scored * shape.hidden * 4
    if not how.way.rank:
        gradients += shape.head_parameters * (4 + how.way.dtype.itemsize)
    return tile + gradients


def engine_memory(
    config: RunConfig, shape: ModelShape, room: int, need: int, reserves: Reserves
) -> Memory:
    """Bytes of a vLLM engine on one of its GPUs.

    Args:
        config: The run; with full fine-tuning an engine serves one role's weights.
        shape: The model.
        room: Bytes of the GPU.
        need: Tokens of the longest prompt and completion.
        reserves: Allowances.
    """
    serve, cut = config.serve, config.serve.tensor_parallel
    size = 4 if serve.dtype == "float32" else 2
    parts = {"weights": shape.parameters * size // cut}
    if config.lora_rank:
        one = adapter_parameters(shape, serve.max_lora_rank)
        parts["adapter slots"] = serve.max_loras * one * size // cut
    parts["activations, graphs, buffers"] = reserves.engine
    token = shape.kv_values() * size // cut
    share = round(serve.gpu_memory * room)
    if serve.kv_cache_gb:
        cache = int(serve.kv_cache_gb * 2**30)
    else:
        cache = share - sum(parts.values())
    tokens = max(0, cache) // token
    length = serve.max_model_len or shape.longest
    problem = ""
    if cache <= 0:
        problem = (
            f"serve.gpu_memory={serve.gpu_memory:g} gives an engine {share / GB:.1f} GB, and it "
            f"needs {sum(parts.values()) / GB:.1f} GB before its cache"
        )
    elif tokens < length:
        problem = (
            f"the key-value cache has room for {tokens:,} tokens, and vLLM does not start with "
            f"less than one row of max_model_len={length:,}"
        )
    elif length < need:
        problem = f"prompt and completion may take {need:,} tokens, and max_model_len is {length:,}"
    parts["key-value cache"] = max(0, cache)
    return Memory("engine", parts, room, tokens, problem)


def plan_memory(
    config: RunConfig,
    shape: ModelShape,
    layout: Layout,
    room: int,
    prompts: PromptTokens,
    reserves: Reserves,
) -> list[Memory]:
    """Memory of each kind of GPU of a layout."""
    trainer = trainer_memory(config, shape, layout, prompts)
    trainer["CUDA context and fragments"] = reserves.process
    if not layout.engines:
        return [Memory("each GPU", trainer, room)]
    need = max(sum(prompts.needed(role)) for role in ROLES)
    engine = engine_memory(config, shape, room, need, reserves)
    if not layout.shared:
        return [Memory("each GPU of the trainer", trainer, room), engine]
    beside = {f"trainer: {name}": size for name, size in trainer.items()}
    beside |= {f"engine: {name}": size for name, size in engine.parts.items()}
    return [Memory("each GPU", beside, room, engine.cache_tokens, engine.problem)]
