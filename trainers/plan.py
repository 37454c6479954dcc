"""A run before it is started: what it takes of memory, how much it does, how long it may last."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mmzero_env.protocol import ROLES
from trainers.model_shapes import ModelShape, adapter_parameters, shape_of
from trainers.plan_layout import GB, Hardware, Layout
from trainers.plan_memory import Memory, Reserves, pixel_bytes, plan_memory, training
from trainers.plan_prompts import Guesses, PromptTokens
from trainers.plan_search import Suggestion, nearest
from trainers.plan_time import Seconds, Speeds, decode_speed, seconds
from trainers.plan_work import Work, stages
from trainers.run_config import RunConfig


@dataclass(frozen=True)
class Assumptions:
    """Everything a plan takes for granted.

    Attributes:
        guesses: Lengths and shares.
        speeds: Of the machine.
        reserves: Allowances of memory.
    """

    guesses: Guesses = Guesses()
    speeds: Speeds = Speeds()
    reserves: Reserves = Reserves()


@dataclass(frozen=True)
class Plan:
    """What a run takes.

    Attributes:
        config: The run.
        shape: Its model.
        hardware: The machine.
        layout: What lies on which GPU.
        prompts: Lengths.
        memory: Of each kind of GPU.
        work: Of the stages of one iteration.
        time: Of the same.
        tokens_a_second: That one engine decodes.
        notes: What a person should know.
        suggestion: What would fit, if this does not.
    """

    config: RunConfig
    shape: ModelShape
    hardware: Hardware
    layout: Layout
    prompts: PromptTokens
    memory: tuple[Memory, ...]
    work: dict[str, Work]
    time: dict[str, Seconds]
    tokens_a_second: float
    notes: tuple[str, ...]
    suggestion: Suggestion | None

    @property
    def fits(self) -> bool:
        """Whether the run can be started on the machine."""
        return all(each.fits for each in self.memory)

    @property
    def iteration(self) -> Work:
        """The work of one iteration, the probe with it."""
        return sum(self.work.values(), Work())

    def json(self) -> dict[str, Any]:
        """The plan for machines: bytes, counts and seconds."""
        return {
            "preset": self.config.preset,
            "model": self.shape.name,
            "parameters": self.shape.parameters,
            "adapter_parameters": _adapter(self.config, self.shape),
            "hardware": asdict(self.hardware),
            "layout": asdict(self.layout),
            "fits": self.fits,
            "memory": [
                {
                    "place": each.place,
                    "parts": each.parts,
                    "total": each.total,
                    "room": each.room,
                    "cache_tokens": each.cache_tokens,
                    "problem": each.problem,
                }
                for each in self.memory
            ],
            "work": {
                **{name: work.rounded() for name, work in self.work.items()},
                "iteration": self.iteration.rounded(),
            },
            "seconds": {name: {**asdict(t), "total": t.total} for name, t in self.time.items()},
            "tokens_a_second": self.tokens_a_second,
            "notes": list(self.notes),
            "suggestion": None
            if self.suggestion is None
            else {"gpus": self.suggestion.gpus, "settings": self.suggestion.settings},
        }


def make(config: RunConfig, hardware: Hardware, assumptions: Assumptions) -> Plan:
    """Plan a run.

    Args:
        config: The run.
        hardware: The machine.
        assumptions: What nobody can know yet.

    Raises:
        UserError: If the model's configuration cannot be had.
    """
    shape = shape_of(config.model)
    layout = Layout.of(config, hardware)
    prompts = PromptTokens.of(config, shape, assumptions.guesses)
    memory = _memory(config, shape, hardware, assumptions)
    cache = max(each.cache_tokens for each in memory)
    speed = decode_speed(config, shape, prompts, cache, assumptions.speeds)
    work = stages(config, prompts)
    time = {
        name: seconds(
            config,
            shape,
            layout,
            prompts,
            work[name],
            next((role for role in ROLES if role == name), None),
            speed,
            assumptions.speeds,
        )
        for name in work
    }
    suggestion = None
    if not all(each.fits for each in memory):
        suggestion = _suggest(config, shape, hardware, assumptions)
    notes = tuple(_notes(config, shape, layout))
    return Plan(
        config,
        shape,
        hardware,
        layout,
        prompts,
        tuple(memory),
        work,
        time,
        speed,
        notes,
        suggestion,
    )


def _memory(
    config: RunConfig, shape: ModelShape, hardware: Hardware, assumptions: Assumptions
) -> list[Memory]:
    layout = Layout.of(config, hardware)
    prompts = PromptTokens.of(config, shape, assumptions.guesses)
    return plan_memory(config, shape, layout, hardware.memory, prompts, assumptions.reserves)


def _suggest(
    config: RunConfig, shape: ModelShape, hardware: Hardware, assumptions: Assumptions
) -> Suggestion | None:
    def fits(changed: RunConfig, machine: Hardware) -> bool:
        return all(each.fits for each in _memory(changed, shape, machine, assumptions))

    def need(changed: RunConfig) -> int:
        prompts = PromptTokens.of(changed, shape, assumptions.guesses)
        return max(sum(prompts.needed(role)) for role in ROLES)

    return nearest(config, hardware, need, fits)


def _adapter(config: RunConfig, shape: ModelShape) -> int:
    if not config.lora_rank:
        return 0
    return adapter_parameters(shape, config.lora_rank, config.vision_trained)


def _notes(config: RunConfig, shape: ModelShape, layout: Layout) -> list[str]:
    notes = [f"configuration of the model: {shape.source}"]
    how = training(config)
    if not config.lora_rank and how.weights.itemsize == 2:
        notes.append(
            "all weights are trained in bfloat16, whose steps are larger than most updates of a "
            "learning rate of 1e-6: set dtype=float32 and autocast_bf16=true"
        )
    if layout.sharded and not layout.engines:
        notes.append(
            "with weights in pieces and no engine, the whole model that samples is in host memory, "
            "which is far slower than estimated here: sample with policy=vllm"
        )
    if layout.engines and not layout.shared:
        notes.append(_apart(layout))
    rows = config.solver.prompts_per_step * config.solver.group_size
    waiting = rows * pixel_bytes(shape, config.image_size)
    if waiting > GB:
        notes.append(
            f"a step of the Solver keeps {gigabytes(waiting)} GB of pixels in host memory, one "
            f"picture for each of its {rows:,} rows"
        )
    if config.lora_rank:
        notes.append("adapters are a cheaper method than the paper's full fine-tuning")
    return notes


def _apart(layout: Layout) -> str:
    """How trainer and engines are kept off each other's GPUs."""
    last = layout.engines - 1
    if layout.trainers == 1:
        return f"engines take the first GPUs, 0 to {last}; set device=cuda:{layout.engines}"
    names = ",".join(str(layout.engines + i) for i in range(layout.trainers))
    return (
        f"engines take the first GPUs, 0 to {last}; start the trainer's processes with "
        f"accelerate launch --gpu_ids {names}"
    )


def gigabytes(size: float) -> str:
    """Bytes as text; small ones with the digits that they need."""
    value = size / GB
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"
