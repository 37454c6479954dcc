"""The helper process of a renderer: imports what drawing needs, once, and forks workers.

A worker that is forked from here is ready in milliseconds; a fresh Python would import
for a third of a second. Forking is safe because this process has a single thread, which
is checked.

Why not the fork server of multiprocessing: it, and every child of it, imports the main
script of the parent first and with it whatever a training script imports; and it does
not report how a child ended beyond a closed pipe. The whole of it is the loop below.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import struct
import sys
import traceback
from multiprocessing.connection import Connection

from mmzero_env.errors import EngineError
from mmzero_env.rendering import seccomp
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.sandbox import die_with_parent, leave_network
from mmzero_env.rendering.worker import Studio, work

REQUEST = struct.Struct("=cI")
"""What the parent asks for: a letter and the number of a worker."""

FORK, KILL = b"F", b"K"
"""Fork a worker (two file descriptors come along: its pipe, its memory); kill one."""

_LOOK_FOR_PARENT = 1.0
"""Seconds between two looks whether the parent is alive: a forked copy of it may hold
the other end of our socket open, so that its end does not show there."""

# getrusage(2): bytes on macOS, kilobytes elsewhere.
_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024


def main(arguments: dict) -> None:
    """Serve until the parent closes the socket or ends; then no worker is left.

    Args:
        arguments: ``control`` (file descriptor of a socket), ``parent`` (process id),
            ``size``, ``limits`` (the fields of :class:`RenderLimits`), ``backend``
            (``"module:class"``) and ``confined`` (bool).
    """
    # The parent decides when we stop; Ctrl-C in its terminal reaches us as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Kill, do not run a handler: Python would wait for a long call into cairo to end.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    control = socket.socket(fileno=arguments["control"])
    try:
        studio = Studio(
            arguments["size"],
            RenderLimits(**arguments["limits"]),
            arguments["backend"],
            arguments["confined"],
        )
        _check_threads()
    except Exception as error:
        _tell(control, {"error": f"{type(error).__name__}: {error}"[:2000]})
        return
    network = None
    if arguments["confined"]:
        network = leave_network()
        # Loaded here, the library is there after every fork.
        seccomp.unavailable()
    # Workers share these objects' pages as long as nobody writes to them.
    gc.collect()
    gc.freeze()
    _Zygote(control, arguments["parent"], studio, network).serve()
    # Nothing is left to clean up, and taking Python down would cost the parent time.
    os._exit(0)


class _Zygote:
    def __init__(
        self, control: socket.socket, parent: int, studio: Studio, network: str | None
    ) -> None:
        self._control = control
        self._parent = parent
        self._studio = studio
        self._network = network
        # Number -> process id, of workers that were not waited for: the id is their own.
        self._workers: dict[int, int] = {}
        self._woken, self._wake = os.pipe()
        for end in (self._woken, self._wake):
            os.set_blocking(end, False)

    def serve(self) -> None:
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake)
        _tell(self._control, {"pid": os.getpid()})
        try:
            while os.getppid() == self._parent:
                ready, _, _ = select.select([self._control, self._woken], [], [], _LOOK_FOR_PARENT)
                if self._woken in ready:
                    os.read(self._woken, 512)
                    self._reap()
                if self._control in ready and not self._obey():
                    break
        except OSError:
            # The parent has gone.
            pass
        finally:
            for pid in self._workers.values():
                os.kill(pid, signal.SIGKILL)
            self._reap(0)

    def _obey(self) -> bool:
        """Do what the parent asks; False when it has closed the socket."""
        request = b""
        descriptors: list[int] = []
        while len(request) < REQUEST.size:
            part, came, _, _ = socket.recv_fds(self._control, REQUEST.size - len(request), 2)
            descriptors += came
            if not part:
                return False
            request += part
        order, number = REQUEST.unpack(request)
        if order == FORK:
            self._fork(number, *descriptors)
        elif order == KILL and number in self._workers:
            os.kill(self._workers[number], signal.SIGKILL)
        return True

    def _fork(self, number: int, pipe: int, memory: int) -> None:
        zygote = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            _tell(self._control, {"error": f"a render worker does not start: {error}"})
            return
        finally:
            if os.getpid() == zygote:
                os.close(pipe)
                os.close(memory)
        if pid:
            self._workers[number] = pid
            return
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent(zygote)
            self._control.close()
            os.close(self._woken)
            os.close(self._wake)
            work(self._studio, Connection(pipe), memory, self._network)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            # Never back into the loop of the parent.
            os._exit(status)

    def _reap(self, flags: int = os.WNOHANG) -> None:
        """Tell the parent about every worker that has ended."""
        numbers = {pid: number for number, pid in self._workers.items()}
        while self._workers:
            pid, status, usage = os.wait4(-1, flags)
            if pid == 0:
                return
            number = numbers[pid]
            del self._workers[number]
            end = {
                "ended": number,
                "status": os.waitstatus_to_exitcode(status),
                "peak": usage.ru_maxrss * _PEAK_UNIT,
            }
            # A parent that has gone shows in the loop; the others still have to be reaped.
            with contextlib.suppress(OSError):
                _tell(self._control, end)


def _check_threads() -> None:
    """A fork copies one thread and the locks of all others, held for ever."""
    try:
        threads = len(os.listdir("/proc/self/task"))
    except OSError:
        # Only Linux shows them there.
        return
    if threads > 1:
        raise EngineError(
            f"importing the backend has started {threads - 1} threads, so no worker can be "
            "forked; import what starts them in the backend's constructor, without fork_safe."
        )


def _tell(control: socket.socket, message: dict) -> None:
    control.sendall(json.dumps(message).encode() + b"\n")
