"""One worker process as the parent sees it: send codes, take pictures."""

from __future__ import annotations

import fcntl
import json
import mmap
import signal
import socket
import time
from collections import deque
from multiprocessing.connection import Connection

import numpy as np

from mmzero_env.errors import EngineError
from mmzero_env.protocol import Drawing, Failure
from mmzero_env.rendering.sandbox import Sandbox
from mmzero_env.rendering.spawner import Spawner, nameless_file
from mmzero_env.rendering.worker import MEMORY_EXIT, SLOTS

QUEUED_BYTES = 16_384
"""Longest code that is sent to a worker which still draws another: it has to fit into
the socket's buffer, or the parent would wait for the worker."""

# Far above any report; a worker gone mad cannot make the parent take more.
_REPORT_BYTES = 65_536


class WorkerProcess:
    """A render worker with its pipe and its piece of shared memory.

    Attributes:
        number: Its name towards the :class:`~mmzero_env.rendering.spawner.Spawner`.
        pipe: Connection to wait on; readable when a report or the end has come.
        ready: Whether the worker has said that it can draw.
        descriptor: The file descriptor of the pipe, also after it was closed.
        pid: Its process id, once it is ready; None before.
        sandbox: What is in force in it, once it is ready.
        jobs: What the parent noted about the codes sent, the one being drawn first.
        deadline: Monotonic time at which the worker is killed, or infinity.
    """

    def __init__(self, spawner: Spawner, number: int, size: int) -> None:
        """Have the process forked; it reports on its pipe when it is ready.

        Args:
            spawner: Who forks it.
            number: A number that no worker of the spawner had before.
            size: Side of the pictures in pixels.

        Raises:
            HelperLostError: There is nobody to fork it.
        """
        self.number = number
        self.ready = False
        self.pid: int | None = None
        self.sandbox = Sandbox()
        self.jobs: deque[int] = deque()
        self.deadline = float("inf")
        self._spawner = spawner
        self._received = 0
        shape = (SLOTS, size, size, 3)
        length = int(np.prod(shape))
        ours, theirs = socket.socketpair()
        with theirs, ours, nameless_file() as memory:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * QUEUED_BYTES)
            memory.truncate(length)
            if hasattr(fcntl, "F_ADD_SEALS"):
                # Reading memory that the worker has cut off would kill the parent.
                seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
                fcntl.fcntl(memory.fileno(), fcntl.F_ADD_SEALS, seals)
            self._memory = mmap.mmap(memory.fileno(), length)
            self._slots = np.frombuffer(self._memory, dtype=np.uint8).reshape(shape)
            spawner.fork(number, [theirs.fileno(), memory.fileno()])
            self.descriptor = ours.detach()
            self.pipe = Connection(self.descriptor)

    def send(self, job: int, code: str, wall_seconds: float) -> bool:
        """Hand over one code, unless it would have to wait and is too long for that.

        Returns:
            Whether it was sent.

        Raises:
            OSError: The worker is gone.
        """
        message = code.encode("utf-8", "surrogatepass")
        if self.jobs and len(message) > QUEUED_BYTES:
            return False
        self.pipe.send_bytes(message)
        if not self.jobs:
            self.deadline = time.monotonic() + wall_seconds
        self.jobs.append(job)
        return True

    def receive(self, wall_seconds: float) -> tuple[int, Drawing]:
        """The drawing of the oldest code, with what was noted about it.

        Args:
            wall_seconds: Time for the next code, which the worker has begun.

        Raises:
            EOFError: The worker ended instead.
            OSError: The same.
            EngineError: The worker itself is broken.
        """
        report = self._report()
        slot = self._slots[self._received % SLOTS]
        self._received += 1
        flags = tuple(report["flags"])
        if "reason" in report:
            failure = Failure("render", report["reason"], report["detail"])
            drawing = Drawing(None, failure, flags)
        else:
            drawing = Drawing(slot.copy(), None, flags)
        job = self.jobs.popleft()
        self.deadline = time.monotonic() + wall_seconds if self.jobs else float("inf")
        return job, drawing

    def greet(self) -> None:
        """Take the worker's word that it is ready.

        Raises:
            EOFError: The worker ended instead.
            OSError: The same.
            EngineError: It could not start what it needs.
        """
        report = self._report()
        self.pid = report["pid"]
        self.sandbox = Sandbox(**report["sandbox"])
        self.ready = True
        self.deadline = float("inf")

    def kill(self) -> int:
        """End the process if it still runs.

        Returns:
            Its exit status; minus the number of the signal that ended it.

        Raises:
            HelperLostError: The helper has ended, and the worker with it.
        """
        self.forget()
        return self._spawner.kill(self.number)

    def status(self) -> int:
        """Exit status of a worker whose pipe has closed.

        Raises:
            HelperLostError: The helper has ended, and the worker with it.
        """
        return self._spawner.end_of(self.number)

    def forget(self) -> None:
        """Let go of the pipe and the memory; the worker ends by that if it is idle."""
        self.pipe.close()
        # A mapping cannot be closed under an array.
        self._slots = self._slots[:0].copy()
        self._memory.close()

    def _report(self) -> dict:
        report = json.loads(self.pipe.recv_bytes(_REPORT_BYTES))
        if "error" in report:
            raise EngineError(f"the render worker is broken: {report['error']}")
        return report


def explain_end(status: int) -> Failure | None:
    """What the end of a worker says about the code it was drawing.

    Args:
        status: Exit status as :class:`subprocess.Popen` gives it.

    Returns:
        A failure that the code is to blame for, or None when the worker may have been
        killed for reasons of the machine.
    """
    if status == -signal.SIGPROF:
        detail = "the CPU time allowed for one code is used up; draw fewer and simpler shapes"
        return Failure("render", "render_timeout", detail)
    if status == MEMORY_EXIT:
        detail = (
            "the memory allowed for one code is used up; use smaller patterns, masks and "
            "filters, and fewer of them"
        )
        return Failure("render", "render_memory", detail)
    return None
