"""What a benchmark ran on: machine and versions, for the end of its output."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table


def machine_facts(packages: Iterable[str] = ()) -> dict[str, str]:
    """Machine, Python and package versions.

    Args:
        packages: Names of distributions whose versions matter.

    Returns:
        Fact by name; a package that is not installed is said to be so.
    """
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    facts = {
        "processor": f"{_processor()}, {os.cpu_count()} logical cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.platform(),
        "load at the end (1, 5, 15 minutes)": load,
        "Python": platform.python_version(),
    }
    for name in packages:
        try:
            facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            facts[name] = "not installed"
    return facts


def print_facts(console: Console, facts: dict[str, str]) -> None:
    """Print facts as a table of two columns."""
    table = Table(title="machine and versions", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value)
    console.print(table)


def _processor() -> str:
    """Model name of the processor; platform.processor() is empty on most Linux."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
