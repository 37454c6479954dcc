"""Which rectangle of the plane the picture shows, and how large it says it is."""

from __future__ import annotations

import math
import re

from lxml import etree

from mmzero_env.rendering.limits import RenderLimits
from mmzero_env.rendering.refusal import Refusal
from mmzero_env.rendering.vocabulary import SVG

_LENGTH = re.compile(r"([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*([a-z%]*)$", re.IGNORECASE)
# A longer length is no length; the pattern above would take its time to find out.
_LONGEST = 64
SMALLEST = 0.01
"""Smallest side of a picture in user units; below it the numbers of a drawing library
run over when the picture is scaled to its final size."""
# Pixels of one unit at 96 dpi; em and ex of the default 16 px font.
_PIXELS = {
    "": 1.0,
    "px": 1.0,
    "pt": 96 / 72,
    "pc": 16.0,
    "mm": 96 / 25.4,
    "cm": 96 / 2.54,
    "in": 96.0,
    "em": 16.0,
    "ex": 8.0,
    "rem": 16.0,
}
_RATIO = re.compile(r"(?:none|x(?:Min|Mid|Max)Y(?:Min|Mid|Max))(?:\s+(?:meet|slice))?$")
_BOX_RULES = re.compile(r"(^|;)\s*(?:(?:min|max)-)?(?:width|height)\s*:[^;]*", re.IGNORECASE)
_BACKGROUND = re.compile(r"(?:^|;)\s*background(?:-color)?\s*:\s*([^;]+)", re.IGNORECASE)
_PLAIN_COLOUR = re.compile(r"#[0-9a-f]{3,8}$|[a-z]+$|rgba?\([\d\s.,]*\)$", re.IGNORECASE)


def settle_viewport(
    root: etree._Element, limits: RenderLimits, flags: dict[str, None]
) -> tuple[float | None, float | None]:
    """Find the size of the picture and make it explicit on the root, in place.

    A missing width or height follows from the viewBox. A percentage counts as missing:
    there is no page around the picture. A background colour of the root, which browsers
    paint and SVG libraries do not, becomes a rectangle.

    Args:
        root: The ``<svg>`` element; changed.
        limits: For the largest aspect ratio.
        flags: Ordered set that receives what was normalised.

    Returns:
        Width and height in user pixels, or (None, None) when nothing tells them.

    Raises:
        Refusal: ``empty_viewport``, ``extreme_aspect`` or ``number_too_large``.
    """
    box = _view_box(root, flags)
    width, height = _length(root.get("width")), _length(root.get("height"))
    for name, value in (("width", width), ("height", height)):
        if value is not None and value < SMALLEST:
            raise Refusal(
                "empty_viewport", f"{name} of the picture is {value:g}, at least {SMALLEST:g}"
            )
    if box is not None:
        if width is None and height is None:
            width, height = box[2], box[3]
        elif width is not None:
            height = width * box[3] / box[2] if height is None else height
        elif height is not None:
            width = height * box[2] / box[3]
    style = root.get("style")
    if style:
        # What the background says becomes a rectangle below.
        rest = _BACKGROUND.sub("", _BOX_RULES.sub(r"\1", style))
        root.set("style", ";".join(filter(None, map(str.strip, rest.split(";")))))
    for name in ("x", "y", "width", "height"):
        root.attrib.pop(name, None)
    ratio = root.get("preserveAspectRatio")
    if ratio is not None and not _RATIO.match(ratio.strip()):
        del root.attrib["preserveAspectRatio"]
    if width is None or height is None:
        flags["size_missing"] = None
        return None, None
    aspect = max(width / height, height / width)
    if not math.isfinite(aspect) or aspect > limits.max_aspect:
        raise Refusal(
            "extreme_aspect",
            f"the picture is {width:g} x {height:g}, sides at most 1:{limits.max_aspect:g}",
        )
    if max(width, height) > limits.max_number:
        raise Refusal(
            "number_too_large",
            f"the picture is {width:g} x {height:g} pixels, sides at most {limits.max_number:g}",
        )
    root.set("width", f"{width:.10g}")
    root.set("height", f"{height:.10g}")
    _paint_background(root, style or "", box or (0.0, 0.0, width, height), flags)
    return width, height


def _view_box(
    root: etree._Element, flags: dict[str, None]
) -> tuple[float, float, float, float] | None:
    text = root.get("viewBox")
    if text is None:
        return None
    try:
        x, y, width, height = (float(part) for part in re.split(r"[\s,]+", text.strip()))
    except ValueError:
        del root.attrib["viewBox"]
        flags["view_box_dropped"] = None
        return None
    if width < SMALLEST or height < SMALLEST:
        raise Refusal(
            "empty_viewport",
            f"viewBox has size {width:g} x {height:g}, sides must be at least {SMALLEST:g}",
        )
    # One spelling: libraries differ in which separators and digits they read.
    root.set("viewBox", " ".join(f"{value:.10g}" for value in (x, y, width, height)))
    return x, y, width, height


def _length(text: str | None) -> float | None:
    match = _LENGTH.match(text.strip()) if text and len(text) <= _LONGEST else None
    if match is None or match[2].lower() not in _PIXELS:
        return None
    return float(match[1]) * _PIXELS[match[2].lower()]


def _paint_background(
    root: etree._Element,
    style: str,
    box: tuple[float, float, float, float],
    flags: dict[str, None],
) -> None:
    found = _BACKGROUND.search(style)
    colour = found[1].strip() if found else ""
    if not _PLAIN_COLOUR.match(colour) or colour.lower() in ("none", "transparent", "inherit"):
        return
    x, y, width, height = box
    sheet = etree.Element(f"{SVG}rect")
    for name, value in (("x", x), ("y", y), ("width", width), ("height", height)):
        sheet.set(name, f"{value:.10g}")
    sheet.set("style", f"fill:{colour};fill-opacity:1;stroke:none")
    root.insert(0, sheet)
    flags["background_painted"] = None
