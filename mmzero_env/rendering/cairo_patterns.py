"""Tiles of patterns, drawn at the resolution at which they are seen."""

from __future__ import annotations

import math

import cairocffi
from cairosvg import defs, parser, surface

from mmzero_env.rendering.cairo_layers import Layers

_LARGEST = 1024
"""Most pixels of a side of a tile; a larger one is seen a little blurred."""


class Tile(surface.SVGSurface):
    """Mixin: takes the place of CairoSVG's surface of patterns.

    CairoSVG's has one pixel a unit, whatever that is on the page.
    """

    device_units_per_user_units = 1

    def __init__(self, tree: parser.Tree, output: None, dpi: float, page: Layers) -> None:
        self._page = page
        super().__init__(tree, output, dpi, page)

    def _create_surface(self, width, height):
        matrix = self._page.context.get_matrix()
        # A page that is a tile itself has pixels of its own.
        finer = self._page.cairo.get_device_scale()
        scales = (
            math.hypot(matrix.xx, matrix.yx) * finer[0],
            math.hypot(matrix.xy, matrix.yy) * finer[1],
        )
        across, down = (
            min(_LARGEST, max(1, math.ceil(side * scale - 1e-6)))
            for side, scale in zip((width, height), scales, strict=True)
        )
        image = cairocffi.ImageSurface(cairocffi.FORMAT_ARGB32, across, down)
        if width > 0 and height > 0:
            image.set_device_scale(across / width, down / height)
        return image, width, height


def gradient_or_pattern(page: Layers, node: parser.Node, name: str, opacity: float) -> bool | None:
    """Set the source of a context; takes the place of CairoSVG's function.

    Drawing a pattern changes its node, and its next use would start from there.

    Args:
        page: What is drawn on.
        node: The element that is painted.
        name: Id of the gradient or pattern.
        opacity: Of the paint.

    Returns:
        Whether there is such a source.
    """
    pattern = page.patterns.get(name)
    if pattern is None:
        return defs.gradient_or_pattern(page, node, name, opacity)
    before = dict(pattern)
    try:
        return defs.gradient_or_pattern(page, node, name, opacity)
    finally:
        pattern = page.patterns[name]
        pattern.clear()
        pattern.update(before)
