"""The box around a plotting code: bubblewrap's command line, and one run of it.

Inside there are the interpreter, the standard library, matplotlib with what it needs,
the system's shared libraries, all read-only, and an empty working directory in memory.
There is no network, no other process, no /proc, no environment, no file of a user. The
process is nobody without capabilities, and may start no other.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import select
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mmzero_env.errors import EngineError
from mmzero_env.rendering.figure_binds import package_binds, python_binds
from mmzero_env.rendering.figure_report import READY, longest_report
from mmzero_env.rendering.figure_syscalls import syscall_filter
from mmzero_env.rendering.limits import RenderLimits

START_SECONDS = 60.0
"""The libraries load in a third of a second; this long means a broken machine."""

MAX_FILES = 10_000
"""Files in the working directory; each takes a kilobyte of the kernel's memory."""

_WATCH_SECONDS = 0.05
# Collecting garbage would cost a tenth of the start, and nothing is freed there.
_PROGRAM = """
import gc
gc.disable()
from mmzero_env.rendering.figure_program import main
main()
"""
# Without the package's own __init__, which would import much more.
_INSIDE = "/program/mmzero_env/rendering"
_PROGRAM_FILES = ("figure_program.py", "figure_picture.py")
_WORK_BYTES = 32 * 2**20
_NOBODY = "65534"


@dataclass(frozen=True)
class RunEnd:
    """How one run ended.

    Attributes:
        ready: Whether the libraries were loaded, so that the code ran.
        output: What the code's process sent after that.
        status: Exit status as bubblewrap gives it (128 + n for signal n); None when it
            was killed from here.
        excess: ``"output"`` or ``"files"`` when it was killed for sending more than a report
            can have or for filling its working directory; else empty.
        seconds: Wall time since it was ready.
        complaint: What bubblewrap or the start of the program wrote to standard error.
    """

    ready: bool
    output: bytes
    status: int | None
    excess: str
    seconds: float
    complaint: str


class FigureBox:
    """Prepared once, then opened afresh for every code; safe to use from threads."""

    def __init__(self, bwrap: str) -> None:
        """Find what to bind, compile the libraries, list the fonts.

        Args:
            bwrap: Path of bubblewrap.

        Raises:
            UserError: The libraries are not installed in a way that can be bound.
            EngineError: The sandbox does not run; the message is its own.
        """
        self._bwrap = bwrap
        self._filter = syscall_filter(platform.machine())
        # The object removes the directory when the interpreter ends.
        self._store = tempfile.TemporaryDirectory(prefix="mmzero-figures-")
        store = Path(self._store.name)
        for name in ("bytecode", "settings", "empty"):
            (store / name).mkdir()
        self._binds = [*python_binds(store / "empty"), *package_binds()]
        self._prepare(store)
        fonts = next((store / "settings").glob("fontlist-*.json"), None)
        if fonts is None:
            raise EngineError("matplotlib wrote no list of fonts.")
        self._binds += ["--ro-bind", str(store / "bytecode"), "/bytecode"]
        self._binds += ["--ro-bind", str(fonts), f"/tmp/.matplotlib/{fonts.name}"]
        # Where Pillow looks for fonts, and where codes expect them. Bound after the list
        # was made: matplotlib has them already.
        dejavu = self._binds[self._binds.index("/packages/matplotlib") - 1]
        dejavu += "/mpl-data/fonts/ttf"
        self._binds += ["--ro-bind", dejavu, "/usr/share/fonts/truetype/dejavu"]

    def run(self, code: bytes, size: int, limits: RenderLimits) -> RunEnd:
        """Run one code in a sandbox of its own and end all of it.

        Args:
            code: UTF-8.
            size: Side of the picture in pixels.
            limits: CPU time, memory, wall time, aspect ratio.

        Raises:
            EngineError: The operating system refuses what a sandbox takes.
        """
        try:
            with ExitStack() as descriptors:
                errors = os.memfd_create("mmzero-errors")
                descriptors.callback(os.close, errors)
                run = self._start(code, size, limits, errors, descriptors)
                try:
                    run.follow(longest_report(size), limits.figure_wall_seconds)
                finally:
                    run.end()
                said = b"" if run.ready_at else os.pread(errors, 2000, 0)
        except OSError as error:
            raise EngineError(f"a sandbox cannot be run: {error}") from error
        return run.summary(said.decode("utf-8", "replace").strip())

    def _start(
        self, code: bytes, size: int, limits: RenderLimits, errors: int, descriptors: ExitStack
    ) -> _Run:
        """Launch a sandbox; what it leaves open here is closed with ``descriptors``."""
        with ExitStack() as theirs:

            def pipe() -> tuple[int, int]:
                reader, writer = os.pipe()
                descriptors.callback(os.close, reader)
                theirs.callback(os.close, writer)
                return reader, writer

            (report, report_end), (info, info_end) = pipe(), pipe()
            source, seccomp = _sealed(code), _sealed(self._filter)
            theirs.callback(os.close, source)
            theirs.callback(os.close, seccomp)
            arguments = {
                "prepare": False,
                "pipe": report_end,
                "size": size,
                "memory_mb": limits.memory_mb,
                "cpu_seconds": limits.figure_cpu_seconds,
                "max_aspect": limits.max_aspect,
            }
            options = ["--seccomp", str(seccomp), "--info-fd", str(info_end)]
            process = subprocess.Popen(
                self._command(options, self._binds, arguments),
                stdin=source,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={},
                pass_fds=(seccomp, report_end, info_end),
            )
        return _Run(process, info, report)

    def _prepare(self, store: Path) -> None:
        """Let the program write bytecode and the list of fonts; no code of a model runs."""
        binds = [*self._binds, "--bind", str(store / "bytecode"), "/bytecode"]
        binds += ["--bind", str(store / "settings"), "/tmp/.matplotlib"]
        try:
            done = subprocess.run(
                self._command([], binds, {"prepare": True}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={},
                timeout=5 * START_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineError(str(error)) from error
        if done.returncode:
            raise EngineError(done.stderr.decode("utf-8", "replace")[-500:].strip())

    def _command(self, options: list[str], binds: list[str], arguments: dict) -> list[str]:
        flags = (
            "--unshare-all --unshare-user --die-with-parent --new-session --cap-drop ALL "
            f"--uid {_NOBODY} --gid {_NOBODY} --hostname figure --clearenv"
        )
        environment = {
            "HOME": "/tmp",
            "LANG": "C.UTF-8",
            "LD_LIBRARY_PATH": "/python/lib",
            "MPLBACKEND": "agg",
            "MPLCONFIGDIR": "/tmp/.matplotlib",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PATH": "/python/bin",
            "PYTHONHASHSEED": "0",
            "PYTHONPATH": "/program:/packages",
            "TZ": "UTC",
        }
        command = [self._bwrap, *flags.split(), *options]
        for name, value in environment.items():
            command += ["--setenv", name, value]
        command += ["--size", str(_WORK_BYTES), "--tmpfs", "/tmp"]
        command += ["--dev-bind", "/dev/null", "/dev/null", *binds]
        for name in _PROGRAM_FILES:
            command += ["--ro-bind", str(Path(__file__).with_name(name)), f"{_INSIDE}/{name}"]
        # The root is memory as well, and would take files without end.
        command += ["--remount-ro", "/", "--chdir", "/tmp"]
        # Without docstrings matplotlib loads in two thirds of the time. Neither -E nor
        # -I: they would drop the hash seed.
        python = "/python/bin/python -s -S -P -OO -X pycache_prefix=/bytecode -c"
        return [*command, "--", *python.split(), _PROGRAM, json.dumps(arguments)]


class _Run:
    """One sandbox while it lives."""

    def __init__(self, process: subprocess.Popen, info: int, report: int) -> None:
        self._process = process
        self._info = info
        self._report = report
        self._first: int | None = None
        self._first_handle: int | None = None
        self._work: int | None = None
        self._output = bytearray()
        self._status: int | None = None
        self._excess = ""
        self.ready_at: float | None = None

    def follow(self, longest: int, wall_seconds: float) -> None:
        """Read what it sends until it ends or has to be ended."""
        deadline = time.monotonic() + START_SECONDS
        poll = select.poll()
        poll.register(self._report, select.POLLIN)
        poll.register(self._info, select.POLLIN)
        while not self._excess:
            left = deadline - time.monotonic()
            if left <= 0:
                return
            if self._work is not None:
                left = min(left, _WATCH_SECONDS)
                room = os.fstatvfs(self._work)
                if room.f_files - room.f_ffree > MAX_FILES:
                    self._excess = "files"
            readable = [descriptor for descriptor, _ in poll.poll(left * 1000)]
            if self._info in readable:
                poll.unregister(self._info)
                self._meet(os.read(self._info, 4096))
            elif self._report in readable:
                piece = os.read(self._report, 2**20)
                if not piece:
                    break
                self._output += piece
                if len(self._output) > longest:
                    self._excess = "output"
                if self.ready_at is None:
                    self.ready_at = time.monotonic()
                    deadline = self.ready_at + wall_seconds
                    self._watch()
        else:
            return
        try:
            self._status = self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass

    def _meet(self, told: bytes) -> None:
        """Get hold of the first process of the namespace, whose end is the end of all."""
        match = re.search(rb'"child-pid": *(\d+)', told)
        if match is None:
            return
        self._first = int(match[1])
        try:
            self._first_handle = os.pidfd_open(self._first)
        except ProcessLookupError:
            pass

    def _watch(self) -> None:
        """Keep the working directory in sight: nothing in the kernel caps its files."""
        try:
            self._work = os.open(f"/proc/{self._first}/root/tmp", os.O_PATH | os.O_DIRECTORY)
        except (FileNotFoundError, ProcessLookupError):
            # It is over already.
            pass

    def end(self) -> None:
        """Kill all that is left, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        if self._work is not None:
            os.close(self._work)
        if self._first_handle is not None:
            try:
                signal.pidfd_send_signal(self._first_handle, signal.SIGKILL)
            except ProcessLookupError:
                pass
            gone = select.poll()
            gone.register(self._first_handle, select.POLLIN)
            gone.poll()
            os.close(self._first_handle)
        if self._first is not None:
            try:
                # It falls to us where orphans do (the first process of a container), and
                # would stay as a zombie there.
                os.waitpid(self._first, 0)
            except ChildProcessError:
                pass

    def summary(self, complaint: str) -> RunEnd:
        """What became of it."""
        return RunEnd(
            ready=self.ready_at is not None,
            output=bytes(self._output[len(READY) :]),
            status=self._status,
            excess=self._excess,
            seconds=time.monotonic() - self.ready_at if self.ready_at else 0.0,
            complaint=complaint,
        )


def _sealed(content: bytes) -> int:
    """A file in memory that holds the content and can never change; its descriptor."""
    descriptor = os.memfd_create("mmzero-figure", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor
