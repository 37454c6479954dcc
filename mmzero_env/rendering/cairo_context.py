"""The cairo context that CairoSVG draws on here: bundled fonts, no hinting, less fuss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cairocffi

from mmzero_env.rendering.font import font_face, runs

_STYLES = [(bold, oblique) for bold in (False, True) for oblique in (False, True)]


class FontWishes:
    """Takes what CairoSVG asks of font options, of which only antialiasing is granted.

    CairoSVG asks at every element; real font options cost ten calls into cairo each time.
    """

    __slots__ = ("antialias",)

    def __init__(self) -> None:
        """Ask for nothing."""
        self.antialias = cairocffi.ANTIALIAS_DEFAULT

    def set_antialias(self, antialias: int) -> None:
        """Note the wish."""
        self.antialias = antialias

    def set_hint_style(self, hint_style: int) -> None:
        """Hinting is off."""

    def set_hint_metrics(self, hint_metrics: int) -> None:
        """Hinted metrics would round every advance to whole pixels of the final size."""


@dataclass(frozen=True, slots=True)
class _Fill:
    """A fill that waits for its stroke: its source, the space that is in, and its rule."""

    source: cairocffi.Pattern
    space: cairocffi.Matrix
    rule: int


class Context(cairocffi.Context):
    """A cairo context that knows the bundled fonts and no hinting.

    An error stays in a context and stops it from drawing, so it is enough to look for one
    at the end: see :meth:`check`. cairocffi looks after every call.

    Attributes:
        outlines: Whether the outlines of letters are wanted, beside the letters.
        stroke_first: Whether a shape is stroked before it is filled.
        layer_opacity: Opacity of a shape as a whole, 0 to 1; below 1 its fill and its stroke
            are put together first.
        flat: Whether layers are drawn straight onto the target.
    """

    outlines = True
    stroke_first = False
    layer_opacity = 1.0
    flat = False
    _held: _Fill | None = None
    _special = False

    def __init__(self, target: cairocffi.Surface) -> None:
        """Start on a surface with hinting off."""
        super().__init__(target)
        options = cairocffi.FontOptions()
        options.set_hint_metrics(cairocffi.HINT_METRICS_OFF)
        options.set_hint_style(cairocffi.HINT_STYLE_NONE)
        super().set_font_options(options)

    def check(self) -> None:
        """Raise what went wrong since the beginning.

        Raises:
            MemoryError: cairo ran out of memory.
            cairocffi.CairoError: Anything else.
        """
        super()._check_status()

    def _check_status(self) -> None: ...

    def get_font_options(self) -> FontWishes:
        """A place for wishes."""
        return FontWishes()

    def set_font_options(self, font_options: FontWishes) -> None:
        """Grant the wishes."""
        # Whatever was never changed is the default still, in every saved state.
        if font_options.antialias == cairocffi.ANTIALIAS_DEFAULT and not self._special:
            return
        self._special = True
        options = super().get_font_options()
        options.set_antialias(font_options.antialias)
        super().set_font_options(options)

    def select_font_face(
        self,
        family: str = "",
        slant: int = cairocffi.FONT_SLANT_NORMAL,
        weight: int = cairocffi.FONT_WEIGHT_NORMAL,
    ) -> None:
        """Take the bundled font, whatever the family."""
        self.set_font_face(
            font_face(weight == cairocffi.FONT_WEIGHT_BOLD, slant != cairocffi.FONT_SLANT_NORMAL)
        )

    def fill_preserve(self) -> None:
        """Fill the path, or keep that for its stroke."""
        if self.stroke_first or self.layer_opacity < 1:
            self._held = _Fill(self.get_source(), self.get_matrix(), self.get_fill_rule())
        else:
            super().fill_preserve()

    def stroke(self) -> None:
        """Stroke the path, and do what was kept for it."""
        fill, self._held = self._held, None
        if fill is None:
            super().stroke()
            return
        self.save()
        if self.layer_opacity < 1:
            self._clip_to_ink()
            self.push_group()
        if self.stroke_first:
            self.stroke_preserve()
            self._fill(fill)
            self.new_path()
        else:
            self._fill(fill)
            super().stroke()
        if self.layer_opacity < 1:
            self.pop_group_to_source()
            self.paint_with_alpha(self.layer_opacity)
        self.restore()

    def _fill(self, fill: _Fill) -> None:
        self.save()
        space = self.get_matrix()
        self.set_matrix(fill.space)
        self.set_source(fill.source)
        self.set_matrix(space)
        self.set_fill_rule(fill.rule)
        super().fill_preserve()
        self.restore()

    def _clip_to_ink(self) -> None:
        """Clip to the whole pixels that fill and stroke of the path can reach."""
        corners = []
        for box in (self.fill_extents(), self.stroke_extents()):
            if box[0] < box[2] or box[1] < box[3]:
                corners += [self.user_to_device(x, y) for x in box[::2] for y in box[1::2]]
        path = cairocffi.cairo.cairo_copy_path(self._pointer)
        space = self.get_matrix()
        self.new_path()
        if corners:
            columns, rows = zip(*corners, strict=True)
            left, top = math.floor(min(columns)), math.floor(min(rows))
            self.identity_matrix()
            self.rectangle(left, top, math.ceil(max(columns)) - left, math.ceil(max(rows)) - top)
            self.set_matrix(space)
        self.clip()
        # cairocffi's own copy makes every point a tuple of Python's.
        cairocffi.cairo.cairo_append_path(self._pointer, path)
        cairocffi.cairo.cairo_path_destroy(path)

    def show_text(self, text: str) -> None:
        """Paint letters, or keep that for their outlines' stroke."""
        if self.stroke_first or self.layer_opacity < 1:
            self._held = _Fill(self.get_source(), self.get_matrix(), self.get_fill_rule())
            return
        for piece in self._pieces(text):
            super().show_text(piece)

    def text_path(self, text: str) -> None:
        """Add the outlines of letters to the path, if they are wanted."""
        if self.outlines:
            for piece in self._pieces(text):
                super().text_path(piece)

    def text_extents(self, text: str) -> tuple[float, float, float, float, float, float]:
        """Bearings, size and advance of a text."""
        parts = [super(Context, self).text_extents(piece) for piece in self._pieces(text)]
        if len(parts) == 1:
            return parts[0]
        along, boxes = 0.0, []
        for x, y, width, height, advance, _ in parts:
            if width and height:
                boxes.append((along + x, y, along + x + width, y + height))
            along += advance
        if not boxes:
            return 0.0, 0.0, 0.0, 0.0, along, 0.0
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        left, top = min(lefts), min(tops)
        return left, top, max(rights) - left, max(bottoms) - top, along, 0.0

    def _pieces(self, text: str) -> Iterator[str]:
        """The text in pieces of one font each, that font set while a piece is out."""
        pieces = [] if not text or text.isascii() else runs(text)
        if not any(cjk for _, cjk in pieces):
            yield text
            return
        face = self.get_font_face()
        bold, oblique = next(
            style for style in _STYLES if font_face(*style)._pointer == face._pointer
        )
        try:
            for piece, cjk in pieces:
                self.set_font_face(font_face(bold, oblique, cjk))
                yield piece
        finally:
            self.set_font_face(face)

    def set_tolerance(self, tolerance: float) -> None:
        """Set how far a curve may be from its segments, in pixels, but not too close."""
        # CairoSVG asks for 1e-5 pixels around arcs, far below cairo's own 0.1; that only
        # multiplies segments, since a thousandth of a pixel cannot be seen.
        super().set_tolerance(max(tolerance, 0.001))


class FlatContext(Context):
    """Draws layers of opacity, masks and filters straight onto the plane.

    A layer over an endless plane has no size, so cairo would lose what is in it; for
    measuring, the shapes alone are enough.
    """

    flat = True

    def push_group(self) -> None:
        """Go on drawing on the plane."""

    def pop_group_to_source(self) -> None:
        """There was no group."""

    def paint_with_alpha(self, alpha: float) -> None:
        """Everything is there already."""

    def mask_surface(
        self, surface: cairocffi.Surface, surface_x: float = 0, surface_y: float = 0
    ) -> None:
        """Everything is there already."""
