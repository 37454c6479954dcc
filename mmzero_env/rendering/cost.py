"""What drawing a document will cost once every reference is followed.

``<use>``, patterns, markers, masks, filters and clip paths let a few bytes draw millions
of shapes. The cost is counted without drawing, so a bomb is refused for what it is and
never for how busy the machine was. The unit is one plain shape, about 0.15 ms of CPU
time in the default backend; the weights were measured with the backend that takes
longer.
"""

from __future__ import annotations

import functools
import math
import re

from lxml import etree

from mmzero_env.rendering.css import declarations
from mmzero_env.rendering.filters import (
    APPLIED,
    REFERENCE_PIXELS,
    covered,
    functions_cost,
    is_primitive,
    primitive_cost,
)
from mmzero_env.rendering.layers import LAYER, MASK, TILE, blend_cost, shape_layer_cost
from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.references import HREFS, MARKERS, fragments, index_ids
from mmzero_env.rendering.refusal import Refusal
from mmzero_env.rendering.selectors import Selectors
from mmzero_env.rendering.vocabulary import SVG

# Weights in units of one plain shape.
LETTER = 0.25
PATH_CHARACTER = 0.02
USE = 2.0
SEARCH = 0.005
# One dash of a line, drawn or not: 5 ns.
DASH = 3e-5
# A pattern's tile is drawn into memory of its own, so large ones cost by the pixel.
TILE_PIXELS = 10_000.0

# Painted only where something refers to them.
_STORED = frozenset(
    f"{SVG}{name}"
    for name in (
        "defs symbol clipPath mask marker pattern linearGradient radialGradient filter style"
    ).split()
)
_TEXT = frozenset(f"{SVG}{name}" for name in ("text", "tspan", "textPath"))
_INHERITED = frozenset(("fill", "stroke", *MARKERS))
# Attributes and properties that may make drawing expensive, besides path data.
_COSTLY = frozenset(
    (
        *_INHERITED,
        "style",
        "filter",
        "mask",
        "clip-path",
        "opacity",
        "mix-blend-mode",
        "isolation",
        "stroke-dasharray",
    )
)
# Those of them that need no reference and no function for it.
_COSTLY_WORDS = frozenset(("style", "opacity", "mix-blend-mode", "isolation", "stroke-dasharray"))
_STYLE_HINT = re.compile(r"\(|opacity|blend|isolation|dash")
_DATA = frozenset(("d", "points"))
_GEOMETRY = frozenset(
    "d points x y width height r rx ry cx cy x1 y1 x2 y2 font-size textLength".split()
)
_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE)


def check_cost(root: etree._Element, limits: RenderLimits) -> None:
    """Refuse a document that would cost too much.

    Args:
        root: The ``<svg>`` element, references already cleaned.
        limits: ``max_cost`` and ``max_depth``.

    Raises:
        Refusal: ``too_costly``, ``too_deep`` or ``reference_cycle``.
    """
    total = drawing_cost(root, limits)
    if total > limits.max_cost:
        raise Refusal(
            "too_costly",
            f"drawing costs as much as {total:.3g} plain shapes, at most {limits.max_cost:g}; "
            "repeat and filter less",
        )


def drawing_cost(root: etree._Element, limits: RenderLimits) -> float:
    """The cost of a document with every reference followed.

    Args:
        root: The ``<svg>`` element, references already cleaned.
        limits: ``max_depth``, and ``max_cost``, beyond which rules of style sheets are not
            counted any further.

    Returns:
        The cost in units of one plain shape.

    Raises:
        Refusal: ``too_deep`` or ``reference_cycle``.
    """
    counter = _Counter(root, limits)
    searched = SEARCH * counter.selectors.tests
    if searched > limits.max_cost:
        return searched
    total, _ = counter.drawn(root)
    return total + searched


class _Counter:
    """Cost and depth of elements, each computed once."""

    def __init__(self, root: etree._Element, limits: RenderLimits) -> None:
        self.root = root
        self.ids = index_ids(root)
        self.elements = sum(1 for _ in root.iter(etree.Element))
        self.selectors = Selectors(
            root, self.ids, self.elements, _is_costly, limits.max_cost / SEARCH
        )
        self.limits = limits
        self.picture = _picture(root)
        self.scale = REFERENCE_PIXELS / max(self.picture)
        self.known: dict[etree._Element, tuple[float, int]] = {}
        self.open: set[etree._Element] = set()

    @functools.cached_property
    def reused(self) -> frozenset[str]:
        """Ids of the elements that a ``<use>`` draws."""
        return frozenset(
            value[1:]
            for use in self.root.iter(f"{SVG}use")
            for name, value in use.items()
            if name in HREFS
        )

    def referred(self, name: str) -> tuple[float, int]:
        """Cost and depth of what ``#name`` draws."""
        target = self.ids.get(name)
        return (0.0, 0) if target is None else self.content(target)

    def drawn(self, element: etree._Element) -> tuple[float, int]:
        """Cost and depth of an element where it stands."""
        return (0.0, 0) if element.tag in _STORED else self.content(element)

    def content(self, element: etree._Element) -> tuple[float, int]:
        """Cost and depth of an element when something draws it."""
        known = self.known.get(element)
        if known is not None:
            return known
        if element in self.open:
            raise Refusal(
                "reference_cycle",
                f"#{element.get('id', '')[:40]} draws itself; break the circle of references",
            )
        self.open.add(element)
        # The chain of open elements is the depth on the way down.
        if len(self.open) > 2 * self.limits.max_depth:
            raise Refusal("too_deep", f"references nest deeper than {self.limits.max_depth}")
        cost, depth = self._own(element), 0
        for child in element:
            if child.tag not in _STORED:
                child_cost, child_depth = self.content(child)
                cost += child_cost
                if child_depth > depth:
                    depth = child_depth
        target = None
        for name, value in element.items():
            if _is_costly(name, value):
                more, ref_depth = self._property(element, name, value)
                cost += more
                depth = max(depth, ref_depth)
            elif name in _DATA:
                cost += PATH_CHARACTER * len(value)
            elif name in HREFS and value.startswith("#"):
                target = value[1:]
        for name, value in self.selectors.given(element):
            more, ref_depth = self._property(element, name, value)
            cost += more
            depth = max(depth, ref_depth)
        if target is not None:
            ref_cost, ref_depth = self.referred(target)
            is_use = element.tag == f"{SVG}use"
            cost += ref_cost + (USE + SEARCH * self.elements if is_use else 0.0)
            depth = max(depth, ref_depth)
        depth += 1
        if depth > self.limits.max_depth:
            raise Refusal("too_deep", f"references nest deeper than {self.limits.max_depth}")
        self.open.discard(element)
        self.known[element] = cost, depth
        return cost, depth

    def _own(self, element: etree._Element) -> float:
        tag = element.tag
        if is_primitive(tag):
            return primitive_cost(element, self.scale)
        cost = 1.0
        if tag in _TEXT:
            letters = len((element.text or "").strip())
            letters += sum(len((child.tail or "").strip()) for child in element)
            cost += LETTER * letters
        elif tag == f"{SVG}pattern":
            cost += TILE + self._tile(element)
        return cost

    def _property(self, element: etree._Element, name: str, value: str) -> tuple[float, int]:
        """Cost of one property, and depth of what it refers to."""
        if name == "style":
            cost, depth = 0.0, 0
            if not _STYLE_HINT.search(value):
                return cost, depth
            for inner, text in declarations(value):
                if inner != "style" and _is_costly(inner, text):
                    more, ref_depth = self._property(element, inner, text)
                    cost += more
                    depth = max(depth, ref_depth)
            return cost, depth
        if name == "opacity":
            return (0.0 if value in ("1", "1.0") else self._layer(element)), 0
        if name == "isolation":
            return (LAYER if value.lower().startswith("isolate") else 0.0), 0
        if name == "mix-blend-mode":
            return blend_cost(value), 0
        if name == "stroke-dasharray":
            return self._dashes(element, value), 0
        if "(" not in value:
            return 0.0, 0
        names = fragments(value)
        cost, depth = 0.0, 0
        for target in names:
            ref_cost, ref_depth = self.referred(target)
            if name == "filter":
                effect = self.ids.get(target)
                ref_cost = APPLIED + ref_cost * covered(element, effect, self.picture, self.reused)
            cost += ref_cost * self._times(element, name)
            depth = max(depth, ref_depth)
        if name == "mask" and names:
            cost += MASK
        elif name == "filter":
            functions = functions_cost(value)
            cost += (
                APPLIED + functions * covered(element, None, self.picture, self.reused)
                if functions
                else 0.0
            )
        return cost, depth

    def _layer(self, element: etree._Element) -> float:
        """Cost of putting an element together before it is painted see-through."""
        if len(element) or element.tag == f"{SVG}use":
            return LAYER
        return shape_layer_cost(element, self.picture, self.reused, self.sheet_strokes)

    @functools.cached_property
    def sheet_strokes(self) -> bool:
        """Whether a style sheet may stroke shapes."""
        return any("stroke" in (sheet.text or "") for sheet in self.root.iter(f"{SVG}style"))

    def _times(self, element: etree._Element, name: str) -> int:
        """How often a reference in a property is drawn."""
        if name not in _INHERITED:
            return 1
        shapes = sum(1 for _ in element.iter(etree.Element))
        if name in MARKERS:
            vertices = sum(
                len(_NUMBER.findall(node.get("points") or node.get("d") or ""))
                for node in element.iter(etree.Element)
            )
            return max(shapes, vertices // 2 + 1)
        return shapes

    def _dashes(self, element: etree._Element, value: str) -> float:
        """Cost of cutting lines into dashes."""
        period = sum(float(number) for number in _NUMBER.findall(value))
        if period <= 0:
            return 0.0
        # What has content passes its dashes on, through references too.
        leaf = len(element) == 0 and element.tag != f"{SVG}use"
        # No line is longer than eight times the sum of its numbers: four sides of a box,
        # twice the radius around a circle, twice a coordinate from point to point.
        length = 8 * sum(map(_reach, [element] if leaf else self.root.iter(etree.Element)))
        return DASH * length / period

    def _tile(self, pattern: etree._Element) -> float:
        """Cost of the memory that the tile of a pattern takes."""
        pixels = self.scale * self.scale
        for side, whole in zip(("width", "height"), self.picture, strict=True):
            text = pattern.get(side, "0")
            number = next((float(found) for found in _NUMBER.findall(text)), 0.0)
            relative = pattern.get("patternUnits", "objectBoundingBox") != "userSpaceOnUse"
            if text.strip().endswith("%"):
                number, relative = number / 100, True
            pixels *= number * whole if relative else number
        for name, values in re.findall(
            r"([a-z]+)\(([^()]*)\)", pattern.get("patternTransform", "")
        ):
            if name in ("scale", "matrix"):
                numbers = [float(number) for number in _NUMBER.findall(values)][:4]
                pixels *= max(1.0, max(numbers, default=1.0)) ** 2
        # Up to four pictures large it is the size that patterns usually have.
        whole = self.picture[0] * self.picture[1] * self.scale * self.scale
        return 0.0 if pixels <= 4 * whole else pixels / TILE_PIXELS


def _is_costly(name: str, value: str) -> bool:
    return name in (_COSTLY if "(" in value else _COSTLY_WORDS)


def _picture(root: etree._Element) -> tuple[float, float]:
    """Width and height of the picture in user units."""
    box = root.get("viewBox", "").split()
    sides = box[2:] if len(box) == 4 else [root.get("width"), root.get("height")]
    try:
        return float(sides[0] or ""), float(sides[1] or "")
    except ValueError:
        # Measured when drawn; the default size of a replaced element in CSS 2.1, 10.3.2.
        return 300.0, 150.0


def _reach(element: etree._Element) -> float:
    return math.fsum(
        float(number) for name in _GEOMETRY for number in _NUMBER.findall(element.get(name) or "")
    )
