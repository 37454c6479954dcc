"""The cairo context that CairoSVG draws on here: bundled fonts, no hinting, less fuss."""

from __future__ import annotations

from collections.abc import Iterator

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


class Context(cairocffi.Context):
    """A cairo context that knows the bundled fonts and no hinting.

    An error stays in a context and stops it from drawing, so it is enough to look for one
    at the end: see :meth:`check`. cairocffi looks after every call.

    Attributes:
        outlines: Whether the outlines of letters are wanted, beside the letters.
    """

    outlines = True
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

    def show_text(self, text: str) -> None:
        """Paint letters."""
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
