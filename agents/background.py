"""An event loop on a thread of its own, for policies that speak HTTP."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from agents.policy import PolicyError

T = TypeVar("T")


class Background:
    """Runs coroutines on one daemon thread, which starts with the first of them.

    A process that was forked off gets a thread of its own at its first use; what was open in
    the parent stays the parent's.
    """

    def __init__(self, name: str) -> None:
        """See the class.

        Args:
            name: Of the thread, and of the owner in messages.
        """
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: weakref.finalize[[asyncio.AbstractEventLoop, threading.Thread], Any] | None
        self._stop = None
        self._pid = os.getpid()
        self._closed = False

    @property
    def forked(self) -> bool:
        """Whether this process is another one than that which used the loop last."""
        return self._pid != os.getpid()

    @property
    def running(self) -> bool:
        """Whether the thread runs in this process."""
        return self._loop is not None and not self._loop.is_closed() and not self.forked

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine. Safe from any thread but the loop's own waiting on the result.

        Args:
            work: What to run.

        Returns:
            Its result to be; cancelling it cancels the coroutine.

        Raises:
            PolicyError: After :meth:`close`.
        """
        if self.forked:
            # The thread did not come along, and the lock may be held for ever.
            self._lock, self._pid = threading.Lock(), os.getpid()
            if self._stop is not None:
                self._stop.detach()
            self._loop = self._stop = None
        with self._lock:
            if self._closed:
                work.close()
                raise PolicyError(f"{self._name} is closed; make the policy again to use it")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=_run, args=(self._loop,), name=self._name, daemon=True
                )
                thread.start()
                self._stop = weakref.finalize(self, _stop, self._loop, thread)
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Cancel what runs and end the thread. Safe to repeat."""
        with self._lock:
            self._closed = True
        if self._stop is not None and not self.forked:
            self._stop()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    if loop.is_closed():
        return
    loop.call_soon_threadsafe(lambda: loop.create_task(_wind_up(loop)))
    if thread is not threading.current_thread():
        thread.join(timeout=10)


async def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await loop.shutdown_default_executor()
    loop.stop()
