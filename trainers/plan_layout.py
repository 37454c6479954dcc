"""What a plan is asked about: which GPUs there are and what lies on which of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mmzero_env.errors import UserError
from trainers.players import LOCAL
from trainers.run_config import RunConfig

GB = 10**9
"""A gigabyte, as memory is sold: an 80 GB card has a few per cent more."""

_PRESET_GPUS = re.compile(r"-(\d+)x(\d+)gb\b")


@dataclass(frozen=True)
class Hardware:
    """The GPUs of one machine.

    Attributes:
        gpus: How many.
        memory: Bytes of each.
    """

    gpus: int = 1
    memory: int = 80 * GB

    def __post_init__(self) -> None:
        """Refuse machines that cannot be."""
        if self.gpus < 1:
            raise UserError(
                f"--gpus must be at least 1, got {self.gpus}. A run on a CPU is planned as one "
                "GPU with the memory of the machine: --gpus 1 --gpu-memory 16"
            )
        if self.memory <= 0:
            raise UserError(f"--gpu-memory must be above 0, got {self.memory / GB:g}")

    @classmethod
    def of(cls, preset: str, gpus: int | None, gigabytes: float | None) -> Hardware:
        """What was asked for; else what the name of a preset says (``…-8x80gb``), else 1 x 80.

        Raises:
            UserError: If there can be no such machine.
        """
        named = _PRESET_GPUS.search(preset)
        count, size = (int(named[1]), float(named[2])) if named else (1, 80.0)
        size = size if gigabytes is None else gigabytes
        return cls(count if gpus is None else gpus, round(size * GB))


@dataclass(frozen=True)
class Layout:
    """Which GPUs train and which sample.

    Attributes:
        trainers: GPUs that the trainer uses, one process each.
        engines: GPUs with an engine; none with ``policy = "local"``.
        shared: Whether the engine sits on the trainer's GPUs. Otherwise each has its own.
        sharded: Whether weights, gradients and optimizer are cut into a piece for each of the
            trainer's GPUs (ZeRO-3, FSDP2).
    """

    trainers: int
    engines: int
    shared: bool
    sharded: bool

    @classmethod
    def of(cls, config: RunConfig, hardware: Hardware) -> Layout:
        """Engines get the GPUs that their settings ask for, the trainer gets the others.

        Where none would be left, trainer and engine share. Full fine-tuning on several GPUs is
        sharded; adapters are small, and every process holds the base.
        """
        engines = engine_gpus(config)
        if engines and hardware.gpus > engines:
            trainers = hardware.gpus - engines
        else:
            trainers = hardware.gpus
        sharded = not config.lora_rank and trainers > 1
        return cls(trainers, engines, bool(engines) and hardware.gpus <= engines, sharded)

    def text(self, gpus: int) -> str:
        """The layout in words."""
        if not self.engines:
            who = "a copy in host memory samples" if self.sharded else "what is trained samples"
            return f"{gpus} GPU{'s' * (gpus > 1)} for the trainer; {who}"
        if self.shared:
            return f"{gpus} GPU{'s' * (gpus > 1)}, trainer and engine beside each other"
        how = ", weights and optimizer in pieces (ZeRO-3 or FSDP2)" if self.sharded else ""
        return f"{gpus} GPUs: {self.engines} for engines, {self.trainers} for the trainer{how}"


def engine_gpus(config: RunConfig) -> int:
    """GPUs that the engines of a run take; 0 if the trained weights sample themselves."""
    if config.policy == LOCAL:
        return 0
    if config.policy == "vllm-engine":
        return config.serve.tensor_parallel
    return config.serve.servers * config.serve.tensor_parallel
