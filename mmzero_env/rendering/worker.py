"""The worker process: draws codes one at a time, under limits, until its pipe closes.

It imports only what drawing needs. The picture goes back through memory shared with
the parent; the pipe carries the code one way and a short report the other way.

What the limits do not cover: a worker may read files and open sockets as its user may.
The guard and the drawing backend give a document no way to ask for that; the process
boundary is there for memory, time and crashes.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection

import numpy as np

from mmzero_env.errors import EngineError
from mmzero_env.rendering.backends import load_backend
from mmzero_env.rendering.draw import draw_code
from mmzero_env.rendering.limits import RenderLimits

MEMORY_EXIT = 77
"""Exit status of a worker whose memory ran out; a fresh one takes its place."""

_PRIMER = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8">'
    '<rect width="8" height="8" fill="red"/><text y="8" font-size="8">a</text></svg>'
)


def main(arguments: dict) -> None:
    """Serve until the parent closes the pipe.

    Args:
        arguments: ``pipe`` and ``memory`` (file descriptors), ``size``, ``limits`` (the
            fields of :class:`RenderLimits`) and ``backend`` (``"module:class"``).
    """
    # The parent decides when we stop; Ctrl-C in its terminal reaches us as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Kill, do not run a handler: Python would wait for a long call into cairo to end.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    pipe = Connection(arguments["pipe"])
    size = arguments["size"]
    limits = RenderLimits(**arguments["limits"])
    shared = np.frombuffer(mmap.mmap(arguments["memory"], size * size * 3), dtype=np.uint8).reshape(
        size, size, 3
    )
    try:
        backend = load_backend(arguments["backend"])
        # Load fonts and lazy tables now, outside the limits of the first code.
        primer = draw_code(_PRIMER, size, RenderLimits(), backend)
        if primer.failure is not None:
            raise EngineError(f"the first drawing failed: {primer.failure.detail}")
    except Exception as error:
        pipe.send_bytes(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        return
    _limit_memory(limits.memory_mb)
    pipe.send_bytes(b"{}")
    while True:
        try:
            code = pipe.recv_bytes().decode("utf-8", "surrogatepass")
        except (EOFError, OSError):
            return
        # Counts CPU time of this process alone, to the clock tick; RLIMIT_CPU knows
        # whole seconds only. When it runs out the signal ends the process.
        signal.setitimer(signal.ITIMER_PROF, limits.cpu_seconds)
        try:
            drawing = draw_code(code, size, limits, backend)
        except MemoryError:
            # What is left of the heap is fragmented; the next code deserves a fresh one.
            os._exit(MEMORY_EXIT)
        except EngineError as error:
            report: dict = {"error": str(error)}
        else:
            report = {"flags": drawing.flags}
            if drawing.image is not None:
                np.copyto(shared, drawing.image)
            elif drawing.failure is not None:
                report["reason"] = drawing.failure.reason
                report["detail"] = drawing.failure.detail
        signal.setitimer(signal.ITIMER_PROF, 0)
        try:
            pipe.send_bytes(json.dumps(report).encode())
        except OSError:
            return


def _limit_memory(megabytes: int) -> None:
    """Cap the address space at what is mapped now plus an allowance.

    The allowance is relative because libraries reserve address space by the number of
    cores. macOS accepts the limit and does not enforce it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    limit = mapped + megabytes * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
