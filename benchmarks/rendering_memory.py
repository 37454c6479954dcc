"""Most memory that a render worker ever holds, over one part of the corpus.

    python -m benchmarks.rendering_memory cairosvg hostile [LIMIT]

A program of its own: the peak that the system keeps of ended child processes never goes
down again, and on Linux it starts from what the parent held.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

import psutil

from benchmarks import svg_corpus
from benchmarks.peak_memory import peak_mib
from mmzero_env.protocol import RenderJob
from mmzero_env.rendering import Renderer

SIZE = 448


@dataclass(frozen=True)
class MemoryFigures:
    """What one pass over the files led to.

    Attributes:
        peak_mib: Largest resident memory of any worker, in MiB.
        outcomes: Number of files by the reason of their failure, or ``"drawn"``.
    """

    peak_mib: float
    outcomes: dict[str, int]


def measure_memory(backend: str, limit: int | None = None, kind: str = "hostile") -> MemoryFigures:
    """Draw files in a fresh program and read its workers' peak.

    Args:
        backend: Name of the backend.
        limit: Only so many files; all when None.
        kind: Part of the corpus.

    Raises:
        RuntimeError: The program failed; the message holds what it wrote.
    """
    command = [sys.executable, "-m", "benchmarks.rendering_memory", backend, kind]
    command += [] if limit is None else [str(limit)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"memory of {backend} was not measured: {done.stderr[-2000:]}")
    return MemoryFigures(**json.loads(done.stdout))


def main() -> None:
    """Draw, read the peaks, print JSON."""
    backend, kind = sys.argv[1:3]
    limit = int(sys.argv[3]) if len(sys.argv) > 3 else None
    jobs = [RenderJob(name, code) for name, code in svg_corpus.read(kind, limit).items()]
    with Renderer(size=SIZE, workers=1, backend=backend) as renderer:
        drawings = renderer.render(jobs)
        # A worker that a sandbox holds may end without its parent hearing of its peak,
        # so those still alive are asked directly.
        alive = max((_high_water(child) for child in psutil.Process().children(True)), default=0)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    # The unit is bytes on macOS and KiB elsewhere.
    ended_kib = ended / 1024 if sys.platform == "darwin" else ended
    outcomes = Counter(
        "drawn" if drawing.failure is None else drawing.failure.reason for drawing in drawings
    )
    figures = {"peak_mib": max(alive, ended_kib) / 1024, "outcomes": dict(outcomes)}
    print(json.dumps(figures))


def _high_water(process: psutil.Process) -> float:
    """Peak resident memory of a living process in KiB; what it holds now off Linux."""
    try:
        return 1024 * peak_mib(process.pid)
    except OSError:
        try:
            return process.memory_info().rss / 1024
        except psutil.Error:
            return 0.0


if __name__ == "__main__":
    main()
