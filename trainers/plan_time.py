"""How long a run may take: an estimate from a few speeds, each of which is stated."""

from __future__ import annotations

from dataclasses import dataclass

from mmzero_env.protocol import ROLES, Role
from trainers.model_shapes import ModelShape
from trainers.plan_layout import Layout
from trainers.plan_memory import training
from trainers.plan_prompts import PromptTokens
from trainers.plan_work import Work
from trainers.run_config import RunConfig


@dataclass(frozen=True)
class Speeds:
    """What the estimate assumes of the machine; by default an H100 SXM.

    Attributes:
        tflops: Peak of the GPU in bfloat16, 10^12 operations a second, dense (data sheet).
        bandwidth: Of its memory, 10^12 bytes a second (data sheet).
        mfu: Share of the peak that training reaches. 0.3 to 0.4 is common for models of this
            size with rows of a few thousand tokens.
        prefill_mfu: Share of the peak that reading prompts reaches.
        decode: Share of the bandwidth that decoding reaches.
        rows: Rows that an engine decodes at a time, if its cache has room (vLLM's
            ``max_num_seqs``).
        tokens: Tokens a second that one engine decodes; 0 derives it from bandwidth and cache.
        render: CPU seconds a drawing (800 x 600, a bar chart).
    """

    tflops: float = 989.0
    bandwidth: float = 3.35
    mfu: float = 0.35
    prefill_mfu: float = 0.4
    decode: float = 0.6
    rows: int = 256
    tokens: float = 0.0
    render: float = 0.036


@dataclass(frozen=True)
class Seconds:
    """The time of a stage by what is done; parts that overlap in a run are added here.

    Attributes:
        reading: Prompts.
        sampling: Completions.
        drawing: Codes.
        training: Forward and backward passes, references included.
    """

    reading: float
    sampling: float
    drawing: float
    training: float

    @property
    def total(self) -> float:
        """Drawing goes on while the engines sample; the longer of the two counts."""
        return max(self.reading + self.sampling, self.drawing) + self.training


def decode_speed(
    config: RunConfig,
    shape: ModelShape,
    prompts: PromptTokens,
    cache_tokens: int,
    speeds: Speeds,
) -> float:
    """Tokens a second that one engine decodes: each step reads the weights and the cache once.

    Args:
        config: The run.
        shape: The model.
        prompts: Lengths.
        cache_tokens: Tokens that fit into the cache; 0 sets no limit.
        speeds: Assumptions.
    """
    if speeds.tokens:
        return speeds.tokens
    # A row is, on average, half done.
    lengths = [prompts.prompt(role) + prompts.completion(role) / 2 for role in ROLES]
    length = sum(lengths) / len(lengths)
    rows = min(speeds.rows, cache_tokens / length) if cache_tokens else speeds.rows
    cut = config.serve.tensor_parallel if config.policy != "local" else 1
    read = 2 * (shape.parameters + max(1.0, rows) * length * shape.kv_values())
    return max(1.0, rows) * speeds.bandwidth * 1e12 * speeds.decode * cut / read


def train_operations(
    config: RunConfig, shape: ModelShape, prompts: PromptTokens, work: Work, role: Role
) -> float:
    """Floating-point operations of training in a stage.

    A token costs 2 operations a weight forward, 2 backward to its input and 2 to the weight
    (Kaplan et al. 2020, arXiv 2001.08361, section 2.1), and attention 4 a layer, head width
    and earlier token. Frozen weights need no gradient of their own; checkpointing runs the
    forward pass again; the reference and recomputed log-probabilities are forward passes.
    """
    how = training(config)
    again = bool(config.stage(role).beta) + (config.policy != "local")
    passes = 2 + again + (not how.way.rank) + how.way.checkpointing
    tower_passes = passes if how.way.vision else 1 + again
    # The embedding is looked up, the head is multiplied with: one matrix for both where tied.
    decoder = shape.parameters - shape.vision_parameters
    if not shape.tied:
        decoder -= shape.embedding_parameters
    length = prompts.prompt(role) + prompts.completion(role)
    attention = 4 * shape.layers * shape.heads * shape.head_size * length / 2
    patches = work.row_pictures * shape.patches(config.image_size)
    return (
        work.row_tokens * passes * (2 * decoder + attention)
        + patches * tower_passes * 2 * shape.vision_parameters
    )


def seconds(
    config: RunConfig,
    shape: ModelShape,
    layout: Layout,
    prompts: PromptTokens,
    work: Work,
    role: Role | None,
    tokens_a_second: float,
    speeds: Speeds,
) -> Seconds:
    """The time of a stage, or of the probe (``role`` None)."""
    engines = max(1, layout.engines // config.serve.tensor_parallel)
    if not layout.engines:
        # The main rank alone samples.
        engines = 1
    peak = speeds.tflops * 1e12
    operations = 0.0
    if role is not None:
        operations = train_operations(config, shape, prompts, work, role)
    reading = 2 * shape.parameters * work.prompt_tokens / (peak * speeds.prefill_mfu * engines)
    return Seconds(
        reading=reading,
        sampling=work.completion_tokens / (tokens_a_second * engines),
        drawing=work.pictures * speeds.render / config.render_workers,
        training=operations / (peak * speeds.mfu * layout.trainers),
    )
