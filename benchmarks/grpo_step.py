"""What one GRPO step of 64 nano rollouts costs, by role and by part.

    python -m benchmarks.grpo_step [--steps 5] [--pool N]

Each role plays 64 completions a step (8 groups of 8): the Proposer whole episodes
with 2 codes and 4 answers a question, the Coder episodes with 5 answers, the Solver
answers to labelled questions. Reported is CPU time of the process and its render
worker on one thread, without the first step, which warms up; the pools of prompts that a
stage begins with are not part of a step.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch

import agents
from benchmarks import script
from benchmarks.findings import Findings, Ratio, Spread, Table
from benchmarks.peak_memory import peak_mib
from mmzero_env.caption_memory import CaptionMemory
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, Drawing, RenderJob, Request, Response, Role
from mmzero_env.rendering import Renderer
from trainers import config as configs
from trainers import stages
from trainers.evolve import quiet_transformers
from trainers.learner import Learner
from trainers.players import Players
from trainers.progress import SilentProgress
from trainers.run_log import RunLog
from trainers.stage_state import StageStore

PARTS = ("generate", "render", "train and score", "total")
T = TypeVar("T")


class Clock:
    """Adds up CPU seconds by part."""

    def __init__(self) -> None:
        """See the class."""
        self.spent = dict.fromkeys(("generate", "render"), 0.0)

    def timed(self, part: str, call: Callable[[], T]) -> T:
        """Call and charge the CPU time of all threads to a part."""
        started = time.process_time()
        try:
            return call()
        finally:
            self.spent[part] += time.process_time() - started


class TimedPolicy:
    """A policy whose generation is timed."""

    def __init__(self, policy: agents.Policy, clock: Clock) -> None:
        """See the class."""
        self._policy = policy
        self._clock = clock

    def __getattr__(self, name: str) -> object:
        return getattr(self._policy, name)

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """See :class:`agents.Policy`."""
        return self._clock.timed("generate", lambda: self._policy.generate(requests))


class TimedRenderer:
    """A renderer in this process whose drawing is timed."""

    def __init__(self, renderer: Renderer, clock: Clock) -> None:
        """See the class."""
        self._renderer = renderer
        self._clock = clock

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        """See :class:`mmzero_env.rendering.Renderer`."""
        return self._clock.timed("render", lambda: self._renderer.render(jobs))


def steps_of(
    role: Role, steps: int, folder: Path, pool: int | None = None
) -> dict[str, list[float]]:
    """CPU seconds of one role's stage by part, one number a step."""
    config = configs.load(
        "nano-cpu",
        {
            "out": str(folder),
            f"{role}.steps": str(steps + 1),
            f"{role}.prompts_per_step": "8",
            f"{role}.group_size": "8",
            **({} if pool is None else {f"{role}.pool": str(pool)}),
        },
    )
    clock = Clock()
    policies = {name: cast(Learner, TimedPolicy(agents.make("nano"), clock)) for name in ROLES}
    marks: list[tuple[float, float, float]] = []

    class Log(RunLog):
        """Notes the clocks after every step."""

        def step(self, *args, **kwargs) -> None:
            super().step(*args, **kwargs)
            marks.append((time.process_time(), clock.spent["generate"], clock.spent["render"]))

    with Renderer(size=config.image_size, workers=0) as renderer:
        stages.run(
            stages.Stage(
                iteration=1,
                kind=role,
                config=config,
                learners=policies,
                players=Players(policies),
                renderer=TimedRenderer(renderer, clock),
                design=config.design(),
                memory=CaptionMemory(),
                log=Log(folder, SilentProgress()),
                store=StageStore(folder),
                resumed=None,
                note=lambda text: None,
            )
        )
    if len(marks) < 2:
        raise UserError(
            f"the {role}'s stage had {len(marks)} steps, and the first one does not count: too few "
            f"prompts of its pool passed the filters. Give a larger --pool than {pool}"
        )
    total, generate, render = np.diff(np.array(marks), axis=0).T
    found = (generate, render, total - generate - render, total)
    return {part: each.tolist() for part, each in zip(PARTS, found, strict=True)}


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__, "--out")
    parser.add_argument("--steps", type=int, default=5, help="steps of a role that count")
    parser.add_argument(
        "--pool", type=int, help="proposals behind the prompts of a stage (default: the preset's)"
    )
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """The three roles by part."""
    torch.set_num_threads(1)
    quiet_transformers()
    found: dict[Role, Mapping[str, Sequence[float]]] = {}
    for role in ROLES:
        with tempfile.TemporaryDirectory() as scratch:
            found[role] = steps_of(role, args.steps, Path(scratch), args.pool)
    peak = peak_mib()
    return Findings(
        {"peak_mib": peak, "seconds": found},
        (
            Table(
                "one GRPO step of 64 nano rollouts, one thread, CPU seconds",
                ("part", *ROLES),
                tuple(
                    (part, *(Spread.of(found[role][part]).text() for role in ROLES))
                    for part in PARTS
                ),
                f"Median over the steps (smallest to largest); peak memory {peak:.0f} MiB.",
            ),
        ),
        tuple(
            Ratio.of(
                f"generating / a whole step, CPU, {role}",
                found[role]["generate"],
                found[role]["total"],
            )
            for role in ROLES
        ),
        seeds=(configs.load("nano-cpu", {}).seed,),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    return script.run("grpo_step", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
