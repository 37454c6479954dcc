"""A whole Solver step on the nano model beside a bare PyTorch loop and TRL's own trainer.

    python -m benchmarks.train_step [--repetitions 5] [--steps 4]

One step is 64 answers to 8 labelled questions about pictures (8 groups of 8, at most 64
tokens), their rewards, and one AdamW update with a KL term. Three ways to do it:

* ours: :class:`trainers.grpo.GroupTrainer` with the policy, rewards and log of a run
  (``metrics.jsonl`` and TensorBoard), as the Solver's stage drives them;
* bare: :class:`benchmarks.bare_grpo.BareLoop`, the same arithmetic in plain PyTorch, prompts
  computed once a group and sampled from with a key-value cache;
* TRL: its ``GRPOTrainer`` with transformers generation, pictures in its dataset, the same
  reward as a function.

All three see the same questions in the same order, keep groups with equal rewards, and begin
with the same weights; the learning rate is 1e-6, so that they go on writing alike. They run in
turn in one process, one thread, in an order that rotates from repetition to repetition.
Every turn drops its first step, which warms up. Reported is CPU time a step, each way's median
over the repetitions with the smallest and the largest, and the ratios repetition by repetition.
What the run saves for resume is not part of it: see :mod:`benchmarks.resume_cost`.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from PIL import Image as PILImage
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from agents.nano.curriculum import training_spec
from agents.nano.pretrain import render_pool
from agents.special_tokens import banned_ids
from agents.transformers import nano
from benchmarks import script
from benchmarks.bare_grpo import BareLoop
from benchmarks.findings import Findings, Ratio, Spread, Table
from benchmarks.trl_processor import PictureProcessor
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import Image, Request, Sampling
from mmzero_env.rewards import get_design
from trainers import config as configs
from trainers.dispatcher import answer
from trainers.evolve import quiet_transformers
from trainers.groups import Group
from trainers.grpo import GroupTrainer, StepMetrics
from trainers.grpo_settings import GRPOSettings
from trainers.progress import SilentProgress
from trainers.run_log import RunLog
from trainers.trackers import open_trackers

PROMPTS, SIZE, TOKENS, BETA = 8, 8, 64, 0.05
BARS = {"ours / bare": 2.0, "TRL / ours": 1.5}
"""Ours takes at most twice the time of the bare loop; TRL's takes at least 1.5 times ours."""

Turn = Callable[[Sequence["Asked"], int, Path], "Timed"]


@dataclass(frozen=True, eq=False)
class Asked:
    """A labelled question about a picture.

    Attributes:
        image: (H, W, 3) uint8.
        prompt: What the Solver reads.
        label: The true answer.
    """

    image: Image
    prompt: str
    label: str


@dataclass(frozen=True)
class Timed:
    """What a turn of some steps took, without its first.

    Attributes:
        cpu: CPU seconds a step.
        wall: Seconds a step.
        tokens: Sampled tokens a step.
    """

    cpu: float
    wall: float
    tokens: float


class Marks:
    """Clocks at the end of every step."""

    def __init__(self) -> None:
        """See the class."""
        self._clocks: list[tuple[float, float]] = []
        self._tokens: list[float] = []

    def step(self, length: float) -> None:
        """A step ended whose completions had this mean length."""
        self._clocks.append((time.process_time(), time.perf_counter()))
        self._tokens.append(length * PROMPTS * SIZE)

    def timed(self) -> Timed:
        """Means over all steps but the first."""
        cpu, wall = np.diff(np.array(self._clocks), axis=0).mean(0)
        return Timed(float(cpu), float(wall), float(np.mean(self._tokens[1:])))


def questions(count: int, seed: int = 0) -> list[Asked]:
    """Hard questions about pictures of the world, none of them the probe's."""
    rng, prompts = random.Random(seed), get_prompts("nano")
    specs = [training_spec(rng) for _ in range(count)]
    asked = []
    for spec, image in zip(specs, render_pool(specs), strict=True):
        item = spec.solve(spec.ask("hard", rng))
        assert item is not None, "a question that a spec asks applies to it"
        asked.append(Asked(image, prompts.solver(item.question), item.answer))
    return asked


def settings(steps: int) -> GRPOSettings:
    """The numbers that all three ways share."""
    return GRPOSettings(
        steps=steps,
        prompts_per_step=PROMPTS,
        group_size=SIZE,
        micro_batch=PROMPTS * SIZE,
        beta=BETA,
        keep_zero_variance=True,
        max_completion_length=TOKENS,
    )


def requests(asked: Sequence[Asked], step: int) -> list[Request]:
    """The prompts of a step."""
    return [
        Request(
            id=f"{step}/{k}",
            role="solver",
            prompt=each.prompt,
            n=SIZE,
            image=each.image,
            sampling=Sampling(max_tokens=TOKENS),
            seed=step * PROMPTS + k,
        )
        for k, each in enumerate(_of_step(asked, step))
    ]


def ours(asked: Sequence[Asked], steps: int, folder: Path) -> Timed:
    """The trainer of this package."""
    policy, design, marks = nano(""), get_design("mm_zero"), Marks()
    config = configs.load("nano-cpu", {"out": str(folder)})

    def source(step: int) -> list[Group]:
        asking = requests(asked, step)
        found = answer(policy, asking)
        groups = []
        for request, each in zip(asking, _of_step(asked, step), strict=True):
            response = found[request.id]
            texts = [completion.text for completion in response.completions]
            groups.append(Group.of(request, response, design.solver_rewards(texts, each.label)))
        return groups

    log = RunLog(folder, SilentProgress())
    with open_trackers(config, [], print) as log.trackers:

        def on_step(metrics: StepMetrics) -> None:
            log.step(1, "solver", metrics, {})
            marks.step(metrics.completion_length)

        GroupTrainer(policy, settings(steps), source, on_step, output_dir=folder).train()
    return marks.timed()


def bare(asked: Sequence[Asked], steps: int, folder: Path) -> Timed:
    """Plain PyTorch."""
    policy, design, marks = nano(""), get_design("mm_zero"), Marks()
    model, tokenizer = policy.model, policy.tokenizer
    vocabulary = model.get_output_embeddings().weight.shape[0]
    loop = BareLoop(
        model,
        settings(steps),
        max_tokens=TOKENS,
        stop=tokenizer.eos_token_id,
        banned=sorted(banned_ids(model.config, model.generation_config, vocabulary)),
    )
    for step in range(steps):
        labels = [each.label for each in _of_step(asked, step)]

        def reward(group: int, rows: list[list[int]], labels: list[str] = labels) -> list[float]:
            texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
            return [turn.value for turn in design.solver_rewards(texts, labels[group])]

        prompts = [policy.encode(request) for request in requests(asked, step)]
        marks.step(loop.step(prompts, reward))
    return marks.timed()


def trl(asked: Sequence[Asked], steps: int, folder: Path) -> Timed:
    """TRL's GRPOTrainer as its documentation shows it."""
    policy, design, marks = nano(""), get_design("mm_zero"), Marks()
    policy.tokenizer.padding_side = "left"
    shared = settings(steps)
    rows = {
        "prompt": [[{"role": "user", "content": each.prompt}] for each in asked],
        "image": [PILImage.fromarray(each.image) for each in asked],
        "label": [each.label for each in asked],
    }

    def reward(completions: list[Any], label: list[str], **kwargs: Any) -> list[float | None]:
        texts = [message[0]["content"] for message in completions]
        return [
            turn.value
            for start in range(0, len(texts), SIZE)
            for turn in design.solver_rewards(texts[start : start + SIZE], label[start])
        ]

    class Clock(TrainerCallback):
        """Marks the end of a step."""

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            """TRL logs after every step, and once more at the end."""
            if "completions/mean_length" in kwargs["logs"]:
                marks.step(kwargs["logs"]["completions/mean_length"])

    trainer = GRPOTrainer(
        model=policy.model,
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(folder),
            use_cpu=True,
            bf16=False,
            max_steps=steps,
            per_device_train_batch_size=PROMPTS * SIZE,
            num_generations=SIZE,
            max_completion_length=TOKENS,
            learning_rate=shared.learning_rate,
            weight_decay=shared.weight_decay,
            lr_scheduler_type="constant",
            epsilon=shared.epsilon,
            epsilon_high=shared.epsilon_high,
            delta=shared.delta,
            beta=BETA,
            loss_type="dapo",
            gradient_checkpointing=False,
            shuffle_dataset=False,
            dataloader_pin_memory=False,
            report_to="none",
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict(rows),
        processing_class=PictureProcessor(policy.image_processor, policy.tokenizer),
        callbacks=[Clock()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return marks.timed()


WAYS: Mapping[str, Turn] = {"ours": ours, "bare": bare, "TRL": trl}


def in_turn(repetitions: int, steps: int) -> list[dict[str, Timed]]:
    """Every way in turn, ``repetitions`` times.

    Args:
        repetitions: Turns of each way.
        steps: Steps of a turn that count.
    """
    asked = questions(PROMPTS * (steps + 1))
    names = list(WAYS)
    found = []
    for place in range(repetitions):
        turn: dict[str, Timed] = {}
        for name in names[place % 3 :] + names[: place % 3]:
            with tempfile.TemporaryDirectory() as scratch:
                turn[name] = WAYS[name](asked, steps + 1, Path(scratch))
        found.append(turn)
    return found


def ratios(found: Sequence[Mapping[str, Timed]]) -> dict[str, list[float]]:
    """The quotients that the bars speak of, repetition by repetition."""
    pairs = [name.split(" / ") for name in BARS]
    return {f"{a} / {b}": [turn[a].cpu / turn[b].cpu for turn in found] for a, b in pairs}


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__, "--out")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps of a turn that count")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """All ways in turn, on one thread."""
    torch.set_num_threads(1)
    quiet_transformers()
    found = in_turn(args.repetitions, args.steps)
    quotients = ratios(found)
    rows = []
    for name in WAYS:
        cpu, wall, tokens = (
            Spread.of([getattr(turn[name], part) for turn in found])
            for part in ("cpu", "wall", "tokens")
        )
        rows.append((name, cpu.text(), wall.text(), f"{tokens.median:.0f}"))
    bars = "; ".join(
        f"{name} {'at most' if name.startswith('ours') else 'at least'} {bar}"
        for name, bar in BARS.items()
    )
    return Findings(
        {
            "steps": args.steps,
            "turns": [{name: vars(timed) for name, timed in turn.items()} for turn in found],
            "ratios": quotients,
            "bars": dict(BARS),
        },
        (
            Table(
                "one Solver step of 64 nano completions, one thread",
                ("way", "CPU s a step", "wall s a step", "tokens"),
                tuple(rows),
                f"Median over the repetitions (smallest to largest). Bars: {bars}.",
            ),
        ),
        tuple(
            Ratio(f"{name}, CPU time of a Solver step", Spread.of(values))
            for name, values in quotients.items()
        ),
        seeds=(0,),
        packages=("accelerate", "datasets"),
    )


def _of_step(asked: Sequence[Asked], step: int) -> Sequence[Asked]:
    return asked[step * PROMPTS : (step + 1) * PROMPTS]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    return script.run("train_step", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
