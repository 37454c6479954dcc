"""An engine that takes no time, so that what is left to measure is our own cost."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

from benchmarks.simulated_engine import Script
from mmzero_env.protocol import Request, Response


class InstantEngine:
    """A :class:`agents.StreamingPolicy` that takes no time but keeps requests open.

    It answers the oldest request as soon as ``hold`` are open, or when nothing comes any
    more: what is measured over it is the cost of everything else.
    """

    def __init__(self, script: Script, hold: int) -> None:
        """Start the engine's thread.

        Args:
            script: What it answers.
            hold: Requests that it keeps open.
        """
        self.name = "instant"
        self.max_open = hold
        self._script = script
        self._changed = threading.Condition()
        self._open: deque[tuple[Request, Future[Response]]] = deque()
        self._submitted = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Future[Response]:
        """See :class:`agents.StreamingPolicy`."""
        future: Future[Response] = Future()
        with self._changed:
            self._open.append((request, future))
            self._submitted += 1
            self._changed.notify()
        return future

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """See :class:`agents.Policy`."""
        return self._script.generate(requests)

    def close(self) -> None:
        """See :class:`agents.StreamingPolicy`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and not self._open:
                    self._changed.wait()
                if self._closed:
                    return
                seen = self._submitted
                if len(self._open) < self.max_open and self._changed.wait(0.002):
                    continue
                if self._submitted != seen or not self._open:
                    continue
                request, future = self._open.popleft()
            if future.set_running_or_notify_cancel():
                future.set_result(self._script.response(request))
