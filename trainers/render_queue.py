"""Drawing in the background: codes go in as they come, pictures come back in small portions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import TracebackType

from mmzero_env.errors import EngineError
from mmzero_env.protocol import Drawing, RenderJob
from mmzero_env.rendering import JobRenderer

PORTION = 8
"""Codes a render worker and portion: a picture is back after some 0.1 s, and the workers
that wait for the slowest code of a portion waste a small part of it."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A portion that left the renderer.

    Attributes:
        jobs: What was drawn.
        drawings: One a job, in the same order; None if the renderer failed.
        error: What it failed with.
        seconds: How long it took.
    """

    jobs: Sequence[RenderJob]
    drawings: Sequence[Drawing] | None
    error: BaseException | None
    seconds: float


class RenderQueue:
    """Feeds a renderer from one background thread with whatever waits, oldest first.

    All methods belong to the thread that made the queue. Use it as a context manager: the
    thread, which starts with the first job, ends with the block, after the portion that is
    under way; what still waits then is dropped.

    Attributes:
        pending: Jobs that were added and have not been settled.
        drawings: Jobs that were settled.
        seconds: Time in which the renderer was at work.
    """

    def __init__(
        self, renderer: JobRenderer, done: Callable[[Drawn], None], *, portion: int | None = None
    ) -> None:
        """Note what is wanted; nothing starts yet.

        Args:
            renderer: Draws, in the background thread only.
            done: Called in the background thread with every portion; must only pass it
                on to the thread that settles it.
            portion: Most jobs a call of the renderer; :data:`PORTION` for each of its
                workers when None.
        """
        self._renderer = renderer
        self._done = done
        self._portion = portion or PORTION * max(1, int(getattr(renderer, "workers", 1)))
        self._inbox: SimpleQueue[RenderJob | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.pending = 0
        self.drawings = 0
        self.seconds = 0.0

    def __enter__(self) -> RenderQueue:
        """See the class."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the thread."""
        self.close()

    def add(self, jobs: Iterable[RenderJob]) -> None:
        """Line jobs up."""
        for job in jobs:
            self.pending += 1
            self._inbox.put(job)
        if self.pending and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="render", daemon=True)
            self._thread.start()

    def settle(self, drawn: Drawn) -> list[tuple[RenderJob, Drawing]]:
        """Take a portion that ``done`` was called with.

        Raises:
            EngineError: If the renderer failed or lost a drawing; any other error of the
                renderer is raised as it is.
        """
        if drawn.drawings is None:
            assert drawn.error is not None
            raise drawn.error
        if len(drawn.drawings) != len(drawn.jobs):
            raise EngineError(
                f"the renderer gave {len(drawn.drawings)} drawings to {len(drawn.jobs)} jobs"
            )
        self.pending -= len(drawn.jobs)
        self.drawings += len(drawn.jobs)
        self.seconds += drawn.seconds
        return list(zip(drawn.jobs, drawn.drawings, strict=True))

    def close(self) -> None:
        """Drop what waits and end the thread. Safe to repeat."""
        self._closed = True
        self._inbox.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while (portion := self._next()) and not self._closed:
            drawn = self._draw(portion)
            self._done(drawn)
            if drawn.error is not None:
                return

    def _next(self) -> list[RenderJob]:
        """What waits, up to a portion; waits for the first. Empty when the queue closes."""
        jobs: list[RenderJob] = []
        job = self._inbox.get()
        while job is not None:
            jobs.append(job)
            if len(jobs) == self._portion:
                return jobs
            try:
                job = self._inbox.get_nowait()
            except Empty:
                return jobs
        return []

    def _draw(self, jobs: Sequence[RenderJob]) -> Drawn:
        started = time.perf_counter()
        try:
            drawings, error = self._renderer.render(jobs), None
        except BaseException as raised:
            drawings, error = None, raised
        return Drawn(jobs, drawings, error, time.perf_counter() - started)
