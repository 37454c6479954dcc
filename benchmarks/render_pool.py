"""Our worker pool, pebble's and a plain call side by side: what does a picture cost?

    python -m benchmarks.render_pool                 # about two minutes
    python -m benchmarks.render_pool --quick         # under half a minute

Every way runs the same function on the same codes, round by round in turn; CPU time is
that of all processes together (Linux only). Tasks: a code that the guard refuses (nothing
comes back), a blank picture of 602 KB, a chart at 448 px. Pebble is optional: pip install pebble.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import importlib
import importlib.util
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks import script
from benchmarks.findings import Findings, Ratio, Spread, Table
from mmzero_env.protocol import Image, RenderJob
from mmzero_env.rendering import Renderer, RenderLimits, register_backend
from mmzero_env.rendering.backends import load_backend
from mmzero_env.rendering.draw import draw_code
from mmzero_env.rendering.guard import Vetted

SIZE = 448
WORKERS = (1, 2)
HANG_SECONDS = 0.5
PRELOAD = ["mmzero_env.rendering.cairo_svg"]

Draw = Callable[[Sequence[str]], int]
"""Draws codes and says how many pictures came back."""


class Blank:
    """A backend that draws nothing; some roots make it hang or crash."""

    fork_safe = True
    reads = ()

    def draw(self, document: Vetted, size: int) -> Image:
        """White, uint8 (size, size, 3)."""
        match document.root.get("id"):
            case "hang":
                while True:
                    pass
            case "crash":
                ctypes.string_at(0)
        return np.full((size, size, 3), 255, dtype=np.uint8)


BACKENDS = {"cairosvg": "mmzero_env.rendering.cairo_svg:CairoSvg"}
BACKENDS["blank"] = "benchmarks.render_pool:Blank"
register_backend("blank", BACKENDS["blank"])


@dataclass(frozen=True)
class Cost:
    """What one picture took, one number a round.

    Attributes:
        task: What was drawn.
        way: Who drew it.
        workers: Worker processes; 0 for a plain call.
        cpu_ms: CPU time of all processes, in milliseconds; empty where it is not known.
        wall_ms: Wall time, in milliseconds.
    """

    task: str
    way: str
    workers: int
    cpu_ms: tuple[float, ...]
    wall_ms: tuple[float, ...]


def chart(number: int) -> str:
    """A chart of the kind a model writes: bars, labels, a gradient, a polyline."""
    rng = np.random.default_rng(number)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 448 448" id="c{number}"><defs>'
        '<linearGradient id="g"><stop offset="0" stop-color="#eef"/><stop offset="1" '
        'stop-color="#fff"/></linearGradient></defs><rect width="448" height="448" '
        'fill="url(#g)"/><text x="224" y="30" text-anchor="middle" font-size="20">Sales</text>'
    ]
    heights = rng.integers(30, 300, 10).tolist()
    for place, height in enumerate(heights):
        x, hue = 24 + 40 * place, place * 36
        parts.append(
            f'<rect x="{x}" y="{400 - height}" width="30" height="{height}" '
            f'fill="hsl({hue}, 60%, 55%)"/><text x="{x + 15}" y="420" font-size="13" '
            f'text-anchor="middle">{height}</text>'
        )
    points = " ".join(f"{39 + 40 * place},{390 - h}" for place, h in enumerate(heights))
    parts.append(f'<polyline points="{points}" fill="none" stroke="#222" stroke-width="2"/></svg>')
    return "".join(parts)


def blank(number: int) -> str:
    """A code whose drawing costs next to nothing."""
    return f'<svg viewBox="0 0 9 9" id="b{number}"/>'


TASKS: dict[str, tuple[str, Callable[[int], str]]] = {
    "nothing": ("blank", lambda number: f"no svg {number}"),
    "blank picture": ("blank", blank),
    "chart": ("cairosvg", chart),
}


@functools.cache
def _backend(target: str) -> Any:
    return load_backend(target)


def pebble_task(target: str, limits: RenderLimits, code: str) -> Image | None:
    """What pebble's workers run: the same function as ours."""
    return draw_code(code, SIZE, limits, _backend(target)).image


def cpu_seconds(others: Sequence[int]) -> float:
    """CPU time of this process and of others, by process id."""
    if not sys.platform.startswith("linux"):
        return float("nan")
    # clock_getcpuclockid(3): the id of the CPU clock of another process on Linux.
    return time.process_time() + sum(time.clock_gettime((~pid << 3) | 2) for pid in others)


def ours(stack: ExitStack, backend: str, workers: int) -> tuple[Draw, Callable[[], list[int]]]:
    """Our renderer; with workers=0 the plain call."""
    renderer = stack.enter_context(Renderer(SIZE, workers, backend=backend))

    def draw(codes: Sequence[str]) -> int:
        jobs = [RenderJob(str(number), code) for number, code in enumerate(codes)]
        return sum(drawing.ok for drawing in renderer.render(jobs))

    def processes() -> list[int]:
        crew = renderer._crew
        pids = [worker.pid for worker in crew.pool if worker.pid is not None]
        return [*pids, crew.helper] if crew.helper is not None else pids

    return draw, processes


def pebbles(stack: ExitStack, backend: str, workers: int) -> tuple[Draw, Callable[[], list[int]]]:
    """Pebble's pool on a fork server that has imported what drawing needs."""
    pool = stack.enter_context(pebble_pool(workers))
    task = functools.partial(pebble_task, BACKENDS[backend], RenderLimits())

    def draw(codes: Sequence[str]) -> int:
        results = pool.map(task, codes, chunksize=1, timeout=20).result()
        return sum(image is not None for image in results)

    # Started now, so that they can be told from those of the next pool.
    known = children()
    draw([blank(number) for number in range(2 * workers)])
    started = children() - known
    return draw, lambda: list(started)


def children() -> set[int]:
    """Process ids of what multiprocessing has started for us."""
    return {child.pid for child in multiprocessing.active_children() if child.pid}


def pebble_pool(workers: int) -> Any:
    """A fresh pool that is closed by ``with``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    pebble: Any = importlib.import_module("pebble")
    return pebble.ProcessPool(max_workers=workers, context=context)


def costs(count: int, rounds: int, with_pebble: bool) -> list[Cost]:
    """Measure all tasks in all ways."""
    found: list[Cost] = []
    for task, (backend, make) in TASKS.items():
        codes = [make(number) for number in range(count)]
        pictures = 0 if task == "nothing" else count
        with ExitStack() as stack:
            ways = {("plain call", 0): ours(stack, backend, 0)}
            for workers in WORKERS:
                ways["ours", workers] = ours(stack, backend, workers)
            for workers in WORKERS if with_pebble else ():
                ways["pebble", workers] = pebbles(stack, backend, workers)
            times: dict[tuple[str, int], list[tuple[float, float]]] = {key: [] for key in ways}
            for _ in range(rounds + 1):
                for key, (draw, processes) in ways.items():
                    times[key].append(spent(draw, processes, codes, pictures))
        for (way, workers), rows in times.items():
            # The first round also starts processes.
            cpu, wall = (
                tuple(x / count * 1e3 for x in each) for each in zip(*rows[1:], strict=True)
            )
            known = sys.platform.startswith("linux")
            found.append(Cost(task, way, workers, cpu if known else (), wall))
    return found


def spent(
    draw: Draw, processes: Callable[[], list[int]], codes: Sequence[str], pictures: int
) -> tuple[float, float]:
    """CPU and wall seconds of one round."""
    before = processes()
    cpu, wall = cpu_seconds(before), time.perf_counter()
    if draw(codes) != pictures:
        raise RuntimeError("a picture is missing, so there is nothing to compare")
    return cpu_seconds(before) - cpu, time.perf_counter() - wall


def restarts(rounds: int, with_pebble: bool) -> dict[str, dict[str, tuple[float, ...]]]:
    """Milliseconds beyond its limit until the next picture, after a hang and a crash."""
    limits = RenderLimits(cpu_seconds=HANG_SECONDS, wall_seconds=5)
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    with Renderer(SIZE, 1, limits, "blank") as renderer:
        for kind in ("hang", "crash"):

            def in_ours(kind: str = kind) -> None:
                renderer.render([RenderJob("a", trouble(kind)), RenderJob("b", blank(1))])

            found.setdefault("ours", {})[kind] = lost(in_ours, kind, rounds)
    if with_pebble:
        task = functools.partial(pebble_task, BACKENDS["blank"], limits)
        with pebble_pool(1) as pool:
            for kind in ("hang", "crash"):

                def in_pebble(kind: str = kind) -> None:
                    bad = pool.schedule(task, args=[trouble(kind)], timeout=HANG_SECONDS)
                    good = pool.schedule(task, args=[blank(1)], timeout=20)
                    bad.exception()
                    good.result()

                found.setdefault("pebble", {})[kind] = lost(in_pebble, kind, rounds)
    return found


def trouble(kind: str) -> str:
    """A code that makes :class:`Blank` hang or crash."""
    return f'<svg viewBox="0 0 9 9" id="{kind}"/>'


def lost(action: Callable[[], None], kind: str, rounds: int) -> tuple[float, ...]:
    """Milliseconds of an action, less the time that a hang is allowed, one number a round."""
    action()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return tuple((each - (HANG_SECONDS if kind == "hang" else 0)) * 1e3 for each in times)


def first_picture() -> float:
    """Seconds from making a renderer to its first picture."""
    start = time.perf_counter()
    with Renderer(SIZE, 1) as renderer:
        renderer.render([RenderJob("a", chart(0))])
        return time.perf_counter() - start


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer pictures and rounds")
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """Costs of pictures, and what a hang and a crash cost."""
    count, rounds = (60, 3) if args.quick else (200, 7)
    with_pebble = importlib.util.find_spec("pebble") is not None
    begin = first_picture()
    rows = costs(count, rounds, with_pebble)
    restart = restarts(rounds, with_pebble)
    notes = (
        f"The first picture was there after {begin:.2f} s.",
        "Ours draws a code that crashed once more before it counts: two crashes, two starts. It "
        "limits CPU time, pebble wall time: on a busy machine a hang takes ours longer.",
    )
    if not with_pebble:
        notes += ("Not run: pebble's pool, which is not installed. pip install pebble",)
    return Findings(
        {
            "count": count,
            "rounds": rounds,
            "first_picture_seconds": begin,
            "costs": [asdict(row) for row in rows],
            "restart_ms": restart,
        },
        (
            Table(
                f"one picture, {count} codes a round, {rounds} rounds, ms",
                ("task", "way", "workers", "CPU", "wall"),
                tuple(
                    (
                        row.task,
                        row.way,
                        str(row.workers or "–"),
                        _text(row.cpu_ms),
                        _text(row.wall_ms),
                    )
                    for row in rows
                ),
                "Median over the rounds (smallest to largest).",
            ),
            Table(
                "until the next picture, beyond the time that the code was allowed, ms",
                ("way", "after a hang", "after a crash"),
                tuple(
                    (way, *(Spread.of(times[kind]).text(0) for kind in ("hang", "crash")))
                    for way, times in restart.items()
                ),
            ),
        ),
        tuple(_ratios(rows)),
        notes,
        packages=("cairosvg", "pebble"),
    )


def _text(values: Sequence[float]) -> str:
    return Spread.of(values).text() if values else "unknown"


def _ratios(rows: Sequence[Cost]) -> Iterator[Ratio]:
    by_way = {(row.task, row.way, row.workers): row for row in rows}
    for task in ("blank picture", "chart"):
        one, plain = by_way[task, "ours", 1], by_way[task, "plain call", 0]
        if one.cpu_ms:
            yield Ratio.of(f"our worker / plain call, CPU, {task}", one.cpu_ms, plain.cpu_ms)
        two = by_way[task, "ours", 2]
        yield Ratio.of(f"our 1 worker / our 2, wall, {task}", one.wall_ms, two.wall_ms)
        other = by_way.get((task, "pebble", 1))
        if other is not None and one.cpu_ms:
            yield Ratio.of(f"pebble's worker / ours, CPU, {task}", other.cpu_ms, one.cpu_ms)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    return script.run("render_pool", build_parser(), measure, argv)


if __name__ == "__main__":
    raise SystemExit(main())
