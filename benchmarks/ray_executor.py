"""What Ray costs beside the processes of one machine: a picture and an episode, side by side.

    python -m benchmarks.ray_executor                 # about a minute
    python -m benchmarks.ray_executor --quick         # half of it, most of it Ray's start

Both ways draw with as many render processes, in turn, round by round. CPU time is
that of this process and of everything below it, Ray's own processes included. Pictures: one
in which nothing is drawn, whose 602 KB at 448 px are all that travels, and a chart. Episodes: a
scripted Proposer, Coder and Solver, four codes, five answers to each question.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import psutil

import agents
from benchmarks import script
from benchmarks.findings import Findings, Ratio, Spread, Table
from benchmarks.render_pool import SIZE, blank, chart
from mmzero_env.episode import Episode
from mmzero_env.protocol import ROLES, TOPICS, RenderJob
from mmzero_env.rendering import JobRenderer, Renderer
from trainers.executor import Executor, LocalExecutor
from trainers.ray_cluster import connected
from trainers.ray_executor import RayExecutor
from trainers.ray_fleet import Fleet
from trainers.ray_renderer import RayRenderer

SPEC = "scripted:noisy?skill=0.8"

Work = Callable[[int], object]
"""Does one round; rounds of equal numbers are equal."""


@dataclass(frozen=True)
class Cost:
    """What one item took, one number a round.

    Attributes:
        task: What an item is.
        way: Who did it.
        cpu_ms: CPU time of all processes, in milliseconds.
        wall_ms: Wall time, in milliseconds.
    """

    task: str
    way: str
    cpu_ms: tuple[float, ...]
    wall_ms: tuple[float, ...]


def cpu_seconds() -> float:
    """CPU time of this process and of all that run below it."""
    here = psutil.Process()
    spent = 0.0
    for process in (here, *here.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        spent += times.user + times.system
    return spent


def pictures(renderer: JobRenderer, write: Callable[[int], str], count: int) -> Work:
    """Draws so many codes a round."""

    def work(number: int) -> object:
        codes = (write(number * count + i) for i in range(count))
        drawings = renderer.render([RenderJob(str(i), code) for i, code in enumerate(codes)])
        assert all(drawing.ok for drawing in drawings)
        return drawings

    return work


def episodes(executor: Executor, count: int) -> Work:
    """Plays so many episodes a round."""
    policies = dict.fromkeys(ROLES, agents.make(SPEC))

    def work(number: int) -> object:
        seeds = range(number * count, (number + 1) * count)
        played = [Episode(f"e{seed}", TOPICS[seed % len(TOPICS)], seed) for seed in seeds]
        return executor.play(played, policies)

    return work


def compare(task: str, ways: dict[str, Work], count: int, rounds: int) -> list[Cost]:
    """The cost of an item, way by way, the ways taking turns."""
    spent: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, work in ways.items():
            cpu, wall = cpu_seconds(), time.perf_counter()
            work(number)
            cost = cpu_seconds() - cpu, time.perf_counter() - wall
            if number:  # the first one starts workers
                spent[way].append((1e3 / count * cost[0], 1e3 / count * cost[1]))
    return [Cost(task, way, *zip(*each, strict=True)) for way, each in spent.items()]


def run(workers: int, count: int, rounds: int) -> list[Cost]:
    """Measure everything."""
    with ExitStack() as stack:
        local = stack.enter_context(Renderer(SIZE, workers))
        stack.enter_context(connected(cpus=workers))
        fleet = stack.enter_context(Fleet(workers=workers))
        ray = RayRenderer(fleet, SIZE)
        here = LocalExecutor(local)
        there = RayExecutor(fleet, dict.fromkeys(ROLES, SPEC), size=SIZE)
        found: list[Cost] = []
        for task, write in (("empty picture", blank), ("chart", chart)):
            ways = {"local": pictures(local, write, count), "ray": pictures(ray, write, count)}
            found += compare(task, ways, count, rounds)
        few = max(8, count // 5)
        ways = {"local": episodes(here, few), "ray": episodes(there, few)}
        return found + compare("episode", ways, few, rounds)


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--workers", type=int, default=2, help="render processes of each way")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """Both ways in all tasks."""
    costs = run(args.workers, 80 if args.quick else 200, 3 if args.quick else 7)
    pairs = list(zip(costs[::2], costs[1::2], strict=True))
    return Findings(
        {"workers": args.workers, "costs": [asdict(cost) for cost in costs]},
        (
            Table(
                f"one item, {args.workers} render processes each way, ms",
                ("item", "way", "CPU", "wall"),
                tuple(
                    (c.task, c.way, Spread.of(c.cpu_ms).text(), Spread.of(c.wall_ms).text())
                    for c in costs
                ),
                "Median over the rounds (smallest to largest).",
            ),
        ),
        tuple(
            Ratio.of(f"Ray / local, {kind} time of one {here.task}", *values)
            for here, there in pairs
            for kind, values in (
                ("CPU", (there.cpu_ms, here.cpu_ms)),
                ("wall", (there.wall_ms, here.wall_ms)),
            )
        ),
        packages=("ray",),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    return script.run("ray_executor", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
