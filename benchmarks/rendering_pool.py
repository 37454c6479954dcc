"""What the worker pool costs and gives: overhead, start, two workers against one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from benchmarks.rendering_paths import SIZE
from mmzero_env.protocol import RenderJob
from mmzero_env.rendering import Renderer

PLAIN = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8">'
    '<rect width="8" height="8" fill="teal"/></svg>'
)


@dataclass(frozen=True)
class PoolFigures:
    """Figures of one backend's pool, one number a round (or a start).

    Attributes:
        cpu_overhead_ms: CPU time that a picture costs more by a worker than in process.
        wall_overhead_ms: The same in wall time.
        first_picture_seconds: Wall time from a new renderer to its first picture.
        one_worker: Pictures a second of wall time.
        two_workers: The same with two workers.
    """

    cpu_overhead_ms: tuple[float, ...]
    wall_overhead_ms: tuple[float, ...]
    first_picture_seconds: tuple[float, ...]
    one_worker: tuple[float, ...]
    two_workers: tuple[float, ...]


def measure_pool(
    backend: str,
    codes: Sequence[str],
    rounds: int,
    starts: int,
    batch: int,
    tick: Callable[[], object],
) -> PoolFigures:
    """Measure one backend.

    Args:
        backend: Name of the backend.
        codes: Sources that it draws.
        rounds: Repetitions of in process, one worker and two workers, in turn.
        starts: How often to start a pool for its first picture.
        batch: Least number of pictures in one repetition.
        tick: Called ``rounds + starts`` times.
    """
    firsts = []
    for _ in range(starts):
        started = time.perf_counter()
        with Renderer(size=SIZE, workers=1, backend=backend) as renderer:
            _draw(renderer, [PLAIN])
            firsts.append(time.perf_counter() - started)
        tick()
    cpu: list[float] = []
    wall: list[float] = []
    rates: list[tuple[float, float]] = []
    with (
        Renderer(size=SIZE, workers=0, backend=backend) as here,
        Renderer(size=SIZE, workers=1, backend=backend) as one,
        Renderer(size=SIZE, workers=2, backend=backend) as two,
    ):
        for renderer in (here, one, two):
            _draw(renderer, [*codes[:2], PLAIN])
        for turn in range(rounds):
            # Equal codes are drawn once, so every copy gets a comment of its own.
            copies = max(1, -(-batch // len(codes)))
            sources = [f"{code}<!-- {turn} {k} -->" for k in range(copies) for code in codes]
            spent = [_timed(renderer, sources) for renderer in (here, one, two)]
            cpu.append((spent[1][0] - spent[0][0]) / len(sources) * 1000)
            wall.append((spent[1][1] - spent[0][1]) / len(sources) * 1000)
            rates.append((len(sources) / spent[1][1], len(sources) / spent[2][1]))
            tick()
    one_worker, two_workers = zip(*rates, strict=True)
    return PoolFigures(tuple(cpu), tuple(wall), tuple(firsts), one_worker, two_workers)


def _draw(renderer: Renderer, sources: Sequence[str]) -> None:
    jobs = [RenderJob(str(number), source) for number, source in enumerate(sources)]
    for drawing in renderer.render(jobs):
        if drawing.failure is not None:
            raise AssertionError(f"a file that can be drawn was not: {drawing.failure}")


def _timed(renderer: Renderer, sources: Sequence[str]) -> tuple[float, float]:
    """CPU seconds of this process and its workers, and wall seconds."""
    before, started = _cpu(), time.perf_counter()
    _draw(renderer, sources)
    return _cpu() - before, time.perf_counter() - started


def _cpu() -> float:
    """CPU seconds of this process and of everything it started.

    Those of other processes come in clock ticks of 10 ms, hence the long batches.
    """
    total = time.process_time()
    for process in psutil.Process().children(recursive=True):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total
