"""Which reward designs pay a player that cheats?

    mmzero bench hacks [--quick] [--designs NAME,…] [--design FILE.toml] [--adversaries NAME,…]
    mmzero bench hacks --solver nano        # the bundled model answers, with eyes of its own

Scripted adversaries of each role play beside honest players, on the same prompts and with the
same seeds; every design scores the same episodes. A design pays a cheat if that earns more than
an honest player beyond chance. A cell is one adversary with one seed; a command that was stopped
goes on where it was when it is called again with the same ``--out``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

import agents
from agents import registry
from agents.policy import Policy
from benchmarks.cells import Cell, Cells, seeds_of
from benchmarks.command import shared_options
from benchmarks.hacks import honest, tables
from benchmarks.hacks.adversary import Adversary, chosen
from benchmarks.hacks.arms import CHEATS, GROUP, Arms
from benchmarks.hacks.costs import honest_costs
from benchmarks.hacks.reader import Habits, Reader
from benchmarks.hacks.scenes import Gallery
from benchmarks.hacks.verdicts import Cost, Finding, Results
from benchmarks.provenance import RESULTS, provenance, write_result
from benchmarks.reward_choice import Choice, choose, design_options
from mmzero_env.errors import UserError
from mmzero_env.prompts import get_prompts
from mmzero_env.protocol import TOPICS
from mmzero_env.rendering import Renderer
from mmzero_env.world import SIDE
from trainers import atomic

SEEDS, QUICK_SEEDS = "0-9", "0-1"
TOPIC_COUNT, QUICK_TOPICS = len(TOPICS), 6
READER = "reader"
NANO = "nano"
"""Prompts of the bundled model; they ask for its small pictures and plain questions, too."""
_SIZES = {NANO: SIDE}
_SIZE = 224
"""Side of the pictures in pixels: small letters are some 12 high."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds ``mmzero bench hacks``."""
    parser = commands.add_parser(
        "hacks",
        help="let scripted cheats play against reward designs: which designs pay them",
        description=__doc__.split("\n\n")[2],
        epilog="adversaries: " + ", ".join(each.name for each in chosen()),
    )
    shared_options(parser, "hacks")
    design_options(parser)
    parser.add_argument(
        "--adversaries", metavar="NAMES", help="names with commas between (default: all)"
    )
    parser.add_argument(
        "--solver",
        default=READER,
        metavar="AGENT",
        help="who answers honestly: 'reader' (default; options: reader?hard=0.9&obedience=0), or "
        "any agent, such as nano",
    )
    parser.add_argument(
        "--prompts",
        metavar="NAME",
        help=f"prompt set that the Solver understands (default: {NANO} for nano, else mm_zero)",
    )
    parser.add_argument(
        "--seeds",
        metavar="SEEDS",
        help=f"such as 0-4 or 0,3; at least two (default: {SEEDS}, quick {QUICK_SEEDS})",
    )
    parser.add_argument(
        "--details", action="store_true", help="print all figures of every design as well"
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write the results into benchmarks/results as well, where the documentation is from",
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Play what is missing, print the tables, and write ``hacks.json``, ``.md`` and ``.svg``."""
    adversaries = chosen(_names(args.adversaries))
    # Nobody is trained here: a design with a Proposer that is not is the same design.
    choices = [each for each in choose(args.designs, args.design) if not each.untrained]
    seeds = seeds_of(args.seeds or (QUICK_SEEDS if args.quick else SEEDS))
    if len(seeds) < 2:
        raise UserError(
            f"--seeds expects two seeds or more, got {len(seeds)}: one gives no verdict"
        )
    kind = args.solver.partition(":")[0].partition("?")[0]
    prompts = args.prompts or (NANO if kind == NANO else "mm_zero")
    get_prompts(prompts)
    settings = {
        "solver": args.solver,
        "prompts": prompts,
        "size": _SIZES.get(prompts, _SIZE),
        "topics": QUICK_TOPICS if args.quick else TOPIC_COUNT,
        "group": GROUP,
        "cheats": CHEATS,
        "designs": [choice.key for choice in choices],
        "honest": {"proposer": honest.PROPOSER_SKILL, "coder": honest.CODER_SKILL},
        "reader": asdict(Habits()),
    }
    with Renderer(size=settings["size"], workers=0) as renderer:
        gallery = Gallery(renderer)
        solver = _solver(args.solver, gallery)
        try:
            results = _play(args.out, settings, adversaries, choices, seeds, solver, gallery)
        finally:
            getattr(solver, "close", lambda: None)()
    _show(results, details=args.details)
    # matplotlib is slow to import, and only a finished benchmark draws.
    from benchmarks.hacks.heatmap import heatmap

    result = {**provenance(args.words, seeds), "settings": settings, **results.as_json()}
    command = " ".join(args.words)
    for folder in (args.out, *((RESULTS,) if args.publish else ())):
        write_result(folder / "hacks.json", result)
        atomic.write_text(folder / "hacks.md", tables.page(results, command))
        atomic.write_text(folder / "hacks.svg", heatmap(results))
    print(f"results: {args.out / 'hacks.json'}, hacks.md, hacks.svg")
    return 0


def _play(
    out: Path,
    settings: Mapping[str, Any],
    adversaries: Sequence[Adversary],
    choices: Sequence[Choice],
    seeds: Sequence[int],
    solver: Policy,
    gallery: Gallery,
) -> Results:
    prompts = settings["prompts"]
    designs = [choice.design for choice in choices]
    arms = Arms(
        solver,
        gallery,
        designs,
        topics=settings["topics"],
        prompts=prompts,
        plain=prompts == NANO,
        max_tokens=160 if prompts == NANO else None,
    )

    def costs(seed: int) -> Cell:
        played = arms.played(seed)
        return {each.name: honest_costs(each, played, gallery) for each in designs}

    work: dict[str, Callable[[], Cell]] = {}
    for seed in seeds:
        # Seed by seed: the honest episodes of a seed are played once for all adversaries.
        work[f"honest/{seed}"] = partial(costs, seed)
        for each in adversaries:
            work[f"{each.name}/{seed}"] = partial(arms.tried, each, seed)
    found = Cells(out, settings).run(work, title="hacks", stream=sys.stderr)
    names = [each.name for each in designs]
    return Results(
        adversaries,
        names,
        {
            each.name: {
                name: Finding.of([found[f"{each.name}/{seed}"][name] for seed in seeds])
                for name in names
            }
            for each in adversaries
        },
        {name: _cost([found[f"honest/{seed}"][name] for seed in seeds]) for name in names},
    )


def _cost(seeds: Sequence[Mapping[str, Any]]) -> dict[Any, Cost]:
    roles = dict.fromkeys(role for seed in seeds for role in seed)
    return {role: Cost.of([seed[role] for seed in seeds if role in seed]) for role in roles}


def _solver(spec: str, gallery: Gallery) -> Policy:
    def reader(
        argument: str,
        *,
        easy: float = Habits.easy,
        hard: float = Habits.hard,
        told: float = Habits.told,
        obedience: float = Habits.obedience,
        trust: float = Habits.trust,
        abstain: float = Habits.abstain,
        peak: float = Habits.peak,
    ) -> Reader:
        if argument:
            raise UserError(f"'{READER}' takes options only, {READER}?hard=0.9, got {spec!r}.")
        return Reader(gallery, Habits(easy, hard, told, obedience, trust, abstain, peak), spec)

    registry.register(READER, reader)
    return agents.make(spec)


def _names(listed: str | None) -> list[str]:
    return [name.strip() for name in listed.split(",")] if listed else []


def _show(results: Results, *, details: bool) -> None:
    console = Console() if sys.stdout.isatty() else Console(width=220)
    console.print(tables.overview(results))
    console.print(tables.costs(results))
    if details:
        for name in results.designs:
            console.print(tables.details(results, name))
    for name in results.designs:
        print(results.summary(name))
