"""What a whole ``mmzero evolve`` costs: time by stage and memory of all its processes.

python -m benchmarks.evolve_cost [--preset nano-cpu] [--out FILE.json] [-- EVOLVE ARGS]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table


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


def main() -> None:
    """Run, watch, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="nano-cpu")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, too")
    parser.add_argument("evolve", nargs="*", help="further arguments of mmzero evolve")
    args = parser.parse_args()
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
            sys.exit(process.returncode)
        spent = shares(run)
    table = Table(title=f"mmzero evolve --preset {args.preset}")
    for name in ("part", "seconds", "share"):
        table.add_column(name, justify="left" if name == "part" else "right")
    known = 0.0
    for stage, parts in spent.items():
        for part, seconds in parts.items():
            known += seconds
            table.add_row(f"{stage}: {part}", f"{seconds:.1f}", f"{seconds / wall:.0%}")
    rest = wall - known
    table.add_row("pools, probe, report, start", f"{rest:.1f}", f"{rest / wall:.0%}")
    table.add_row("total", f"{wall:.1f}", "100%")
    Console().print(table)
    print(f"peak memory of all processes: {peak / 2**30:.2f} GiB")
    if args.out is not None:
        figures = {"wall_seconds": wall, "peak_bytes": peak, "seconds": spent, "rest": rest}
        args.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
