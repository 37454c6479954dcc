"""Python plotting code becomes a picture, inside bubblewrap and nowhere else.

    missing = missing_for_figures()
    drawing = FigureSandbox(size=448, limits=RenderLimits()).draw(code)

Reasons, all of stage ``"render"``:

======================= ==============================================================
``too_large``           more bytes of code than allowed
``bad_encoding``        characters that cannot stand in a file of source
``python_syntax``       not Python; the line and what is wrong there
``python_error``        an exception; its line, type and message
``module_unavailable``  an import of something that is not there
``early_exit``          the code ended the interpreter
``no_figure``           it ran and left no picture
``bad_picture``         the image file that it saved cannot be read
``picture_too_large``   its image has too many pixels
``extreme_aspect``      a picture too long and thin
``render_timeout``      the CPU time is used up, or twice the wall time
``render_memory``       the memory is used up
``too_many_files``      it fills its working directory
``render_crash``        the interpreter crashed, twice
``bad_output``          the code wrote into the channel of the picture
======================= ==============================================================
"""

from __future__ import annotations

import functools
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from mmzero_env.errors import EngineError, UserError
from mmzero_env.protocol import Drawing, Failure
from mmzero_env.rendering.figure_report import read_report
from mmzero_env.rendering.figure_syscalls import ARCHITECTURES
from mmzero_env.rendering.limits import RenderLimits

if TYPE_CHECKING:
    from mmzero_env.rendering.figure_box import FigureBox, RunEnd

OLDEST_BUBBLEWRAP = (0, 7)
"""The first version that can cap the size of the working directory (``--size``)."""

_INSTALL = "apt-get install bubblewrap (Debian, Ubuntu) or dnf install bubblewrap (Fedora)"
# Statuses of a code whose CPU time ran out; bubblewrap adds 128 to a signal's number.
_CPU_SIGNALS = (128 + 24, 128 + 27)  # SIGXCPU, SIGPROF on Linux
_KILLED = 128 + 9
_TRIAL = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\n"


class FigureSandbox:
    """Draws plotting codes, each in a sandbox of its own; safe to use from threads.

    Attributes:
        size: Side of the square pictures in pixels.
        limits: Limits of one drawing.
    """

    def __init__(self, size: int, limits: RenderLimits) -> None:
        """Check that the sandbox runs here; the first time takes some seconds.

        Args:
            size: Side of the pictures in pixels, 1 to 4096.
            limits: ``figure_cpu_seconds``, ``figure_wall_seconds``, ``memory_mb``,
                ``max_bytes`` and ``max_aspect``.

        Raises:
            UserError: The size is out of range, or something is missing here.
        """
        if not 1 <= size <= 4096:
            raise UserError(f"size must be 1 to 4096 pixels, got {size}.")
        found = _box_or_reason()
        if isinstance(found, str):
            raise UserError(found)
        self.size = size
        self.limits = limits
        self._box = found

    def draw(self, code: str) -> Drawing:
        """Run one plotting code and take its picture.

        An open matplotlib figure is the picture (the current one of several, with the
        flag ``several_figures``), else the newest image file that the code saved, else a
        global variable that is a PIL image.

        Args:
            code: Python source, already cut out of its completion.

        Returns:
            The picture, uint8 (size, size, 3) on white, aspect ratio kept, centred; or
            a failure, see the module's table.

        Raises:
            EngineError: The sandbox itself fails, twice.
        """
        if len(code) > self.limits.max_bytes:
            return self._too_large(f"{len(code)} characters")
        try:
            data = code.encode("utf-8")
        except UnicodeEncodeError as error:
            return _failed("bad_encoding", f"character {error.start} is a lone surrogate")
        if len(data) > self.limits.max_bytes:
            return self._too_large(f"{len(data)} bytes")
        end = self._box.run(data, self.size, self.limits)
        if self._doubtful(end):
            end = self._box.run(data, self.size, self.limits)
        return self._verdict(end)

    @staticmethod
    def _doubtful(end: RunEnd) -> bool:
        """Whether the machine may be to blame, so that it counts only if it happens again."""
        if not end.ready:
            return True
        if end.excess:
            return False
        return end.status is None or (end.status > 128 and end.status not in _CPU_SIGNALS)

    def _verdict(self, end: RunEnd) -> Drawing:
        if not end.ready:
            raise EngineError(
                f"the sandbox for figures did not start (status {end.status}). {end.complaint}"
            )
        if end.excess == "files":
            return _failed("too_many_files", "the code fills its working directory with files")
        if end.excess:
            return _failed("bad_output", "the code wrote into the channel of the picture")
        if end.status is None:
            detail = f"no picture after {self.limits.figure_wall_seconds:g} s, twice"
            return _failed("render_timeout", detail)
        # SIGKILL is the kernel's last word to a code that ignores the other two.
        allowed = self.limits.figure_cpu_seconds
        if end.status in _CPU_SIGNALS or (end.status == _KILLED and end.seconds >= allowed):
            detail = f"the CPU time allowed for one code, {allowed:g} s, is used up"
            return _failed("render_timeout", detail)
        if end.status > 128:
            detail = f"the interpreter ended by signal {end.status - 128}, twice"
            return _failed("render_crash", detail)
        if end.status or not end.output:
            return _failed("early_exit", f"the code ended the interpreter, status {end.status}")
        return read_report(end.output, self.size)

    def _too_large(self, length: str) -> Drawing:
        return _failed("too_large", f"{length}, at most {self.limits.max_bytes} bytes")


def missing_for_figures() -> str | None:
    """Say why plotting code cannot be drawn here, after really trying it once.

    Returns:
        None if it can; else one sentence that says what is missing and how to mend it.
        The answer is kept for the life of the process.
    """
    found = _box_or_reason()
    return found if isinstance(found, str) else None


_lock = threading.Lock()


def _box_or_reason() -> FigureBox | str:
    """What all sandboxes of this process share: the box, or why there is none."""
    with _lock:
        return _look_once()


@functools.cache
def _look_once() -> FigureBox | str:
    return look()


def look() -> FigureBox | str:
    """Find what the sandbox needs and try it.

    Returns:
        The box that draws, or one sentence that says what is missing.
    """
    if not sys.platform.startswith("linux"):
        return (
            "Python figures need bubblewrap, which exists on Linux only; on this system use "
            "SVG, or Linux in a virtual machine."
        )
    if platform.machine() not in ARCHITECTURES:
        return (
            f"Python figures need a processor of type {' or '.join(ARCHITECTURES)}, and this "
            f"one is {platform.machine()}; use SVG here."
        )
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return f"Python figures need bubblewrap, which is not installed: {_INSTALL}."
    version = _version_of(bwrap)
    if version < OLDEST_BUBBLEWRAP:
        number = ".".join(map(str, version)) or "of an unknown version"
        return (
            f"Python figures need bubblewrap 0.7 or newer, and {bwrap} is {number}: install it "
            "from a newer release of the system, or use SVG."
        )
    if importlib.util.find_spec("matplotlib") is None:
        return (
            "Python figures need matplotlib, which is not installed: "
            "pip install 'mmzero-env[figures]'."
        )
    # Imports what exists on Linux only, and where matplotlib is.
    from mmzero_env.rendering.figure_box import FigureBox

    try:
        box = FigureBox(bwrap)
        end = box.run(_TRIAL.encode(), 64, RenderLimits())
        if not end.ready:
            raise EngineError(end.complaint or f"it ended with status {end.status}")
        trial = read_report(end.output, 64)
        if trial.failure is not None:
            raise EngineError(trial.failure.detail)
    except UserError as error:
        return f"Python figures cannot be drawn: {error}"
    except EngineError as error:
        return _explain(str(error))
    return box


def _explain(complaint: str) -> str:
    """Why the trial failed, from what bubblewrap or the program wrote."""
    said = complaint.strip().splitlines()[-1] if complaint.strip() else "no reason given"
    if re.search(r"namespace|uid map|RTM_NEWADDR|Operation not permitted|pivot_root", complaint):
        return (
            "Python figures need user namespaces, which this system or container forbids "
            f"({said}): allow them (sysctl kernel.unprivileged_userns_clone=1, or "
            "kernel.apparmor_restrict_unprivileged_userns=0 on Ubuntu 24.04; in Docker "
            "--security-opt seccomp=unconfined), or use SVG."
        )
    return f"Python figures cannot be drawn, because a trial in the sandbox failed: {said}."


def _version_of(bwrap: str) -> tuple[int, ...]:
    try:
        done = subprocess.run([bwrap, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(int(part) for part in re.findall(r"\d+", done.stdout))


def _failed(reason: str, detail: str) -> Drawing:
    return Drawing(None, Failure("render", reason, detail))
