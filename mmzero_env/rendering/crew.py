"""The workers of a renderer at work: who draws what, and what a worker's end means."""

from __future__ import annotations

import math
import select
import signal
import time
from collections import deque
from collections.abc import Sequence

from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Drawing, Failure
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.process import WorkerProcess, explain_end
from mmzero_env.rendering.sandbox import Sandbox
from mmzero_env.rendering.spawner import START_SECONDS, HelperLostError, Spawner, mend
from mmzero_env.rendering.worker import SLOTS

_EXTERNAL_KILLS = (-signal.SIGKILL, -signal.SIGTERM)


class Crew:
    """Draws codes in worker processes that stay for the next call.

    Attributes:
        pool: The workers there are.
        peak: Most memory that any worker held which has ended, in bytes.
    """

    def __init__(
        self, size: int, workers: int, limits: RenderLimits, target: str, sandbox: str
    ) -> None:
        """Note what is wanted; nothing starts yet.

        Args:
            size: Side of the pictures in pixels.
            workers: How many may draw at a time, 1 or more.
            limits: Limits of every rendering.
            target: Backend as ``"module:class"``.
            sandbox: One of :data:`mmzero_env.rendering.sandbox.MODES`.
        """
        self.pool: list[WorkerProcess] = []
        self.peak = 0
        self._size = size
        self._workers = workers
        self._limits = limits
        self._target = target
        self._sandbox = sandbox
        self._spawner: Spawner | None = None
        self._poll = select.poll()
        self._born = 0
        self._failed_starts = 0

    @property
    def helper(self) -> int | None:
        """Process id of the helper that forks the workers, or None."""
        return None if self._spawner is None else self._spawner.pid

    def draw(self, codes: Sequence[str]) -> list[Drawing]:
        """Draw different codes; one drawing each, in the same order.

        Raises:
            EngineError: Workers do not start, or are killed again and again from outside.
            UserError: The sandbox is required and not complete.
        """
        drawings: dict[int, Drawing] = {}
        try:
            doubtful = self._run(codes, deque(range(len(codes))), self._workers, drawings)
            for index, first in sorted(doubtful.items()):
                again = self._run(codes, deque([index]), 1, drawings)
                if index in again:
                    drawings[index] = Drawing(None, self._verdict(again[index], first))
        except BaseException:
            # Workers may hold codes of this call; their answers must not meet the next.
            self.close()
            raise
        return [drawings[index] for index in range(len(codes))]

    def sandbox(self) -> Sandbox:
        """What is in force in a worker; one is started if there is none.

        Raises:
            EngineError: Workers do not start.
            UserError: The sandbox is required and not complete.
        """
        if not any(worker.ready for worker in self.pool):
            self.draw(["<svg/>"])
        return next(worker.sandbox for worker in self.pool if worker.ready)

    def close(self) -> None:
        """End the workers. Safe to repeat; a later call to ``draw`` starts fresh ones."""
        if self._spawner is not None:
            self._spawner.close()
            self.peak = max(self.peak, self._spawner.peak)
        self._forget()

    def abandon(self) -> None:
        """Let go of the workers in a forked copy of the process that owns them."""
        if self._spawner is not None:
            self._spawner.abandon()
        self._forget()

    def _forget(self) -> None:
        for worker in self.pool:
            worker.forget()
        self.pool.clear()
        self._spawner = None
        self._poll = select.poll()

    def _verdict(self, second: int | None, first: int | None) -> Failure:
        """Why a code failed twice; a status of None stands for the wall clock."""
        if second is None:
            detail = (
                f"no picture after {self._limits.wall_seconds:g} s, twice; draw fewer and "
                "simpler shapes"
            )
            return Failure("render", "render_timeout", detail)
        if first in _EXTERNAL_KILLS and second in _EXTERNAL_KILLS:
            raise EngineError(
                f"a render worker was killed from outside twice (signal {-second}), most "
                "likely because the machine is short of memory; use fewer workers."
            )
        detail = f"drawing it ends the renderer (status {second}), twice; use plainer elements"
        return Failure("render", "render_crash", detail)

    def _run(
        self,
        codes: Sequence[str],
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
        self._failed_starts = 0
        while pending or any(worker.jobs for worker in self.pool):
            try:
                self._hire(workers, pending)
                self._hand_out(codes, pending, workers)
                talking, some_ended = self._next_events()
                for worker in talking:
                    self._hear(worker, pending, drawings, doubtful)
                if some_ended:
                    self._bury_the_dead(pending, drawings, doubtful)
                self._watch_the_clock(pending, drawings, doubtful)
            except HelperLostError as lost:
                self._start_over(lost, pending, doubtful)
        return doubtful

    def _hire(self, workers: int, pending: deque[int]) -> None:
        """Have as many workers as there is work for."""
        busy = sum(1 for worker in self.pool if worker.jobs)
        while len(self.pool) < min(workers, len(pending) + busy):
            if self._spawner is None:
                self._spawner = Spawner(
                    self._size, self._limits, self._target, self._sandbox != "none"
                )
                self._poll.register(self._spawner.control, select.POLLIN)
            self._born += 1
            worker = WorkerProcess(self._spawner, self._born, self._size)
            worker.deadline = time.monotonic() + START_SECONDS
            self.pool.append(worker)
            self._poll.register(worker.descriptor, select.POLLIN)

    def _hand_out(self, codes: Sequence[str], pending: deque[int], workers: int) -> None:
        """Give every worker a code, and while there are plenty a second one to go on with.

        A worker that waits for the parent to copy its picture is a core that idles. At
        the end of a call there is no second one: it might wait behind a slow code while
        another worker has nothing to do.
        """
        for jobs in range(SLOTS):
            for worker in self.pool:
                if not pending or (jobs and len(pending) <= workers):
                    return
                if not worker.ready or len(worker.jobs) != jobs:
                    continue
                if not jobs and sum(1 for other in self.pool if other.jobs) >= workers:
                    break
                try:
                    sent = worker.send(pending[0], codes[pending[0]], self._limits.wall_seconds)
                except OSError:
                    # It is dead; its pipe says so soon.
                    continue
                if sent:
                    pending.popleft()

    def _next_events(self) -> tuple[list[WorkerProcess], bool]:
        """Wait; then the workers that have something to say, and whether some have ended."""
        deadline = min((worker.deadline for worker in self.pool), default=0.0)
        left = max(0.0, deadline - time.monotonic())
        timeout = None if left == math.inf else math.ceil(left * 1000)
        ready = {descriptor for descriptor, _ in self._poll.poll(timeout)}
        talking = [worker for worker in self.pool if worker.descriptor in ready]
        return talking, len(ready) > len(talking)

    def _hear(
        self,
        worker: WorkerProcess,
        pending: deque[int],
        drawings: dict[int, Drawing],
        doubtful: dict[int, int | None],
    ) -> None:
        """Take one report of a worker, or the news of its end."""
        try:
            if worker.ready:
                index, drawing = worker.receive(self._limits.wall_seconds)
                drawings[index] = drawing
            else:
                worker.greet()
                self._check_sandbox(worker)
        except EngineError as error:
            raise EngineError(f"{error}. {mend(self._complaint())}") from None
        except (EOFError, OSError):
            self._dismiss(worker, worker.status(), pending, drawings, doubtful)

    def _bury_the_dead(
        self,
        pending: deque[int],
        drawings: dict[int, Drawing],
        doubtful: dict[int, int | None],
    ) -> None:
        """Notice ends that no pipe tells of: a copy of this process may hold it open."""
        if self._spawner is None:
            return
        dead = self._spawner.ended()
        for worker in [worker for worker in self.pool if worker.number in dead]:
            while worker in self.pool and worker.pipe.poll():
                self._hear(worker, pending, drawings, doubtful)
            if worker in self.pool:
                self._dismiss(worker, worker.status(), pending, drawings, doubtful)

    def _watch_the_clock(
        self,
        pending: deque[int],
        drawings: dict[int, Drawing],
        doubtful: dict[int, int | None],
    ) -> None:
        now = time.monotonic()
        for worker in [worker for worker in self.pool if worker.deadline <= now]:
            if not worker.ready:
                raise EngineError(
                    f"a render worker was not ready after {START_SECONDS:g} s. "
                    f"{mend(self._complaint())}"
                )
            worker.kill()
            self._dismiss(worker, None, pending, drawings, doubtful)

    def _dismiss(
        self,
        worker: WorkerProcess,
        status: int | None,
        pending: deque[int],
        drawings: dict[int, Drawing],
        doubtful: dict[int, int | None],
    ) -> None:
        """Draw the conclusions from the end of a worker; None stands for the wall clock."""
        self.pool.remove(worker)
        self._poll.unregister(worker.descriptor)
        worker.forget()
        if not worker.jobs:
            self._count_failed_start(f"render workers end without a word (status {status})")
            return
        # Reports are sent before the next code is begun, so the first one it was.
        index = worker.jobs.popleft()
        pending.extendleft(reversed(worker.jobs))
        failure = None if status is None else explain_end(status)
        if failure is None:
            doubtful[index] = status
        else:
            drawings[index] = Drawing(None, failure)

    def _start_over(
        self, lost: HelperLostError, pending: deque[int], doubtful: dict[int, int | None]
    ) -> None:
        """The helper has ended, and all workers with it: nothing that a code can do."""
        drawing = [worker.jobs for worker in self.pool if worker.jobs]
        for jobs in drawing:
            doubtful[jobs.popleft()] = -signal.SIGKILL
            pending.extendleft(reversed(jobs))
        self._forget()
        if not drawing:
            self._count_failed_start(str(lost))

    def _count_failed_start(self, what: str) -> None:
        """Give up when workers end before they have drawn anything."""
        self._failed_starts += 1
        if self._failed_starts > self._workers:
            raise EngineError(f"{what}. {mend(self._complaint())}")

    def _complaint(self) -> str:
        return self._spawner.complaint() if self._spawner else ""

    def _check_sandbox(self, worker: WorkerProcess) -> None:
        if self._sandbox == "required" and worker.sandbox.reasons:
            raise UserError(
                'the renderer was made with sandbox="required", and not all of it is in '
                f"force: {' '.join(worker.sandbox.reasons.values())}"
            )
