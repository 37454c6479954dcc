"""What a whole ``mmzero evolve`` costs: time by stage and memory of all its processes.

python -m benchmarks.evolve_cost [--preset nano-cpu] [-- EVOLVE ARGS]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks import script
from benchmarks.findings import Findings, Table
from mmzero_env.errors import EngineError


def memory(pid: int) -> int:
    """Resident bytes of a process and its children; pages they share count once each."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def shares(run: Path) -> dict[str, dict[str, float]]:
    """Seconds of rollouts and of training by stage, from the run's metrics."""
    spent: dict[str, dict[str, float]] = defaultdict(lambda: {"rollout": 0.0, "train": 0.0})
    for line in (run / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        spent[row["stage"]]["rollout"] += row["seconds_rollout"]
        spent[row["stage"]]["train"] += row["seconds_train"]
    return dict(spent)


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__, "--out")
    parser.add_argument("--preset", default="nano-cpu")
    parser.add_argument("evolve", nargs="*", help="further arguments of mmzero evolve")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """Run and watch.

    Raises:
        EngineError: If the run fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        command = [sys.executable, "-m", "trainers.cli", "evolve", "--quiet"]
        command += ["--preset", args.preset, "--out", str(run), *args.evolve]
        started, peak = time.monotonic(), 0
        process = subprocess.Popen(command)
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.2)
        wall = time.monotonic() - started
        if process.returncode:
            raise EngineError(f"mmzero evolve ended with exit code {process.returncode}")
        spent, seed = shares(run), json.loads((run / "config.json").read_text())["seed"]
    parts = {
        f"{stage}: {part}": seconds
        for stage, each in spent.items()
        for part, seconds in each.items()
    }
    rest = wall - sum(parts.values())
    rows = [*parts.items(), ("pools, probe, report, start", rest), ("total", wall)]
    return Findings(
        {"wall_seconds": wall, "peak_bytes": peak, "seconds": spent, "rest": rest},
        (
            Table(
                f"mmzero evolve --preset {args.preset}",
                ("part", "wall s", "share"),
                tuple((name, f"{spent:.1f}", f"{spent / wall:.0%}") for name, spent in rows),
                f"One run; peak memory of all processes together {peak / 2**30:.2f} GiB.",
            ),
        ),
        seeds=(seed,),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run, watch, print."""
    return script.run("evolve_cost", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
