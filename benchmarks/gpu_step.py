"""One optimizer step of each role on a model of real size with random weights.

    python -m benchmarks.gpu_step --shape 4b --lora 16
    python -m benchmarks.gpu_step --shape 8b --lora 16 --json gpu-step-8b.json
    python -m benchmarks.gpu_step --shape 4b --lora 0 --dtype float32 --autocast   # 102 GB

The model has the shape of Qwen3-VL-4B or -8B, from the configurations that ship with
``mmzero plan``; nothing is loaded from a hub. The groups are random token ids of the lengths
asked for (4096 prompt and 4096 completion tokens, the Solver's prompts with a picture of 448
pixels), so nothing is sampled, and go through :class:`trainers.grpo.GroupTrainer` as in a run
with an engine: old log-probabilities recomputed, importance weights, KL to the start of the
stage. Each role does one step to warm up (which also makes AdamW's moments) and one that counts.

Reported by phase: seconds, and the peak of ``torch.cuda.max_memory_allocated`` within the
phase; trained tokens a second; and the share of the card's peak. Floating-point operations of a
step follow Kaplan et al. (2020, arXiv 2001.08361): 2 a weight and token forward, 2 backward to
the inputs, 2 to the weight where it is trained; attention 4 a head, width and earlier token
forward, twice that backward; the head at completion tokens only; old and reference
log-probabilities a forward pass each; the vision tower once a micro-batch. Model-FLOP
utilisation leaves out what gradient checkpointing computes again, hardware-FLOP utilisation
counts it. The peak memory is set beside what ``mmzero plan`` predicts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from benchmarks import script
from benchmarks.findings import Findings, Ratio, Spread, Table
from benchmarks.random_policy import RandomPolicy
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, Role
from trainers import config as configs
from trainers.evolve import quiet_transformers
from trainers.grpo import GroupTrainer
from trainers.grpo_settings import GRPOSettings
from trainers.model_shapes import ModelShape, adapter_parameters, shape_of
from trainers.plan_memory import state_bytes, step_bytes, training
from trainers.run_config import RunConfig

SHAPES = {
    "4b": "transformers:Qwen/Qwen3-VL-4B-Instruct",
    "8b": "transformers:Qwen/Qwen3-VL-8B-Instruct",
    "tiny": "nano",
}

PEAKS = {"H100 PCIe": 756.0, "H100": 989.0, "H200": 989.0, "B200": 2250.0, "A100": 312.0}
"""Dense bfloat16 TFLOP/s by a part of the card's name, from NVIDIA's data sheets; the first that
fits. Other cards: ``--peak-tflops``."""

SCORE, TRAIN, UPDATE = "old and reference log-probabilities", "forward and backward", "optimizer"


@dataclass(frozen=True)
class Work:
    """The size of a step and how it is computed.

    Attributes:
        groups: Groups of a step.
        size: Completions a group.
        micro_batch: Rows in one forward and backward pass; divides ``size``.
        prompt: Tokens of a prompt, its picture included.
        completion: Tokens of a completion.
        pixels: Side of a picture.
        lora: Rank of the adapters; 0 trains all weights.
        checkpointing: Compute layers again in the backward pass.
        autocast: Float32 weights, bfloat16 arithmetic.
        dtype: Type of the weights.
    """

    groups: int = 2
    size: int = 4
    micro_batch: int = 1
    prompt: int = 4096
    completion: int = 4096
    pixels: int = 448
    lora: int = 16
    checkpointing: bool = True
    autocast: bool = False
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be."""
        for name in ("groups", "micro_batch", "prompt", "completion", "pixels"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.size < 2 or self.size % self.micro_batch:
            raise UserError(
                f"a group of {self.size} completions is cut into micro-batches of "
                f"{self.micro_batch}; expected at least 2, and a divisor of it"
            )

    @property
    def rows(self) -> int:
        """Completions of a step."""
        return self.groups * self.size

    @property
    def tokens(self) -> int:
        """Trained tokens of a step, prompts counted once a row."""
        return self.rows * (self.prompt + self.completion)


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of a step.

    Attributes:
        model: Without what checkpointing computes again.
        hardware: With it.
    """

    model: float
    hardware: float


class Phases:
    """Seconds and peak memory of the phases of a step.

    Args:
        device: Whose memory is counted; on a CPU none is.
    """

    def __init__(self, device: torch.device) -> None:
        """See the class."""
        self.seconds: dict[str, float] = {}
        self.peaks: dict[str, int] = {}
        self._cuda = device if device.type == "cuda" else None
        self._name, self._began = "", 0.0

    def enter(self, name: str) -> None:
        """The phase before is over, this one begins or goes on; an empty name is none."""
        if name == self._name:
            return
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
        now = time.perf_counter()
        if self._name:
            self.seconds[self._name] = self.seconds.get(self._name, 0.0) + now - self._began
            if self._cuda is not None:
                peak = torch.cuda.max_memory_allocated(self._cuda)
                self.peaks[self._name] = max(self.peaks.get(self._name, 0), peak)
        if self._cuda is not None:
            torch.cuda.reset_peak_memory_stats(self._cuda)
        self._name, self._began = name, now


def operations(shape: ModelShape, work: Work, role: Role) -> Operations:
    """What a step computes; see the module for the formula."""
    head = shape.vocabulary * shape.hidden
    # The embedding is looked up, the head is multiplied with: one matrix for both where tied.
    decoder = shape.parameters - shape.vision_parameters - shape.head_parameters
    if not shape.tied:
        decoder -= shape.embedding_parameters
    length = work.prompt + work.completion
    attention = 4 * shape.layers * shape.heads * shape.head_size * length / 2
    scored = work.rows * work.completion
    layers = work.tokens * (2 * decoder + attention)
    # Weights have a gradient of their own with full fine-tuning only; attention has two matrix
    # products backward for each forward in any case.
    weights = 0 if work.lora else work.tokens * 2 * decoder + scored * 2 * head
    forward = layers + scored * 2 * head
    backward = layers + work.tokens * attention + scored * 2 * head + weights
    model = 3 * forward + backward  # old, reference, and the pass that is trained
    again = work.checkpointing * layers
    if role == "solver":
        patches = work.rows // work.micro_batch * shape.patches(work.pixels)
        tower = patches * 2 * shape.vision_parameters
        model += tower * (3 if work.lora else 5)
        again += 0 if work.lora else work.checkpointing * tower
    return Operations(model, model + again)


def step_of(policy: RandomPolicy, work: Work, role: Role, device: torch.device) -> dict[str, Any]:
    """One step of a role after one that warms up.

    Returns:
        ``phases`` (seconds and peak bytes by phase), ``seconds`` and ``tokens_a_second`` of the
        step, ``loss`` and ``grad_norm``.
    """
    settings = GRPOSettings(
        steps=2,
        prompts_per_step=work.groups,
        group_size=work.size,
        micro_batch=work.micro_batch,
        old_logprobs="recompute",
        importance_cap=2.0,
        max_completion_length=work.completion,
        # Rows of real length do not share prompts; short ones shall not either.
        share_prompts=False,
        gradient_checkpointing=work.checkpointing,
        autocast_bf16=work.autocast,
    )
    phases = Phases(device)
    groups = [
        policy.group(role, f"{role}/{k}", work.size, work.completion) for k in range(work.groups)
    ]

    def source(step: int) -> list[Any]:
        if step == 1:
            phases.seconds.clear()
            phases.peaks.clear()
        phases.enter(SCORE)
        return groups

    with tempfile.TemporaryDirectory() as scratch, _watched(policy, phases):
        trainer = GroupTrainer(policy.learner(role), settings, source, output_dir=scratch)
        done = trainer.train()[-1]
    phases.enter("")
    if done.updates != 1:
        raise UserError(f"the {role}'s step did no update: its gradient was not finite")
    seconds = sum(phases.seconds.values())
    return {
        "phases": {
            name: {"seconds": spent, "peak_bytes": phases.peaks.get(name)}
            for name, spent in phases.seconds.items()
        },
        "seconds": seconds,
        "tokens_a_second": work.tokens / seconds,
        "loss": done.loss,
        "grad_norm": done.grad_norm,
    }


@contextmanager
def _watched(policy: RandomPolicy, phases: Phases) -> Generator[None]:
    """Tell the phases apart: passes without a gradient, with one, and the optimizer's step."""
    base = policy.model.get_base_model() if hasattr(policy.model, "peft_config") else policy.model

    def before_pass(module: Any, args: Any) -> None:
        phases.enter(TRAIN if torch.is_grad_enabled() else SCORE)

    handles = [
        base.model.register_forward_pre_hook(before_pass),
        register_optimizer_step_pre_hook(lambda *_: phases.enter(UPDATE)),
        register_optimizer_step_post_hook(lambda *_: phases.enter("")),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_config(work: Work) -> RunConfig:
    """The settings of a run that trains like this.

    Raises:
        UserError: If a run would refuse them.
    """
    return replace(
        configs.load("nano-cpu", {}),
        lora_rank=work.lora,
        dtype=work.dtype,
        gradient_checkpointing=work.checkpointing,
        autocast_bf16=work.autocast,
        # A run holds a model a role, this step the one that is trained.
        shared_weights=not work.lora,
    )


def predicted(shape: ModelShape, work: Work, role: Role, *, triton: bool) -> dict[str, int]:
    """Peak bytes by part as ``mmzero plan`` counts them, without its reserves."""
    config = run_config(work)
    how = training(config)
    parts = state_bytes(config, shape, how)
    rows = work.micro_batch
    step = step_bytes(
        shape,
        how,
        rows * (work.prompt + work.completion),
        rows * work.completion,
        int(role == "solver"),
        work.pixels,
        triton=triton,
    )
    return {**parts, "activations kept": step.kept, "activations at the peak": step.working}


def run(shape: ModelShape, work: Work, device: torch.device, peak: float | None) -> dict[str, Any]:
    """Measure the three roles.

    Args:
        shape: Of the model.
        work: Of a step.
        device: Where it runs.
        peak: TFLOP/s of the device, or None if it is not known.

    Raises:
        UserError: If a run would refuse such settings, or a picture does not fit its prompt.
    """
    run_config(work)
    policy = RandomPolicy(
        shape,
        dtype=getattr(torch, work.dtype),
        device=device,
        rank=work.lora,
        prompt=work.prompt,
        side=work.pixels,
    )
    found: dict[str, Any] = {}
    for role in ROLES:
        figures = step_of(policy, work, role, device)
        counted = operations(shape, work, role)
        plan = predicted(shape, work, role, triton=device.type == "cuda")
        peaks = [each["peak_bytes"] or 0 for each in figures["phases"].values()]
        figures |= {
            "operations": asdict(counted),
            "mfu": None,
            "hfu": None,
            "peak_bytes": max(peaks) or None,
            "plan_bytes": plan,
            "plan_total_bytes": sum(plan.values()),
        }
        if peak is not None:
            figures["mfu"], figures["hfu"] = (
                value / figures["seconds"] / (peak * 1e12) for value in asdict(counted).values()
            )
        found[role] = figures
    return found


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__, "--out")
    usual = Work()
    parser.add_argument("--shape", choices=SHAPES, default="4b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--lora", type=int, default=usual.lora, help="rank; 0 trains all weights")
    parser.add_argument("--groups", type=int, default=usual.groups)
    parser.add_argument("--group-size", type=int, default=usual.size)
    parser.add_argument("--micro-batch", type=int, default=usual.micro_batch)
    parser.add_argument("--prompt", type=int, default=usual.prompt, help="tokens")
    parser.add_argument("--completion", type=int, default=usual.completion, help="tokens")
    parser.add_argument("--pixels", type=int, default=usual.pixels, help="side of a picture")
    parser.add_argument(
        "--checkpointing", action=argparse.BooleanOptionalAction, default=usual.checkpointing
    )
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default=usual.dtype)
    parser.add_argument("--autocast", action="store_true", help="bfloat16 over float32 weights")
    parser.add_argument("--peak-tflops", type=float, help="of the card, dense bfloat16")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """A step of every role.

    Raises:
        UserError: If there is no such device, or a size cannot be.
    """
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device here; --shape tiny --device cpu runs without one")
    work = Work(
        groups=args.groups,
        size=args.group_size,
        micro_batch=args.micro_batch,
        prompt=args.prompt,
        completion=args.completion,
        pixels=args.pixels,
        lora=args.lora,
        checkpointing=args.checkpointing,
        autocast=args.autocast,
        dtype=args.dtype,
    )
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    known = next((value for name, value in PEAKS.items() if name in card), None)
    peak = known if args.peak_tflops is None else args.peak_tflops
    quiet_transformers()
    shape = shape_of(SHAPES[args.shape])
    roles = run(shape, work, device, peak)
    name = "nano" if args.shape == "tiny" else shape.name
    return Findings(
        {
            "device": card,
            "peak_tflops": peak,
            "shape": {"name": shape.name, "source": shape.source, "parameters": shape.parameters},
            "adapter_parameters": adapter_parameters(shape, work.lora) if work.lora else 0,
            "work": asdict(work),
            "roles": roles,
        },
        (_table(roles, name, card, peak),),
        tuple(
            Ratio(f"planned / measured peak memory, {role}, {name}", Spread.of([total / found]))
            for role, figures in roles.items()
            if (found := figures["peak_bytes"]) and (total := figures["plan_total_bytes"])
        ),
        seeds=(0,),
        packages=("peft",),
    )


def _table(roles: Mapping[str, Any], name: str, card: str, peak: float | None) -> Table:
    rows = []
    for role, figures in roles.items():
        for phase, each in figures["phases"].items():
            seconds, held = f"{each['seconds']:.2f}", _gigabytes(each["peak_bytes"])
            rows.append((role, phase, seconds, held, "", "", "", ""))
        shares = ("–" if figures[k] is None else f"{figures[k]:.1%}" for k in ("mfu", "hfu"))
        rows.append(
            (
                role,
                "step",
                f"{figures['seconds']:.2f}",
                _gigabytes(figures["peak_bytes"]),
                f"{figures['tokens_a_second']:.0f}",
                *shares,
                _gigabytes(figures["plan_total_bytes"]),
            )
        )
    known = "peak unknown" if peak is None else f"peak {peak:g} TFLOP/s"
    return Table(
        f"one optimizer step of {name} on {card}, {known}",
        ("role", "phase", "seconds", "peak GB", "tokens/s", "MFU", "HFU", "plan GB"),
        tuple(rows),
    )


def _gigabytes(size: int | None) -> str:
    return "–" if size is None else f"{size / 1e9:.2f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    return script.run("gpu_step", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
