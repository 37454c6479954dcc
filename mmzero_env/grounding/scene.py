"""What a viewer of a picture sees: its elements with shapes, colours, places and texts."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mmzero_env.grounding.colours import Shade
from mmzero_env.grounding.outline import Box, Point
from mmzero_env.grounding.words import key_of, number_of, pair_of

SHAPES: dict[str, str] = {
    **{word: word for word in "circle ellipse square rectangle triangle diamond".split()},
    **{word: word for word in "pentagon hexagon octagon polygon shape bar box".split()},
    "oval": "ellipse",
    "rhombus": "diamond",
    "column": "bar",
}
"""Names of shapes that are understood, with the name under which each is known here."""

_POLYGONS = {3: "triangle", 5: "pentagon", 6: "hexagon", 8: "octagon"}
STRAIGHT = frozenset("square rectangle triangle diamond pentagon hexagon octagon polygon".split())
"""Shapes that can be made up of lines, and of each other."""

# From this aspect on a rectangle is no square for anybody; below the first it is one.
_SQUARE, _NEARLY = 1.04, 1.2


# A tuple and not a dataclass: pictures have hundreds, and a scene is read for every one.
class Element(NamedTuple):
    """One thing that is painted.

    Attributes:
        kind: "rect", "circle", "ellipse", "polygon", "line" (thin: a line, an open path, a
            rectangle many times as long as wide), "path" (a closed one of any shape) or "text".
        box: Where it is, in canvas units.
        corners: Number of corners of a polygon or rectangle; 0 otherwise.
        points: Corners of a polygon, or the way of a line.
        fill: Colour inside; None if nothing is painted there.
        stroke: Colour of the edge or line; None if there is none.
        text: What it says, "" for all but texts.
        size: Font size of a text in canvas units.
        regular: A polygon of four equal sides; a rectangle with corners that are not round.
        sure: Neither cut, masked, filtered nor covered in part, nor a part of another shape.
        starts, ends: Whether the line has an arrowhead there.
        clear: What lies behind can be seen through it.
        swatch: The sign of a legend, or too small to be counted by everybody.
        ground: Something that others stand on: a background, a panel, a frame.
    """

    kind: str
    box: Box
    corners: int = 0
    points: tuple[Point, ...] = ()
    fill: Shade | None = None
    stroke: Shade | None = None
    text: str = ""
    size: float = 0.0
    regular: bool = False
    sure: bool = True
    starts: bool = False
    ends: bool = False
    clear: bool = False
    swatch: bool = False
    ground: bool = False

    @property
    def solid(self) -> bool:
        """Whether it is a shape: neither a text nor a line."""
        return self.kind not in ("text", "line")

    def is_shape(self, word: str) -> bool | None:
        """Whether a name of :data:`SHAPES` fits: True, False, or None where viewers may differ."""
        if self.kind == "text":
            # Signs such as a filled circle are letters, too.
            return False if any(letter.isalnum() for letter in self.text) else None
        if self.kind == "path":
            return None
        if self.kind == "line":
            return None if word in ("shape", "bar", "box", "rectangle", "polygon") else False
        return self._is_solid(word) if word != "shape" else True

    def _is_solid(self, word: str) -> bool | None:
        long, short = max(self.box.width, self.box.height), min(self.box.width, self.box.height)
        aspect = long / short if short > 0 else math.inf
        if self.kind in ("circle", "ellipse"):
            if word not in ("circle", "ellipse"):
                return False
            if aspect < _SQUARE:
                return True if word == "circle" else None
            return None if aspect < _NEARLY or word == "circle" and aspect < 1.3 else (
                word == "ellipse"
            )  # fmt: skip
        if self.kind == "rect":
            if word in ("bar", "box"):
                return True if word == "box" and self.regular else None
            if word in ("circle", "ellipse"):
                return False if self.regular else None
            if word == "square":
                fits = aspect < _SQUARE
                return (True if self.regular else None) if fits else None if aspect < _NEARLY else (
                    False
                )  # fmt: skip
            if word == "rectangle":
                return True if self.regular and aspect > _NEARLY else None
            return None if word == "polygon" else False
        if word == "polygon":
            return True
        if word in ("circle", "ellipse"):
            return None if self.corners > 8 else False
        if word in ("bar", "box") or self.corners > 8:
            return None
        if self.corners == 4:
            if word == "diamond":
                return True if self.regular else None
            return None if word in ("square", "rectangle") else False
        return _POLYGONS.get(self.corners) == word

    def is_called(self, word: str) -> bool | None:
        """Whether a basic colour word fits: True, False, or None where viewers may differ."""
        inside, edge = self.fill, self.stroke
        if inside is None:
            return edge.is_called(word) if edge is not None else None
        fits = inside.is_called(word)
        if edge is None or fits:
            return fits
        # An outlined circle may be called by its edge.
        return None if edge.is_called(word) is not False else fits

    def fits(self, colour: str | None, shape: str | None) -> bool | None:
        """Whether a description fits: True, False, or None where viewers may differ."""
        answers = [self.is_called(colour)] if colour else []
        answers += [self.is_shape(shape)] if shape else []
        if False in answers:
            return False
        return None if None in answers or not self.sure else True


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture as a list of what is seen, in the order of painting.

    Attributes:
        elements: What is visible.
        canvas: The picture as a whole.
        complete: Whether ``elements`` is all there is to see. If not (a raster image, an
            outline that cannot be read, very many elements), nothing can be said to be
            missing.
    """

    elements: tuple[Element, ...]
    canvas: Box
    complete: bool = True
    _facts: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def fact(self, name: str, find: Callable[[Scene], Any]) -> Any:
        """What ``find`` finds in this scene; looked for once."""
        if name not in self._facts:
            self._facts[name] = find(self)
        return self._facts[name]

    @functools.cached_property
    def unit(self) -> float:
        """Longer side of the canvas: what is small is small against it."""
        return max(self.canvas.width, self.canvas.height)

    @functools.cached_property
    def solids(self) -> tuple[Element, ...]:
        """Shapes that are no background."""
        return tuple(each for each in self.elements if each.solid and not each.ground)

    @functools.cached_property
    def lines(self) -> tuple[Element, ...]:
        """Lines, arrows, axes."""
        return tuple(each for each in self.elements if each.kind == "line")

    @functools.cached_property
    def texts(self) -> tuple[Element, ...]:
        """Texts."""
        return tuple(each for each in self.elements if each.kind == "text")

    @functools.cached_property
    def labels(self) -> dict[tuple[str, ...], tuple[Element, ...]]:
        """Texts that are no numbers, by their words."""
        found: dict[tuple[str, ...], tuple[Element, ...]] = {}
        for text in self.texts:
            key = key_of(text.text)
            if key and number_of(text.text) is None:
                found[key] = (*found.get(key, ()), text)
                pair = pair_of(text.text)
                if pair is not None and pair[0] and pair[0] != key:
                    found[pair[0]] = (*found.get(pair[0], ()), text)
        return found

    @functools.cached_property
    def label_starts(self) -> frozenset[str]:
        """First words of the labels."""
        return frozenset(key[0] for key in self.labels)

    def count(self, colour: str | None, shape: str | None) -> tuple[int, int | None]:
        """How many elements fit a description: at least, and at most.

        Returns:
            The second is None where there is no telling.
        """
        least = most = 0
        for each in self.elements:
            if shape is None and each.kind in ("line", "text"):
                # "Three red ones" may be lines or words, too.
                most += each.is_called(colour or "") is not False
                continue
            answer = each.fits(colour, shape)
            most += answer is not False
            least += bool(answer) and not each.swatch and not each.ground
        # Lines may make a triangle or cut one into two, and arrowheads are no elements.
        drawn = shape in STRAIGHT and any(not line.regular for line in self.lines)
        return least, None if drawn or not self.complete else most

    @functools.cached_property
    def merged(self) -> bool:
        """Whether shapes with straight edges touch, and so may be seen as other shapes."""
        straight = [each.box for each in self.solids if each.kind in ("rect", "polygon", "path")]
        near = 0.004 * self.unit
        return any(
            a.left - near < b.right
            and b.left - near < a.right
            and a.top - near < b.bottom
            and b.top - near < a.bottom
            for i, a in enumerate(straight)
            for b in straight[:i]
        )

    def the(self, colour: str | None, shape: str | None) -> Element | None:
        """The only element that fits a description; None if there is none or may be two."""
        found = [each for each in self.elements if each.fits(colour, shape) is not False]
        found = [each for each in found if each.solid and not each.swatch] or found
        if len(found) != 1 or not self.complete:
            return None
        (one,) = found
        return one if one.fits(colour, shape) and not one.ground else None
