"""What it costs to be able to resume: writing states, and starting again from one.

    python -m benchmarks.resume_cost [--steps N]

First one iteration of ``nano-cpu`` with a state after every step. Of each stage: its seconds
in all (with its pool of prompts), those spent writing states and those spent writing its
checkpoint. Then, for each role, a run that trains this role alone is killed (SIGKILL) after its
second step and resumed: seconds from the command to the first new row of ``metrics.jsonl``,
with the part of them that was the step itself.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from benchmarks import script
from benchmarks.findings import Findings, Ratio, Spread, Table
from mmzero_env.protocol import ROLES, Role
from trainers import checkpoints, evolve
from trainers import config as configs
from trainers.progress import SilentProgress
from trainers.stage_state import StageStore

WRITING_BAR = 0.05
"""Largest share of a stage that may go into writing."""
START_BAR = 10.0
"""Most seconds that a resumed run may take before its first new step begins."""

Clocks = tuple[float, float]


class Stopwatch(SilentProgress):
    """Wall and CPU seconds of every stage and of what is written in it."""

    def __init__(self) -> None:
        """See the class."""
        self.spent: dict[str, dict[str, Clocks]] = defaultdict(dict)
        self._name = ""
        self._began = (0.0, 0.0)

    def stage(self, iteration: int, name: str, steps: int, done: int = 0) -> None:
        """A stage begins; the one before it is over."""
        self.close()
        self._name, self._began = name, _now()

    def close(self) -> None:
        """The last stage is over."""
        if self._name:
            self._add("stage", self._began)
        self._name = ""

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time charged to a part of the stage."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            began = _now()
            try:
                return call(*args, **kwargs)
            finally:
                self._add(part, began)

        return wrapped

    def _add(self, part: str, began: Clocks) -> None:
        wall, cpu = (end - start for end, start in zip(_now(), began, strict=True))
        before = self.spent[self._name].get(part, (0.0, 0.0))
        self.spent[self._name][part] = (before[0] + wall, before[1] + cpu)


def writing(folder: Path, steps: int | None) -> dict[Role, dict[str, Clocks]]:
    """Wall and CPU seconds of each stage: ``stage``, ``states``, ``checkpoint``."""
    limit = {} if steps is None else {f"{role}.steps": str(steps) for role in ROLES}
    settings = {"out": str(folder), "iterations": "1", "probe.items": "10", **limit}
    watch = Stopwatch()
    with (
        mock.patch.object(StageStore, "save", watch.timed("states", StageStore.save)),
        mock.patch.object(checkpoints, "save", watch.timed("checkpoint", checkpoints.save)),
    ):
        evolve.run(configs.load("nano-cpu", settings), resume=False, progress=watch)
    watch.close()
    return {role: watch.spent[role] for role in ROLES}


def start(folder: Path, role: Role) -> dict[str, float]:
    """Kill a run in the stage of a role, resume it, and time its first new step.

    Returns:
        Seconds to the first new row, ``wall`` and ``cpu`` (all processes of the run), and
        ``step``, the seconds of the step that the row is about.
    """
    others = [f"{other}.steps=0" for other in ROLES if other != role]
    chosen = [part for each in ("probe.items=10", *others) for part in ("--set", each)]
    rows = folder / "metrics.jsonl"
    run = _evolve("--preset", "nano-cpu", "--iterations", "1", "--out", str(folder), *chosen)
    while len(_lines(rows)) < 2 and run.poll() is None:
        time.sleep(0.02)
    _kill(run)
    known = set(_lines(rows))
    began = time.perf_counter()
    run = _evolve("--resume", str(folder))
    while not (new := [line for line in _lines(rows) if line not in known]):
        if run.poll() is not None:
            raise RuntimeError(f"the resumed run ended with code {run.returncode}")
        time.sleep(0.02)
    wall, cpu = time.perf_counter() - began, _cpu(run.pid)
    _kill(run)
    row = json.loads(new[0])
    return {"wall": wall, "cpu": cpu, "step": row["seconds_rollout"] + row["seconds_train"]}


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__, "--out")
    parser.add_argument("--steps", type=int, help="steps of every stage (default: the preset's)")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """What writing and starting again cost."""
    scratch = Path(tempfile.mkdtemp())
    try:
        spent = writing(scratch / "whole", args.steps)
        starts = {role: start(scratch / role, role) for role in ROLES}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    shares = {role: _shares(parts) for role, parts in spent.items()}
    return Findings(
        {"writing": spent, "start": starts},
        (_writing_table(spent), _start_table(starts)),
        tuple(
            Ratio(
                f"writing states and checkpoint / the stage, {kind} time, over the stages",
                Spread.of([share[place] for share in shares.values()]),
            )
            for place, kind in enumerate(("wall", "CPU"))
        ),
        seeds=(configs.load("nano-cpu", {}).seed,),
        packages=("safetensors",),
    )


def _shares(parts: Mapping[str, Clocks]) -> Clocks:
    """Share of a stage that was spent writing, of its wall and of its CPU time."""
    nothing = (0.0, 0.0)
    stage, states, checkpoint = (
        parts.get(name, nothing) for name in ("stage", "states", "checkpoint")
    )
    return (states[0] + checkpoint[0]) / stage[0], (states[1] + checkpoint[1]) / stage[1]


def _writing_table(spent: Mapping[Role, Mapping[str, Clocks]]) -> Table:
    rows = []
    for role, parts in spent.items():
        cells = [parts.get(name, (0.0, 0.0)) for name in ("stage", "states", "checkpoint")]
        texts = [f"{wall:.2f} ({cpu:.2f})" for wall, cpu in cells]
        rows.append((role, *texts, *(f"{share:.1%}" for share in _shares(parts))))
    return Table(
        "writing in a stage, wall (CPU) seconds",
        ("stage", "in all", "states", "checkpoint", "share of wall", "share of CPU"),
        tuple(rows),
        f"Bar: {WRITING_BAR:.0%} of the stage.",
    )


def _start_table(starts: Mapping[Role, Mapping[str, float]]) -> Table:
    rows = []
    for role, found in starts.items():
        figures = (found["wall"], found["step"], found["wall"] - found["step"], found["cpu"])
        rows.append((role, *(f"{figure:.1f}" for figure in figures)))
    return Table(
        "from --resume to the first new row, seconds",
        ("stage", "wall", "of it the step", "before the step", "CPU"),
        tuple(rows),
        f"Bar: {START_BAR:.0f} s before the step.",
    )


def _now() -> Clocks:
    return time.perf_counter(), time.process_time()


def _evolve(*arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "trainers.cli", "evolve", "--quiet", *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _lines(path: Path) -> Sequence[str]:
    """Whole lines of a file that may not be there yet."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _cpu(pid: int) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in _family(pid))


def _kill(run: subprocess.Popen[bytes]) -> None:
    family = _family(run.pid)
    run.send_signal(signal.SIGKILL)
    run.wait()
    psutil.wait_procs(family[1:], timeout=30)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    return script.run("resume_cost", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
