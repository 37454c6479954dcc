"""What a run shows while it goes on: bars on a terminal, lines in a log, or nothing.

The loop talks to the :class:`Progress` protocol and never prints; which of the
three forms listens is decided once, by :func:`choose`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Protocol, TextIO

REWARD_KEY = "reward"
"""The metric that is shown beside the bar."""


class Progress(Protocol):
    """What the evolve loop reports, in the order in which it happens."""

    def start(self, iterations: int, stages: Sequence[str], first: int = 1) -> None:
        """The run begins: iterations ``first`` to ``iterations``, all ``stages`` in each."""
        ...

    def stage(self, iteration: int, name: str, steps: int, done: int = 0) -> None:
        """A stage begins, and the one before it is over.

        Iteration 0 stands for what comes before the first: the base model's measurement.
        A resumed stage has some of its steps behind it.
        """
        ...

    def step(self, metrics: Mapping[str, float] | None = None) -> None:
        """One step of the stage is done, with the metrics that its row in the log holds."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line of its own."""
        ...

    def close(self) -> None:
        """The run is over, finished or not. Safe to call twice."""
        ...


def choose(*, quiet: bool = False, stream: TextIO | None = None) -> Progress:
    """The form of progress that suits where the output goes.

    Args:
        quiet: Show nothing.
        stream: Where to write; standard error by default, so that standard
            output carries results only.
    """
    out = sys.stderr if stream is None else stream
    if quiet:
        return SilentProgress()
    return BarProgress(out) if out.isatty() else LineProgress(out)


class SilentProgress:
    """Shows nothing."""

    def start(self, iterations: int, stages: Sequence[str], first: int = 1) -> None:
        """See :class:`Progress`."""

    def stage(self, iteration: int, name: str, steps: int, done: int = 0) -> None:
        """See :class:`Progress`."""

    def step(self, metrics: Mapping[str, float] | None = None) -> None:
        """See :class:`Progress`."""

    def note(self, text: str) -> None:
        """See :class:`Progress`."""

    def close(self) -> None:
        """See :class:`Progress`."""


class _Clock:
    """Where a run stands and how long the rest will take, from the stages seen so far."""

    def __init__(self) -> None:
        self._began = self._stage_began = time.monotonic()
        self._seconds: dict[str, list[float]] = {}
        self._order: list[tuple[int, str]] = []
        self._ahead: list[str] = []
        self.place = 0
        self.iterations = 0
        self.iteration = 0
        self.name = ""
        self.steps = 0
        self.done = 0

    def start(self, iterations: int, stages: Sequence[str], first: int) -> None:
        self._began = time.monotonic()
        self.iterations = iterations
        self._order = [(i, name) for i in range(first, iterations + 1) for name in stages]
        self._ahead = [name for _, name in self._order]

    def stage(self, iteration: int, name: str, steps: int, done: int = 0) -> None:
        self.finish_stage()
        self.iteration, self.name, self.steps = iteration, name, steps
        self.done = self.before = done
        self._stage_began = time.monotonic()
        where = (iteration, name)
        self.place = self._order.index(where) if where in self._order else 0
        self._ahead = [n for _, n in self._order[self.place + (where in self._order) :]]

    def finish_stage(self) -> None:
        if self.name:
            self._seconds.setdefault(self.name, []).append(time.monotonic() - self._stage_began)
        self.name = ""

    def label(self) -> str:
        """The iteration in words."""
        return f"iteration {self.iteration}/{self.iterations}" if self.iteration else "base"

    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def stage_left(self) -> float | None:
        """Seconds to the end of the stage, or None before its first step."""
        here = self.done - self.before
        if not here:
            return None
        spent = time.monotonic() - self._stage_began
        return spent / here * max(0, self.steps - self.done)

    def run_left(self) -> float | None:
        """Seconds to the end of the run.

        Stages of a kind not seen yet are assumed to cost the mean of those that
        were, so the figure is rough in the first iteration and firms up later.
        """
        left = self.stage_left()
        if left is None:
            return None
        now = (time.monotonic() - self._stage_began) + left
        seen = {name: sum(s) / len(s) for name, s in self._seconds.items()}
        seen.setdefault(self.name, now)
        mean = sum(seen.values()) / len(seen)
        return left + sum(seen.get(name, mean) for name in self._ahead)


def duration(seconds: float | None) -> str:
    """Seconds as ``"1:02:03"`` or ``"2:03"``; a dash when they are not known."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class LineProgress:
    """Plain lines for logs: one when a stage begins, then one every few seconds.

    Args:
        stream: Where to write.
        every: Least number of seconds between two lines of one stage; the last
            step of a stage always gets its line.
    """

    def __init__(self, stream: TextIO, every: float = 5.0) -> None:
        self._stream = stream
        self._every = every
        self._clock = _Clock()
        self._last = 0.0

    def _write(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def start(self, iterations: int, stages: Sequence[str], first: int = 1) -> None:
        """See :class:`Progress`."""
        self._clock.start(iterations, stages, first)

    def stage(self, iteration: int, name: str, steps: int, done: int = 0) -> None:
        """See :class:`Progress`."""
        self._clock.stage(iteration, name, steps, done)
        self._last = time.monotonic()
        unit = "step" if steps == 1 else "steps"
        behind = f", {done} done before" if done else ""
        self._write(f"{self._clock.label()} {name}: {steps} {unit}{behind}")

    def step(self, metrics: Mapping[str, float] | None = None) -> None:
        """See :class:`Progress`."""
        clock = self._clock
        clock.done += 1
        now = time.monotonic()
        if clock.done < clock.steps and now - self._last < self._every:
            return
        self._last = now
        reward = (metrics or {}).get(REWARD_KEY)
        shown = "" if reward is None else f"  reward {reward:+.3f}"
        self._write(
            f"  {clock.name} {clock.done}/{clock.steps}{shown}  "
            f"elapsed {duration(clock.elapsed())}  left {duration(clock.run_left())}"
        )

    def note(self, text: str) -> None:
        """See :class:`Progress`."""
        self._write(text)

    def close(self) -> None:
        """See :class:`Progress`."""
        self._clock.finish_stage()


class BarProgress:
    """Two bars on a terminal: the run, and the stage with its reward and time left.

    Args:
        stream: The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._clock = _Clock()
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[reward]}"),
            TextColumn("{task.fields[left]}", style="cyan"),
            console=Console(file=stream),
            transient=True,
        )
        self._run = self._bars.add_task("run", total=1, reward="", left="", visible=False)
        self._stage = self._bars.add_task("stage", total=1, reward="", left="", visible=False)
        self._open = False
        self._before = 0

    def start(self, iterations: int, stages: Sequence[str], first: int = 1) -> None:
        """See :class:`Progress`."""
        self._clock.start(iterations, stages, first)
        self._before = (first - 1) * len(stages)
        total = iterations * len(stages)
        self._bars.update(self._run, total=total, completed=self._before, visible=True)
        self._bars.start()
        self._open = True

    def stage(self, iteration: int, name: str, steps: int, done: int = 0) -> None:
        """See :class:`Progress`."""
        self._clock.stage(iteration, name, steps, done)
        self._bars.update(
            self._run,
            completed=self._before + self._clock.place,
            description=self._clock.label(),
        )
        self._bars.reset(
            self._stage,
            total=steps,
            completed=done,
            description=name,
            reward="",
            left="",
            visible=True,
        )

    def step(self, metrics: Mapping[str, float] | None = None) -> None:
        """See :class:`Progress`."""
        clock = self._clock
        clock.done += 1
        left = f"{duration(clock.stage_left())} left"
        self._bars.update(self._stage, completed=clock.done, left=left)
        reward = (metrics or {}).get(REWARD_KEY)
        if reward is not None:
            self._bars.update(self._stage, reward=f"reward {reward:+.3f}")
        self._bars.update(self._run, left=f"{duration(clock.run_left())} left")

    def note(self, text: str) -> None:
        """See :class:`Progress`."""
        self._bars.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """See :class:`Progress`."""
        self._clock.finish_stage()
        if self._open:
            self._bars.stop()
            self._open = False
