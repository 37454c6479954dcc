"""Origins of transforms for librsvg, which knows none but the corner of the page.

``transform-origin`` becomes two translations around the transform. Where the box that it
refers to is not plain to see, it is left as it is, and so ignored.
"""

from __future__ import annotations

import re

from lxml import etree

from mmzero_env.rendering.css import declarations, sheet_rules
from mmzero_env.rendering.references import SVG

_Box = tuple[float, float, float, float]

_LENGTH = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(px|%)?", re.ASCII)
_TURN = re.compile(r"(?<![\w.])([+-]?(?:\d+\.?\d*|\.\d+))turn\b", re.ASCII)
_WORDS = {"left": "0%", "top": "0%", "center": "50%", "right": "100%", "bottom": "100%"}
_ACROSS, _DOWN = ("left", "right"), ("top", "bottom")
_NAMES = ("transform", "transform-origin", "transform-box")
_SHAPE_BOXES = ("fill-box", "stroke-box")


def bake_origins(root: etree._Element) -> None:
    """Write origins of transforms into the transforms, in place.

    Args:
        root: The ``<svg>`` element; changed.
    """
    page = _page(root)
    for element in root.iter(etree.Element):
        if element.tag == f"{SVG}style" and element.text:
            rules = sheet_rules(element.text)
            element.text = "\n".join(
                f"{prelude.strip()}{{{_bake_rule(content, page)}}}" for prelude, content in rules
            )
        elif "transform-origin" in element.attrib or "transform-origin" in element.get("style", ""):
            _bake_element(element, page)


def _bake_rule(content: str, page: _Box | None) -> str:
    given = list(declarations(content))
    found = dict(given)
    if not found.keys() >= {"transform", "transform-origin"}:
        return content
    box = None if found.get("transform-box") in _SHAPE_BOXES else page
    origin = _origin(found["transform-origin"], box)
    if origin is None:
        return content
    return _with_transform(given, _around(found["transform"], origin, "px"))


def _bake_element(element: etree._Element, page: _Box | None) -> None:
    given = list(declarations(element.get("style", "")))
    style = dict(given)
    found = {name: style.get(name) or element.get(name) for name in _NAMES}
    transform, origin_text = found["transform"], found["transform-origin"]
    if not transform or not origin_text or transform == "none":
        return
    box = _shape_box(element) if found["transform-box"] in _SHAPE_BOXES else page
    origin = _origin(origin_text, box)
    if origin is None:
        return
    element.attrib.pop("transform-origin", None)
    if "transform" in style:
        element.set("style", _with_transform(given, _around(transform, origin, "px")))
    else:
        element.set("transform", _around(transform, origin, ""))


def _with_transform(given: list[tuple[str, str]], transform: str) -> str:
    kept = [f"{name}:{value}" for name, value in given if name not in _NAMES]
    return ";".join([*kept, f"transform:{transform}"])


def _around(transform: str, origin: tuple[float, float], unit: str) -> str:
    # librsvg 2.54 drops a transform with !important, and one with turns.
    value = _TURN.sub(lambda turn: f"{360 * float(turn[1]):g}deg", transform.partition("!")[0])
    x, y = (f"{coordinate:.6g}{unit}" for coordinate in origin)
    back = ",".join(f"{-coordinate:.6g}{unit}" for coordinate in origin)
    return f"translate({x},{y}) {value.strip()} translate({back})"


def _origin(text: str, box: _Box | None) -> tuple[float, float] | None:
    """The origin in user units; None when it is not understood."""
    words = text.partition("!")[0].replace(",", " ").split()[:2]
    if not words or box is None:
        return None
    if len(words) == 1:
        words = ["center", *words] if words[0] in _DOWN else [*words, "center"]
    if words[0] in _DOWN or words[1] in _ACROSS:
        words.reverse()
    found = []
    for word, start, side in zip(words, box[:2], box[2:], strict=True):
        match = _LENGTH.fullmatch(_WORDS.get(word, word))
        if match is None:
            return None
        number = float(match[1])
        found.append(start + (number * side / 100 if match[2] == "%" else number))
    return found[0], found[1]


def _page(root: etree._Element) -> _Box | None:
    sides = root.get("viewBox", "").split()[2:] or [root.get("width"), root.get("height")]
    try:
        # The reference box starts at the origin, whatever the viewBox starts at.
        return 0.0, 0.0, float(sides[0] or ""), float(sides[1] or "")
    except ValueError:
        return None


def _shape_box(element: etree._Element) -> _Box | None:
    """The box around a shape of which the attributes tell it."""

    def number(name: str) -> float:
        return float(element.get(name, "0").removesuffix("px"))

    try:
        match str(element.tag)[len(SVG) :]:
            case "rect":
                return number("x"), number("y"), number("width"), number("height")
            case "circle":
                r = number("r")
                return number("cx") - r, number("cy") - r, 2 * r, 2 * r
            case "ellipse":
                rx, ry = number("rx"), number("ry")
                return number("cx") - rx, number("cy") - ry, 2 * rx, 2 * ry
            case _:
                return None
    except ValueError:
        return None
