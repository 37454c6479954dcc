"""The cells of a benchmark: done once, kept in a file, gone on with after an interruption.

A benchmark is a table of cells (a reward design with a seed, an adversary against a design),
each computed by itself. What is done is appended to ``cells.jsonl`` in the output folder, one
line a cell, so a benchmark that is stopped and called again does only what is missing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mmzero_env.errors import UserError

FILE = "cells.jsonl"

Cell = dict[str, Any]
"""What one cell found: plain data that JSON can hold."""


class Cells:
    """Finished cells of one benchmark with one set of settings.

    Args:
        folder: Output folder of the benchmark.
        settings: Everything that a cell's result depends on beside its key. Another set in
            the same folder is refused, so that no table mixes two.

    Raises:
        UserError: If the folder holds cells of other settings, or a file that is none of ours.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        self._path = folder / FILE
        self._settings = json.loads(json.dumps(dict(settings)))
        self.done: dict[str, Cell] = {}
        self.seconds: dict[str, float] = {}
        self.failed: dict[str, Exception] = {}
        if self._path.exists():
            self._read()
        else:
            folder.mkdir(parents=True, exist_ok=True)
            self._append({"settings": self._settings})

    def run(
        self,
        work: Mapping[str, Callable[[], Cell]],
        *,
        title: str,
        stream: TextIO | None = None,
        expected: Mapping[str, float] | None = None,
        errors: tuple[type[Exception], ...] = (),
        workers: int = 1,
    ) -> dict[str, Cell]:
        """Do what is not done yet, with progress on standard error.

        Args:
            work: What computes each cell, by key, in order.
            title: Shown beside the bar.
            stream: Where progress goes instead.
            expected: Seconds that each cell is thought to take, where cells differ much; the time
                that is left is read from it. None takes all cells for equal.
            errors: Exceptions that end a cell but not the benchmark: they are kept in ``failed``,
                and the cell is done again by the next call.
            workers: Processes that compute cells at the same time; what computes a cell must then
                be picklable. 1 computes them here.

        Returns:
            The results of all keys of ``work`` but those that failed, in its order.
        """
        missing = {key: task for key, task in work.items() if key not in self.done}
        ahead = {key: 1.0 if expected is None else expected[key] for key in missing}
        workers = min(workers, len(missing)) or 1
        shown = _Shown(title, len(work), ahead, stream or sys.stderr, workers)
        compute = _one_by_one if workers == 1 else partial(_side_by_side, workers)
        with shown:
            for key, spent, found in compute(missing, errors, shown.begin):
                if isinstance(found, Exception):
                    self.failed[key] = found
                    shown.end(key, spent, failed=True)
                    continue
                self._append({"key": key, "seconds": round(spent, 3), "cell": found})
                self.done[key], self.seconds[key] = found, spent
                shown.end(key, spent)
        return {key: self.done[key] for key in work if key in self.done}

    def _append(self, line: Mapping[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")

    def _read(self) -> None:
        text = self._path.read_text(encoding="utf-8")
        whole, newline, torn = text.rpartition("\n")
        if torn:
            # The last write was cut off by a kill: that cell was not done.
            self._path.write_text(whole + newline, encoding="utf-8")
        try:
            head, *lines = [json.loads(line) for line in whole.splitlines()]
            settings = head["settings"]
            for line in lines:
                self.done[line["key"]] = line["cell"]
                self.seconds[line["key"]] = line["seconds"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self._path} is no file of benchmark cells ({error!r}); choose another --out."
            ) from error
        if settings != self._settings:
            changed = sorted(
                name
                for name in {*settings, *self._settings}
                if settings.get(name) != self._settings.get(name)
            )
            raise UserError(
                f"{self._path} holds cells of other settings ({', '.join(changed)}); "
                "choose another --out, or delete the folder to start again."
            )


_Task = Callable[[], Cell]
_Errors = tuple[type[Exception], ...]
_Outcomes = Generator[tuple[str, float, Cell | Exception]]
"""Key, seconds, and what was found, or the error that ended it."""


def _timed(task: _Task, errors: _Errors) -> tuple[float, Cell | Exception]:
    began = time.monotonic()
    found: Cell | Exception
    try:
        found = task()
    except errors as error:
        found = error
    return time.monotonic() - began, found


def _one_by_one(
    work: Mapping[str, _Task], errors: _Errors, begin: Callable[[str], None]
) -> _Outcomes:
    for key, task in work.items():
        begin(key)
        yield key, *_timed(task, errors)


def _side_by_side(
    workers: int, work: Mapping[str, _Task], errors: _Errors, begin: Callable[[str], None]
) -> _Outcomes:
    """Cells in the order in which they are done, so that each is kept at once."""
    begin(f"{workers} at a time")
    # Processes of their own from the start: a fork of one that holds torch may hang.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        futures = {pool.submit(_timed, task, errors): key for key, task in work.items()}
        for future in as_completed(futures):
            yield futures[future], *future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Shown:
    """A bar on a terminal, a line a cell elsewhere; both with the time that is left."""

    def __init__(
        self, title: str, total: int, ahead: Mapping[str, float], stream: TextIO, workers: int
    ):
        self._stream, self._title, self._total = stream, title, total
        self._workers = workers
        self._ahead, self._expected, self._spent = dict(ahead), 0.0, 0.0
        self._done = done = total - len(ahead)
        self._bar: Progress | None = None
        if stream.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=Console(file=stream),
            )
            self._task = self._bar.add_task(title, total=total, completed=done, left="")

    def __enter__(self) -> _Shown:
        if self._bar is not None:
            self._bar.start()
        if self._done:
            self._line(f"{self._title}: {self._done} of {self._total} were done before")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, key: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self._title}: {key}")

    def end(self, key: str, seconds: float, *, failed: bool = False) -> None:
        self._done += 1
        self._expected += self._ahead.pop(key)
        self._spent += seconds
        ahead = sum(self._ahead.values()) * self._spent / self._expected / self._workers
        left = f"about {duration(ahead)} left" if self._ahead else "done"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, left=left)
        else:
            where = f"{self._title} {self._done}/{self._total}"
            how = "FAILED after" if failed else "in"
            self._line(f"{where}: {key} {how} {duration(seconds)}, {left}")

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text)
        else:
            print(text, file=self._stream, flush=True)


def duration(seconds: float) -> str:
    """``"42 s"``, ``"3 min 20 s"`` or ``"1 h 5 min"``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 10 else f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def seeds_of(text: str) -> Sequence[int]:
    """Seeds from ``"0,1,2"`` or ``"0-4"``.

    Raises:
        UserError: For anything else.
    """
    found: list[int] = []
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            found += range(int(first), int(last) + 1) if dash else [int(first)]
    except ValueError:
        found = []
    if not found or len(set(found)) != len(found):
        raise UserError(f"expected seeds as 0,1,2 or 0-4, each once, got {text!r}.")
    return found
