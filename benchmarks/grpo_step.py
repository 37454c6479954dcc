"""What one GRPO step of 64 nano rollouts costs, by role and by part.

    python -m benchmarks.grpo_step [--steps 5] [--out FILE.json]

Each role plays 64 completions a step (8 groups of 8): the Proposer whole episodes
with 2 codes and 4 answers a question, the Coder episodes with 5 answers, the Solver
answers to labelled questions. Reported is CPU time of the process and its render
worker on one thread, without the first step, which warms up.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import agents
from mmzero_env.caption_memory import CaptionMemory
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


def measure(role: Role, steps: int, folder: Path) -> dict[str, float]:
    """CPU seconds a step of one role's stage, by part."""
    config = configs.load(
        "nano-cpu",
        {
            "out": str(folder),
            f"{role}.steps": str(steps + 1),
            f"{role}.prompts_per_step": "8",
            f"{role}.group_size": "8",
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
    total, generate, render = np.diff(np.array(marks), axis=0).mean(axis=0)
    return {
        "generate": float(generate),
        "render": float(render),
        "train and score": float(total - generate - render),
        "total": float(total),
    }


def main() -> None:
    """Measure the three roles and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    quiet_transformers()
    found = {}
    for role in ROLES:
        with tempfile.TemporaryDirectory() as scratch:
            found[role] = measure(role, args.steps, Path(scratch))
    table = Table(title="CPU seconds of one GRPO step of 64 nano rollouts, one thread")
    table.add_column("part")
    for role in ROLES:
        table.add_column(role, justify="right")
    for part in PARTS:
        table.add_row(part, *(f"{found[role][part]:.2f}" for role in ROLES))
    Console().print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak:.0f} MiB, {os.cpu_count()} CPUs, torch {torch.__version__}")
    if args.out is not None:
        args.out.write_text(json.dumps({"peak_mib": peak, "seconds": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
