"""How every performance script is run: one ``--json``, one way to print and to write."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as Shown
from rich.text import Text

from benchmarks.facts import print_facts
from benchmarks.findings import Findings, Table, to_the_right
from benchmarks.provenance import provenance, write_result
from mmzero_env.errors import EngineError, UserError

WIDTH = 150
"""Columns of the output where it is no terminal."""


def parser_of(description: str | None, *aliases: str) -> argparse.ArgumentParser:
    """The parser of a script, with ``--json FILE``.

    Args:
        description: The module's docstring; its first line is shown.
        aliases: Other names of ``--json``.
    """
    first = (description or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=first, allow_abbrev=False)
    names = ("--json", *aliases)
    parser.set_defaults(json_names=names)
    parser.add_argument(
        *names,
        dest="json",
        type=Path,
        metavar="FILE",
        help="write the figures as JSON, too",
    )
    return parser


def run(
    name: str,
    parser: argparse.ArgumentParser,
    measure: Callable[[argparse.Namespace], Findings],
    argv: Sequence[str] | None,
    *,
    python: str = "python",
) -> int:
    """Measure, print, write.

    Args:
        name: Of the script, without its package.
        parser: See :func:`parser_of`.
        measure: What does it.
        argv: Words after the name; those of the process when None.
        python: How the interpreter is called in the command that is written down.

    Returns:
        The exit code: 0; 1 if what the script checks does not hold, or something of ours failed;
        2 for a mistake of a person.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parser.parse_args(argv)
    try:
        found = measure(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except EngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    command = (python, "-m", f"benchmarks.{name}", *_that_matter(argv, args.json_names))
    origin = provenance(command, found.seeds, found.packages)
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    show(console, found)
    print_facts(console, origin["machine"])
    if args.json is not None:
        write_result(args.json, {"script": name, **origin, **found.as_json()})
        console.print(f"written: {args.json}", soft_wrap=True)
    return 0 if found.ok else 1


def show(console: Console, found: Findings) -> None:
    """Print tables, ratios and notes."""
    for table in found.tables:
        show_table(console, table)
    if found.ratios:
        rows = tuple((each.what, each.text()) for each in found.ratios)
        show_table(console, Table("ratios, side by side", ("what", "ratio"), rows))
    for note in found.notes:
        console.print(Text(note))


def show_table(console: Console, table: Table) -> None:
    """Print one table."""
    shown = Shown(title=table.title, title_justify="left", caption=table.note or None)
    for place, name in enumerate(table.columns):
        right = to_the_right(table.rows, place)
        shown.add_column(name, justify="right" if right else "left")
    for row in table.rows:
        # Text, not str: brackets of an interval are no markup.
        shown.add_row(*(Text(cell) for cell in row))
    console.print(shown)


def _that_matter(argv: Sequence[str], json_names: Sequence[str]) -> list[str]:
    """The words without the file that figures go to, which no figure depends on."""
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--":
            return [*kept, word, *words]
        if word in json_names:
            next(words, None)
        elif word.partition("=")[0] not in json_names:
            kept.append(word)
    return kept
