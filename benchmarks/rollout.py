"""Streaming rollouts against a barrier after every phase, in wall time.

    python -m benchmarks.rollout [--quick] [--json FILE]
    python -m benchmarks.rollout --vllm BASE@URL [--prompts nano] [--episodes 32] [--lengths 8]

The first form plays real episodes (4 codes, 5 answers to each of two questions) over
simulated engines, whose parameters :mod:`benchmarks.simulated_engine` states, in three
layouts: one engine that serves all roles (one LoRA adapter each), three engines with a role
each (the published run keeps every role in an engine of its own), and three engines that all
serve all roles. It then measures what a request costs beside the engine, over an engine
that takes no time and keeps 500 requests open. The second form compares both modes on a
real server; with ``--lengths``, that of :mod:`benchmarks.timed_engine`.

Where the gain comes from: at a barrier the slots empty until the last straggler of the
phase is done, and engines of other roles stand still. The first loss is a tail a phase, which
is about the same however many episodes are played, so that it matters less the more of them
share an engine; the last tail remains when streaming, too. The second loss grows with the
work. Neither can be had twice: an engine whose slots are full all the time is as fast with
barriers as without.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

import agents
from agents.policy import Policy, StreamingPolicy
from benchmarks.facts import machine_facts, print_facts
from benchmarks.instant_engine import InstantEngine
from benchmarks.simulated_engine import (
    LENGTHS,
    Load,
    Machine,
    PacedRenderer,
    Script,
    Servers,
    SimulatedEngine,
)
from benchmarks.timed_engine import TimedEngine
from mmzero_env.episode import Episode as OneEpisode
from mmzero_env.episode import EpisodeConfig
from mmzero_env.errors import UserError
from mmzero_env.protocol import ROLES, TOPICS, Role, Sampling
from mmzero_env.rendering import JobRenderer, Renderer
from trainers.rollout import Mode, collect
from trainers.rollout_stats import RolloutStats

LAYOUTS = ("one engine", "engine a role", "three shared")
FASTER, BUSY, OVERHEAD_MS = 1.5, 0.95, 0.3
"""Aims: times the speed of phases, share of time the engine is busy, CPU ms a request."""


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        speed: Seconds of an engine in a second.
        seeds: Repetitions with other lengths and texts.
        settings: Episodes and slots of each comparison; 72 is a step of the published
            Proposer stage, 320 prompts one of its Coder stage.
        overhead: Episodes over the engine that takes no time.
    """

    speed: float
    seeds: int
    settings: tuple[tuple[int, int], ...]
    overhead: int


FULL = Effort(
    60,
    5,
    ((18, 64), (36, 64), (36, 256), (72, 64), (72, 256), (144, 256), (320, 64), (320, 256)),
    1000,
)
QUICK = Effort(150, 2, ((36, 256), (72, 256)), 300)


@dataclass(frozen=True)
class Play:
    """One collection over simulated engines.

    Attributes:
        seconds: Wall time, in seconds of the engines.
        busy: Share of the time from first to last open request in which at least one was
            open, of the engine where it is smallest.
        slots: Share of all slots that were taken, over the whole collection.
        thin: Seconds an engine in which it ran with less than half of its slots.
    """

    seconds: float
    busy: float
    slots: float
    thin: float


@dataclass(frozen=True)
class Comparison:
    """Both modes in one setting, one entry a seed.

    Attributes:
        layout: One of :data:`LAYOUTS`.
        episodes: Number of episodes.
        slots: Slots of each engine.
        stream: Plays without barriers.
        phases: Plays with them.
    """

    layout: str
    episodes: int
    slots: int
    stream: tuple[Play, ...]
    phases: tuple[Play, ...]

    def ratio(self) -> tuple[float, float, float]:
        """How many times as fast streaming is: mean over seeds and its 95 % interval."""
        return interval(
            [p.seconds / s.seconds for p, s in zip(self.phases, self.stream, strict=True)]
        )


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval by Student's t; the interval is empty for a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, mean, mean
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def episodes_of(count: int, seed: int, config: EpisodeConfig) -> list[OneEpisode]:
    """Episodes on all topics in turn, none of them started."""
    return [
        OneEpisode(f"s{seed}/{i}", TOPICS[i % len(TOPICS)], seed * 1_000_003 + i, config)
        for i in range(count)
    ]


def simulate(
    layout: str, mode: Mode, script: Script, *, episodes: int, slots: int, speed: float
) -> Play:
    """Play episodes over fresh simulated engines."""
    machine = Machine(slots=slots)
    engines = [
        SimulatedEngine(script, machine, speed=speed, max_open=slots)
        for _ in range(1 if layout == "one engine" else 3)
    ]
    policies: Mapping[Role, Policy]
    if layout == "engine a role":
        policies = dict(zip(ROLES, engines, strict=True))
    else:
        policies = dict.fromkeys(ROLES, engines[0] if len(engines) == 1 else Servers(engines))
    found: list[RolloutStats] = []
    try:
        collect(
            episodes_of(episodes, script.seed, EpisodeConfig()),
            policies,
            PacedRenderer(speed=speed),
            mode=mode,
            on_stats=found.append,
        )
        loads: list[Load] = [engine.load() for engine in engines]
    finally:
        for engine in engines:
            engine.close()
    seconds = found[0].seconds * speed
    return Play(
        seconds,
        min(policy.busy_share for policy in found[0].policies),
        sum(load.slot_seconds for load in loads) / (seconds * slots * len(engines)),
        sum(load.thin for load in loads) / len(engines),
    )


def compare_all(effort: Effort, note: Callable[[str], None]) -> list[Comparison]:
    """Every setting in every layout."""
    plays: dict[tuple[str, int, int, str], list[Play]] = {}
    for seed in range(effort.seeds):
        script = Script(seed)
        most = max(episodes for episodes, _ in effort.settings)
        rehearsal = PacedRenderer(speed=1e9)
        collect(episodes_of(most, seed, EpisodeConfig()), dict.fromkeys(ROLES, script), rehearsal)
        for episodes, slots in effort.settings:
            for layout in LAYOUTS:
                for mode in get_args(Mode):
                    note(f"seed {seed}: {episodes} episodes, {slots} slots, {layout}, {mode}")
                    play = simulate(
                        layout, mode, script, episodes=episodes, slots=slots, speed=effort.speed
                    )
                    plays.setdefault((layout, episodes, slots, mode), []).append(play)
    return [
        Comparison(
            layout,
            episodes,
            slots,
            tuple(plays[layout, episodes, slots, "stream"]),
            tuple(plays[layout, episodes, slots, "phases"]),
        )
        for layout in LAYOUTS
        for episodes, slots in effort.settings
    ]


@dataclass(frozen=True)
class Overhead:
    """What a request costs beside the engine.

    Attributes:
        requests: How many were answered.
        open: Requests open at a time, on average over the start and the end, too.
        most: Most requests open at a time.
        process: CPU milliseconds of the whole process a request: collector, episodes,
            parsing, and the threads that hand answers over.
        collector: Of them, the collector's thread.
    """

    requests: int
    open: float
    most: int
    process: float
    collector: float


def overhead(episodes: int, hold: int = 500) -> Overhead:
    """Play episodes over an engine that takes no time and keeps ``hold`` requests open."""
    script, shape = Script(), EpisodeConfig()
    renderer = PacedRenderer(speed=1e9)
    collect(episodes_of(episodes, 0, shape), dict.fromkeys(ROLES, script), renderer)
    played = episodes_of(episodes, 0, shape)
    engine = InstantEngine(script, hold)
    found: list[RolloutStats] = []
    started = time.process_time()
    try:
        collect(played, dict.fromkeys(ROLES, engine), renderer, on_stats=found.append)
    finally:
        engine.close()
    spent = time.process_time() - started
    (asked,) = found[0].policies
    each = 1000 / asked.requests
    return Overhead(
        asked.requests,
        asked.occupancy.mean,
        asked.occupancy.most,
        spent * each,
        found[0].seconds_overhead * each,
    )


def compare_real(
    policy: StreamingPolicy,
    renderer: JobRenderer,
    config: EpisodeConfig,
    *,
    episodes: int,
    seeds: int,
    note: Callable[[str], None] = lambda text: None,
) -> list[dict[Mode, RolloutStats]]:
    """Both modes over a real policy, the one that goes first changing from seed to seed.

    An episode that is not counted goes before: the first requests to a server are slow.

    Returns:
        The figures of both modes, one entry a seed.
    """
    rows: list[dict[Mode, RolloutStats]] = []
    # The first requests of a server's life cost seconds more than any later ones.
    collect(episodes_of(1, seeds, config), dict.fromkeys(ROLES, policy), renderer)
    for seed in range(seeds):
        row: dict[Mode, RolloutStats] = {}
        order: tuple[Mode, ...] = get_args(Mode)
        for mode in order if seed % 2 == 0 else order[::-1]:
            note(f"seed {seed}: {mode}")
            found: list[RolloutStats] = []
            collect(
                episodes_of(episodes, seed, config),
                dict.fromkeys(ROLES, policy),
                renderer,
                mode=mode,
                on_stats=found.append,
            )
            row[mode] = found[0]
        rows.append(row)
    return rows


def show(console: Console, comparisons: Sequence[Comparison], cost: Overhead) -> None:
    """Print the simulated figures."""
    table = Table(title="streaming against phases, seconds of the simulated engines")
    table.add_column("layout")
    for name in ("episodes", "slots", "phases", "stream", "times as fast (95 %)"):
        table.add_column(name, justify="right")
    for name in ("slots in use", "s below half the slots", "busy, stream"):
        table.add_column(name, justify="right")
    table.caption = "slots in use and seconds below half: phases → stream"
    for each in comparisons:
        mean, low, high = each.ratio()
        table.add_row(
            each.layout,
            str(each.episodes),
            str(each.slots),
            f"{_mean(each.phases, 'seconds'):.0f}",
            f"{_mean(each.stream, 'seconds'):.0f}",
            f"{mean:.2f} [{low:.2f}, {high:.2f}]",
            f"{_mean(each.phases, 'slots'):.0%} → {_mean(each.stream, 'slots'):.0%}",
            f"{_mean(each.phases, 'thin'):.0f} → {_mean(each.stream, 'thin'):.0f}",
            f"{min(play.busy for play in each.stream):.1%}",
        )
    console.print(table)
    published = against_published(comparisons)
    table = Table(title="three engines: shared and streaming against a role each and phases")
    for name in ("episodes", "slots", "times as fast (95 %)"):
        table.add_column(name, justify="right")
    for (episodes, slots), (mean, low, high) in published.items():
        table.add_row(str(episodes), str(slots), f"{mean:.2f} [{low:.2f}, {high:.2f}]")
    console.print(table)
    table = Table(title="aims")
    for name in ("what", "aim", "found", "met"):
        table.add_column(name)
    for what, aim, came, met in aims(comparisons, cost):
        table.add_row(what, aim, came, "yes" if met else "no")
    console.print(table)


def against_published(
    comparisons: Sequence[Comparison],
) -> dict[tuple[int, int], tuple[float, float, float]]:
    """Three shared engines that stream against the published layout with its phases."""
    found: dict[tuple[int, int], tuple[float, float, float]] = {}
    by_layout = {(each.layout, each.episodes, each.slots): each for each in comparisons}
    for (layout, episodes, slots), each in by_layout.items():
        if layout == "engine a role":
            ours = by_layout["three shared", episodes, slots]
            pairs = zip(each.phases, ours.stream, strict=True)
            found[episodes, slots] = interval([p.seconds / s.seconds for p, s in pairs])
    return found


def aims(comparisons: Sequence[Comparison], cost: Overhead) -> list[tuple[str, str, str, bool]]:
    """What was wanted, what came, and whether that is enough."""
    rows: list[tuple[str, str, str, bool]] = []
    faster = {
        f"streaming, {layout}": {
            (each.episodes, each.slots): each.ratio()[0]
            for each in comparisons
            if each.layout == layout
        }
        for layout in LAYOUTS
    }
    published = against_published(comparisons)
    faster["streaming and sharing three engines"] = {at: it[0] for at, it in published.items()}
    for what, means in faster.items():
        enough = [f"{n} on {slots}" for (n, slots), mean in means.items() if mean >= FASTER]
        came = f"{min(means.values()):.2f} to {max(means.values()):.2f}; reached for: "
        came += "all" if len(enough) == len(means) else ", ".join(enough) or "none"
        rows.append((what, f"≥ {FASTER} times", came, len(enough) == len(means)))
    busy = min(play.busy for each in comparisons for play in each.stream)
    rows.append(("engine busy while streaming", f"≥ {BUSY:.0%}", f"{busy:.1%}", busy >= BUSY))
    came = f"{cost.process:.2f} ms (up to {cost.most} open, {cost.open:.0f} on average)"
    aim = f"≤ {OVERHEAD_MS} ms CPU a request"
    rows.append(("our cost beside the engine", aim, came, cost.process <= OVERHEAD_MS))
    return rows


def show_real(console: Console, name: str, rows: Sequence[Mapping[Mode, RolloutStats]]) -> None:
    """Print the figures of a real server."""
    table = Table(title=f"streaming against phases on {name}, seconds")
    for column in ("seed", "phases", "stream", "times as fast", "tokens", "busy, stream"):
        table.add_column(column, justify="right")
    for seed, row in enumerate(rows):
        stream, phases = row["stream"], row["phases"]
        (asked,) = stream.policies
        table.add_row(
            str(seed),
            f"{phases.seconds:.1f}",
            f"{stream.seconds:.1f}",
            f"{phases.seconds / stream.seconds:.2f}",
            "unknown" if asked.tokens is None else f"{asked.tokens:,}",
            f"{asked.busy_share:.1%}",
        )
    console.print(table)
    mean, low, high = interval([row["phases"].seconds / row["stream"].seconds for row in rows])
    console.print(f"streaming is {mean:.2f} times as fast, 95 % interval {low:.2f} to {high:.2f}")


def _mean(plays: Sequence[Play], name: str) -> float:
    return float(np.mean([getattr(play, name) for play in plays]))


def _simulated(console: Console, effort: Effort) -> dict[str, Any]:
    with console.status("") as status:
        comparisons = compare_all(effort, status.update)
        status.update("cost of a request")
        cost = overhead(effort.overhead)
    show(console, comparisons, cost)
    return {
        "effort": dataclasses.asdict(effort),
        "machine_model": dataclasses.asdict(Machine()),
        "lengths": {role: dataclasses.asdict(law) for role, law in LENGTHS.items()},
        "comparisons": [
            {**dataclasses.asdict(each), "times_as_fast": each.ratio()} for each in comparisons
        ],
        "against_published": [
            {"episodes": episodes, "slots": slots, "times_as_fast": found}
            for (episodes, slots), found in against_published(comparisons).items()
        ],
        "overhead": dataclasses.asdict(cost),
        "aims": [
            {"what": what, "aim": aim, "found": came, "met": met}
            for what, aim, came, met in aims(comparisons, cost)
        ],
    }


def _real(console: Console, args: argparse.Namespace) -> dict[str, Any]:
    policy: Policy
    if args.lengths is None:
        policy = agents.make(f"vllm:{args.vllm}")
    else:
        policy = TimedEngine(args.vllm, args.lengths)
    if not isinstance(policy, StreamingPolicy):
        raise UserError(f"policy vllm:{args.vllm} does not stream")
    sampling = {role: Sampling(max_tokens=args.max_tokens) for role in ROLES}
    config = EpisodeConfig(prompts=args.prompts, sampling=sampling)
    try:
        with (
            Renderer(size=args.size, workers=args.workers) as renderer,
            console.status("") as status,
        ):
            rows = compare_real(
                policy,
                renderer,
                config,
                episodes=args.episodes,
                seeds=args.seeds,
                note=status.update,
            )
    finally:
        policy.close()
    show_real(console, policy.name, rows)
    return {
        "policy": policy.name,
        "written": policy.facts() if isinstance(policy, TimedEngine) else "by the model",
        "episodes": args.episodes,
        "max_tokens": args.max_tokens if args.lengths is None else None,
        "seeds": [{mode: dataclasses.asdict(found) for mode, found in row.items()} for row in rows],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write.

    Args:
        arguments: Of the command line; those of the process when None.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="under a minute, rougher")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON, too")
    real = parser.add_argument_group("on a real server")
    real.add_argument("--vllm", metavar="BASE@URL[,URL]", help="compare both modes on it instead")
    real.add_argument("--prompts", default="nano", help="prompt set that the model understands")
    real.add_argument("--episodes", type=int, default=32)
    real.add_argument("--seeds", type=int, default=3, help="repetitions")
    real.add_argument("--max-tokens", type=int, default=160, help="longest completion")
    real.add_argument(
        "--lengths", type=float, metavar="SCALE", help=f"{TimedEngine.HELP} divided by SCALE"
    )
    real.add_argument("--size", type=int, default=96, help="side of the pictures in pixels")
    real.add_argument("--workers", type=int, default=1, help="processes that draw")
    args = parser.parse_args(arguments)
    console = Console() if sys.stdout.isatty() else Console(width=130)
    try:
        if args.vllm is not None:
            figures = _real(console, args)
        else:
            figures = _simulated(console, QUICK if args.quick else FULL)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    facts = machine_facts(("numpy", "scipy"))
    print_facts(console, facts)
    if args.json is not None:
        args.json.write_text(json.dumps({**figures, "machine": facts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
