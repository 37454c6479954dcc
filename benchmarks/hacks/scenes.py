"""What can be seen in a picture: which scene of the procedural world, and which writing.

A scripted Solver that knows the caption answers alike whatever the Coder drew. This is the
part that makes an answer depend on the picture: a scene is seen only if the pixels are those
of that scene, and a text is read only if its pixels can be told from what lies behind.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from lxml import etree

from mmzero_env import world
from mmzero_env.protocol import Drawing, Failure, Image, RenderJob
from mmzero_env.rendering import JobRenderer, vet
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.svg_metrics import drawn_text
from mmzero_env.world.faithful import faithful
from mmzero_env.world.grid import CELLS
from mmzero_env.world.spec import Spec

CONTRAST = 64
"""Grey levels of 255 between a letter and what lies behind it, for the letter to be read."""
INK = 6
"""Pixels a letter must darken or brighten so much to be read: letters some 7 pixels high."""

# Overlapping: "For a book: Bar chart: red 5." begins with something else.
_STATED = re.compile(r"(?=([A-Z][a-z ]*: [^.\n]*\.))")


@dataclass(frozen=True)
class Sight:
    """What a reader gets out of a picture or a text.

    Attributes:
        scene: The scene of the world that is shown or told, or None.
        texts: Everything written there beside the scene.
    """

    scene: Spec | None = None
    texts: tuple[str, ...] = ()

    @property
    def writing(self) -> str:
        """All texts as one: a sentence may run over several lines."""
        return " ".join(self.texts)


def scene_in(text: str) -> Spec | None:
    """The first scene of the world that a text states, whatever stands around it."""
    stated = (world.parse_caption(found[1]) for found in _STATED.finditer(text))
    return next((spec for spec in stated if spec is not None), None)


class Gallery:
    """Draws codes, each once, and remembers what each picture shows.

    Args:
        renderer: What draws.
    """

    def __init__(self, renderer: JobRenderer):
        self._renderer = renderer
        self._drawings: dict[str, Drawing] = {}
        self._codes: dict[bytes, str] = {}
        self._sights: dict[bytes, Sight] = {}

    def render(self, jobs: Sequence[RenderJob]) -> list[Drawing]:
        """Draw every job, in order; see :class:`mmzero_env.rendering.JobRenderer`."""
        fresh = [job for job in jobs if job.code not in self._drawings]
        for job, drawing in zip(fresh, self._renderer.render(fresh), strict=True):
            self._drawings[job.code] = drawing
            if drawing.image is not None:
                # Codes with equal pixels are one picture: whoever looks cannot tell.
                self._codes.setdefault(_digest(drawing.image), job.code)
        return [self._drawings[job.code] for job in jobs]

    def forget(self) -> None:
        """Drop all pictures; a long run would else keep every one it ever drew."""
        self._drawings.clear()
        self._codes.clear()
        self._sights.clear()

    def look(self, image: Image) -> Sight:
        """What a picture that was drawn here shows.

        Raises:
            KeyError: For a picture from elsewhere.
        """
        key = _digest(image)
        if key not in self._sights:
            self._sights[key] = self._seen(image, self._codes[key])
        return self._sights[key]

    def shows(self, image: Image | None, spec: Spec) -> bool:
        """Whether a picture is that of a scene, see :mod:`mmzero_env.world.faithful`."""
        return faithful(image, self._draw(spec.svg()))

    def _seen(self, image: Image, code: str) -> Sight:
        document = vet(code, RenderLimits())
        assert not isinstance(document, Failure), "a code that was drawn has passed the guard"
        root = document.root
        for spec, used in _candidates(root):
            extra = [e for e in root.iter("{*}text") if e not in used]
            bare = self._without(root, extra) if extra else image
            if self.shows(bare, spec):
                return Sight(spec, self._legible(root, extra, image))
        return Sight(None, self._legible(root, list(root.iter("{*}text")), image))

    def _legible(
        self, root: etree._Element, texts: Sequence[etree._Element], image: Image
    ) -> tuple[str, ...]:
        """The texts that can be told from what lies behind them."""
        found: list[str] = []
        for element in texts:
            said = _said(element)
            hidden = self._without(root, [element])
            letters = len("".join(said.split()))
            if letters and hidden is not None:
                found += [said] if _ink(image, hidden) >= INK * letters else []
        return tuple(found)

    def _without(self, root: etree._Element, elements: Sequence[etree._Element]) -> Image | None:
        places = [i for i, e in enumerate(root.iter()) if e in elements]
        pruned = copy.deepcopy(root)
        nodes = list(pruned.iter())
        for place in places:
            parent = nodes[place].getparent()
            assert parent is not None  # the root is no text
            parent.remove(nodes[place])
        return self._draw(etree.tostring(pruned, encoding="unicode"))

    def _draw(self, code: str) -> Image | None:
        if code not in self._drawings:
            (self._drawings[code],) = self._renderer.render([RenderJob("look", code)])
        return self._drawings[code].image


def _said(element: etree._Element) -> str:
    holder = etree.Element("svg")
    holder.append(copy.deepcopy(element))
    return drawn_text(holder)


def _digest(image: Image) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def _ink(image: Image, without: Image) -> int:
    """Pixels in which two pictures differ by :data:`CONTRAST` or more."""
    apart = np.abs(image.astype(np.int16) - without.astype(np.int16)).max(axis=2)
    return int((apart >= CONTRAST).sum())


# Scenes from shapes: what each kind's svg() writes, read backwards. Whether it is really
# that scene is then decided by the pixels.


def _candidates(root: etree._Element) -> Iterator[tuple[Spec, tuple[etree._Element, ...]]]:
    """Scenes that the shapes of a document may be meant as, with the texts that belong to them."""
    rects = [_Box.of(e) for e in root.iter("{*}rect")]
    rows = sorted(rects, key=lambda box: box.x)
    bars = [f"{b.fill} {b.height / 9:g}" for b in rows if (b.width, b.y + b.height) == (16, 90)]
    marks = [f"{b.fill} {(b.x + 6) / 10:g}" for b in rows if (b.width, b.height) == (8, 60)]
    boxes = [b.fill for b in rows if (b.y, b.width, b.height) == (40, 16, 16)]
    for caption in (
        f"Bar chart: {', '.join(bars)}.",
        f"Timeline: {', '.join(marks)}.",
        f"Diagram: {' to '.join(boxes)}.",
        f"Grid: {', '.join(_cells(root, rects))}.",
    ):
        if (spec := world.parse_caption(caption)) is not None:
            yield spec, ()
    texts = sorted(root.iter("{*}text"), key=_baseline)
    keys = [e for e in texts if e.get("x") == "6" and _on_row(e)]
    values = [e for e in texts if e.get("x") == "72" and _on_row(e)]
    if len(keys) == len(values):
        pairs = zip(keys, values, strict=True)
        table = ", ".join(f"{_said(key)} {_said(value)}" for key, value in pairs)
        if (spec := world.parse_caption(f"Table: {table}.")) is not None:
            yield spec, (*keys, *values)


@dataclass(frozen=True)
class _Box:
    fill: str
    x: float
    y: float
    width: float
    height: float

    @classmethod
    def of(cls, element: etree._Element) -> _Box:
        return cls(
            element.get("fill", ""),
            *(_number(element, name) for name in ("x", "y", "width", "height")),
        )


def _cells(root: etree._Element, rects: Sequence[_Box]) -> list[str]:
    found = [(b.x - 4, b.y - 4, b.fill, "square") for b in rects if b.width == b.height == 24]
    for circle in root.iter("{*}circle"):
        x, y = (_number(circle, name) - 16 for name in ("cx", "cy"))
        found.append((x, y, circle.get("fill", ""), "circle"))
    for polygon in root.iter("{*}polygon"):
        first = re.match(r"(\d+),(\d+) ", polygon.get("points", ""))
        if first:
            x, y = int(first[1]) - 4, int(first[2]) - 28
            found.append((x, y, polygon.get("fill", ""), "triangle"))
    named = {(32 * "ABC".index(c[0]), 32 * "123".index(c[1])): c for c in CELLS}
    return sorted(f"{named.get((x, y), '?')} {fill} {shape}" for x, y, fill, shape in found)


def _number(element: etree._Element, name: str) -> float:
    try:
        return float(element.get(name, "nan"))
    except ValueError:
        return float("nan")


def _baseline(element: etree._Element) -> float:
    y = _number(element, "y")
    # NaN sorts nowhere.
    return y if y == y else -1.0


def _on_row(element: etree._Element) -> bool:
    return _baseline(element) in (24, 56, 88)
