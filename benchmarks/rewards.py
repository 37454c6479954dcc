"""Which reward design trains best, and which one pays for the truth?

    mmzero bench rewards                       # all registered designs
    mmzero bench rewards --designs mm_zero,r_zero --design my-design.toml --ground nano

Compares designs at equal rollouts. On the *nano* ground they train the bundled model
(:mod:`benchmarks.reward_nano`). A cell is one design with one seed; whoever stops the command and
calls it again with the same ``--out`` goes on within the cell that was not finished.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import reward_nano
from benchmarks.cells import Cell, Cells, duration, seeds_of
from benchmarks.command import shared_options
from benchmarks.provenance import RESULTS, provenance, write_result
from benchmarks.reward_choice import Choice, choose, content_of
from benchmarks.reward_measures import MEASURES, Summary, as_json, lines, summarise
from mmzero_env.errors import UserError

NANO_SEEDS = "0-2"


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds ``mmzero bench rewards``."""
    parser = commands.add_parser(
        "rewards",
        help="compare reward designs: what the Solver truly gains, and whether rewards pay for "
        "the truth",
        description=__doc__.split("\n\n")[2],
    )
    shared_options(parser, "rewards")
    parser.add_argument(
        "--designs", metavar="NAMES", help="registered designs with commas between (default: all)"
    )
    parser.add_argument(
        "--design",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a design in a TOML file; may be repeated",
    )
    parser.add_argument(
        "--seeds", help=f"such as 0-2 or 0,3 (default: nano ground {NANO_SEEDS})", metavar="SEEDS"
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write the result into benchmarks/results as well, where the documentation is from",
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Run what is missing, print the tables and write ``rewards.json``."""
    choices = choose(args.designs, args.design)
    seeds = seeds_of(args.seeds or NANO_SEEDS)
    result = {
        **provenance(args.words, seeds),
        "designs": {choice.name: content_of(choice.design) for choice in choices},
        "grounds": {"nano": _nano(args, choices, seeds)},
    }
    for folder in (args.out, *((RESULTS,) if args.publish else ())):
        write_result(folder / "rewards.json", result)
    print(f"result: {args.out / 'rewards.json'}")
    return 0


def _nano(
    args: argparse.Namespace, choices: Sequence[Choice], seeds: Sequence[int]
) -> dict[str, object] | None:
    folder: Path = args.out / "nano"
    cells = Cells(folder, {"preset": reward_nano.PRESET, **reward_nano.SETTINGS})
    work = {
        f"{choice.key}/{seed}": partial(
            reward_nano.play, choice, seed, folder / f"{choice.key}-{seed}"
        )
        # Seed by seed, so that a table over fewer seeds is there early.
        for seed in seeds
        for choice in choices
    }
    missing = [key for key in work if key not in cells.done]
    if args.quick and missing:
        left = duration(len(missing) * reward_nano.SECONDS)
        raise UserError(
            f"the nano ground has no quick version: {len(missing)} runs are missing in {folder}, "
            f"about {left}. Leave out --quick."
        )
    found = cells.run(work, title="nano ground")
    rows = {
        choice.name: summarise(
            [reward_nano.measures(found[f"{choice.key}/{seed}"]) for seed in seeds]
        )
        for choice in choices
    }
    show("nano ground", rows)
    return {
        "settings": {"preset": reward_nano.PRESET, **reward_nano.SETTINGS},
        "seeds": list(seeds),
        "table": as_json(rows),
        "cells": {key: _brief(cell) for key, cell in found.items()},
    }


def _brief(cell: Cell) -> dict[str, object]:
    return {"measures": dict(reward_nano.measures(cell)), "probe": cell["probe"]}


def show(title: str, rows: Mapping[str, Summary]) -> None:
    """Print a table on standard output."""
    heading, *body = lines(rows)
    table = Table(*heading, title=title, title_justify="left")
    for line in body:
        table.add_row(*line)
    Console(width=220).print(table)
    for measure in MEASURES:
        print(f"{measure.title}: {measure.meaning}")
