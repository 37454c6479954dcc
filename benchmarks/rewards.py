"""Which reward design trains best, and which one pays for the truth?

    mmzero bench rewards                       # all registered designs, both grounds
    mmzero bench rewards --quick               # the simulated world alone, in 3 minutes
    mmzero bench rewards --designs mm_zero,r_zero --design my-design.toml --ground nano

Compares designs at equal rollouts, on two grounds: a *simulated* world
(:mod:`benchmarks.simulated_world`), where PPO proposes, strategies draw and answer, and everything
true is known exactly; and the bundled *nano* model, really trained (:mod:`benchmarks.reward_nano`).
A cell is one design with one seed; whoever stops the command and calls it again with the same
``--out`` goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from benchmarks.cells import Cell, Cells, duration, seeds_of
from benchmarks.command import shared_options
from benchmarks.provenance import RESULTS, provenance, write_result
from benchmarks.reward_choice import Choice, choose, content_of, design_options
from mmzero_env.errors import UserError
from trainers import atomic
from trainers.report.run_data import read_json

if TYPE_CHECKING:
    from benchmarks.reward_grounds import Ground
    from benchmarks.reward_measures import Measure, Summary

GROUNDS = ("simulated", "nano", "both")
FILE = "rewards.json"


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds ``mmzero bench rewards``."""
    parser = commands.add_parser(
        "rewards",
        help="compare reward designs: what the Solver truly gains, and whether rewards pay for "
        "the truth",
        description="Compare reward designs at equal rollouts, in a simulated world and by "
        "training the bundled model: what the Solver truly gains, how true its labels are, and "
        "whether rewards pay for the truth.",
    )
    shared_options(parser, "rewards")
    design_options(parser)
    parser.add_argument(
        "--ground",
        choices=GROUNDS,
        default="both",
        help="the simulated world (half a minute of one core a design and seed), the nano model "
        "(about 100 s), or %(default)s. With --quick the nano model is only shown where its runs "
        "are in --out already",
    )
    parser.add_argument(
        "--seeds",
        metavar="SEEDS",
        help="such as 0-2 or 0,3 (default: simulated 0-4, with --quick 0-2; nano 0-2)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that simulate at the same time; the nano model always trains in one "
        "(default: 1, with --quick 2)",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write the result into benchmarks/results as well, where the documentation is from; "
        "a ground that was not run stays as it is there",
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Run what is missing, print the tables, and write ``rewards.json`` and the figures."""
    if args.publish and args.quick:
        raise UserError("--quick is too small to be published; leave out one of the two")
    if args.workers is None:
        args.workers = 2 if args.quick else 1
    if args.workers < 1:
        raise UserError(f"--workers must be at least 1, got {args.workers}")
    choices = choose(args.designs, args.design)
    # Only now: they load torch.
    from benchmarks import reward_grounds

    grounds = []
    if args.ground in ("simulated", "both"):
        grounds.append(reward_grounds.simulated(quick=args.quick))
    if args.ground in ("nano", "both"):
        grounds.append(reward_grounds.nano())
    targets = [args.out, *((RESULTS,) if args.publish else ())]
    for ground in grounds:
        found = _cells(args, ground, choices)
        if found is not None:
            _report(args, ground, choices, found, targets)
    print(f"results: {args.out / FILE}")
    return 0


def _seeds(args: argparse.Namespace, ground: Ground) -> Sequence[int]:
    return seeds_of(args.seeds or ground.seeds)


def _cells(
    args: argparse.Namespace, ground: Ground, choices: Sequence[Choice]
) -> dict[str, Cell] | None:
    """The cells of a ground by key; None if a quick call leaves it out, which it says."""
    folder: Path = args.out / ground.folder
    work = {
        f"{choice.key}/{seed}": ground.task(choice, seed, folder / f"{choice.key}-{seed}")
        # Seed by seed, so that a table over fewer seeds is there early.
        for seed in _seeds(args, ground)
        for choice in choices
    }
    cells = Cells(folder, ground.settings)
    missing = [key for key in work if key not in cells.done]
    if args.quick and missing and ground.name == "nano":
        left = (
            f"the nano ground has no quick version: {len(missing)} runs are missing in {folder}, "
            f"about {duration(len(missing) * ground.seconds)} of one core."
        )
        if args.ground == "nano":
            raise UserError(f"{left} Leave out --quick.")
        print(f"NOT RUN: {left} Leave out --quick to run them.")
        return None
    workers = args.workers if ground.parallel else 1
    return cells.run(work, title=f"{ground.name} ground", workers=workers)


def _report(
    args: argparse.Namespace,
    ground: Ground,
    choices: Sequence[Choice],
    found: dict[str, Cell],
    targets: Sequence[Path],
) -> None:
    from benchmarks.collapse import markdown
    from benchmarks.reward_figures import curves, intervals
    from benchmarks.reward_measures import MEASURES, as_json, lines, summarise

    seeds = _seeds(args, ground)
    own = {c.name: [found[f"{c.key}/{seed}"] for seed in seeds] for c in choices}
    found_by = {name: [ground.measures(cell) for cell in cells] for name, cells in own.items()}
    title = f"{ground.title}: mean over {len(seeds)} seeds [95 % interval]"
    tables: list[tuple[Sequence[Measure], dict[str, Summary]]] = []
    for measures in (MEASURES, ground.details):
        rows = {name: summarise(values, measures) for name, values in found_by.items()}
        show(title, rows, measures, ground.hacks)
        tables.append((measures, rows))
    (_, rows), (_, details) = tables
    result = {
        **provenance(args.words, seeds, ("stable-baselines3",)),
        "settings": dict(ground.settings),
        "designs": {choice.name: content_of(choice.design) for choice in choices},
        "table": as_json(rows),
        "details": as_json(details),
        "cells": {key: dict(ground.measures(cell)) for key, cell in found.items()},
    }
    series = {name: [ground.series(cell) for cell in cells] for name, cells in own.items()}
    panels = {
        name: {key: [one[key] for one in each] for key in each[0]} for name, each in series.items()
    }
    for folder in targets:
        _merge(folder / FILE, ground.name, result)
        texts = [markdown(lines(some, measures)) for measures, some in tables]
        atomic.write_text(folder / f"rewards-{ground.name}.md", "\n".join(texts))
        intervals(folder / f"rewards-{ground.name}.svg", title, rows)
        if all(panels.values()):
            path = folder / f"rewards-{ground.name}-curves.svg"
            curves(path, f"{ground.title}, {len(seeds)} seeds", panels, across="round")


def _merge(path: Path, ground: str, result: dict[str, Any]) -> None:
    """Write the result of a ground beside those of others that are there."""
    known = read_json(path).get("grounds", {}) if path.is_file() else {}
    write_result(path, {"grounds": {**known, ground: result}})


def show(title: str, rows: Mapping[str, Summary], measures: Sequence[Measure], hacks: str) -> None:
    """Print a table and its legend on standard output."""
    from benchmarks.reward_measures import lines

    heading, *body = lines(rows, measures)
    table = Table(*heading, title=title, title_justify="left")
    for line in body:
        table.add_row(*line)
    console = Console() if sys.stdout.isatty() else Console(width=220)
    console.print(table)
    for measure in measures:
        print(f"{measure.title}: {hacks if measure.key == 'hack_rate' else measure.meaning}")
    print()
