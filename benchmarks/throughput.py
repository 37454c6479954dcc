"""Every table about speed, memory and cost in one command.

    mmzero bench throughput --quick                     # 3 minutes, rough
    mmzero bench throughput                             # all of it, about 80 minutes
    mmzero bench throughput --only rendering,rollout    # some of it
    mmzero bench throughput --publish                   # into benchmarks/results and docs

Runs each script of :mod:`benchmarks.catalogue` by its own command in a process of its own, so that
memory, threads and garbage of one do not disturb another, one after the other. Results and a page
with all tables go to ``--out``. What cannot run here is named with its reason and the command that
mends it; a script that fails is reported, and the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from agents.process_keeper import KeptProcess
from benchmarks import script, throughput_page
from benchmarks.catalogue import CATALOGUE, ROOT, Entry
from benchmarks.cells import Cell, Cells, duration
from benchmarks.command import shared_options
from benchmarks.findings import Table
from benchmarks.provenance import provenance, write_result
from benchmarks.throughput_page import Record, about, headlines
from mmzero_env.errors import EngineError, UserError, unknown
from trainers import atomic

TAIL = 15
"""Lines of a script's output that are shown when it fails."""
PATIENCE, LEAST_PATIENCE = 20, 1800.0
"""A script is stopped after so many times what it should take, and after so many seconds at
least: then it hangs."""
GRACE = 10.0
"""Seconds that a script which is stopped has to end by itself."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that change what is measured; written down where they are set."""


class ScriptError(EngineError):
    """A script that failed; ``tail`` holds the last lines that it wrote."""

    def __init__(self, reason: str, tail: Sequence[str]) -> None:
        super().__init__("\n".join((reason, *tail)))
        self.reason, self.tail = reason, list(tail)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Adds ``mmzero bench throughput``."""
    parser = commands.add_parser(
        "throughput",
        help="time, memory and cost of everything, side by side where there is something beside",
        description="Run every performance script by its own command and write all tables.",
        epilog="scripts: " + ", ".join(entry.name for entry in CATALOGUE),
    )
    shared_options(parser, "throughput")
    for option, what in (("--only", "run these scripts alone"), ("--skip", "leave these out")):
        parser.add_argument(option, metavar="NAME,…", help=f"{what}; names with commas between")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write the results into benchmarks/results/throughput and docs/bench-throughput.md, "
        "too; what was published before and is not measured now stays",
    )
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> int:
    """Run what is missing, write results and page.

    Returns:
        The exit code: 1 if a script failed.

    Raises:
        UserError: For an unknown name, or a publication that cannot be.
    """
    chosen = choose(CATALOGUE, args.only, args.skip)
    if args.publish and args.quick:
        raise UserError("quick figures are too rough to publish: leave out --quick or --publish.")
    if args.publish and not throughput_page.PAGE.parent.is_dir():
        raise UserError(f"--publish writes {throughput_page.PAGE}; run it in a checkout.")
    records = measure(chosen, args.out, args.quick, args.words)
    page = args.out / throughput_page.PAGE.name
    atomic.write_text(page, throughput_page.page(records, quick=args.quick))
    _show(records, args.out)
    print(f"tables: {page}")
    if args.publish:
        for name in throughput_page.publish({e.name: records[e.name] for e in chosen}):
            print(f"{name}: {records[name]['status']}; the result published before stays")
        print(f"published: {throughput_page.RESULTS} and {throughput_page.PAGE}")
    return int(any(record["status"] == "failed" for record in records.values()))


def choose(catalogue: Sequence[Entry], only: str | None, skip: str | None) -> list[Entry]:
    """The scripts that were asked for, in the order of the catalogue.

    Args:
        catalogue: Those there are.
        only: Names with commas between; None takes all.
        skip: Names to leave out.

    Raises:
        UserError: For an unknown name, or if nothing is left.
    """
    names = [entry.name for entry in catalogue]
    wanted = names if only is None else _names(only)
    unwanted = [] if skip is None else _names(skip)
    for name in (*wanted, *unwanted):
        if name not in names:
            raise unknown("performance script", name, names)
    chosen = [e for e in catalogue if e.name in wanted and e.name not in unwanted]
    if not chosen:
        raise UserError("nothing is left to run: --skip names everything that --only does.")
    return chosen


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def measure(
    chosen: Sequence[Entry], out: Path, quick: bool, words: Sequence[str]
) -> dict[str, Record]:
    """Run what can be run and is not done yet.

    Args:
        chosen: The scripts.
        out: Where results go, and where a call that was stopped goes on.
        quick: Whether to call their quick version.
        words: The command of all this, for records of what was not measured.

    Returns:
        A record of each, and of those that earlier calls with the same ``out`` measured. All are
        written to ``out`` as JSON, too.
    """
    settings = {
        "quick": quick,
        "commands": {
            entry.name: list(entry.words(quick))
            for entry in CATALOGUE
            if not quick or entry.quick is not None
        },
    }
    cells = Cells(out, settings)
    records = {name: _measured(name, cell) for name, cell in cells.done.items()}
    ready = []
    for entry in chosen:
        if entry.name in cells.done:
            ready.append(entry)
        elif quick and entry.quick is None:
            why = f"it takes {about(entry.seconds)}"
            records[entry.name] = {"status": "full mode only", "reason": why}
        elif (missing := entry.needs()) is not None:
            said = {"reason": missing.detail, "mend": missing.mend}
            records[entry.name] = {"status": "not run", **said}
        else:
            ready.append(entry)
    _announce(records, [entry for entry in ready if entry.name not in cells.done], quick)
    found = cells.run(
        {entry.name: partial(call, entry, quick, out) for entry in ready},
        title="throughput",
        expected={entry.name: entry.expected(quick) for entry in ready},
        errors=(ScriptError,),
    )
    records |= {name: _measured(name, cell) for name, cell in found.items()}
    for name, error in cells.failed.items():
        assert isinstance(error, ScriptError)
        records[name] = {"status": "failed", "reason": error.reason, "tail": error.tail}
    origin = provenance(words)
    for name, record in records.items():
        if record["status"] != "measured":
            records[name] = {"script": name, **origin, **record}
        write_result(out / f"{name}.json", records[name])
    return records


def call(entry: Entry, quick: bool, out: Path) -> Cell:
    """Run one script and read what it wrote.

    Raises:
        ScriptError: If it fails, hangs, or writes nothing.
    """
    target, log = (out / folder / entry.name for folder in ("scripts", "logs"))
    target, log = target.with_suffix(".json").resolve(), log.with_suffix(".log")
    for path in (target, log):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
    python = sys.executable if entry.python == "python" else entry.python
    command = [python, "-m", entry.module, "--json", str(target)]
    load, began, spent = os.getloadavg()[0], time.monotonic(), _cpu()
    code = _wait([*command, *entry.options(quick)], log, entry.expected(quick))
    seconds = time.monotonic() - began
    if code or not target.exists():
        how = f"ended with exit code {code}" if code else "wrote no figures"
        raise ScriptError(f"{entry.name} {how} after {duration(seconds)}", _tail(log))
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(_cpu() - spent, 1),
        "load": {
            "start": round(load, 1),
            "end": round(os.getloadavg()[0], 1),
            "cores": os.cpu_count(),
        },
        "environment": {name: os.environ[name] for name in THREADS if name in os.environ},
        "result": json.loads(target.read_text(encoding="utf-8")),
    }


def _wait(command: Sequence[str], log: Path, expected: float) -> int:
    """Run a command to its end; whatever ends this ends the command and all that it started."""
    limit = max(LEAST_PATIENCE, PATIENCE * expected)
    # In a checkout the modules that count are those beside this one.
    where = ROOT if (ROOT / "pyproject.toml").exists() else None
    try:
        process = KeptProcess(command, log=log, env=os.environ, grace=GRACE, cwd=where)
    except OSError as error:
        raise ScriptError(str(error), ()) from error
    deadline = time.monotonic() + limit
    try:
        while (code := process.returncode) is None:
            if time.monotonic() > deadline:
                reason = f"{command[2]} was stopped after {duration(limit)}: it hangs"
                raise ScriptError(reason, _tail(log))
            time.sleep(0.05)
    finally:
        process.stop()
    return code


def _tail(log: Path) -> list[str]:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.rstrip() for line in lines if line.strip()][-TAIL:]


def _cpu() -> float:
    """CPU seconds of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _measured(name: str, cell: Cell) -> Record:
    facts = {key: value for key, value in cell.items() if key != "result"}
    return {**cell["result"], "script": name, "status": "measured", **facts}


def _announce(records: Mapping[str, Record], ahead: Sequence[Entry], quick: bool) -> None:
    """Say on standard error what comes and what does not."""
    console = Console(stderr=True)
    whole = about(sum(entry.expected(quick) for entry in ahead))
    names = ", ".join(entry.name for entry in ahead) or "none"
    coming = f"to run: {len(ahead)} scripts, {whole} on two idle cores: {names}"
    console.print(Text(coming), soft_wrap=True)
    for name, record in records.items():
        if record["status"] != "measured":
            console.print(Text(f"{record['status']}: {name}, {said(record)}"), soft_wrap=True)


def said(record: Record) -> str:
    """Why there are no figures, with the mend."""
    mend = record.get("mend")
    return f"{record['reason']} → {mend}" if mend else str(record["reason"])


def _show(records: Mapping[str, Record], out: Path) -> None:
    """Print ratios and what became of each script."""
    console = Console() if sys.stdout.isatty() else Console(width=script.WIDTH)
    named = {entry.name: records[entry.name] for entry in CATALOGUE if entry.name in records}
    script.show_table(
        console,
        Table(
            "ratios, measured side by side",
            ("what", "ratio", "script"),
            tuple(
                (ratio["what"], ratio["text"], name)
                for name, record in named.items()
                for ratio in headlines(record)
            ),
        ),
    )
    script.show_table(
        console,
        Table(
            "scripts",
            ("script", "state", "took", "load, start → end"),
            tuple((name, record["status"], *_effort(record)) for name, record in named.items()),
        ),
    )
    for name, record in named.items():
        if record["status"] != "measured":
            console.print(Text(f"{record['status']}: {name}, {said(record)}"), soft_wrap=True)
        if record["status"] == "failed":
            console.print(Text("\n".join(f"    {line}" for line in record["tail"])))
            console.print(f"    all of it: {out / 'logs' / name}.log", soft_wrap=True)
    busy = [name for name, record in named.items() if throughput_page.was_busy(record)]
    if busy:
        console.print(Text(f"The machine was busy during {', '.join(busy)}: quote none of these."))


def _effort(record: Record) -> tuple[str, str]:
    if record["status"] != "measured":
        return "", ""
    load: Mapping[str, Any] = record["load"]
    return duration(record["seconds"]), f"{load['start']:.1f} → {load['end']:.1f}"
