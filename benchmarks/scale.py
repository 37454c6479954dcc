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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks import script
from benchmarks.findings import Findings, Table
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


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--preset", default="qwen3vl-8b-1x80gb")
    parser.add_argument("--tokens-per-second", type=float, default=0.0, help="0: the plan's")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """The loads of all stages; nothing is run.

    Raises:
        UserError: If there is no such preset.
    """
    assumptions = Assumptions()
    plan = make(configs.load(args.preset, {}), Hardware(), assumptions)
    rate = args.tokens_per_second or plan.tokens_a_second
    render = assumptions.speeds.render
    loads = {
        gpus: {role: load(plan.work[role], gpus, rate, render) for role in ROLES} for gpus in GPUS
    }
    return Findings(
        {
            "tokens_a_second": rate,
            "costs": {name: asdict(cost) for name, cost in COSTS.items()},
            "loads": {
                str(gpus): {role: asdict(each) for role, each in by_role.items()}
                for gpus, by_role in loads.items()
            },
        },
        (
            Table(
                f"{args.preset}, {rate:,.0f} tokens a second and engine (computed, not measured)",
                ("GPUs that sample", "stage", "sampling, s", "cores to play", "cores to draw"),
                tuple(
                    (
                        f"{gpus:,}",
                        role,
                        f"{each.seconds:,.0f}",
                        f"{each.playing:.2f}",
                        f"{each.drawing:.1f}",
                    )
                    for gpus, by_role in loads.items()
                    for role, each in by_role.items()
                ),
                "One process that plays keeps busy: "
                + ", ".join(f"{1 / loads[1][role].playing:,.0f} GPUs ({role})" for role in ROLES)
                + ".",
            ),
            Table(
                "costs that the table is computed from, CPU ms",
                ("what", "ms", "from"),
                tuple((name, f"{cost.ms}", cost.source) for name, cost in COSTS.items()),
            ),
        ),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    return script.run("scale", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
