"""Runs a loop again and again, killing it at random moments, until it is through.

    python -m tests.trainers.killed_runs CONFIG_JSON KILLS SEED

A process of its own: it imports everything once and forks a child for every attempt, so that
an attempt costs no start-up and a kill (SIGKILL) hits the loop itself. Prints, as JSON, where
the run stood at each kill. ``KILLS`` 0 runs it through without any.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from trainers import config, evolve
from trainers.progress import SilentProgress

# A kill comes after so many changes on the disk, and then after so many seconds: by time alone,
# a slow machine would see all of them fall into the beginning.
CHANGES, SECONDS = 3, 0.3
TRACKER = "tensorboard"


def attempt(settings: dict[str, str]) -> int:
    """Start the run, or go on with it, in a child."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        folder = Path(settings["out"])
        resume = (folder / "config.json").exists()
        made = config.read(folder) if resume else config.load("nano-cpu", settings)
        evolve.run(made, resume=resume, progress=SilentProgress())
        status = 0
    finally:
        os._exit(status)


def where(folder: Path) -> str:
    """The newest thing that the run has put on the disk."""
    found: list[tuple[int, str]] = []
    # Files and folders come and go while the run writes; ``os.walk`` passes over a folder that is
    # gone by the time it looks in.
    for parent, _, names in os.walk(folder):
        # A tracker writes a file a start, beside every row.
        for name in names if Path(parent).name != TRACKER else ():
            path = Path(parent, name)
            with suppress(FileNotFoundError):
                stat = path.stat()
                found.append((stat.st_mtime_ns, f"{path.relative_to(folder)} {stat.st_size}"))
    return max(found, default=(0, "nothing"))[1]


def kill_at_random(child: int, folder: Path, chance: random.Random) -> None:
    """Kill a child at a random moment, unless it ends before."""
    left, before = chance.randint(0, CHANGES), where(folder)
    while left:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        now = where(folder)
        left -= now != before
        before = now
        time.sleep(0.005)
    time.sleep(chance.uniform(0, SECONDS))
    os.kill(child, signal.SIGKILL)


def main() -> int:
    settings, kills, seed = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chance, folder = random.Random(seed), Path(settings["out"])
    stood: list[str] = []
    while True:
        child = attempt(settings)
        if len(stood) < kills:
            kill_at_random(child, folder, chance)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            stood.append(where(folder))
            continue
        print(json.dumps(stood))
        return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
