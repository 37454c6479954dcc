"""The cells of a benchmark: done once, kept in a file, gone on with after an interruption.

A benchmark is a table of cells (a reward design with a seed, an adversary against a design),
each computed by itself. What is done is appended to ``cells.jsonl`` in the output folder, one
line a cell, so a benchmark that is stopped and called again does only what is missing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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

        Returns:
            The results of all keys of ``work`` but those that failed, in its order.
        """
        missing = [key for key in work if key not in self.done]
        ahead = {key: 1.0 if expected is None else expected[key] for key in missing}
        shown = _Shown(title, len(work), ahead, stream or sys.stderr)
        with shown:
            for key in missing:
                shown.begin(key)
                began = time.monotonic()
                try:
                    found = work[key]()
                except errors as error:
                    self.failed[key] = error
                    shown.end(key, time.monotonic() - began, failed=True)
                    continue
                spent = time.monotonic() - began
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


class _Shown:
    """A bar on a terminal, a line a cell elsewhere; both with the time that is left."""

    def __init__(self, title: str, total: int, ahead: Mapping[str, float], stream: TextIO):
        self._stream, self._title, self._total = stream, title, total
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
        ahead = sum(self._ahead.values()) * self._spent / self._expected
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
