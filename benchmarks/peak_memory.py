"""The most memory that a process ever held."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_mib(pid: int | None = None) -> float:
    """Peak resident memory in MiB.

    On Linux it is ``VmHWM`` of proc(5), which begins anew when a program starts. getrusage(2)
    begins with what the process held that started it, so that a small program of a large parent
    would look large.

    Args:
        pid: Of another living process; None is this one.

    Raises:
        OSError: If there is no such process, or, away from Linux, another one is asked for.
    """
    status = Path(f"/proc/{'self' if pid is None else pid}/status")
    if sys.platform.startswith("linux"):
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
        raise OSError(f"{status} names no peak: the process has ended")
    if pid is not None:
        raise OSError("the peak of another process is known on Linux only")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The unit is bytes on macOS and KiB elsewhere.
    return peak / 1024 / (1024 if sys.platform == "darwin" else 1)
