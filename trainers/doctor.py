"""``mmzero doctor``: what this machine has, what is missing, and the command that mends it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from mmzero_env.rendering.system import Finding, inspect_system


def run(as_json: bool) -> int:
    """Look, and print what was found on standard output.

    Args:
        as_json: Print for machines instead of a table.

    Returns:
        The exit code: 0 when everything that rendering cannot do without works, else 1.
    """
    findings = inspect_system()
    works = all(finding.ok for finding in findings if finding.core)
    if as_json:
        print(json.dumps({"ok": works, "rendering": [asdict(f) for f in findings]}, indent=2))
    else:
        _print(findings, works)
    return 0 if works else 1


def _print(findings: Sequence[Finding], works: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console() if sys.stdout.isatty() else Console(width=200)
    table = Table(title="rendering", title_justify="left")
    for heading in ("what", "", "found", "mend"):
        table.add_column(heading)
    for finding in findings:
        mark = Text("yes", "green") if finding.ok else Text("no", "red" if finding.core else "")
        # Text, not str: brackets in a message are no markup.
        table.add_row(finding.name, mark, Text(finding.detail), Text(finding.mend))
    console.print(table)
    optional = [finding.name for finding in findings if not (finding.ok or finding.core)]
    if not works:
        console.print("Rendering does not work on this machine; mend what the table says.")
    elif optional:
        console.print(Text(f"Rendering works. Optional and not there: {', '.join(optional)}."))
    else:
        console.print("Rendering works, with everything that protects it.")
