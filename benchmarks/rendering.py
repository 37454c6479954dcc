"""How fast SVG becomes a numpy picture, beside the published path, in one run.

    python -m benchmarks.rendering [--quick]
    python -m benchmarks.rendering --gallery [--out DIR]

The published path is re-created from its description: a temporary file, CairoSVG to a
PNG file, read, base64 there and back, Pillow, RGB, numpy. All ways draw the same files
in turn, and ratios are of CPU time within one round, so a busy machine changes them
little. The worker pool's start and rates are wall time and want an idle machine.

The gallery is one HTML page with the pictures of all backends side by side.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks import gallery, script, svg_corpus
from benchmarks import rendering_paths as paths
from benchmarks.findings import Findings, Ratio, Spread, Table
from benchmarks.rendering_memory import MemoryFigures, measure_memory
from benchmarks.rendering_pool import PoolFigures, measure_pool
from mmzero_env.errors import UserError
from mmzero_env.rendering.spawner import ONE_THREAD

DEFAULT = "cairosvg"
PACKAGES = ("cairosvg", "cairocffi", "lxml", "pillow", "pyvips", "pyvips-binary")


@dataclass(frozen=True)
class Effort:
    """How much is repeated.

    Attributes:
        files: Files of the valid corpus; None for all.
        rounds: Rounds of all ways over these files.
        pool_rounds: Rounds of the pool.
        starts: Starts of a pool.
        batch: Pictures in one round of the pool, at least.
        hostile: Files of the hostile corpus; None for all.
    """

    files: int | None = None
    rounds: int = 15
    pool_rounds: int = 7
    starts: int = 5
    batch: int = 200
    hostile: int | None = None


FULL = Effort()
QUICK = Effort(files=24, rounds=3, pool_rounds=3, starts=2, batch=72, hostile=12)


@dataclass
class Figures:
    """Everything that was measured.

    Attributes:
        left_out: Names of ways by the file that they cannot draw.
        timings: Of the ways, over the other files.
        pool: Of the default backend.
        memory: By backend; empty when there are no hostile files.
        aliases: Other names of backends, with the name that is used here.
        missing: Why a backend did not load, by name.
    """

    left_out: dict[str, list[str]]
    timings: paths.Timings
    pool: PoolFigures
    memory: dict[str, MemoryFigures]
    aliases: dict[str, str]
    missing: dict[str, str]


def figures_of(effort: Effort) -> Figures:
    """Measure everything, with a bar that shows the time left.

    Args:
        effort: How much to repeat.

    Raises:
        UserError: There is no file that all ways can draw.
    """
    loaded = paths.load_backends()
    ways = paths.all_ways(loaded.backends)
    codes = svg_corpus.read("valid", effort.files)
    hostile = list(loaded.backends) if svg_corpus.read("hostile") else []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    steps = 1 + effort.rounds + effort.pool_rounds + effort.starts + len(hostile)
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("warming up", total=steps)

        def tick() -> None:
            progress.advance(task)

        left_out = paths.refusals(ways, codes)
        codes = {file: code for file, code in codes.items() if file not in left_out}
        if not codes:
            raise UserError("no file of the valid corpus is drawn by every path.")
        tick()
        progress.update(task, description="CPU time")
        timings = paths.measure(ways, codes, effort.rounds, tick)
        progress.update(task, description="pool")
        pool = measure_pool(
            DEFAULT, list(codes.values()), effort.pool_rounds, effort.starts, effort.batch, tick
        )
        progress.update(task, description="memory")
        memory = {}
        for name in hostile:
            memory[name] = measure_memory(name, effort.hostile)
            tick()
    return Figures(left_out, timings, pool, memory, loaded.aliases, loaded.missing)


@dataclass(frozen=True)
class Aim:
    """One aim and what was found.

    Attributes:
        what: What is measured.
        bound: The bound that was set beforehand.
        at_least: Whether it is a lower bound; an upper one otherwise.
        unit: Of bound and finding.
        found: The finding; None when it could not be measured.
    """

    what: str
    bound: float
    at_least: bool
    unit: str
    found: float | None

    @property
    def met(self) -> bool | None:
        """Whether the aim is met; None when it was not measured."""
        if self.found is None:
            return None
        return self.found >= self.bound if self.at_least else self.found <= self.bound


def aims(figures: Figures) -> list[Aim]:
    """The aims that were set beforehand, with what was found."""
    timings, pool = figures.timings, figures.pool
    peak = max((each.peak_mib for each in figures.memory.values()), default=None)
    overhead, first = map(statistics.median, (pool.cpu_overhead_ms, pool.first_picture_seconds))

    def times(backend: str, ratio: Callable[[str, str], float]) -> float | None:
        name = figures.aliases.get(backend, backend)
        return ratio(paths.NATIVE, name) if name in timings.ways else None

    found = [
        Aim(f"{backend}, times published, {which}", bound, True, "", times(backend, ratio))
        for backend, bound in ((DEFAULT, 2.3), ("librsvg", 5.0))
        for which, ratio in (("all files", timings.ratio), ("middle file", timings.file_ratio))
    ]
    return [
        *found,
        Aim(
            f"guard's share of {DEFAULT}", 15, False, "%", 100 * timings.ratio(paths.GUARD, DEFAULT)
        ),
        Aim("worker's overhead a picture, CPU", 1, False, "ms", overhead),
        Aim("first picture after start, wall", 1, False, "s", first),
        Aim("peak memory of a worker", 512, False, "MiB", peak),
    ]


def tables(figures: Figures) -> Iterator[Table]:
    """What was found, for people."""
    timings = figures.timings
    _, rounds, count = timings.seconds.shape
    yield Table(
        f"CPU time of one picture, {count} files, {rounds} rounds",
        ("path", "ms", "× native", "× 448", "× middle", "guard"),
        tuple(_path_row(timings, way) for way in timings.ways),
        "× native, × 448: how many times faster than the published path over all files; × middle: "
        "than at native size, for the middle file. The published path draws no blur, shadow or "
        "blending, cairosvg no blur and shadow; librsvg does, and that takes time.",
    )
    pool = figures.pool
    rows = (
        ("overhead a picture, CPU ms", pool.cpu_overhead_ms, 2),
        ("overhead a picture, wall ms", pool.wall_overhead_ms, 2),
        ("first picture after start, wall s", pool.first_picture_seconds, 2),
        ("pictures a second, 1 worker, wall", pool.one_worker, 0),
        ("pictures a second, 2 workers, wall", pool.two_workers, 0),
    )
    yield Table(
        f"worker pool, {DEFAULT}",
        ("what", "median (smallest to largest)"),
        tuple((name, Spread.of(values).text(digits)) for name, values, digits in rows),
    )
    if figures.memory:
        yield Table(
            "peak resident memory of a worker over the hostile files",
            ("backend", "MiB", "outcomes"),
            tuple(
                (name, f"{found.peak_mib:.0f}", _outcomes(found))
                for name, found in figures.memory.items()
            ),
        )
    yield Table("aims", ("what", "aim", "found", "met"), tuple(map(_aim_row, aims(figures))))


def _path_row(timings: paths.Timings, way: str) -> tuple[str, ...]:
    guard = f"{timings.ratio(paths.GUARD, way):.1%}" if _draws_behind_guard(way) else ""
    return (
        way,
        Spread.of(timings.milliseconds(way)).text(),
        f"{timings.ratio(paths.NATIVE, way):.2f}",
        f"{timings.ratio(paths.RESIZED, way):.2f}",
        f"{timings.file_ratio(paths.NATIVE, way):.2f}",
        guard,
    )


def _outcomes(found: MemoryFigures) -> str:
    by_number = sorted(found.outcomes.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{reason} {number}" for reason, number in by_number)


def _aim_row(aim: Aim) -> tuple[str, ...]:
    found = "not measured" if aim.found is None else f"{aim.found:.3g} {aim.unit}".strip()
    bound = f"{'≥' if aim.at_least else '≤'} {aim.bound:g} {aim.unit}".strip()
    return aim.what, bound, found, {True: "yes", False: "no", None: "–"}[aim.met]


def ratios(figures: Figures) -> Iterator[Ratio]:
    """Every backend against the published path, the guard's share, two workers against one."""
    timings, pool = figures.timings, figures.pool
    for way in filter(_draws_behind_guard, timings.ways):
        for slow in (paths.NATIVE, paths.RESIZED):
            yield Ratio(f"{slow} / {way}, CPU", Spread.of(timings.ratios(slow, way)))
    share = timings.ratios(paths.GUARD, DEFAULT) if DEFAULT in timings.ways else []
    if share:
        yield Ratio(f"guard / {DEFAULT} with guard, CPU", Spread.of(share))
    yield Ratio.of("pictures a second, 2 workers / 1", pool.two_workers, pool.one_worker)


def notes(figures: Figures) -> Iterator[str]:
    """What was left out and why."""
    files = figures.timings.seconds.shape[2] + len(figures.left_out)
    yield (
        f"Left out, because some path cannot draw them: {len(figures.left_out)} of {files} files"
        + "".join(f"; {file} ({', '.join(names)})" for file, names in figures.left_out.items())
        + "."
    )
    for name, other in figures.aliases.items():
        yield f"Backend {name} is {other} on this machine."
    for name, reason in figures.missing.items():
        yield (
            f"Not run: backend {name} ({reason}). mmzero doctor says how to get it; librsvg comes "
            "with pip install -c constraints.txt -e '.[librsvg]'"
        )
    if not figures.memory:
        yield "Not run: memory, because there are no hostile files in this copy of the corpus."


def as_json(figures: Figures) -> dict[str, Any]:
    """The figures as plain values for a file."""
    timings = figures.timings
    return {
        "paths": {
            way: {
                "cpu_ms": timings.milliseconds(way),
                "times_native": timings.ratio(paths.NATIVE, way),
                "times_448": timings.ratio(paths.RESIZED, way),
                "times_native_middle_file": timings.file_ratio(paths.NATIVE, way),
                "guard_share": timings.ratio(paths.GUARD, way)
                if _draws_behind_guard(way)
                else None,
            }
            for way in timings.ways
        },
        "files": timings.seconds.shape[2],
        "rounds": timings.seconds.shape[1],
        "left_out": figures.left_out,
        "aliases": figures.aliases,
        "skipped_backends": figures.missing,
        "pool": dataclasses.asdict(figures.pool),
        "memory": {name: dataclasses.asdict(found) for name, found in figures.memory.items()},
        "aims": [dataclasses.asdict(aim) | {"met": aim.met} for aim in aims(figures)],
    }


def _draws_behind_guard(way: str) -> bool:
    return way not in (paths.NATIVE, paths.RESIZED, paths.GUARD)


def build_parser() -> argparse.ArgumentParser:
    """Options of the script."""
    parser = script.parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, rougher")
    parser.add_argument("--limit", type=int, help="only so many files of each kind")
    parser.add_argument("--gallery", action="store_true", help="write the page of pictures instead")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("runs/rendering-gallery"),
        help="where the gallery goes (default: %(default)s)",
    )  # fmt: skip
    return parser


def measure(args: argparse.Namespace) -> Findings:
    """All paths, the pool, memory."""
    effort = QUICK if args.quick else FULL
    if args.limit is not None:
        effort = dataclasses.replace(
            effort, files=args.limit, hostile=args.limit, batch=min(effort.batch, 4 * args.limit)
        )
    figures = figures_of(effort)
    return Findings(
        as_json(figures),
        tuple(tables(figures)),
        tuple(ratios(figures)),
        tuple(notes(figures)),
        packages=PACKAGES,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print, or write the gallery.

    Args:
        arguments: Of the command line; those of the process when None.
    """
    parser = build_parser()
    args = parser.parse_args(arguments)
    # As in a render worker: threads that wait for each other would count as CPU time.
    os.environ.update(ONE_THREAD)
    if not args.gallery:
        return script.run("rendering", parser, measure, arguments)
    try:
        print(f"written: {gallery.write(args.out, args.limit)}")
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
