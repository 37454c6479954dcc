"""``mmzero bench``: the benchmarks that people cite, each one command.

A benchmark is a module with ``add_parser(commands)``, which adds its subcommand and sets
``command`` to what runs it, and takes the options of :func:`shared_options`.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

BENCHMARKS: tuple[str, ...] = (
    "benchmarks.rewards",
    "benchmarks.hacks.command",
    "benchmarks.study",
    "benchmarks.throughput",
)
"""Modules of the subcommands, in the order of the help."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of ``mmzero bench``."""
    parser = argparse.ArgumentParser(
        prog="mmzero bench",
        description="Compare reward designs, reward hacks and speed, with seeds, intervals and "
        "the exact command in every result. A benchmark that is stopped goes on where it was "
        "when it is called again with the same --out.",
    )
    commands = parser.add_subparsers(title="benchmarks", metavar="BENCHMARK", required=True)
    for name in BENCHMARKS:
        importlib.import_module(name).add_parser(commands)
    return parser


def shared_options(
    parser: argparse.ArgumentParser,
    name: str,
    *,
    quick: str = "a small version that ends in 3 minutes on two cores",
) -> None:
    """The options that every benchmark has: ``--out`` and ``--quick``.

    Args:
        parser: Of the subcommand.
        name: Of the benchmark; its results go to ``runs/bench-NAME`` by default.
        quick: What ``--quick`` is.
    """
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs") / f"bench-{name}",
        metavar="DIR",
        help="where results go, and where a stopped benchmark goes on (default: %(default)s)",
    )
    parser.add_argument("--quick", action="store_true", help=quick)


def run(argv: Sequence[str]) -> int:
    """Run one benchmark.

    Args:
        argv: Words after ``mmzero bench``.

    Returns:
        The exit code.

    Raises:
        UserError: For a mistake in what was asked.
    """
    args = build_parser().parse_args(argv)
    args.words = ("mmzero", "bench", *argv)
    return args.command(args)
