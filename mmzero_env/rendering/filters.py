"""What filters cost, and over how much of the picture they work.

The weights are CPU times of librsvg for one primitive over a whole picture of 1024
pixels, the largest size that is common, in units of 0.2 ms: a document must cost the
same whatever size it is drawn at, since its verdict may depend on its code alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container

from lxml import etree

from mmzero_env.rendering.css import declarations
from mmzero_env.rendering.vocabulary import PRIMITIVES, SVG

REFERENCE_PIXELS = 1024
"""Side of the picture, in pixels, that costs are counted for."""

APPLIED = 50.0
"""Setting up a filter for one element, however small: it gets layers of its own."""

# Morphology and convolution grow with their window, see below.
_WEIGHTS: dict[str, float] = {
    "feBlend": 230.0,
    "feColorMatrix": 240.0,
    "feComponentTransfer": 190.0,
    "feComposite": 200.0,
    "feConvolveMatrix": 300.0,
    "feDiffuseLighting": 380.0,
    "feDisplacementMap": 4000.0,
    "feDropShadow": 650.0,
    "feFlood": 20.0,
    "feGaussianBlur": 650.0,
    "feMerge": 60.0,
    "feMorphology": 30.0,
    "feOffset": 30.0,
    "feSpecularLighting": 620.0,
    "feTile": 30.0,
    "feTurbulence": 320.0,
}
OCTAVE = 180.0
MERGED = 140.0
TAP = 40.0
# librsvg looks at no more pixels than this to each side.
_LARGEST_RADIUS = 10.0
_MOST_OCTAVES = 10.0
_LARGEST_ORDER = 64.0

_FUNCTIONS = {"blur": 650.0, "drop-shadow": 650.0}
_OTHER_FUNCTION = 240.0
_FUNCTION = re.compile(r"([a-z-]+)\(")

# A filter reaches a tenth of the box of its element beyond every side.
_REGION = 1.2
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE)
_PLAIN = re.compile(r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)(?:px)?\s*$", re.IGNORECASE)
_PERCENT = re.compile(r"\s*((?:\d+(?:\.\d*)?|\.\d+))%\s*$")
_TRANSFORM = re.compile(r"([a-zA-Z]+)\(([^()]*)\)")
# Inside of these a shape may be drawn at any scale.
_RESCALED = frozenset(f"{SVG}{name}" for name in ("symbol", "pattern", "marker", "mask", "svg"))
_WIDE = 0.75
"""Width of a letter over the font size, on the safe side."""


def primitive_cost(element: etree._Element, scale: float) -> float:
    """The cost of one filter primitive over the whole picture.

    Args:
        element: An ``fe...`` element.
        scale: Pixels of one user unit.

    Returns:
        The cost in units of one plain shape.
    """
    name = str(element.tag)[len(SVG) :]
    cost = _WEIGHTS.get(name, 1.0)
    if name == "feMerge":
        cost += MERGED * len(element)
    elif name == "feTurbulence":
        cost += OCTAVE * min(_MOST_OCTAVES, _largest(element.get("numOctaves", "1")))
    elif name == "feMorphology":
        radius = min(_LARGEST_RADIUS, _largest(element.get("radius", "0")) * max(scale, 1.0))
        cost *= (2 * radius + 1) ** 2
    elif name == "feConvolveMatrix":
        cost += TAP * min(_LARGEST_ORDER, _largest(element.get("order", "3"))) ** 2
    return cost


def is_primitive(tag: object) -> bool:
    """Whether a tag names a filter primitive."""
    return tag in _PRIMITIVE_TAGS


def functions_cost(value: str) -> float:
    """The cost of the filter functions in a value, over the whole picture."""
    return sum(
        _FUNCTIONS.get(name, _OTHER_FUNCTION)
        for name in _FUNCTION.findall(value.lower())
        if name not in ("url", "rgb", "rgba", "hsl", "hsla", "calc")
    )


def covered(
    element: etree._Element,
    effect: etree._Element | None,
    picture: tuple[float, float],
    reused: Container[str],
) -> float:
    """The share of the picture that a filter of an element works on, 0 to 1.

    An upper bound: one wherever the box of the element is not plain to see.

    Args:
        element: What the filter is applied to.
        effect: The ``<filter>`` element; None for filter functions.
        picture: Width and height of the picture in user units.
        reused: Ids of elements that are drawn in other places too.
    """
    area = picture[0] * picture[1]
    region = _REGION * _REGION
    if effect is not None and any(effect.get(side) for side in ("width", "height")):
        sides = [_share(effect.get(side, "120%")) for side in ("width", "height")]
        if effect.get("filterUnits") == "userSpaceOnUse":
            lengths = [_length(effect, side) for side in ("width", "height")]
            if lengths[0] is None or lengths[1] is None:
                return 1.0
            return min(1.0, lengths[0] * lengths[1] * _zoom(element, reused) / area)
        if sides[0] is None or sides[1] is None:
            return 1.0
        region = sides[0] * sides[1]
    box = _box(element)
    if box is None:
        return 1.0
    # A line has no height, but its region is as wide as its stroke at least.
    return min(1.0, region * box * _zoom(element, reused) / area)


def _box(element: etree._Element) -> float | None:
    """Area of the box around a shape in its own units; None when not plain to see."""
    name = str(element.tag)[len(SVG) :]
    style = element.get("style")
    if style and any(prop in _SIDES for prop, _ in declarations(style)):
        return None
    match name:
        case "rect":
            sides = [_length(element, "width"), _length(element, "height")]
        case "circle":
            sides = 2 * [_twice(_length(element, "r"))]
        case "ellipse":
            sides = [_twice(_length(element, side)) for side in ("rx", "ry")]
        case "path" | "polygon" | "polyline":
            return _extent(element.get("d") or element.get("points") or "")
        case "text" if not len(element) and not element.get("transform"):
            size = next(
                (node.get("font-size") for node in _lineage(element) if node.get("font-size")), None
            )
            match_ = _PLAIN.match(size or "")
            if match_ is None or (style and "font" in style):
                return None
            letters = len((element.text or "").strip())
            sides = [_WIDE * float(match_[1]) * letters, 1.5 * float(match_[1])]
        case _:
            return None
    if sides[0] is None or sides[1] is None:
        return None
    return sides[0] * sides[1]


_SIDES = frozenset("width height r rx ry font-size font d".split())
_PRIMITIVE_TAGS = frozenset(SVG + name for name in PRIMITIVES)


def _extent(data: str) -> float | None:
    """Area of the box around path data without relative commands."""
    if re.search(r"[a-df-y]", data):
        return None
    numbers = [float(number) for number in _NUMBER.findall(data)]
    if len(numbers) < 2:
        return 0.0
    if re.search(r"[HVA]", data):
        return (max(numbers) - min(numbers)) ** 2
    across, down = numbers[::2], numbers[1::2]
    return (max(across) - min(across)) * (max(down) - min(down))


def _zoom(element: etree._Element, reused: Container[str]) -> float:
    """How much the transforms around an element enlarge areas, at most."""
    zoom = 1.0
    for node in _lineage(element):
        parent = node.getparent()
        if parent is None:
            break
        # Somebody may draw it in another place, at another scale.
        if node.tag in _RESCALED or node.get("id", "") in reused:
            return math.inf
        for name, values in _TRANSFORM.findall(node.get("transform") or ""):
            numbers = [abs(float(number)) for number in _NUMBER.findall(values)]
            match name:
                case "translate":
                    factor = 1.0
                case "scale" if numbers:
                    factor = max(numbers) ** 2
                case "rotate":
                    factor = 2.0
                case "matrix" if len(numbers) == 6:
                    factor = sum(number * number for number in numbers[:4])
                case _:
                    return math.inf
            zoom *= factor
        if "transform" in (node.get("style") or ""):
            return math.inf
    return zoom


def _lineage(element: etree._Element) -> list[etree._Element]:
    return [element, *element.iterancestors()]


def _twice(value: float | None) -> float | None:
    return None if value is None else 2 * value


def _length(element: etree._Element, name: str) -> float | None:
    match = _PLAIN.match(element.get(name) or "0")
    return abs(float(match[1])) if match else None


def _share(text: str) -> float | None:
    percent = _PERCENT.match(text)
    if percent:
        return float(percent[1]) / 100
    plain = _PLAIN.match(text)
    return abs(float(plain[1])) if plain else None


def _largest(text: str) -> float:
    return max((abs(float(number)) for number in _NUMBER.findall(text)), default=0.0)
