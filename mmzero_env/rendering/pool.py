"""Many codes in, as many drawings out: a pool of persistent render workers."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from types import TracebackType

from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Drawing, Failure, RenderJob
from mmzero_env.rendering.backends import Backend, backend_target, load_backend
from mmzero_env.rendering.draw import draw_code
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.process import WorkerProcess, explain_end
from mmzero_env.rendering.system import check_system

START_SECONDS = 60.0
"""A worker needs under a second; more than this is a broken machine, not a busy one."""

_EXTERNAL_KILLS = (-9, -15)


class Renderer:
    """Draws codes in worker processes, each code under its limits.

    Workers start with the first call and stay. A worker that hangs, crashes or runs out
    of memory is replaced; only the code it was drawing fails, by name:
    ``render_timeout``, ``render_memory`` or ``render_crash``. Whatever could be the
    machine's doing (a wall-clock limit, a crash, a kill from outside) counts only if it
    happens again when the code is drawn once more with no other code beside it.

    The drawings depend on code, size, limits and backend, never on ``workers``.

    With ``workers=0`` codes are drawn in the calling process: the guard stands, but
    nothing limits time and memory. That is for notebooks and tests, not for model output
    in bulk.

    Example:
        >>> from mmzero_env.protocol import RenderJob
        >>> red = '<svg viewBox="0 0 2 2"><rect width="2" height="2" fill="red"/></svg>'
        >>> with Renderer(size=8, workers=0) as renderer:
        ...     [drawing] = renderer.render([RenderJob("a", red)])
        >>> drawing.image[0, 0].tolist()
        [255, 0, 0]

    Attributes:
        size: Side of the square pictures in pixels.
        workers: Number of worker processes.
        limits: Limits of one rendering.
        backend: Name of the drawing backend.
    """

    def __init__(
        self,
        size: int = 448,
        workers: int = 1,
        limits: RenderLimits | None = None,
        backend: str = "cairosvg",
    ) -> None:
        """Note what is wanted; nothing starts yet.

        Args:
            size: Side of the pictures in pixels, 1 to 4096.
            workers: Worker processes; 0 draws in the calling process.
            limits: Limits of one rendering; the defaults when None.
            backend: A name in :data:`mmzero_env.rendering.backends.BACKENDS`.

        Raises:
            UserError: A value is out of range, or the backend is unknown.
        """
        if not 1 <= size <= 4096:
            raise UserError(f"size must be 1 to 4096 pixels, got {size}.")
        if workers < 0:
            raise UserError(f"workers must be 0 or more, got {workers}.")
        self.size = size
        self.workers = workers
        self.limits = limits or RenderLimits()
        self.backend = backend
        self._target = backend_target(backend)
        self._pool: list[WorkerProcess] = []
        self._local: Backend | None = None
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def __enter__(self) -> Renderer:
        """Use as a context manager: the workers end with the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the workers."""
        self.close()

    def __del__(self) -> None:
        """End the workers of a renderer that nobody closed."""
        if hasattr(self, "_pool"):
            self.close()

    def close(self) -> None:
        """End the workers. Safe to repeat; a later ``render`` starts fresh ones."""
        # In a forked copy of this process the workers still belong to the original.
        if os.getpid() == self._owner:
            for worker in self._pool:
                worker.end()
        self._pool.clear()

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        """Draw codes.

        Equal codes are drawn once; every drawing has an image array of its own.

        Args:
            jobs: Codes to draw.

        Returns:
            One drawing per job, in the same order.

        Raises:
            EngineError: Workers do not start, or are killed again and again from outside.
        """
        codes = list(dict.fromkeys(job.code for job in jobs))
        with self._lock:
            if self.workers == 0:
                drawn = [self._draw_here(code) for code in codes]
            else:
                drawn = self._draw_all(codes)
        by_code = dict(zip(codes, drawn, strict=True))
        drawings: list[Drawing] = []
        seen: set[str] = set()
        for job in jobs:
            drawing = by_code[job.code]
            if job.code in seen and drawing.image is not None:
                drawing = replace(drawing, image=drawing.image.copy())
            seen.add(job.code)
            drawings.append(drawing)
        return drawings

    def _draw_here(self, code: str) -> Drawing:
        if self._local is None:
            try:
                self._local = load_backend(self._target)
            except OSError as error:
                raise EngineError(f"{error}. {_mend('')}") from error
        try:
            return draw_code(code, self.size, self.limits, self._local)
        except MemoryError:
            detail = "the picture needs more memory than there is"
            return Drawing(None, Failure("render", "render_memory", detail))

    def _draw_all(self, codes: list[str]) -> list[Drawing]:
        drawings: dict[int, Drawing] = {}
        try:
            doubtful = self._run(codes, deque(range(len(codes))), self.workers, drawings)
            for index, first in sorted(doubtful.items()):
                again = self._run(codes, deque([index]), 1, drawings)
                if index in again:
                    drawings[index] = Drawing(None, self._verdict(again[index], first))
        except BaseException:
            # Workers may hold codes of this call; their answers must not meet the next.
            self.close()
            raise
        return [drawings[index] for index in range(len(codes))]

    def _verdict(self, second: int | None, first: int | None) -> Failure:
        """Why a code failed twice; a status of None stands for the wall clock."""
        if second is None:
            detail = f"no picture after {self.limits.wall_seconds:g} s, twice"
            return Failure("render", "render_timeout", detail)
        if first in _EXTERNAL_KILLS and second in _EXTERNAL_KILLS:
            raise EngineError(
                f"a render worker was killed from outside twice (signal {-second}), most "
                "likely because the machine is short of memory; use fewer workers."
            )
        return Failure("render", "render_crash", f"the worker ended with status {second}, twice")

    def _run(
        self,
        codes: list[str],
        pending: deque[int],
        workers: int,
        drawings: dict[int, Drawing],
    ) -> dict[int, int | None]:
        """Draw the pending codes.

        Args:
            codes: All codes of the call.
            pending: Indices of the codes to draw; emptied.
            workers: How many may draw at a time.
            drawings: Receives the results by index.

        Returns:
            Exit status of the worker for every code that has to be tried again; None
            where the wall clock ended it.
        """
        doubtful: dict[int, int | None] = {}
        failed_starts = 0
        while True:
            busy = [worker for worker in self._pool if worker.job is not None]
            if not pending and not busy:
                return doubtful
            while len(self._pool) < min(workers, len(pending) + len(busy)):
                worker = WorkerProcess(self.size, self.limits, self._target)
                worker.deadline = time.monotonic() + START_SECONDS
                self._pool.append(worker)
            for worker in self._pool:
                if worker.ready and worker.job is None and pending and len(busy) < workers:
                    busy.append(worker)
                    try:
                        worker.send(pending[0], codes[pending[0]], self.limits.wall_seconds)
                    except OSError:
                        # It died while idle; its pipe says so below.
                        worker.job = None
                        break
                    pending.popleft()
            for worker in self._next_events():
                index = worker.job
                try:
                    if not worker.ready:
                        self._welcome(worker)
                    else:
                        drawing = worker.receive()
                        if index is not None:
                            drawings[index] = drawing
                except (EOFError, OSError):
                    self._pool.remove(worker)
                    status = worker.wait()
                    if index is None:
                        failed_starts += 1
                        self._check_starts(failed_starts, status, worker)
                        continue
                    failure = explain_end(status)
                    if failure is not None:
                        drawings[index] = Drawing(None, failure)
                    else:
                        doubtful[index] = status
                    worker.end()
            now = time.monotonic()
            for worker in [worker for worker in self._pool if worker.deadline <= now]:
                if worker.job is None:
                    raise EngineError(
                        f"a render worker was not ready after {START_SECONDS:g} s. "
                        f"{_mend(worker.complaint())}"
                    )
                self._pool.remove(worker)
                worker.end()
                doubtful[worker.job] = None

    def _welcome(self, worker: WorkerProcess) -> None:
        """Take a worker's first word."""
        try:
            worker.greet()
        except EngineError as error:
            raise EngineError(f"{error}. {_mend(worker.complaint())}") from None
        worker.deadline = float("inf")

    def _next_events(self) -> list[WorkerProcess]:
        """Workers that have something to say, after waiting for the first of them."""
        deadline = min(worker.deadline for worker in self._pool)
        timeout = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
        readable = set(wait([worker.pipe for worker in self._pool], timeout))
        return [worker for worker in self._pool if worker.pipe in readable]

    def _check_starts(self, failed: int, status: int, worker: WorkerProcess) -> None:
        """Give up when workers end before they have drawn anything."""
        complaint = worker.complaint()
        worker.end()
        if failed > self.workers:
            raise EngineError(
                f"render workers end without a word (status {status}). {_mend(complaint)}"
            )


def _mend(complaint: str) -> str:
    """What to do about a worker that does not start."""
    missing = check_system()
    if missing:
        return " ".join(missing)
    return f"It wrote: {complaint}" if complaint else ""
