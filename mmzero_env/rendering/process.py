"""One worker process as the parent sees it: start it, send a code, take a picture."""

from __future__ import annotations

import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from multiprocessing import Pipe
from pathlib import Path
from typing import IO

import numpy as np

from mmzero_env.errors import EngineError
from mmzero_env.protocol import Drawing, Failure
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.worker import MEMORY_EXIT

PACKAGE = Path(__file__).resolve().parents[1]

# The worker is its own program, not a multiprocessing child: those import the parent's
# main script first, and with it whatever a training script imports. For the same reason
# mmzero_env becomes a bare package here, whose __init__ (it registers environments)
# does not run.
_PROGRAM = """
import json, sys, types
arguments = json.loads(sys.argv[1])
sys.path[:] = arguments["path"]
package = types.ModuleType("mmzero_env")
package.__path__ = [arguments["package"]]
sys.modules["mmzero_env"] = package
from mmzero_env.rendering.worker import main
main(arguments)
"""

# Numerical libraries would start a thread per core for arrays of a few kilobytes.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C"}


class WorkerProcess:
    """A render worker with its pipe and its piece of shared memory.

    Attributes:
        pipe: Connection to wait on; readable when a report or the end has come.
        ready: Whether the worker has said that it can draw.
        job: What the parent noted about the code being drawn, or None.
        deadline: Monotonic time at which the worker is killed, or infinity.
    """

    def __init__(self, size: int, limits: RenderLimits, target: str) -> None:
        """Launch the process; it reports on its pipe when it is ready.

        Args:
            size: Side of the pictures in pixels.
            limits: Limits of every rendering.
            target: Backend as ``"module:class"``.

        Raises:
            EngineError: The operating system does not start it.
        """
        self._shape = (size, size, 3)
        length = size * size * 3
        self.ready = False
        self.job: int | None = None
        self.deadline = float("inf")
        self.pipe, theirs = Pipe()
        with _nameless_file() as memory:
            memory.truncate(length)
            self._memory = mmap.mmap(memory.fileno(), length)
            self._errors = _nameless_file()
            arguments = {
                "path": [os.path.abspath(entry) for entry in sys.path],
                "package": str(PACKAGE),
                "pipe": theirs.fileno(),
                "memory": memory.fileno(),
                "size": size,
                "limits": asdict(limits),
                "backend": target,
            }
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM, json.dumps(arguments)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors,
                    env={**os.environ, **_ONE_THREAD},
                    pass_fds=(theirs.fileno(), memory.fileno()),
                )
            except OSError as error:
                raise EngineError(f"a render worker does not start: {error}") from error
            finally:
                theirs.close()

    def send(self, job: int, code: str, wall_seconds: float) -> None:
        """Hand over one code.

        Raises:
            OSError: The worker is gone.
        """
        self.job = job
        self.deadline = time.monotonic() + wall_seconds
        self.pipe.send_bytes(code.encode("utf-8", "surrogatepass"))

    def receive(self) -> Drawing:
        """The drawing of the code sent last.

        Raises:
            EOFError: The worker ended instead.
            OSError: The same.
            EngineError: The worker itself is broken.
        """
        report = self._report()
        self.job = None
        self.deadline = float("inf")
        flags = tuple(report["flags"])
        if "reason" in report:
            return Drawing(None, Failure("render", report["reason"], report["detail"]), flags)
        image = np.frombuffer(self._memory, dtype=np.uint8).reshape(self._shape).copy()
        return Drawing(image, None, flags)

    def greet(self) -> None:
        """Take the worker's word that it is ready.

        Raises:
            EOFError: The worker ended instead.
            OSError: The same.
            EngineError: It could not import or start what it needs.
        """
        self._report()
        self.ready = True

    def end(self) -> int:
        """Kill the process if it still runs.

        Returns:
            Its exit status; minus the number of the signal that ended it.
        """
        self.pipe.close()
        self._process.kill()
        status = self._process.wait()
        self._memory.close()
        self._errors.close()
        return status

    def wait(self) -> int:
        """Exit status of a worker whose pipe has closed."""
        try:
            return self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return self.end()

    def complaint(self) -> str:
        """The last lines that the worker wrote to its standard error."""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace")[-2000:].strip()

    def _report(self) -> dict:
        report = json.loads(self.pipe.recv_bytes())
        if "error" in report:
            raise EngineError(f"the render worker is broken: {report['error']}")
        return report


def _nameless_file() -> IO[bytes]:
    """A file without a name, in memory where the system can: nothing is left behind."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("mmzero-render"), "w+b")
    return tempfile.TemporaryFile()


def explain_end(status: int) -> Failure | None:
    """What the end of a worker says about the code it was drawing.

    Args:
        status: Exit status as :class:`subprocess.Popen` gives it.

    Returns:
        A failure that the code is to blame for, or None when the worker may have been
        killed for reasons of the machine.
    """
    if status == -signal.SIGPROF:
        return Failure("render", "render_timeout", "the CPU time allowed for one code is used up")
    if status == MEMORY_EXIT:
        return Failure("render", "render_memory", "the memory allowed for one code is used up")
    return None
