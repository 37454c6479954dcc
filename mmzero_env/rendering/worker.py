"""A worker after its birth: draws codes one at a time, under limits, until its pipe closes.

The pictures go back through memory shared with the parent, alternately in its two slots;
the pipe carries codes one way and short reports the other way. A report is sent before
the next code is begun: whatever ends this process, the first code without a report is
the one it was drawing.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import sys
from dataclasses import asdict
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from mmzero_env.errors import EngineError
from mmzero_env.rendering.backends import Backend, load_class
from mmzero_env.rendering.draw import draw_code
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.primer import prime
from mmzero_env.rendering.sandbox import Sandbox, confine

MEMORY_EXIT = 77
"""Exit status of a worker whose memory ran out; a fresh one takes its place."""

SLOTS = 2
"""Pictures in the shared memory: one is drawn while the parent copies the other."""

_CHATTER = 2**20
"""Bytes a worker may write to a file, which is its standard error; see RLIMIT_FSIZE."""


class Studio:
    """What all workers of a renderer have in common, made once before they are forked.

    Attributes:
        size: Side of the pictures in pixels.
        limits: Limits of every rendering.
    """

    def __init__(self, size: int, limits: RenderLimits, target: str, confined: bool) -> None:
        """Import the backend, and make and prime it if that may happen before a fork.

        Args:
            size: Side of the pictures in pixels.
            limits: Limits of every rendering.
            target: Backend as ``"module:class"``.
            confined: Whether workers give up what they do not need.

        Raises:
            Exception: Whatever the backend raises when it cannot start.
        """
        self.size = size
        self.limits = limits
        self._class = load_class(target)
        self._confined = confined
        self._backend: Backend | None = None
        if getattr(self._class, "fork_safe", False):
            self._backend = self._class()
            prime(self._backend, size)

    def open(self) -> Backend:
        """The backend, ready to draw; after the fork."""
        if self._backend is None:
            self._backend = self._class()
            prime(self._backend, self.size)
        return self._backend

    def confine(self, network: str | None) -> Sandbox:
        """Enter the sandbox, if one is wanted.

        Args:
            network: Why the network is still there, or None.
        """
        if not self._confined:
            return Sandbox(reasons={"sandbox": 'The renderer was made with sandbox="none".'})
        return confine(getattr(self._class, "reads", None), network)


def work(studio: Studio, pipe: Connection, memory: int, network: str | None) -> None:
    """Serve until the parent closes the pipe.

    Args:
        studio: What the worker draws with.
        pipe: Codes in, reports out.
        memory: File descriptor of the shared memory, ``SLOTS`` pictures long; closed.
        network: Why the worker still has a network, or None.
    """
    try:
        slots = _map(memory, studio.size)
        backend = studio.open()
        _limit_memory(studio.limits.memory_mb)
        sandbox = studio.confine(network)
    except Exception as error:
        pipe.send_bytes(json.dumps({"error": f"{type(error).__name__}: {error}"[:2000]}).encode())
        return
    pipe.send_bytes(json.dumps({"pid": os.getpid(), "sandbox": asdict(sandbox)}).encode())
    turn = 0
    while True:
        try:
            code = pipe.recv_bytes().decode("utf-8", "surrogatepass")
        except (EOFError, OSError):
            return
        report = _draw(studio, backend, code, slots[turn % SLOTS])
        turn += 1
        try:
            pipe.send_bytes(json.dumps(report).encode())
        except OSError:
            return


def _draw(studio: Studio, backend: Backend, code: str, slot: NDArray[np.uint8]) -> dict:
    # Counts CPU time of this process alone, to the clock tick; RLIMIT_CPU knows
    # whole seconds only. When it runs out the signal ends the process.
    signal.setitimer(signal.ITIMER_PROF, studio.limits.cpu_seconds)
    try:
        drawing = draw_code(code, studio.size, studio.limits, backend)
        report: dict = {"flags": drawing.flags}
        if drawing.image is not None:
            np.copyto(slot, drawing.image)
        elif drawing.failure is not None:
            report["reason"] = drawing.failure.reason
            report["detail"] = drawing.failure.detail
    except MemoryError:
        # What is left of the heap is fragmented; the next code deserves a fresh one.
        os._exit(MEMORY_EXIT)
    except EngineError as error:
        report = {"error": str(error)[:2000]}
    signal.setitimer(signal.ITIMER_PROF, 0)
    return report


def _map(memory: int, size: int) -> NDArray[np.uint8]:
    """The shared pictures as uint8 (slots, size, size, 3)."""
    mapped = mmap.mmap(memory, SLOTS * size * size * 3)
    os.close(memory)
    return np.frombuffer(mapped, dtype=np.uint8).reshape(SLOTS, size, size, 3)


def _limit_memory(megabytes: int) -> None:
    """Cap the address space at what is mapped now plus an allowance.

    The allowance is relative because libraries reserve address space by the number of
    cores. macOS accepts the limit and does not enforce it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_CHATTER, _CHATTER))
    if not sys.platform.startswith("linux"):
        return
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    limit = mapped + megabytes * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
