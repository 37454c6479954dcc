"""``mmzero doctor``: what this machine has, what is missing, and the command that mends it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from mmzero_env.rendering.system import Finding, inspect_system
from trainers import inventory


def run(as_json: bool) -> int:
    """Look, and print what was found on standard output.

    Args:
        as_json: Print for machines instead of tables.

    Returns:
        The exit code: 0 when everything that rendering cannot do without works, else 1.
    """
    found = {
        "rendering": inspect_system(),
        "features": inventory.features(),
        "versions": inventory.conflicts(),
        "GPU": inventory.gpus(),
    }
    works = all(finding.ok for finding in found["rendering"] if finding.core)
    if as_json:
        plain = {name: [asdict(each) for each in findings] for name, findings in found.items()}
        print(json.dumps({"ok": works, **plain}, indent=2))
    else:
        _print(found, works)
    return 0 if works else 1


def _print(found: Mapping[str, Sequence[Finding]], works: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console() if sys.stdout.isatty() else Console(width=200)
    for title, findings in found.items():
        _table(console, title, findings)
    optional = [f.name for f in found["rendering"] if not (f.ok or f.core)]
    if not works:
        console.print("Rendering does not work on this machine; mend what the table says.")
    elif optional:
        console.print(Text(f"Rendering works. Optional and not there: {', '.join(optional)}."))
    else:
        console.print("Rendering works, with everything that protects it.")
    missing = [f.name for f in found["features"] if not f.ok]
    if missing:
        console.print(
            Text(f"Not installed: {', '.join(missing)}. The table says what they are for.")
        )
    if any(not f.ok for f in found["versions"]):
        console.print("Some installed versions do not go together; see the table.")


def _table(console: object, title: str, findings: Sequence[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    assert isinstance(console, Console)
    table = Table(title=title, title_justify="left")
    for heading in ("what", "", "found", "mend"):
        table.add_column(heading)
    for finding in findings:
        mark = Text("yes", "green") if finding.ok else Text("no", "red" if finding.core else "")
        # Text, not str: brackets in a message are no markup.
        table.add_row(finding.name, mark, Text(finding.detail), Text(finding.mend))
    console.print(table)
