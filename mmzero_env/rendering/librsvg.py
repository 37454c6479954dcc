"""The backend ``librsvg-direct``: the system's librsvg, called without anything between.

librsvg draws onto a cairo image at the final size, several times faster than CairoSVG and
with filters, masks and blending. It is loaded as a shared library (Debian's librsvg2-2,
Homebrew's librsvg), so pixels may differ between versions; records name them.

librsvg has no way to anything outside: documents come from memory and have no base address.

Not drawn by this backend: text on a path, positions of single letters; conic gradients;
raster images.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import cairocffi

from mmzero_env.errors import EngineError
from mmzero_env.protocol import Image
from mmzero_env.rendering.font_check import check_fonts, vetted
from mmzero_env.rendering.font_files import FONTS
from mmzero_env.rendering.frame import PAGE, UndrawableError, fit, ink_box, rgb_of
from mmzero_env.rendering.guard import Vetted
from mmzero_env.rendering.librsvg_dialect import in_dialect
from mmzero_env.rendering.librsvg_library import ffi, library, missing, versions
from mmzero_env.rendering.pango_fonts import PangoFonts

__all__ = ["LibrsvgDirect", "missing", "versions"]

_HANGING = (
    '<svg viewBox="0 0 8 8"><text y="8" font-size="8" dominant-baseline="hanging">-</text></svg>'
)


class LibrsvgDirect:
    """Draws with the system's librsvg; see :class:`mmzero_env.rendering.backends.Backend`."""

    reads = (str(FONTS),)

    def __init__(self) -> None:
        """Load the libraries and draw once, so that nothing is left to be loaded.

        Raises:
            EngineError: librsvg is missing, or does not use the bundled fonts.
        """
        complaint = missing()
        if complaint:
            raise EngineError(complaint)
        self._fonts = PangoFonts()
        self._old = False
        check_fonts(self.draw)
        # Standing on its line the text shows, hanging from it it does not.
        self._old = bool((self.draw(vetted(_HANGING), 8) < 255).any())

    def draw(self, document: Vetted, size: int) -> Image:
        """Draw one document as uint8 (size, size, 3) on white, centred, to scale.

        Args:
            document: What the guard let through.
            size: Side in pixels.

        Raises:
            MemoryError: There is not enough memory.
            UndrawableError: librsvg cannot draw the document, or nothing is in it.
        """
        root, width, height = document.root, document.width, document.height
        data = in_dialect(document, self._old)
        with self._fonts.in_use():
            if width is None or height is None:
                box = _ink_box(document)
                root.set("viewBox", " ".join(f"{value:.6g}" for value in box))
                width, height = box[2], box[3]
                data = document.to_bytes()
            frame = fit(width, height, size)
            square = cairocffi.ImageSurface(cairocffi.FORMAT_RGB24, size, size)
            context = cairocffi.Context(square)
            context.set_source_rgb(1, 1, 1)
            context.paint()
            context.translate(frame.left, frame.top)
            context.rectangle(0, 0, frame.across, frame.down)
            context.clip()
            context.scale(frame.across / width, frame.down / height)
            with _handle(data) as handle:
                viewport = ffi.new("RsvgRectangle *", (0, 0, width, height))
                target = ffi.cast("cairo_t *", context._pointer)
                _call("rsvg_handle_render_document", handle, target, viewport)
        square.flush()
        return rgb_of(square.get_data(), square.get_stride(), size)


@contextmanager
def _handle(data: bytes) -> Generator[Any]:
    """The parsed document."""
    error = ffi.new("GError **")
    handle = library().rsvg_handle_new_from_data(data, len(data), error)
    if handle == ffi.NULL:
        raise _error(error)
    try:
        library().rsvg_handle_set_dpi(handle, 96)
        yield handle
    finally:
        library().g_object_unref(handle)


def _call(function: str, *arguments: Any) -> None:
    error = ffi.new("GError **")
    if not getattr(library(), function)(*arguments, error):
        raise _error(error)


def _error(error: Any) -> Exception:
    """A GError as an exception; frees it."""
    text = ffi.string(error[0].message)
    library().g_error_free(error[0])
    assert isinstance(text, bytes)
    message = text.decode("utf-8", "replace")
    if "memory" in message.lower():
        return MemoryError(message)
    return UndrawableError(message)


def _ink_box(document: Vetted) -> tuple[float, float, float, float]:
    document.root.set("overflow", "visible")
    ink = ffi.new("RsvgRectangle *")
    logical = ffi.new("RsvgRectangle *")
    with _handle(document.to_bytes()) as handle:
        page = ffi.new("RsvgRectangle *", (0, 0, *PAGE))
        _call("rsvg_handle_get_geometry_for_layer", handle, ffi.NULL, page, ink, logical)
    return ink_box(ink.x, ink.y, ink.x + ink.width, ink.y + ink.height)
