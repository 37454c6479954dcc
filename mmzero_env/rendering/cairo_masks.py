"""Masks by brightness, where SVG wants them; CairoSVG masks by alpha, in a box of its own."""

from __future__ import annotations

import sys

import cairocffi
import numpy as np
from cairosvg import bounding_box, helpers, parser

from mmzero_env.rendering.cairo_layers import Layers

# Alpha, red, green and blue in the memory of a 32-bit pixel.
_A, _R, _G, _B = (3, 2, 1, 0) if sys.byteorder == "little" else (0, 1, 2, 3)
# Brightness of colours in 1/256, of ITU-R BT.709; SVG 1.1, section 14.4.
_RED, _GREEN, _BLUE = 54, 183, 19
_REGION = (("x", -0.1), ("y", -0.1), ("width", 1.2), ("height", 1.2))
# Their boxes are computed well; those of groups know nothing of the transforms inside.
_BOXED = frozenset("rect circle ellipse line polyline polygon path".split())


def paint_mask(surface: Layers, node: parser.Node, name: str, opacity: float) -> None:
    """Paint the source of a context through a mask; takes the place of CairoSVG's function.

    Args:
        surface: What is drawn on.
        node: The element that is masked.
        name: Id of the mask.
        opacity: Of the element.
    """
    mask, context = surface.masks[name], surface.context
    if context.flat:
        return
    content = context.get_source()
    context.save()
    _clip(surface, node, mask)
    context.push_group()
    if mask.get("maskContentUnits") == "objectBoundingBox":
        box = bounding_box.calculate_bounding_box(surface, node)
        if bounding_box.is_non_empty_bounding_box(box):
            context.translate(*box[:2])
            context.scale(*box[2:])
    # The region of the mask is no size of its content.
    kept = {key: mask.pop(key) for key in ("x", "y", "width", "height") if key in mask}
    mask.tag = "g"
    surface.draw(mask)
    mask.tag = "mask"
    mask.update(kept)
    drawn = context.pop_group()
    if mask.get("mask-type") != "alpha":
        _brightness_to_alpha(drawn.get_surface())
    context.set_source(content)
    if opacity < 1:
        context.push_group()
        context.mask(drawn)
        context.pop_group_to_source()
        context.paint_with_alpha(opacity)
    else:
        context.mask(drawn)
    context.restore()


def _clip(surface: Layers, node: parser.Node, mask: parser.Node) -> None:
    """Clip to the region of a mask, as far as it is plain to see."""
    own = mask.get("maskUnits") == "userSpaceOnUse"
    if own:
        references = {"x": "x", "width": "x", "y": "y", "height": "y"}
        left, top, across, down = 0.0, 0.0, 1.0, 1.0
        if not references.keys() <= mask.keys():
            return
    else:
        references = dict.fromkeys(("x", "y", "width", "height"), 1)
        box = bounding_box.calculate_bounding_box(surface, node) if node.tag in _BOXED else None
        if box is None or not bounding_box.is_non_empty_bounding_box(box):
            return
        left, top, across, down = box
    x, y, width, height = (
        helpers.size(surface, mask[side], references[side]) if side in mask else usual
        for side, usual in _REGION
    )
    surface.context.rectangle(left + x * across, top + y * down, width * across, height * down)
    surface.context.clip()


def _brightness_to_alpha(image: cairocffi.ImageSurface) -> None:
    """Write the brightness of every pixel into its alpha; its colours mean nothing then."""
    image.flush()
    width, height = image.get_width(), image.get_height()
    if not width or not height:
        return
    words = np.frombuffer(image.get_data(), np.uint8).reshape(height, -1, 4)[:, :width]
    red, green, blue = (words[..., channel].astype(np.uint16) for channel in (_R, _G, _B))
    words[..., _A] = (_RED * red + _GREEN * green + _BLUE * blue) >> 8
    image.mark_dirty()
