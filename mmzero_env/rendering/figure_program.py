"""What runs inside the sandbox: one plotting code, and the picture that it made.

Only this file and :mod:`.figure_picture` are bound into the sandbox, so they import the
standard library and the plotting libraries alone. It writes to one pipe: the byte ``R``
when the libraries are loaded, then a report: its length (4 bytes, big-endian), JSON with
``reason``, ``detail`` and ``flags``, and without a reason the picture as size x size x 3
bytes, row by row.

The code runs in this very process and may do anything to it, write a report of its own
included. Nothing here guards the machine; it keeps an honest code to its limits and tells
it what went wrong.
"""

from __future__ import annotations

import gc
import importlib
import json
import mmap
import os
import random
import resource
import signal
import sys
import time
import traceback
import types

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from mmzero_env.rendering.figure_picture import (
    MAX_PIXELS,
    Unusable,
    draw_figure,
    find_picture,
    said,
    text_of,
)

NAME = "figure.py"
"""Name of the code in its own tracebacks."""

THERE = "matplotlib, numpy, PIL and the standard library"

# Imported by codes, and not by matplotlib at its start.
_USUAL = (
    "PIL.ImageDraw PIL.ImageFont PIL.ImageFilter PIL.ImageOps PIL.ImageColor PIL.ImageChops "
    "matplotlib.animation matplotlib.dates matplotlib.gridspec matplotlib.patheffects "
    "matplotlib.sankey matplotlib.tri matplotlib.widgets mpl_toolkits.axes_grid1 "
    "mpl_toolkits.mplot3d numpy.fft numpy.linalg numpy.ma numpy.polynomial numpy.random "
    "calendar collections csv dataclasses datetime decimal enum fractions heapq io "
    "itertools math pathlib statistics string tempfile textwrap typing"
).split()
_MEBIBYTE = 2**20
_FILE_BYTES = 32 * _MEBIBYTE
_OPEN_FILES = 64
# Characters; each takes up to 12 bytes of a header of at most 4096.
_MAX_DETAIL = 320
# Kept back for writing the report when the code has used up its memory.
_RESERVE = 24 * _MEBIBYTE


def main() -> None:
    """Load, run the code from standard input, write the report, end."""
    arguments = json.loads(sys.argv[1])
    if arguments["prepare"]:
        _prepare()
        return
    pipe = arguments["pipe"]
    with os.fdopen(0, "rb", closefd=False) as file:
        code = file.read().decode()
    nowhere = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    _settle()
    gc.freeze()
    gc.enable()
    os.write(pipe, b"R")
    limit = _restrict(arguments["memory_mb"], arguments["cpu_seconds"])
    flags: list[str] = []
    pixels = b""
    report: dict = {"flags": flags}
    try:
        pixels = picture(code, arguments["size"], arguments["max_aspect"], flags).tobytes()
    except Unusable as unusable:
        report.update(reason=unusable.reason, detail=unusable.detail[:_MAX_DETAIL])
    except MemoryError:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        detail = f"the memory allowed for one code, {arguments['memory_mb']} MiB, is used up"
        report.update(reason="render_memory", detail=detail)
    header = json.dumps(report).encode()
    left = memoryview(len(header).to_bytes(4, "big") + header + pixels)
    while left:
        left = left[os.write(pipe, left) :]
    # No finalisers: the code may have left some that never end.
    os._exit(0)


def picture(code: str, size: int, max_aspect: float, flags: list[str]) -> Image.Image:
    """Run one code and find the picture that it made.

    Args:
        code: Python source.
        size: Side of the picture in pixels.
        max_aspect: Longer side over shorter side, at most.
        flags: Receives names of what was settled for the code.

    Returns:
        RGB, size x size, on white.

    Raises:
        Unusable: There is no picture, for a reason the code can mend.
        MemoryError: The memory allowed is used up.
    """
    try:
        # Asserts of the code stay, although the libraries run without theirs.
        compiled = compile(code, NAME, "exec", dont_inherit=True, optimize=0)
    except MemoryError:
        # What the parser says to nesting that is too deep for it.
        raise Unusable("python_syntax", "expressions are nested too deep") from None
    except (SyntaxError, ValueError, RecursionError, OverflowError) as error:
        raise Unusable("python_syntax", _syntax(error)) from None
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.argv = [NAME]
    try:
        exec(compiled, vars(module))
    except MemoryError:
        raise
    except SystemExit as leave:
        if leave.code not in (None, 0):
            detail = f"the code ended itself with sys.exit({text_of(leave.code)})"
            raise Unusable("early_exit", detail) from None
    except BaseException as error:
        raise _blame(error, code) from None
    try:
        return find_picture(vars(module), size, max_aspect, flags)
    except (MemoryError, Unusable):
        raise
    except BaseException as error:
        detail = f"when the figure is drawn: {said(error)}"
        raise Unusable("python_error", detail) from None


def _syntax(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        where = f"line {error.lineno}: " if error.lineno else ""
        return f"{where}{error.msg}"
    return said(error)


def _blame(error: BaseException, code: str) -> Unusable:
    """What an exception of the code says to its author."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        detail = f"there is no module {text_of(error.name)!r}; there are {THERE}"
        return Unusable("module_unavailable", detail)
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == NAME]
    if not lines:
        return Unusable("python_error", said(error))
    source = code.splitlines()[lines[-1] - 1 : lines[-1]]
    quoted = f" ({source[0].strip()[:80]})" if source else ""
    return Unusable("python_error", f"line {lines[-1]}: {said(error)}{quoted}")


def _settle() -> None:
    """Take chance and waiting out of the code's surroundings."""
    random.seed(0)
    np.random.seed(0)
    fresh = np.random.default_rng
    vars(np.random)["default_rng"] = lambda seed=None: fresh(0 if seed is None else seed)
    vars(time)["sleep"] = lambda seconds: None
    vars(plt)["show"] = lambda *arguments, **options: None
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS


def _restrict(memory_mb: int, cpu_seconds: float) -> int:
    """Set the limits of this process; returns that of the address space in bytes.

    The hard ones cannot be raised again: that takes a capability outside the sandbox.
    """
    space = _mapped() + memory_mb * _MEBIBYTE
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: _FILE_BYTES,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for name, limit in limits.items():
        resource.setrlimit(name, (limit, limit))
    resource.setrlimit(resource.RLIMIT_AS, (space, space + _RESERVE))
    # Whole seconds only; it catches a code that disarms the finer timer below. SIGKILL
    # follows one second after SIGXCPU, which can be ignored.
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(usage.ru_utime + usage.ru_stime + cpu_seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
    return space + _RESERVE


def _mapped() -> int:
    """Bytes of address space in use, to the mebibyte, without /proc: by trying limits."""
    low, high = 0, 2**22
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            resource.setrlimit(resource.RLIMIT_AS, (middle * _MEBIBYTE, hard))
            mmap.mmap(-1, mmap.PAGESIZE).close()
            high = middle
        except (OSError, MemoryError):
            low = middle
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    return high * _MEBIBYTE


def _prepare() -> None:
    """Leave bytecode of what codes import, beside the list of fonts that is there now.

    The imports above wrote most of it; drawing text loads what matplotlib imports late.
    """
    for name in _USUAL:
        importlib.import_module(name)
    Image.init()
    figure, axes = plt.subplots()
    axes.bar(["a", "b"], [1, 2], label="$x^2$")
    axes.set_title("Title")
    axes.legend()
    draw_figure(figure, 64, 100.0)
