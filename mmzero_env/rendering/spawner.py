"""The helper process as the parent sees it: start it, ask for workers, hear of their ends."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO

from mmzero_env.errors import EngineError
from mmzero_env.rendering.font_files import FONTS_CONFIG
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.system import check_system
from mmzero_env.rendering.zygote import FORK, KILL, REQUEST

PACKAGE = Path(__file__).resolve().parents[1]

START_SECONDS = 60.0
"""Starting takes under a second; more than this is a broken machine, not a busy one."""

_END_SECONDS = 5.0

# The helper is its own program, not a multiprocessing child: those import the parent's
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
from mmzero_env.rendering.zygote import main
main(arguments)
"""

# Numerical libraries would start a thread per core for arrays of a few kilobytes, and
# nothing with threads can be forked.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "LC_ALL": "C",
}


# Pango starts fontconfig on its own, which would look at the user's fonts and write a cache.
_BUNDLED_FONTS = {"FONTCONFIG_FILE": str(FONTS_CONFIG)}


class HelperLostError(Exception):
    """The helper process has ended, and its workers with it.

    Attributes:
        status: Its exit status; minus the number of the signal that ended it.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"the render helper ended with status {status}")
        self.status = status


class Spawner:
    """Starts workers through a helper process of its own.

    Attributes:
        control: Socket to wait on; readable when a worker, or the helper, has ended.
        pid: Process id of the helper.
        peak: Most memory that any worker held which has ended, in bytes.
    """

    def __init__(self, size: int, limits: RenderLimits, target: str, confined: bool) -> None:
        """Launch the helper and wait until it can fork.

        Args:
            size: Side of the pictures in pixels.
            limits: Limits of every rendering.
            target: Backend as ``"module:class"``.
            confined: Whether workers go into the sandbox.

        Raises:
            EngineError: It does not start.
        """
        self.peak = 0
        self._ends: dict[int, int] = {}
        self._given_up: set[int] = set()
        self._rest = b""
        self.control, theirs = socket.socketpair()
        self._errors = nameless_file()
        arguments = {
            "path": [os.path.abspath(entry) for entry in sys.path],
            "package": str(PACKAGE),
            "control": theirs.fileno(),
            "parent": os.getpid(),
            "size": size,
            "limits": asdict(limits),
            "backend": target,
            "confined": confined,
        }
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, json.dumps(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env={**os.environ, **ONE_THREAD, **_BUNDLED_FONTS},
                pass_fds=(theirs.fileno(),),
            )
        except OSError as error:
            self.control.close()
            self._errors.close()
            raise EngineError(f"the render helper does not start: {error}") from error
        finally:
            theirs.close()
        self.pid = self._process.pid
        try:
            self._greet()
        except BaseException as error:
            complaint = self.complaint()
            self.close()
            if isinstance(error, EngineError):
                raise EngineError(f"{error}. {mend(complaint)}") from None
            raise

    def fork(self, number: int, descriptors: list[int]) -> None:
        """Ask for a worker.

        Args:
            number: What it is called from now on; never used before.
            descriptors: Its end of the pipe, and its memory.

        Raises:
            HelperLostError: There is nobody to ask.
        """
        try:
            socket.send_fds(self.control, [REQUEST.pack(FORK, number)], descriptors)
        except OSError:
            raise self._lost() from None

    def kill(self, number: int) -> int:
        """Kill a worker, if it has not ended already.

        Returns:
            Its exit status.

        Raises:
            HelperLostError: The helper has ended, and the worker with it.
        """
        if number not in self._ends:
            try:
                self.control.sendall(REQUEST.pack(KILL, number))
            except OSError:
                raise self._lost() from None
        status = self._wait(number)
        if status is None:
            # The kernel holds it; it will draw nothing any more.
            self._given_up.add(number)
            return -signal.SIGKILL
        return status

    def end_of(self, number: int) -> int:
        """Exit status of a worker whose pipe has closed.

        Raises:
            HelperLostError: The helper has ended, and the worker with it.
        """
        status = self._wait(number)
        return self.kill(number) if status is None else status

    def ended(self) -> set[int]:
        """Numbers of workers that have ended and whose status nobody has asked for.

        Raises:
            HelperLostError: The helper has ended.
        """
        self._listen(0)
        return set(self._ends)

    def close(self) -> int:
        """End the helper and all its workers.

        Returns:
            The exit status of the helper.
        """
        try:
            # Not close() alone: a forked copy of this process may hold the socket, too.
            self.control.shutdown(socket.SHUT_WR)
            while _readable(self.control, _END_SECONDS) and self._receive():
                pass
            self._take_messages()
        except (OSError, EngineError):
            # It is gone already, or has a complaint that no longer matters.
            pass
        self.control.close()
        try:
            status = self._process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._errors.close()
        return status

    def abandon(self) -> None:
        """Let go in a forked copy of the process that owns the helper."""
        self.control.close()
        self._errors.close()
        # Not our child: there is nothing to wait for.
        self._process.returncode = 0

    def complaint(self) -> str:
        """The last lines that the helper and its workers wrote to their standard error."""
        if self._errors.closed:
            return ""
        length = os.fstat(self._errors.fileno()).st_size
        # The offset of the file belongs to the writers as well.
        last = os.pread(self._errors.fileno(), 2000, max(0, length - 2000))
        return last.decode("utf-8", "replace").strip()

    def _greet(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not _readable(self.control, left):
                raise EngineError(f"the render helper was not ready after {START_SECONDS:g} s")
            if not self._receive():
                status = self._process.wait()
                raise EngineError(f"the render helper ends without a word (status {status})")
        self._take_messages()

    def _wait(self, number: int) -> int | None:
        """The status of a worker's end, after a while at most; None if it does not come."""
        deadline = time.monotonic() + _END_SECONDS
        while number not in self._ends:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self._listen(left)
        return self._ends.pop(number)

    def _listen(self, seconds: float) -> None:
        if _readable(self.control, seconds):
            if not self._receive():
                raise self._lost()
            self._take_messages()

    def _receive(self) -> bool:
        try:
            part = self.control.recv(65536)
        except OSError:
            return False
        self._rest += part
        return bool(part)

    def _take_messages(self) -> None:
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "error" in message:
                raise EngineError(f"the render helper is broken: {message['error']}")
            if "ended" in message:
                self.peak = max(self.peak, message["peak"])
                number = message["ended"]
                if number in self._given_up:
                    self._given_up.remove(number)
                else:
                    self._ends[number] = message["status"]

    def _lost(self) -> HelperLostError:
        return HelperLostError(self.close())


def nameless_file() -> IO[bytes]:
    """A file without a name, in memory where the system can: nothing is left behind."""
    if hasattr(os, "memfd_create"):
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        return os.fdopen(os.memfd_create("mmzero-render", flags), "w+b")
    return tempfile.TemporaryFile()


def mend(complaint: str) -> str:
    """What to do about a helper or a worker that does not start.

    Args:
        complaint: What it wrote to its standard error.
    """
    missing = check_system()
    if missing:
        return " ".join(missing)
    return f"It wrote: {complaint}" if complaint else ""


def _readable(control: socket.socket, seconds: float) -> bool:
    # Not select(): it knows file descriptors below 1,024 only.
    poll = select.poll()
    poll.register(control, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
