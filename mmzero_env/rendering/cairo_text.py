"""What CairoSVG gets wrong about text: relative sizes, anchors of lines, raised letters."""

from __future__ import annotations

import re
from collections.abc import Iterator

import cairocffi
from cairosvg import helpers, parser, surface, text
from cairosvg.surface import Surface

from mmzero_env.rendering.cairo_layers import Layers

_RELATIVE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(%|em|ex|ch)", re.ASCII)
_FACTORS = {"%": 0.01, "em": 1.0, "ex": 0.5, "ch": 0.5}
# CSS Fonts 4, section 2.5: a step of the scale of sizes.
_WORDS = {"larger": 1.2, "smaller": 1 / 1.2}
_ENDINGS = frozenset("%mxhr")
_SHARES = {"middle": 0.5, "end": 1.0}
# Shifts in em, upwards, as librsvg draws them.
_SHIFTS = {"super": 0.4, "sub": -0.2}
_BOLD = 550  # From this weight on CairoSVG takes the bold face.


class _Page:
    """Stands in for a surface where a length needs no more than a resolution."""

    dpi = 96
    font_size = 16.0
    context_width = context_height = 0.0


class SettledNode(parser.Node):
    """A CairoSVG node that passes on its font size in pixels.

    CairoSVG passes on the words ``1.2em``, which multiply again at every level below, and
    takes percentages of the page.
    """

    def __init__(self, element, style, url_fetcher, parent=None, *more, **options) -> None:
        # A node makes its children when its own properties are known.
        if parent is not None:
            settle_font_size(parent)
        super().__init__(element, style, url_fetcher, parent, *more, **options)


def settle_font_size(node: parser.Node) -> None:
    """Make a relative font size pixels, in place.

    Args:
        node: Its parent's font size is settled already.
    """
    size = node.get("font-size")
    if not size or size[-1] not in _ENDINGS:
        return
    match = _RELATIVE.fullmatch(size.strip())
    factor = _FACTORS[match[2]] * float(match[1]) if match else _WORDS.get(size.strip())
    if factor is None:
        return
    outer = node.parent.get("font-size") if node.parent is not None else None
    pixels = helpers.size(_Page, outer) if outer else _Page.font_size
    node["font-size"] = f"{pixels * factor:.6g}"


class TextLines(Surface):
    """Mixin of CairoSVG surfaces: lines of spans with one anchor, raised and lowered spans."""

    cursor_d_position: list[float]

    def draw(self, node: parser.Node) -> None:
        """Draw a node."""
        settle_font_size(node)
        if node.tag == "text" and node.children:
            self._anchor(node)
        lift = self._lift(node) if node.tag == "tspan" and "baseline-shift" in node else 0.0
        if lift:
            self.cursor_d_position[1] -= lift
            super().draw(node)
            self.cursor_d_position[1] += lift
        else:
            super().draw(node)

    def _lift(self, span: parser.Node) -> float:
        """How far a span is raised, in pixels."""
        # What has a place of its own has left the line that it was raised from.
        if any("y" in node for node in _leaves(span)):
            return 0.0
        shift = span["baseline-shift"].strip()
        size = self._size_of(span)
        if shift in _SHIFTS:
            return size * _SHIFTS[shift]
        before, self.font_size = self.font_size, size
        lift = helpers.size(self, shift[:-1]) * size / 100 if shift[-1:] == "%" else None
        lift = helpers.size(self, shift) if lift is None else lift
        self.font_size = before
        return lift

    def _anchor(self, text: parser.Node) -> None:
        """Anchor whole lines of a text; CairoSVG would anchor every span by itself."""
        lines: list[list[parser.Node]] = []
        for leaf in _leaves(text):
            if leaf is text or "x" in leaf or "y" in leaf or leaf.tag == "textPath":
                lines.append([])
            lines[-1].append(leaf)
        for line in lines:
            first = line[0]
            if (
                (first is not text and "x" not in first)
                or first.tag == "textPath"
                or sum(bool(leaf.text) for leaf in line) < 2
            ):
                continue
            places = helpers.normalize(first.get("x", "0")).split()
            share = _SHARES.get(first.get("text-anchor"), 0.0)
            if len(places) != 1 or (not share and not any(map(_is_anchored, line))):
                continue
            if share:
                start = helpers.size(self, places[0], "x") - share * self._width(line)
                first["x"] = f"{start:.6g}"
            for leaf in line:
                leaf["text-anchor"] = "start"

    def _width(self, line: list[parser.Node]) -> float:
        """How far CairoSVG goes on along a line, from its first letter to its end."""
        context, before = self.context, self.font_size
        width = 0.0
        context.save()
        for leaf in line:
            if not leaf.text:
                continue
            weight = leaf.get("font-weight") or ""
            bold = weight == "bold" or (weight.isdigit() and int(weight) >= _BOLD)
            oblique = leaf.get("font-style") in ("italic", "oblique")
            self.font_size = self._size_of(leaf)
            context.select_font_face(
                "",
                cairocffi.FONT_SLANT_OBLIQUE if oblique else cairocffi.FONT_SLANT_NORMAL,
                cairocffi.FONT_WEIGHT_BOLD if bold else cairocffi.FONT_WEIGHT_NORMAL,
            )
            context.set_font_size(self.font_size)
            width += sum(context.text_extents(letter)[4] for letter in leaf.text)
            width += helpers.size(self, leaf.get("letter-spacing")) * (len(leaf.text) - 1)
            if leaf is not line[0]:
                shifts = helpers.normalize(leaf.get("dx", "")).split()
                width += sum(helpers.size(self, shift, "x") for shift in shifts)
        context.restore()
        self.font_size = before
        return width

    def _size_of(self, node: parser.Node) -> float:
        """Font size of a node that is not drawn yet, in pixels."""
        settle_font_size(node)
        return helpers.size(self, node.get("font-size") or "12pt")


def draw_text(page: Layers, node: parser.Node, draw_as_text: bool = False) -> None:
    """Draw letters, or outline them; takes the place of CairoSVG's function.

    CairoSVG outlines every text, forgets where it ended, and draws it. Unless the outlines
    are stroked, or the box around them is painted by, nothing is left of them.

    Args:
        page: What is drawn on.
        node: A text or a part of one.
        draw_as_text: Whether letters are drawn.
    """
    if (
        draw_as_text
        or page.context.outlines
        or "url" in node.get("fill", "")
        or node.get("visibility") == "hidden"
        or node.get("display") == "none"
    ):
        text.text(page, node, draw_as_text)


TAGS = surface.TAGS | dict.fromkeys(("a", "text", "textPath", "tspan"), draw_text)
"""CairoSVG's functions by the element that they draw."""


def _is_anchored(leaf: parser.Node) -> bool:
    return leaf.get("text-anchor") in _SHARES


def _leaves(node: parser.Node) -> Iterator[parser.Node]:
    yield node
    for child in node.children:
        yield from _leaves(child)
