"""One HTML page with every backend's picture of every file, side by side.

Pictures stand in the page as data URLs, nothing is loaded and no script runs.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image as PillowImage
from rich.progress import track

from benchmarks import svg_corpus
from benchmarks.rendering_paths import load_backends
from mmzero_env.protocol import Drawing, Image, RenderJob
from mmzero_env.rendering import Renderer

SIZE = 448
STEP = 16
"""A pixel differs when a channel is further apart than this, of 255: edges that two
rasterisers smooth a little differently do not count."""

ROOT = Path(__file__).resolve().parents[1]
PROSE = ROOT / "docs" / "rendering-gallery.md"
STYLES = ROOT / "trainers" / "templates" / "report.css"


@dataclass(frozen=True)
class Shown:
    """One picture on the page.

    Attributes:
        backend: What drew it.
        picture: Data URL, or None when there is no picture.
        failure: Why there is none.
        flags: What the guard changed before drawing.
    """

    backend: str
    picture: str | None
    failure: str
    flags: str


@dataclass(frozen=True)
class Row:
    """One file with the pictures of all backends."""

    file: str
    code: str
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class Apart:
    """How far two pictures are apart.

    Attributes:
        share: Share of pixels that differ by more than :data:`STEP`.
        mean: Mean absolute difference of all channels, 0 to 255.
    """

    share: float
    mean: float


@dataclass(frozen=True)
class Difference:
    """How far the pictures of one file are apart.

    Attributes:
        file: Name of the file.
        pairs: By pair of backends; None where one of them has no picture.
    """

    file: str
    pairs: tuple[Apart | None, ...]


def write(folder: Path, limit: int | None = None) -> Path:
    """Draw everything and write the page.

    Args:
        folder: Where ``index.html`` goes; made if it is not there.
        limit: Only so many files of each kind; all when None.

    Returns:
        The page.
    """
    codes = svg_corpus.read("valid", limit)
    loaded = load_backends()
    drawn = {
        name: draw(name, list(codes.values()))
        for name in track(loaded.backends, description="drawing", transient=True)
    }
    rows = [
        Row(file, code, tuple(show(name, drawn[name][place]) for name in drawn))
        for place, (file, code) in enumerate(codes.items())
    ]
    first = next(iter(drawn))
    odd = []
    for kind in ("malformed", "hostile"):
        sources = svg_corpus.read(kind, limit)
        drawings = draw(first, list(sources.values()))
        shown = [
            Row(file, source, (show(first, drawing),))
            for (file, source), drawing in zip(sources.items(), drawings, strict=True)
        ]
        odd.append((kind, shown))
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    ).get_template("gallery.html")
    page = template.render(
        css=Markup(STYLES.read_text(encoding="utf-8")),
        prose=Markup(MarkdownIt().enable("table").render(PROSE.read_text(encoding="utf-8"))),
        backends=list(drawn),
        loaded=loaded,
        pairs=list(combinations(drawn, 2)),
        differences=differences(list(codes), drawn),
        rows=rows,
        odd=odd,
        size=SIZE,
        step=STEP,
    )
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "index.html"
    # Sources may hold what no page can: NUL, and surrogates without a partner.
    page = page.replace("\0", "\N{REPLACEMENT CHARACTER}")
    target.write_text(page, encoding="utf-8", errors="backslashreplace")
    return target


def draw(backend: str, codes: Sequence[str]) -> list[Drawing]:
    """Draw codes in a worker, which even a hostile one cannot hold up."""
    with Renderer(size=SIZE, workers=1, backend=backend) as renderer:
        return renderer.render([RenderJob(str(place), code) for place, code in enumerate(codes)])


def show(backend: str, drawing: Drawing) -> Shown:
    """A drawing as the page shows it."""
    failure = ""
    if drawing.failure is not None:
        failure = f"{drawing.failure.reason}: {drawing.failure.detail}"
    picture = None if drawing.image is None else data_url(drawing.image)
    return Shown(backend, picture, failure, ", ".join(drawing.flags))


def data_url(image: Image) -> str:
    """A picture, without loss, as a data URL."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def differences(files: Sequence[str], drawn: Mapping[str, Sequence[Drawing]]) -> list[Difference]:
    """Every pair of backends for every file, the file with the largest mean first.

    Args:
        files: Names of the files.
        drawn: Drawings of these files by backend.
    """
    found = []
    for place, file in enumerate(files):
        images = [drawings[place].image for drawings in drawn.values()]
        found.append(Difference(file, tuple(_apart(*pair) for pair in combinations(images, 2))))

    def largest(each: Difference) -> float:
        return max((pair.mean for pair in each.pairs if pair is not None), default=0.0)

    return sorted(found, key=lambda each: (-largest(each), each.file))


def _apart(one: Image | None, other: Image | None) -> Apart | None:
    if one is None or other is None:
        return None
    distance = np.abs(one.astype(np.int16) - other.astype(np.int16))
    return Apart(float((distance.max(axis=2) > STEP).mean()), float(distance.mean()))
