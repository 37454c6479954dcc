"""How a vLLM engine is set up, in a server or in this process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmzero_env.errors import UserError

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM takes for the largest rank of an adapter (vllm.config.lora.MaxLoRARanks)."""

NEUTRAL_SAMPLING = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}
"""What holds when a request leaves it open. Without it a server takes the values of the model's
generation_config.json (Qwen3-VL: top_p 0.8, top_k 20), and truncation biases training."""

NANO = Path(__file__).parent / "nano" / "model"


@dataclass(frozen=True)
class VllmSettings:
    """Settings of one engine.

    Attributes:
        max_model_len: Longest prompt and completion together, in tokens; 0 is the model's own.
        max_loras: Adapters that can be active at once. Roles × (staleness + 1): while an
            adapter is swapped, requests to its old version may still be open. 0 serves the
            base model alone.
        max_lora_rank: Largest rank of an adapter, one of :data:`LORA_RANKS`.
        tensor_parallel: GPUs that one engine is spread over.
        gpu_memory: Share of a GPU's memory for weights, activations and key-value cache.
        kv_cache_gb: Key-value cache in GiB; 0 leaves it to vLLM on a GPU (what ``gpu_memory``
            has room for) and is 1 on a CPU.
        dtype: ``"auto"``, ``"bfloat16"``, ``"float16"`` or ``"float32"``; auto is float32 on
            a CPU and the checkpoint's own on a GPU.
        device: ``"auto"``, ``"cpu"`` or ``"gpu"``; auto is what this build of vLLM is for.
        threads: Threads of a server on a CPU; 0 leaves it to OpenMP, which takes all cores.
            Small models are several times faster on one.
        pictures: Most pictures of one prompt. The roles have one at most; some downstream sets
            have several an item.
    """

    max_model_len: int = 0
    max_loras: int = 4
    max_lora_rank: int = 16
    tensor_parallel: int = 1
    gpu_memory: float = 0.85
    kv_cache_gb: float = 0.0
    dtype: str = "auto"
    device: str = "auto"
    threads: int = 0
    pictures: int = 1

    def __post_init__(self) -> None:
        """Refuse values that vLLM would refuse minutes later."""
        for name in ("max_model_len", "max_loras", "kv_cache_gb", "threads"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, came {getattr(self, name)}")
        if self.max_lora_rank not in LORA_RANKS:
            raise UserError(
                f"max_lora_rank is one of {', '.join(map(str, LORA_RANKS))}, "
                f"came {self.max_lora_rank}"
            )
        for name in ("tensor_parallel", "pictures"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, came {getattr(self, name)}")
        if not 0 < self.gpu_memory <= 1:
            raise UserError(f"gpu_memory is a share above 0 and at most 1, came {self.gpu_memory}")
        if self.dtype not in ("auto", "bfloat16", "float16", "float32"):
            raise UserError(
                f"dtype is 'auto', 'bfloat16', 'float16' or 'float32', came {self.dtype!r}"
            )
        if self.device not in ("auto", "cpu", "gpu"):
            raise UserError(f"device is 'auto', 'cpu' or 'gpu', came {self.device!r}")

    def engine_options(self, *, cpu: bool) -> dict[str, Any]:
        """The settings under vLLM's own names, those of its ``EngineArgs``.

        Args:
            cpu: Whether the engine runs on a CPU.
        """
        options: dict[str, Any] = {
            "dtype": "float32" if cpu and self.dtype == "auto" else self.dtype,
            "logprobs_mode": "processed_logprobs",
            # As few pictures as will do and no video: vLLM sizes its buffers for the worst prompt.
            "limit_mm_per_prompt": {"image": self.pictures, "video": 0},
        }
        if self.max_model_len:
            options["max_model_len"] = self.max_model_len
        if self.max_loras:
            options["enable_lora"] = True
            options["max_loras"] = self.max_loras
            options["max_lora_rank"] = self.max_lora_rank
        if cpu:
            options["enforce_eager"] = True
            # A prompt that is read in pieces rewinds its request's random generator, which
            # generators on a CPU cannot: vLLM 0.31 ends with "CPU Generator does not use
            # offset" as soon as the prompts of seeded requests exceed its budget for a step.
            options["enable_chunked_prefill"] = False
            options["distributed_executor_backend"] = "uni"
        else:
            options["tensor_parallel_size"] = self.tensor_parallel
            options["gpu_memory_utilization"] = self.gpu_memory
        if cpu or self.kv_cache_gb:
            options["kv_cache_memory_bytes"] = int((self.kv_cache_gb or 1.0) * 2**30)
        return options


def switches(*, cpu: bool) -> dict[str, str]:
    """Settings of vLLM that exist as environment variables alone.

    Args:
        cpu: Whether the engine runs on a CPU.
    """
    found = {"VLLM_NO_USAGE_STATS": "1"}
    if cpu:
        # Its own binding puts the threads of every engine onto the same cores.
        found["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        # With a process for the engine core, vLLM replaces the executor by one more process.
        found["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return found


def flags(options: dict[str, Any]) -> list[str]:
    """Options of ``EngineArgs`` as command-line flags of the server.

    Args:
        options: By name; a mapping becomes JSON, ``True`` and ``False`` a bare flag, a list
            several words.
    """
    words: list[str] = []
    for name, value in options.items():
        words.append(f"--{'no-' if value is False else ''}{name.replace('_', '-')}")
        if isinstance(value, list):
            words += map(str, value)
        elif not isinstance(value, bool):
            words.append(json.dumps(value) if isinstance(value, dict) else str(value))
    return words


def find_model(model: str) -> tuple[str, str]:
    """What vLLM loads for a model, and the name that it is served under.

    Args:
        model: ``"nano"``, a folder, or the id of a model on the Hugging Face hub.

    Returns:
        The absolute path or the id, and the name: ``"nano"`` or ``model`` itself.

    Raises:
        UserError: If it looks like a path and no model folder is there.
    """
    if model == "nano":
        return str(NANO), "nano"
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(
                f"{model} holds no config.json; expected a model folder written by "
                "save_pretrained. A LoRA adapter is loaded onto its base model, not served alone."
            )
        return str(folder.resolve()), model
    if not model or folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise UserError(
            f"{model!r} is not a folder; expected 'nano', a model folder or a hub id (owner/name)"
        )
    return model, model
