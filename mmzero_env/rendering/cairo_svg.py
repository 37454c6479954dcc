"""The default backend: CairoSVG, drawn straight into memory.

CairoSVG's own way out is a PNG, whose encoding and decoding cost more than most
drawings. Here its PNG surface is subclassed and the cairo image behind it is read. The
picture is drawn onto white at the final size, so the size that a document claims costs
nothing.

Not drawn by this backend: filters other than offset, blend and flood; conic gradients;
raster images.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from importlib import metadata

import cairocffi
from cairosvg import css, parser, surface
from cssselect2 import ElementWrapper
from lxml import etree

from mmzero_env.protocol import Image
from mmzero_env.rendering.font import font_face, runs
from mmzero_env.rendering.frame import PAGE, Frame, fit, ink_box, rgb_of
from mmzero_env.rendering.guard import Vetted

_STYLES = [(bold, oblique) for bold in (False, True) for oblique in (False, True)]


class CairoSvg:
    """Draws with CairoSVG; see :class:`mmzero_env.rendering.backends.Backend`."""

    def draw(self, document: Vetted, size: int) -> Image:
        """Draw one document as uint8 (size, size, 3) on white, centred, to scale.

        Args:
            document: What the guard let through.
            size: Side in pixels.

        Raises:
            MemoryError: cairo ran out of memory.
            Exception: CairoSVG cannot draw the document.
        """
        width, height = document.width, document.height
        with _pinned_fonts():
            if width is None or height is None:
                box = _ink_box(document)
                document.root.set("viewBox", " ".join(f"{value:.6g}" for value in box))
                width, height = box[2], box[3]
            tree = _Tree(root=document.root)
            # A style sheet may have set other sizes; the guard's are the ones.
            tree["width"], tree["height"] = str(width), str(height)
            drawn = _Canvas(tree, size, fit(width, height, size)).cairo
        drawn.flush()
        return rgb_of(drawn.get_data(), drawn.get_stride(), size)


class _Context(cairocffi.Context):
    """A cairo context that knows the bundled fonts and no hinting."""

    def select_font_face(
        self,
        family: str = "",
        slant: int = cairocffi.FONT_SLANT_NORMAL,
        weight: int = cairocffi.FONT_WEIGHT_NORMAL,
    ) -> None:
        self.set_font_face(
            font_face(weight == cairocffi.FONT_WEIGHT_BOLD, slant != cairocffi.FONT_SLANT_NORMAL)
        )

    def show_text(self, text: str) -> None:
        for piece in self._pieces(text):
            super().show_text(piece)

    def text_path(self, text: str) -> None:
        for piece in self._pieces(text):
            super().text_path(piece)

    def text_extents(self, text: str) -> tuple[float, float, float, float, float, float]:
        parts = [super(_Context, self).text_extents(piece) for piece in self._pieces(text)]
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

    def set_font_options(self, font_options: cairocffi.FontOptions) -> None:
        # Hinted metrics would round every advance to whole pixels of the final size.
        font_options.set_hint_metrics(cairocffi.HINT_METRICS_OFF)
        font_options.set_hint_style(cairocffi.HINT_STYLE_NONE)
        super().set_font_options(font_options)

    def set_tolerance(self, tolerance: float) -> None:
        # CairoSVG asks for 1e-5 pixels around arcs, far below cairo's own 0.1; that only
        # multiplies segments, since a thousandth of a pixel cannot be seen.
        super().set_tolerance(max(tolerance, 0.001))


class _FlatContext(_Context):
    """Draws layers of opacity, masks and filters straight onto the plane.

    A layer over an endless plane has no size, so cairo would lose what is in it; for
    measuring, the shapes alone are enough.
    """

    def push_group(self) -> None: ...

    def pop_group_to_source(self) -> None: ...

    def paint_with_alpha(self, alpha: float) -> None: ...

    def mask_surface(
        self, surface: cairocffi.Surface, surface_x: float = 0, surface_y: float = 0
    ) -> None: ...


class _Pinned(surface.Surface):
    """Mixin: a CairoSVG surface whose context is ours."""

    device_units_per_user_units = 1
    context: cairocffi.Context
    context_class = _Context

    def set_context_size(self, width, height, viewbox, tree) -> None:
        # The first call comes from the constructor, right after it made its context.
        if not isinstance(self.context, _Context):
            self.context = self.context_class(self.cairo)
            self.context.set_font_options(cairocffi.FontOptions())
            self._place()
        super().set_context_size(width, height, viewbox, tree)

    def _place(self) -> None:
        """Hook: prepare the fresh context."""


class _Vector(_Pinned, surface.SVGSurface):
    """Stands in for CairoSVG's surface of patterns and masks."""


class _Canvas(_Pinned, surface.PNGSurface):
    """A white square with the picture in its middle."""

    cairo: cairocffi.ImageSurface

    def __init__(self, tree: parser.Tree, size: int, frame: Frame) -> None:
        self._size, self._frame = size, frame
        super().__init__(tree, None, 96, output_width=frame.across, output_height=frame.down)

    def _create_surface(self, width, height):
        image = cairocffi.ImageSurface(cairocffi.FORMAT_ARGB32, self._size, self._size)
        return image, self._frame.across, self._frame.down

    def _place(self) -> None:
        self.context.set_source_rgb(1, 1, 1)
        self.context.paint()
        # CairoSVG starts from an untouched source.
        self.context.set_source_rgb(0, 0, 0)
        self.context.translate(self._frame.left, self._frame.top)
        self.context.rectangle(0, 0, self._frame.across, self._frame.down)
        self.context.clip()


class _Recorder(_Pinned, surface.PNGSurface):
    """Draws on an endless plane to learn how far the drawing reaches."""

    cairo: cairocffi.RecordingSurface
    context_class = _FlatContext

    def _create_surface(self, width, height):
        plane = cairocffi.RecordingSurface(cairocffi.CONTENT_COLOR_ALPHA, None)
        return plane, width, height


class _Tree(parser.Tree):
    """CairoSVG's tree over a document that is parsed already, without any fetching."""

    def __init__(self, *, root: etree._Element) -> None:
        self.url = None
        self.xml_tree = root
        self.url_fetcher = _fetch_nothing
        style = css.parse_stylesheets(self, None)
        wrapped = ElementWrapper.from_xml_root(root)
        parser.Node.__init__(self, wrapped, style, _fetch_nothing)
        self.root = True


def _fetch_nothing(url: str, resource_type: str) -> bytes:
    """A second lock behind the guard: whatever is asked for, nothing is read."""
    return b'<svg xmlns="http://www.w3.org/2000/svg"/>'


def _ink_box(document: Vetted) -> tuple[float, float, float, float]:
    document.root.set("overflow", "visible")
    tree = _Tree(root=document.root)
    tree["width"], tree["height"] = str(PAGE[0]), str(PAGE[1])
    x, y, width, height = _Recorder(tree, None, 96).cairo.ink_extents()
    return ink_box(x, y, x + width, y + height)


def versions() -> dict[str, str]:
    """Versions of what decides on the pixels, by name."""
    return {"cairosvg": metadata.version("cairosvg"), "cairo": cairocffi.cairo_version_string()}


_lock = threading.Lock()


@contextmanager
def _pinned_fonts() -> Generator[None]:
    """Make CairoSVG use our surface for patterns and masks while we draw.

    It looks that class up in its module at every use, so the text inside patterns would
    otherwise get a system font. The module is put back afterwards: somebody else in the
    process may draw with CairoSVG too.
    """
    with _lock:
        original = surface.SVGSurface
        vars(surface)["SVGSurface"] = _Vector
        try:
            yield
        finally:
            vars(surface)["SVGSurface"] = original
