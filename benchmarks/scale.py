"""How far one process that plays can keep many engines busy, from measured costs.

    python -m benchmarks.scale [--preset qwen3vl-8b-1x80gb] [--tokens-per-second 7568]

Takes the work of a preset's stages from ``mmzero plan`` and what a request and a picture cost
outside the engines (:data:`COSTS`, each with the command that measures it), and prints, for a
number of GPUs that sample, how long a stage samples and how many cores playing and drawing
take meanwhile. Lengths and the speed of an engine are the plan's assumptions, so the table
says where the first limit is, not how fast a cluster will be. Nothing here was run on one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES
from trainers import config as configs
from trainers.plan import Assumptions, make
from trainers.plan_layout import Hardware
from trainers.plan_work import Work

GPUS = (1, 8, 64, 512, 4096)


@dataclass(frozen=True)
class Cost:
    """CPU time of something that happens outside the engines.

    Attributes:
        ms: CPU milliseconds.
        source: The command that measures it.
    """

    ms: float
    source: str


COSTS: Mapping[str, Cost] = {
    "client, a request": Cost(0.19, "python -m benchmarks.http_overhead (shared prompts)"),
    "HTTP library, a request": Cost(0.08, "the same (bare aiohttp)"),
    "collector, a request": Cost(0.08, "python -m benchmarks.rollout"),
    "scoring, an episode": Cost(7.0, "python -m benchmarks.environment (6.7 to 7.6)"),
    "Ray, a picture more": Cost(1.9, "python -m benchmarks.ray_executor (1.4 to 1.9)"),
    "Ray, an episode more": Cost(3.5, "the same (3.0 to 3.5)"),
}


@dataclass(frozen=True)
class Load:
    """What a stage asks of the machines beside the engines.

    Attributes:
        seconds: How long the engines sample.
        playing: Cores that sending, receiving and parsing take; one process has one.
        drawing: Cores that drawing takes; spread over as many processes as there are.
    """

    seconds: float
    playing: float
    drawing: float


def load(work: Work, gpus: int, tokens_a_second: float, render_seconds: float) -> Load:
    """The load of a stage with so many GPUs that sample.

    Args:
        work: Of the stage.
        gpus: Engines of one GPU each, all busy.
        tokens_a_second: Of one engine.
        render_seconds: CPU seconds a picture.
    """
    seconds = work.completion_tokens / (gpus * tokens_a_second)
    names = ("client, a request", "HTTP library, a request", "collector, a request")
    ms = sum(COSTS[name].ms for name in names)
    return Load(
        seconds,
        playing=work.requests * ms / 1e3 / seconds,
        drawing=work.pictures * render_seconds / seconds,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--preset", default="qwen3vl-8b-1x80gb")
    parser.add_argument("--tokens-per-second", type=float, default=0.0, help="0: the plan's")
    args = parser.parse_args(argv)
    assumptions = Assumptions()
    try:
        plan = make(configs.load(args.preset, {}), Hardware(), assumptions)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    rate = args.tokens_per_second or plan.tokens_a_second
    console = Console() if sys.stdout.isatty() else Console(width=110)
    table = Table(
        title=f"{args.preset}, {rate:,.0f} tokens a second and engine", title_justify="left"
    )
    for name in ("GPUs that sample", "stage", "sampling", "cores to play", "cores to draw"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for gpus in GPUS:
        for role in ROLES:
            found = load(plan.work[role], gpus, rate, assumptions.speeds.render)
            table.add_row(
                f"{gpus:,}" if role == ROLES[0] else "",
                role,
                f"{found.seconds:,.0f} s",
                f"{found.playing:.2f}",
                f"{found.drawing:.1f}",
                end_section=role == ROLES[-1],
            )
    console.print(table)
    for role in ROLES:
        one = load(plan.work[role], 1, rate, assumptions.speeds.render)
        console.print(f"{role}: one process keeps {1 / one.playing:,.0f} GPUs busy")
    for name, cost in COSTS.items():
        console.print(f"{name}: {cost.ms} ms ({cost.source})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
