"""What CairoSVG leaves out of painting: blending, layers of single shapes, the paint order."""

from __future__ import annotations

from typing import Any

import cairocffi
from cairosvg import parser
from cairosvg.surface import Surface

from mmzero_env.rendering.cairo_context import Context

_SHAPES = frozenset("text tspan textPath path rect circle ellipse line polyline polygon".split())
NO_PAINT = (None, "", "none", "transparent")
"""Values of ``stroke`` that paint nothing."""
# CairoSVG forgets the opacity of the first, and counts that of the others twice.
_ONCE = frozenset(("use", "mask", "filter"))
_BLENDING: dict[str | None, int] = {
    "multiply": cairocffi.OPERATOR_MULTIPLY,
    "screen": cairocffi.OPERATOR_SCREEN,
    "overlay": cairocffi.OPERATOR_OVERLAY,
    "darken": cairocffi.OPERATOR_DARKEN,
    "lighten": cairocffi.OPERATOR_LIGHTEN,
    "color-dodge": cairocffi.OPERATOR_COLOR_DODGE,
    "color-burn": cairocffi.OPERATOR_COLOR_BURN,
    "hard-light": cairocffi.OPERATOR_HARD_LIGHT,
    "soft-light": cairocffi.OPERATOR_SOFT_LIGHT,
    "difference": cairocffi.OPERATOR_DIFFERENCE,
    "exclusion": cairocffi.OPERATOR_EXCLUSION,
    "hue": cairocffi.OPERATOR_HSL_HUE,
    "saturation": cairocffi.OPERATOR_HSL_SATURATION,
    "color": cairocffi.OPERATOR_HSL_COLOR,
    "luminosity": cairocffi.OPERATOR_HSL_LUMINOSITY,
}


class Layers(Surface):
    """Mixin of CairoSVG surfaces: paints a shape and its group as CSS says."""

    context: Context
    cairo: Any

    def draw(self, node: parser.Node) -> None:
        """Draw a node."""
        operator = _BLENDING.get(node.get("mix-blend-mode"))
        if operator is None and node.get("isolation") == "isolate":
            operator = cairocffi.OPERATOR_OVER
        opacity = None
        if "opacity" in node and not node.children and not _ONCE.isdisjoint((node.tag, *node)):
            opacity = node["opacity"]
            node["opacity"] = "1"
            operator = cairocffi.OPERATOR_OVER if operator is None else operator
        if operator is None:
            self._paint(node)
            return
        context = self.context
        context.save()
        context.push_group()
        self._paint(node)
        context.pop_group_to_source()
        context.set_operator(operator)
        context.paint_with_alpha(1.0 if opacity is None else float(opacity))
        context.restore()
        if opacity is not None:
            node["opacity"] = opacity

    def _paint(self, node: parser.Node) -> None:
        context = self.context
        before = context.outlines, context.stroke_first, context.layer_opacity
        stroked = node.get("stroke") not in NO_PAINT
        # CairoSVG outlines every letter, for a stroke that is most often invisible.
        context.outlines = stroked or not self.stroke_and_fill
        context.stroke_first, context.layer_opacity = False, 1.0
        opacity = None
        if stroked and self.stroke_and_fill and node.tag in _SHAPES:
            context.stroke_first = _is_stroked_first(node.get("paint-order", ""))
            opacity = node.get("opacity")
            if opacity is not None and not node.children and node.get("fill") != "none":
                # CairoSVG would paint both see-through, one over the other.
                context.layer_opacity = min(1.0, max(0.0, float(opacity)))
                node["opacity"] = "1"
        super().draw(node)
        if opacity is not None:
            node["opacity"] = opacity
        context.outlines, context.stroke_first, context.layer_opacity = before


def _is_stroked_first(order: str) -> bool:
    words = order.split()
    if "stroke" not in words:
        return False
    return "fill" not in words or words.index("stroke") < words.index("fill")
