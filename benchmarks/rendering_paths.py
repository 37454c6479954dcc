"""Ways from SVG source to a numpy picture, and their CPU time side by side."""

from __future__ import annotations

import base64
import io
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cairosvg
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from mmzero_env.errors import EngineError
from mmzero_env.protocol import Failure, Image
from mmzero_env.rendering.backends import BACKENDS, Backend, load_backend
from mmzero_env.rendering.draw import draw_code
from mmzero_env.rendering.guard import vet
from mmzero_env.rendering.limits import RenderLimits

SIZE = 448
NATIVE, RESIZED, GUARD = "published, native size", "published, at 448 px", "guard alone"

Way = Callable[[str], Image | None]
"""Draws one source; None or an exception means that it cannot."""


def published(code: str, size: int | None = None) -> Image:
    """The published path: a PNG file on the disk, base64 there and back, Pillow.

    Args:
        code: SVG source.
        size: Side to ask CairoSVG for; None keeps the size that the document claims.

    Returns:
        uint8 (height, width, 3).
    """
    with tempfile.NamedTemporaryFile("w", suffix=".svg", delete=False, encoding="utf-8") as file:
        file.write(code)
    target = file.name + ".png"
    try:
        cairosvg.svg2png(url=file.name, write_to=target, output_width=size, output_height=size)
        with open(target, "rb") as picture:
            text = base64.b64encode(picture.read()).decode("ascii")
    finally:
        os.unlink(file.name)
        if os.path.exists(target):
            os.unlink(target)
    return np.array(PillowImage.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))


@dataclass(frozen=True)
class Loaded:
    """The registered backends as far as this machine has them.

    Attributes:
        backends: Backend by name, each once.
        aliases: Other names of these backends, with the name in ``backends``.
        missing: Why a backend does not load, by name.
    """

    backends: dict[str, Backend]
    aliases: dict[str, str]
    missing: dict[str, str]


def load_backends() -> Loaded:
    """Every registered backend; of two names for one thing the later, which is narrower."""
    names: dict[type, str] = {}
    found: dict[str, Backend] = {}
    missing: dict[str, str] = {}
    for name, target in BACKENDS.items():
        try:
            found[name] = load_backend(target)
        except (ImportError, OSError, AttributeError, EngineError) as error:
            missing[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            names[type(found[name])] = name
    aliases = {name: names[type(backend)] for name, backend in found.items()}
    return Loaded(
        {name: backend for name, backend in found.items() if aliases[name] == name},
        {name: other for name, other in aliases.items() if other != name},
        missing,
    )


def all_ways(backends: Mapping[str, Backend]) -> dict[str, Way]:
    """The published path twice, the guard, and every backend behind the guard."""
    limits = RenderLimits()

    def guard(code: str) -> Image | None:
        return None if isinstance(vet(code, limits), Failure) else _NOTHING

    def drawer(backend: Backend) -> Way:
        return lambda code: draw_code(code, SIZE, limits, backend).image

    ways: dict[str, Way] = {
        NATIVE: published,
        RESIZED: lambda code: published(code, SIZE),
        GUARD: guard,
    }
    return ways | {name: drawer(backend) for name, backend in backends.items()}


_NOTHING = np.empty((0, 0, 3), np.uint8)


def refusals(ways: Mapping[str, Way], codes: Mapping[str, str]) -> dict[str, list[str]]:
    """Which way cannot draw which file; also warms everything up.

    Returns:
        Names of ways by file, only for files that some way cannot draw.
    """
    found: dict[str, list[str]] = {}
    for file, code in codes.items():
        for name, way in ways.items():
            try:
                drawn = way(code) is not None
            # Whatever a path raises, it has not drawn the file.
            except Exception:
                drawn = False
            if not drawn:
                found.setdefault(file, []).append(name)
    return found


@dataclass(frozen=True, eq=False)
class Timings:
    """CPU time of every way for every file in every round.

    Attributes:
        ways: Names of the ways.
        seconds: float64 (ways, rounds, files).
    """

    ways: tuple[str, ...]
    seconds: NDArray[np.float64]

    def milliseconds(self, way: str) -> list[float]:
        """Mean over the files, one number a round."""
        return (self._rounds(way) / self.seconds.shape[2] * 1000).tolist()

    def ratios(self, slow: str, fast: str) -> list[float]:
        """How many times faster over the whole corpus, one number a round."""
        return (self._rounds(slow) / self._rounds(fast)).tolist()

    def ratio(self, slow: str, fast: str) -> float:
        """The median of :meth:`ratios`."""
        return float(np.median(self.ratios(slow, fast)))

    def file_ratio(self, slow: str, fast: str) -> float:
        """How many times faster for the middle file, so that no large one decides."""
        over, under = self.seconds[self.ways.index(slow)], self.seconds[self.ways.index(fast)]
        return float(np.median(np.median(over / under, axis=0)))

    def _rounds(self, way: str) -> NDArray[np.float64]:
        return self.seconds[self.ways.index(way)].sum(axis=1)


def measure(
    ways: Mapping[str, Way], codes: Mapping[str, str], rounds: int, tick: Callable[[], object]
) -> Timings:
    """Time all ways, each over all files before the next, in an order that turns.

    Within its files a way keeps its caches, as it does in a worker that draws with
    nothing else; a round is short, so that all ways meet the same load.

    Args:
        ways: What to time.
        codes: Files that every way can draw.
        rounds: Repetitions.
        tick: Called after each round.
    """
    names = tuple(ways)
    seconds = np.zeros((len(names), rounds, len(codes)))
    for turn in range(rounds):
        for step in range(len(names)):
            number = (step + turn) % len(names)
            way = ways[names[number]]
            for place, code in enumerate(codes.values()):
                started = time.process_time()
                way(code)
                seconds[number, turn, place] = time.process_time() - started
        tick()
    return Timings(names, seconds)
