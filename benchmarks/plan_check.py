"""What ``mmzero plan`` predicts of the nano model's memory against what is measured.

    python -m benchmarks.plan_check [--rank 16] [--checkpointing]
    python -m benchmarks.plan_check --all        # with and without either

A real step of training is run on the CPU in float32, through TRL and everything below it, on
rows of one length and on rows of mixed lengths. Parameters, gradients and AdamW's moments are
the bytes of the tensors that were there. Activations are the storages that torch saved for the
backward pass; the peak counts every storage that was alive in it. The cache is the one that
the model filled. For real shapes on a GPU: ``python -m benchmarks.gpu_step``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from safetensors import safe_open
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import DynamicCache

from agents.adapters import AdapterSettings, RoleView, with_adapters
from agents.transformers import TransformersPolicy
from agents.vllm_settings import NANO
from benchmarks import script
from benchmarks.findings import Findings, Ratio, Spread, Table
from mmzero_env.protocol import Completion, Request, Response
from trainers import config as configs
from trainers.episode_trainer import EpisodeTrainer
from trainers.groups import Group
from trainers.grpo import GroupTrainer, GRPOSettings
from trainers.live_bytes import LiveBytes
from trainers.model_shapes import shape_of
from trainers.plan_activations import Way
from trainers.plan_memory import Training, state_bytes, step_bytes
from trainers.run_config import RunConfig

GROUPS, SIZE, SIDE = 4, 4, 96
LENGTHS = {"one length": (64, 64), "mixed lengths": (16, 64)}
BOUNDS = (0.05, 0.1)
"""Largest relative error of activations for either kind of rows; states must be exact."""


@dataclass(frozen=True)
class Check:
    """One figure.

    Attributes:
        part: What it is.
        predicted: Bytes of the plan.
        measured: Bytes found.
        bound: Largest relative error that is accepted; None only reports.
    """

    part: str
    predicted: int
    measured: int
    bound: float | None = 0.0

    @property
    def error(self) -> float:
        """Relative to what was measured."""
        return self.predicted / self.measured - 1

    @property
    def ok(self) -> bool:
        """Whether it is within its bound."""
        return self.bound is None or abs(self.error) <= self.bound


@dataclass
class Step:
    """What a real step was seen to hold; bytes, of the last micro-batch where there are several.

    Attributes:
        gradients: Before the optimizer's step.
        moments: After it.
        saved: By torch for the backward pass.
        kept: Alive after the forward pass, without weights, gradients and the batch.
        peak: The most at any time in both passes.
        tokens: Of the micro-batch, padding included.
        rows: Of the micro-batch.
        completion: Padded length of its completions.
        pictures: Distinct ones.
    """

    gradients: int = 0
    moments: int = 0
    saved: int = 0
    kept: int = 0
    peak: int = 0
    tokens: int = 0
    rows: int = 0
    completion: int = 0
    pictures: int = 0


def check(rank: int = 0, *, checkpointing: bool = False) -> list[Check]:
    """Predict and measure.

    Args:
        rank: Of the adapter that is trained; 0 trains all weights.
        checkpointing: Compute layers again in the backward pass.
    """
    shape = shape_of("nano")
    way = Way(torch.float32, rank, checkpointing, vision=not rank)
    how = Training(torch.float32, False, way)
    config = replace(configs.load("nano-cpu", {}), lora_rank=rank)
    steps = [watch(rank, checkpointing, lengths) for lengths in LENGTHS.values()]
    checks = [*_files(shape.parameters), *_states(config, how, rank, steps[0])]
    for name, step, bound in zip(LENGTHS, steps, BOUNDS, strict=True):
        # Away from GPUs the head scores every position but the last of each row.
        scored = step.tokens - step.rows
        planned = step_bytes(shape, how, step.tokens, scored, step.pictures, SIDE, triton=False)
        checks.append(Check(f"alive between passes, {name}", planned.kept, step.kept, bound))
        if not checkpointing:
            # Layers that are computed again hold tensors that torch does not call saved.
            checks.append(Check(f"saved for backward, {name}", planned.kept, step.saved, bound))
        peak = planned.kept + planned.working
        checks.append(Check(f"peak of a micro-batch, {name}", peak, step.peak, bound))
    return [*checks, _cache(shape.kv_values() * 4)]


def _files(predicted: int) -> list[Check]:
    with safe_open(NANO / "model.safetensors", framework="pt") as weights:
        stored = sum(weights.get_tensor(name).numel() for name in weights.keys())
    return [Check("parameters (a number)", predicted, stored)]


def _states(config: RunConfig, how: Training, rank: int, step: Step) -> list[Check]:
    """Weights, gradients and moments of a whole run's trainer."""
    planned = state_bytes(config, shape_of("nano"), how)
    policy = _policy(rank)
    whole = _bytes(policy.model.parameters())
    if rank:
        weights = planned["base weights"] + planned["adapters"]
    else:
        # Every role has a model of its own.
        weights, whole = planned["weights"], 3 * whole
    return [
        Check("weights of three roles", weights, whole),
        Check("gradients", planned["gradients"], step.gradients),
        Check("AdamW moments", planned["AdamW moments"], step.moments),
    ]


def _cache(predicted: int) -> Check:
    model = _policy(0).model
    cache = DynamicCache(config=model.config.text_config)
    ids = torch.randint(7, 700, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model(input_ids=ids, past_key_values=cache, use_cache=True)
    # The type of a layer that has been filled has both; transformers names its base.
    layers = cast(Sequence[Any], cache.layers)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    return Check("key-value cache of 80 tokens", predicted * ids.numel(), held)


def watch(rank: int, checkpointing: bool, lengths: tuple[int, int]) -> Step:
    """Run one step of the nano Solver and look at it.

    Args:
        rank: Of the adapter; 0 trains all weights.
        checkpointing: Compute layers again in the backward pass.
        lengths: Shortest and longest completion.
    """
    policy = _policy(rank)
    learner: Any = RoleView(policy, "solver") if rank else policy
    settings = GRPOSettings(
        steps=1,
        prompts_per_step=GROUPS,
        group_size=SIZE,
        micro_batch=GROUPS * SIZE // 2,
        learning_rate=1e-4,
        old_logprobs="recompute",
        beta=0.0,  # the reference is planned apart
        # Large models train rows one by one: their logits are too many for joined rows.
        share_prompts=False,
        gradient_checkpointing=checkpointing,
    )
    groups = _groups(policy, lengths)
    step = Step()
    with tempfile.TemporaryDirectory() as scratch, _watched(step):
        trainer = GroupTrainer(learner, settings, lambda _: groups, output_dir=scratch)
        trainer.train()
        state = trainer.state_dict()["optimizer"]["state"].values()
    step.moments = sum(each["exp_avg"].nbytes + each["exp_avg_sq"].nbytes for each in state)
    return step


def _policy(rank: int) -> TransformersPolicy:
    policy = TransformersPolicy(NANO, device="cpu")
    return with_adapters(policy, AdapterSettings(rank, 2 * rank), seed=0) if rank else policy


def _groups(policy: TransformersPolicy, lengths: tuple[int, int]) -> list[Group]:
    """Random completions to questions about random pictures, all prompts of one length."""
    rng = np.random.default_rng(0)
    groups = []
    for k in range(GROUPS):
        picture = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        request = Request(f"{k}", "solver", "how many?", SIZE, image=picture)
        done = tuple(
            Completion("", tuple(int(i) for i in rng.integers(7, 700, length)), (), "stop")
            for length in rng.integers(lengths[0], lengths[1] + 1, SIZE)
        )
        prompt = tuple(policy.encode(request).prompt_ids)
        groups.append(Group(request, Response(f"{k}", done, prompt), tuple(rng.random(SIZE))))
    return groups


@contextmanager
def _watched(step: Step) -> Generator[None]:
    """Look into the trainer while it runs."""
    counts: list[LiveBytes] = []
    loss, train = EpisodeTrainer.compute_loss, EpisodeTrainer.training_step

    def compute_loss(
        self: Any, model: Any, inputs: dict[str, Any], *args: Any, **more: Any
    ) -> torch.Tensor:
        there = [*model.parameters(), *model.buffers(), *_tensors(inputs)]
        saved: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            saved[tensor.untyped_storage()._cdata] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = loss(self, model, inputs, *args, **more)
        step.kept = counts[-1].live
        for tensor in there:
            saved.pop(tensor.untyped_storage()._cdata, None)
        step.saved = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
        step.rows, step.completion = inputs["completion_ids"].shape
        step.tokens = step.rows * (inputs["prompt_ids"].shape[1] + step.completion)
        step.pictures = len(inputs["picture_grids"])
        return out

    def training_step(self: Any, model: Any, inputs: Any, num_items_in_batch: Any) -> torch.Tensor:
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        known = [*model.parameters(), *model.buffers(), *grads]
        for batch in self._micro:
            known += _tensors(batch)
        with LiveBytes(known) as counted:
            counts.append(counted)
            out = train(self, model, inputs, num_items_in_batch)
        # The first one also makes the gradients; the last one finds them there.
        step.peak = counted.peak
        return out

    def before_step(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        held = [p.grad for group in optimizer.param_groups for p in group["params"]]
        step.gradients = _bytes(grad for grad in held if grad is not None)

    hook = register_optimizer_step_pre_hook(before_step)
    EpisodeTrainer.compute_loss, EpisodeTrainer.training_step = compute_loss, training_step
    try:
        yield
    finally:
        EpisodeTrainer.compute_loss, EpisodeTrainer.training_step = loss, train
        hook.remove()


def _tensors(values: dict[str, Any]) -> list[torch.Tensor]:
    return [value for value in values.values() if isinstance(value, torch.Tensor)]


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--rank", type=int, default=0, help="of an adapter; 0 trains all weights")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--all", action="store_true", help="rank 0 and 16, each without and with")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """Predicted against measured, in the ways that are asked for."""
    torch.set_num_threads(1)
    ways = [(args.rank, args.checkpointing)]
    if args.all:
        ways = [(rank, again) for rank in (0, 16) for again in (False, True)]
    found = {way: check(way[0], checkpointing=way[1]) for way in ways}
    checks = [each for checks in found.values() for each in checks]
    bounded = [each.predicted / each.measured for each in checks if each.bound]
    exact = [each.predicted / each.measured for each in checks if each.bound == 0]
    return Findings(
        {
            _name(way): [{**vars(each), "error": each.error} for each in checks]
            for way, checks in found.items()
        },
        tuple(_table(way, checks) for way, checks in found.items()),
        (
            Ratio("planned / measured, weights, gradients, moments, cache", Spread.of(exact)),
            Ratio("planned / measured, activations", Spread.of(bounded)),
        ),
        seeds=(0,),
        packages=("peft",),
        ok=all(each.ok for each in checks),
    )


def _name(way: tuple[int, bool]) -> str:
    rank, checkpointing = way
    trained = f"LoRA of rank {rank}" if rank else "all weights"
    return trained + (", layers computed again" if checkpointing else "")


def _table(way: tuple[int, bool], checks: Sequence[Check]) -> Table:
    rows = []
    for each in checks:
        bound = "none" if each.bound is None else f"{each.bound:.0%}"
        figures = (f"{each.predicted:,}", f"{each.measured:,}", f"{each.error:+.1%}", bound)
        rows.append((each.part, *figures))
    columns = ("part", "predicted", "measured", "error", "bound")
    return Table(f"bytes, nano model, float32 on a CPU, {_name(way)}", columns, tuple(rows))


def main(argv: Sequence[str] | None = None) -> int:
    """Print predicted against measured; exit code 1 if a bound is broken."""
    return script.run("plan_check", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
