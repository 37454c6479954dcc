"""Transforms as CSS writes them: angles with units, origins in words or in the shape's box."""

from __future__ import annotations

import re

from cairosvg import bounding_box, helpers, parser
from cairosvg.surface import Surface

_ANGLE = re.compile(r"(?<![\w.])([+-]?(?:\d+\.?\d*|\.\d+))(deg|grad|rad|turn)\b", re.ASCII)
_DEGREES = {"deg": 1.0, "grad": 0.9, "rad": 57.29577951308232, "turn": 360.0}
_WORDS = {"left": "0%", "top": "0%", "center": "50%", "right": "100%", "bottom": "100%"}
_ACROSS, _DOWN = ("left", "right"), ("top", "bottom")


class Transforms(Surface):
    """Mixin of CairoSVG surfaces: reads transforms of CSS."""

    def draw(self, node: parser.Node) -> None:
        """Draw a node."""
        transform = node.get("transform")
        if transform:
            if "d" in transform or "turn" in transform:
                node["transform"] = _ANGLE.sub(_in_degrees, transform)
            if "transform-origin" in node:
                self._settle_origin(node)
        super().draw(node)

    def _settle_origin(self, node: parser.Node) -> None:
        """Write an origin as two lengths; CairoSVG's words mean pixels of the page."""
        words = helpers.normalize(node["transform-origin"]).split()[:2]
        if not words:
            del node["transform-origin"]
            return
        if len(words) == 1:
            words = ["center", *words] if words[0] in _DOWN else [*words, "center"]
        if words[0] in _DOWN or words[1] in _ACROSS:
            words.reverse()
        lengths = [_WORDS.get(word, word) for word in words]
        if node.get("transform-box") in ("fill-box", "stroke-box"):
            box = bounding_box.calculate_bounding_box(self, node)
            if bounding_box.is_non_empty_bounding_box(box):
                lengths = [
                    f"{start + helpers.size(self, length, side):.6g}"
                    for start, side, length in zip(box[:2], box[2:], lengths, strict=True)
                ]
        node["transform-origin"] = " ".join(lengths)


def _in_degrees(angle: re.Match[str]) -> str:
    return f"{float(angle[1]) * _DEGREES[angle[2]]:.6g}"
