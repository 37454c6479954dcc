"""Streaming rollouts against a barrier after every phase, in wall time.

    python -m benchmarks.rollout [--quick]
    python -m benchmarks.rollout --vllm BASE@URL [--prompts nano] [--episodes 32] [--lengths 8]
    python -m benchmarks.rollout --serve .venv-vllm/bin/python --lengths 8   # starts the server

The first form plays real episodes (4 codes, 5 answers to each of two questions) over
simulated engines, whose parameters :mod:`benchmarks.simulated_engine` states, in three
layouts: one engine that serves all roles (one LoRA adapter each), three engines with a role
each (the published run keeps every role in an engine of its own), and three engines that all
serve all roles. It then measures what a request costs beside the engine, over an engine
that takes no time and keeps 500 requests open. The second form compares both modes on a
real server, which the third one starts and stops; with ``--lengths``, that of
:mod:`benchmarks.timed_engine`.

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
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from rich.console import Console

import agents
from agents.policy import Policy, StreamingPolicy
from agents.vllm_process import VllmProcess
from agents.vllm_settings import VllmSettings
from benchmarks import script
from benchmarks.findings import Findings, Ratio
from benchmarks.instant_engine import InstantEngine
from benchmarks.interval import over_seeds
from benchmarks.rollout_figures import (
    LAYOUTS,
    Comparison,
    Overhead,
    Play,
    against_published,
    aims,
    ratios,
    real_table,
    tables,
)
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


def _simulated(effort: Effort) -> Findings:
    with Console(stderr=True).status("") as status:
        comparisons = compare_all(effort, status.update)
        status.update("cost of a request")
        cost = overhead(effort.overhead)
    figures = {
        "effort": dataclasses.asdict(effort),
        "machine_model": dataclasses.asdict(Machine()),
        "lengths": {role: dataclasses.asdict(law) for role, law in LENGTHS.items()},
        "comparisons": [
            {**dataclasses.asdict(each), "times_as_fast": each.ratio().as_json()}
            for each in comparisons
        ],
        "against_published": [
            {"episodes": episodes, "slots": slots, "times_as_fast": found.as_json()}
            for (episodes, slots), found in against_published(comparisons).items()
        ],
        "overhead": dataclasses.asdict(cost),
        "aims": [
            {"what": what, "aim": aim, "found": came, "met": met}
            for what, aim, came, met in aims(comparisons, cost)
        ],
    }
    found = tuple(tables(comparisons, cost))
    return Findings(figures, found, tuple(ratios(comparisons)), seeds=tuple(range(effort.seeds)))


def _served(args: argparse.Namespace) -> Findings:
    """As :func:`_real`, on a server of the nano model that lives as long as it takes."""
    settings = VllmSettings(max_model_len=1024, kv_cache_gb=0.5, threads=1)
    note = Console(stderr=True).print
    with (
        tempfile.TemporaryDirectory() as logs,
        VllmProcess(
            "nano", log_dir=Path(logs), python=args.serve, settings=settings, note=note
        ) as server,
    ):
        return _real(args, server.agent.removeprefix("vllm:"))


def _real(args: argparse.Namespace, server: str) -> Findings:
    policy: Policy
    if args.lengths is None:
        policy = agents.make(f"vllm:{server}")
    else:
        policy = TimedEngine(server, args.lengths)
    if not isinstance(policy, StreamingPolicy):
        raise UserError(f"policy vllm:{server} does not stream")
    sampling = {role: Sampling(max_tokens=args.max_tokens) for role in ROLES}
    config = EpisodeConfig(prompts=args.prompts, sampling=sampling)
    try:
        with (
            Renderer(size=args.size, workers=args.workers) as renderer,
            Console(stderr=True).status("") as status,
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
    ratio = over_seeds([row["phases"].seconds / row["stream"].seconds for row in rows])
    return Findings(
        {
            "policy": policy.name,
            "written": policy.facts() if isinstance(policy, TimedEngine) else "by the model",
            "episodes": args.episodes,
            "max_tokens": args.max_tokens if args.lengths is None else None,
            "seeds": [
                {mode: dataclasses.asdict(found) for mode, found in row.items()} for row in rows
            ],
        },
        (real_table(policy.name, rows),),
        (Ratio(f"phases / streaming, time, {args.episodes} episodes", ratio),),
        seeds=tuple(range(args.seeds)),
    )


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, rougher")
    real = parser.add_argument_group("on a real server")
    real.add_argument("--vllm", metavar="BASE@URL[,URL]", help="compare both modes on it instead")
    real.add_argument(
        "--serve", metavar="PYTHON", help="the same on the nano model, served with this Python"
    )
    real.add_argument("--prompts", default="nano", help="prompt set that the model understands")
    real.add_argument("--episodes", type=int, default=32)
    real.add_argument("--seeds", type=int, default=3, help="repetitions")
    real.add_argument("--max-tokens", type=int, default=160, help="longest completion")
    real.add_argument(
        "--lengths", type=float, metavar="SCALE", help=f"{TimedEngine.HELP} divided by SCALE"
    )
    real.add_argument("--size", type=int, default=96, help="side of the pictures in pixels")
    real.add_argument("--workers", type=int, default=1, help="processes that draw")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """Both modes on simulated engines or on a real server."""
    if args.serve is not None:
        return _served(args)
    if args.vllm is not None:
        return _real(args, args.vllm)
    return _simulated(QUICK if args.quick else FULL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write.

    Args:
        arguments: Of the command line; those of the process when None.
    """
    return script.run("rollout", build_parser(), measure, arguments)


if __name__ == "__main__":
    raise SystemExit(main())
