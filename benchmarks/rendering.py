"""How fast SVG becomes a numpy picture, beside the published path, in one run.

    python -m benchmarks.rendering [--quick] [--json FILE]
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
import json
import os
from collections.abc import Callable, Mapping, Sequence
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
from rich.table import Table

from benchmarks import gallery, svg_corpus
from benchmarks import rendering_paths as paths
from benchmarks.facts import machine_facts, print_facts
from benchmarks.rendering_memory import MemoryFigures, measure_memory
from benchmarks.rendering_pool import PoolFigures, measure_pool
from mmzero_env.errors import UserError
from mmzero_env.rendering.spawner import ONE_THREAD

DEFAULT = "cairosvg"
PACKAGES = ("numpy", "cairosvg", "cairocffi", "lxml", "pillow", "pyvips", "pyvips-binary")


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


def measure(effort: Effort) -> Figures:
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
        Aim("worker's overhead a picture, CPU", 1, False, "ms", pool.cpu_overhead_ms),
        Aim("first picture after start, wall", 1, False, "s", pool.first_picture_seconds),
        Aim("peak memory of a worker", 512, False, "MiB", peak),
    ]


def show(console: Console, figures: Figures) -> None:
    """Print the tables."""
    timings = figures.timings
    count = timings.seconds.shape[2]
    table = Table(
        title=f"CPU time of one picture, {count} files, {timings.seconds.shape[1]} rounds"
    )
    table.add_column("path", no_wrap=True)
    for name in ("ms", "per s", "x native", "x 448", "x middle", "guard"):
        table.add_column(name, justify="right")
    for way in timings.ways:
        spent = timings.milliseconds(way)
        table.add_row(
            way,
            f"{spent:.2f}",
            f"{1000 / spent:,.0f}",
            f"{timings.ratio(paths.NATIVE, way):.2f}",
            f"{timings.ratio(paths.RESIZED, way):.2f}",
            f"{timings.file_ratio(paths.NATIVE, way):.2f}",
            f"{timings.ratio(paths.GUARD, way):.1%}" if _draws_behind_guard(way) else "",
        )
    console.print(table)
    console.print(
        "x native, x 448: how many times faster than the published path over all files; "
        "x middle: than at native size, for the middle file. The published path draws no blur, "
        "shadow or blending, cairosvg no blur and shadow; librsvg does, and that takes time.",
        highlight=False,
    )
    console.print(
        f"left out, because some path cannot draw them: {len(figures.left_out)} of "
        f"{count + len(figures.left_out)} files",
        highlight=False,
    )
    for file, names in figures.left_out.items():
        console.print(f"  {file}: {', '.join(names)}", highlight=False)
    for name, other in figures.aliases.items():
        console.print(f"backend {name} is {other} on this machine", highlight=False)
    for name, reason in figures.missing.items():
        console.print(f"backend {name} is skipped: {reason}", highlight=False, markup=False)
    pool = figures.pool
    table = Table(title=f"worker pool, {DEFAULT}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("overhead a picture, CPU", f"{pool.cpu_overhead_ms:.2f} ms")
    table.add_row("overhead a picture, wall", f"{pool.wall_overhead_ms:.2f} ms")
    table.add_row("first picture after start, wall", f"{pool.first_picture_seconds:.2f} s")
    table.add_row("pictures a second, 1 worker, wall", f"{pool.one_worker:.0f}")
    table.add_row("pictures a second, 2 workers, wall", f"{pool.two_workers:.0f}")
    table.add_row("2 workers over 1", f"{pool.speedup:.2f}")
    console.print(table)
    if figures.memory:
        table = Table(title="peak resident memory of a worker over the hostile files")
        table.add_column("backend")
        table.add_column("MiB", justify="right")
        table.add_column("outcomes")
        for name, found in figures.memory.items():
            outcomes = sorted(found.outcomes.items(), key=lambda item: (-item[1], item[0]))
            told = ", ".join(f"{reason} {number}" for reason, number in outcomes)
            table.add_row(name, f"{found.peak_mib:.0f}", told)
        console.print(table)
    else:
        console.print("memory was not measured: there are no hostile files.")
    table = Table(title="aims")
    for name in ("what", "aim", "found", "met"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for aim in aims(figures):
        found = "not measured" if aim.found is None else f"{aim.found:.3g} {aim.unit}".strip()
        bound = f"{'>=' if aim.at_least else '<='} {aim.bound:g} {aim.unit}".strip()
        table.add_row(aim.what, bound, found, {True: "yes", False: "NO", None: "-"}[aim.met])
    console.print(table)


def as_json(figures: Figures, facts: Mapping[str, str]) -> dict[str, Any]:
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
        "machine": dict(facts),
    }


def _draws_behind_guard(way: str) -> bool:
    return way not in (paths.NATIVE, paths.RESIZED, paths.GUARD)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print, or write the gallery.

    Args:
        arguments: Of the command line; those of the process when None.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="under a minute, rougher")
    parser.add_argument("--limit", type=int, help="only so many files of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON, too")
    parser.add_argument("--gallery", action="store_true", help="write the page of pictures instead")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=Path("runs/rendering-gallery"),
        help="where the gallery goes (default: %(default)s)",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    console = Console()
    # As in a render worker: threads that wait for each other would count as CPU time.
    os.environ.update(ONE_THREAD)
    try:
        if args.gallery:
            console.print(f"written: {gallery.write(args.out, args.limit)}", soft_wrap=True)
            return
        effort = QUICK if args.quick else FULL
        if args.limit is not None:
            effort = dataclasses.replace(
                effort,
                files=args.limit,
                hostile=args.limit,
                batch=min(effort.batch, 4 * args.limit),
            )
        figures = measure(effort)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    facts = machine_facts(PACKAGES)
    show(console, figures)
    print_facts(console, facts)
    if args.json is not None:
        args.json.write_text(json.dumps(as_json(figures, facts), indent=2) + "\n")


if __name__ == "__main__":
    main()
