"""What it costs to put a part of a picture together before it is painted.

The units are those of :mod:`.cost`, for a layer over a whole picture of 1024 pixels.
"""

from __future__ import annotations

import re
from collections.abc import Container

from lxml import etree

from mmzero_env.rendering.filters import covered

LAYER = 12.0
MASK = 35.0
TILE = 3.0
"""The tile of a pattern, drawn anew for every shape that it fills."""

_BLEND = 40.0
# Modes for which cairo computes with floating-point numbers.
_SLOW_BLEND = {
    **dict.fromkeys(("color-dodge", "color-burn", "soft-light", "color", "luminosity"), 90.0),
    **dict.fromkeys(("hue", "saturation"), 135.0),
}
_WIDTH = re.compile(r"stroke-width\s*:\s*(\d+\.?\d*|\.\d+)")
_NUMBER = re.compile(r"\s*(\d+\.?\d*|\.\d+)")


def blend_cost(mode: str) -> float:
    """The cost of a value of ``mix-blend-mode``."""
    mode = mode.lower().partition("!")[0].strip()
    return 0.0 if mode == "normal" else _SLOW_BLEND.get(mode, _BLEND)


def shape_layer_cost(
    shape: etree._Element, picture: tuple[float, float], reused: Container[str], sheet: bool
) -> float:
    """The cost of painting a shape see-through, which has no content.

    Only a stroke over its fill needs a layer, as large as the two.

    Args:
        shape: A shape or a text.
        picture: Width and height of the picture in user units.
        reused: Ids of elements that are drawn in other places too.
        sheet: Whether a style sheet may stroke it.
    """
    lineage = [shape, *shape.iterancestors()]
    styles = [node.get("style", "") for node in lineage]
    if not (
        sheet
        or any(node.get("stroke") not in (None, "none") for node in lineage)
        or any("stroke" in style for style in styles)
    ):
        return 0.0
    widths = [_NUMBER.match(node.get("stroke-width", "1")) for node in lineage]
    widths += [_WIDTH.search(style) for style in styles]
    widest = max((float(width[1]) for width in widths if width), default=1.0)
    edge = 2 * widest / min(picture)
    return LAYER * min(1.0, covered(shape, None, picture, reused) + edge)
