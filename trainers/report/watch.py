"""``mmzero report --watch``: the report of a run that goes on, written anew when it changes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mmzero_env.errors import UserError
from trainers import rollback
from trainers.config import read
from trainers.report import run_data
from trainers.report.document import Written, write
from trainers.report.scan import Scanner

SHARE = 0.1
"""Most of a core's time that writing may take beside a run that needs it."""

Stamp = tuple[tuple[str, int, int], ...]


def watch(
    run: Path,
    interval: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Write the report whenever the run's files have changed, until it is finished.

    While it is watched the page loads itself anew every ``interval``. The last report, also
    after Ctrl-C, does not.

    Args:
        run: A run directory.
        interval: Seconds between two looks; more where writing takes long.
        sleep: Waits.
        clock: Tells the time in seconds.

    Raises:
        UserError: If it is no run directory, or the interval is not positive.
    """
    if not interval > 0:
        raise UserError(f"--interval expects a positive number of seconds, got {interval:g}.")
    scanner, notes = Scanner(), set[str]()
    seen: Stamp | None = None
    try:
        while not finished(run):
            now, start = stamp(run), clock()
            if now != seen:
                _say(write(run, scanner=scanner, refresh=interval), notes)
                seen = now
            sleep(max(interval, (clock() - start) / SHARE))
    finally:
        # Whatever ends it: nobody writes the page anew from now on.
        last = write(run, scanner=scanner)
    _say(last, notes)
    print(f"the run is finished; report: {last.path}")


def _say(written: Written, notes: set[str]) -> None:
    """One line of what was written, and every note once."""
    for note in written.notes:
        if note not in notes:
            notes.add(note)
            print(f"note: {note}", file=sys.stderr)
    print(
        f"{time.strftime('%H:%M:%S')} {written.path}: {written.shown} of {written.total} episodes",
        file=sys.stderr,
    )


def stamp(run: Path) -> Stamp:
    """Names, sizes and times of the files that a report is made of."""
    found = []
    names = ("config.json", "metrics.jsonl", "probe.json", "warnings.jsonl")
    episodes = sorted((run / "episodes").glob("iter-*"))
    for path in (*(run / name for name in names), *episodes):
        try:
            status = path.stat()
        except OSError:
            # Not there yet, or taken away by a resume between the list and this look.
            continue
        found.append((path.name, status.st_size, status.st_mtime_ns))
    return tuple(found)


def finished(run: Path) -> bool:
    """Whether a run is over: its last measurement is done, or ``monitor.rollback`` ended it.

    A run that was stopped in another way may be resumed at any time, so it is not.
    """
    try:
        config = read(run)
        done = json.loads((run / "state" / "progress.json").read_text(encoding="utf-8"))["done"]
        measured = [int(part.partition("/")[0]) for part in done if part.endswith("/probe")]
    except (UserError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    last = max(measured, default=0)
    if last == config.iterations:
        return True
    if not last or any(part.startswith(f"{last + 1}/") for part in done):
        return False
    rows = [
        {"iteration": row.iteration, "stage": row.stage, **row.values}
        for row in run_data.load(run).rows
    ]
    return rollback.decide(rows, config.monitor, last).action == "stop"
