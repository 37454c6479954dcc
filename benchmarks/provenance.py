"""Where a published number comes from: command, revision, seeds, versions and machine."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.facts import machine_facts
from trainers import atomic

RESULTS = Path(__file__).parent / "results"
"""Where results lie that the documentation quotes."""

PACKAGES = ("mmzero-env", "numpy", "torch", "transformers", "trl", "pettingzoo", "gymnasium")


def provenance(
    command: Sequence[str], seeds: Sequence[int] = (), packages: Iterable[str] = ()
) -> dict[str, Any]:
    """What a reader needs to make a result again.

    Args:
        command: The words that were typed, ``("mmzero", "bench", "hacks", "--quick")``.
        seeds: Every seed that a number of the result depends on.
        packages: Distributions whose versions matter beside :data:`PACKAGES`.

    Returns:
        ``{"command", "revision", "seeds", "machine"}``; the machine's facts hold the versions.
    """
    return {
        "command": shlex.join(command),
        "revision": revision(),
        "seeds": list(seeds),
        "machine": machine_facts(dict.fromkeys((*PACKAGES, *packages))),
    }


def revision() -> str:
    """The commit of the source, with ``-dirty`` if files differ from it.

    Returns:
        ``"unknown (not a git checkout)"`` where there is none, as in an installed wheel.
    """
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12", "--match="],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() if said.returncode == 0 else "unknown (not a git checkout)"


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result as JSON, whole or not at all; its folder is made.

    Raises:
        ValueError: If it holds a number that JSON has not (NaN, infinity).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_text(path, json.dumps(result, indent=2, allow_nan=False) + "\n")
