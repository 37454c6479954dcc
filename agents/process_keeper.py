"""Programs that never outlive whoever started them.

A keeper, this file run as a script, stands between us and a long-running program:

    python process_keeper.py GRACE_SECONDS COMMAND…

It starts the command in a process group of its own and waits for one of two things. When the
command ends, it ends what is left of the group and exits with the command's code. When we ask
it to, or are gone however that came about, it asks the group to end, waits for the grace period,
and kills the rest. It touches no other process.

The script uses the standard library alone, since any Python may run it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_POLL = 0.1  # Seconds between two looks at the command.


class KeptProcess:
    """A program and its descendants, in a process group that ends with this process.

    Args:
        command: Program and arguments.
        log: File that its standard output and error are appended to.
        env: Its whole environment.
        grace: Seconds between asking it to end and killing it.
        cwd: Folder that it starts in; None is that of this process.

    Raises:
        OSError: If the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str],
        grace: float = 15.0,
        cwd: Path | None = None,
    ) -> None:
        """See the class."""
        self._grace = grace
        self._lock = threading.Lock()
        with log.open("ab") as output:
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we end it.
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", __file__, str(grace), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline().split(maxsplit=1)
        if len(said) != 2 or said[0] != b"pid":
            self._keeper.wait()
            reason = said[1].decode(errors="replace").strip() if len(said) == 2 else "no answer"
            raise OSError(f"{command[0]} could not be started: {reason}")
        self.pid = int(said[1])
        """Process id of the program, which is the id of its group, too."""

    @property
    def returncode(self) -> int | None:
        """Its exit code once all of it has ended, minus the signal that ended it, else None."""
        code = self._keeper.poll()
        return code if code is None or code <= 128 else 128 - code

    def stop(self) -> None:
        """End it and everything it started; returns when all of it is gone. Safe to repeat."""
        with self._lock:
            if self._keeper.stdin is not None:
                self._keeper.stdin.close()
            if self._keeper.poll() is None:
                # A process that was forked off us may hold the other end of its input open.
                self._keeper.terminate()
            try:
                self._keeper.wait(self._grace + 10)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)
                self._keeper.kill()
                self._keeper.wait()
            if self._keeper.stdout is not None:
                self._keeper.stdout.close()

    def kill(self) -> None:
        """Kill the program itself at once, as a fault would. For tests."""
        if self._keeper.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self._keeper.wait()


def _main(grace: float, command: Sequence[str]) -> int:
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
    keeper, starter = os.getpid(), os.getppid()
    try:
        # This process has one thread, so code between fork and exec is safe here. It covers
        # the death of the keeper itself, on Linux.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            process_group=0,
            preexec_fn=(lambda: _die_with(keeper)) if sys.platform == "linux" else None,
        )
    except OSError as error:
        print("failed", error, flush=True)
        return 127
    print("pid", child.pid, flush=True)
    while not _ended(child) and not stopping.is_set() and os.getppid() == starter:
        readable, _, _ = select.select([sys.stdin], [], [], _POLL)
        if readable and not os.read(sys.stdin.fileno(), 1):
            break
    if not _ended(child):
        _signal_group(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while not _ended(child) and time.monotonic() < deadline:
            time.sleep(_POLL)
    # The leader is reaped only after this, so the group's id belongs to nobody else yet.
    _signal_group(child.pid, signal.SIGKILL)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _die_with(parent: int) -> None:
    libc: Any = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended; where that can be seen without reaping, its id stays taken."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return child.poll() is not None
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, child.pid, options) is not None


def _signal_group(group: int, number: int) -> None:
    # A group of zombies alone counts as no group, or as not permitted, depending on the system.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(_main(float(sys.argv[1]), sys.argv[2:]))
