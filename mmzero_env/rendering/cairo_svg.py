"""The default backend: CairoSVG, drawn straight into memory.

CairoSVG's own way out is a PNG, whose encoding and decoding cost more than most
drawings. Here its PNG surface is subclassed and the cairo image behind it is read. The
picture is drawn onto white at the final size, so the size that a document claims costs
nothing.

Not drawn by this backend: filters other than offset, blend and flood; conic gradients;
raster images.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType
from typing import Any

import cairocffi
from cairosvg import css, helpers, parser, path, surface, text, url
from cssselect2 import ElementWrapper
from lxml import etree

from mmzero_env.protocol import Image
from mmzero_env.rendering.cairo_context import Context, FlatContext
from mmzero_env.rendering.cairo_filters import prepare_filter
from mmzero_env.rendering.cairo_layers import Layers
from mmzero_env.rendering.cairo_masks import paint_mask
from mmzero_env.rendering.cairo_patterns import Tile, gradient_or_pattern
from mmzero_env.rendering.cairo_text import TAGS, SettledNode, TextLines, draw_text
from mmzero_env.rendering.cairo_transforms import Transforms
from mmzero_env.rendering.font import font_face
from mmzero_env.rendering.frame import PAGE, Frame, fit, ink_box, rgb_of
from mmzero_env.rendering.guard import Vetted
from mmzero_env.rendering.references import SVG


class CairoSvg:
    """Draws with CairoSVG; see :class:`mmzero_env.rendering.backends.Backend`."""

    fork_safe = True
    reads = ()

    def __init__(self) -> None:
        """Open every font, while files can be opened for sure.

        Raises:
            EngineError: FreeType is missing, or a font file cannot be read.
        """
        for bold, oblique, cjk in itertools.product((False, True), repeat=3):
            font_face(bold, oblique, cjk)

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
        with _our_cairosvg():
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


class _Pinned(Layers, TextLines, Transforms, surface.Surface):
    """Mixin: a CairoSVG surface whose context is ours, and some of its drawing."""

    device_units_per_user_units = 1
    context: Context
    context_class = Context

    def __init__(self, *arguments, **options) -> None:
        try:
            super().__init__(*arguments, **options)
        except Exception:
            # What went wrong first is told by the context, if it is there.
            context = vars(self).get("context")
            if isinstance(context, Context):
                context.check()
            raise
        self.context.check()

    def set_context_size(self, width, height, viewbox, tree) -> None:
        # The first call comes from the constructor, right after it made its context.
        if not isinstance(self.context, Context):
            self.context = self.context_class(self.cairo)
            self._place()
        super().set_context_size(width, height, viewbox, tree)

    def _place(self) -> None:
        """Hook: prepare the fresh context."""


class _Tile(_Pinned, Tile):
    """Stands in for CairoSVG's surface of patterns."""


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
    context_class = FlatContext

    def _create_surface(self, width, height):
        plane = cairocffi.RecordingSurface(cairocffi.CONTENT_COLOR_ALPHA, None)
        return plane, width, height


class _NoRules:
    """Stands in for the matcher of an empty style sheet."""

    def match(self, element: ElementWrapper) -> tuple[()]:
        return ()


_NO_RULES = _NoRules()


class _Tree(parser.Tree):
    """CairoSVG's tree over a document that is parsed already, without any fetching."""

    def __init__(self, *, root: etree._Element) -> None:
        self.url = None
        self.xml_tree = root
        self.url_fetcher = _fetch_nothing
        # Matching every element against no rules takes as long as reading its attributes.
        has_rules = next(root.iter(f"{SVG}style"), None) is not None
        style = css.parse_stylesheets(self, None) if has_rules else (_NO_RULES, _NO_RULES)
        wrapped = ElementWrapper.from_xml_root(root)
        super(parser.Tree, self).__init__(wrapped, style, _fetch_nothing)
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


def _remembering(function: Callable[..., Any], longest: int = 64) -> Callable[..., Any]:
    """A pure function of a text that remembers its values for short texts."""
    remembered = functools.lru_cache(maxsize=4096)(function)

    def call(value: Any, *more: Any) -> Any:
        # Path data would fill the memory, and does not come twice.
        if more or (value is not None and (type(value) is not str or len(value) > longest)):
            return function(value, *more)
        return remembered(value)

    return call


_NORMALIZE = _remembering(helpers.normalize)
_PARSE_URL = _remembering(url.parse_url)
_PARSE_DECLARATIONS = _remembering(css.parse_declarations, 256)


class _Cursors:
    """Stands in for the module ``copy``, which takes ten times as long for three cursors."""

    @staticmethod
    def deepcopy(cursors: tuple[list, list, float]) -> tuple[list, list, float]:
        position, shift, along = cursors
        return list(position), list(shift), along


# What CairoSVG hands down to children and should not.
_OWN = frozenset("mix-blend-mode isolation baseline-shift transform-box mask-type".split())
# What CairoSVG finds in its modules while we draw: first what it gets wrong, then functions
# that are called some hundred times a picture with the same few texts.
_OURS: list[tuple[ModuleType, str, Any]] = [
    (parser, "Node", SettledNode),
    (parser, "NOT_INHERITED_ATTRIBUTES", parser.NOT_INHERITED_ATTRIBUTES | _OWN),
    (surface, "SVGSurface", _Tile),
    (surface, "gradient_or_pattern", gradient_or_pattern),
    (surface, "TAGS", TAGS),
    (surface, "text", draw_text),
    (surface, "paint_mask", paint_mask),
    (surface, "prepare_filter", prepare_filter),
    (surface, "copy", _Cursors),
    (css, "parse_declarations", _PARSE_DECLARATIONS),
    *((module, "normalize", _NORMALIZE) for module in (helpers, surface, text)),
    *((module, "parse_url", _PARSE_URL) for module in (helpers, path, surface, text)),
]
_lock = threading.Lock()


@contextmanager
def _our_cairosvg() -> Generator[None]:
    """Put ours into CairoSVG's modules while we draw, and theirs back afterwards.

    Somebody else in the process may draw with CairoSVG too.
    """
    with _lock:
        theirs = [(module, name, getattr(module, name)) for module, name, _ in _OURS]
        try:
            for module, name, value in _OURS:
                setattr(module, name, value)
            yield
        finally:
            for module, name, value in theirs:
                setattr(module, name, value)
