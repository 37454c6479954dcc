"""The backend ``librsvg-direct``: the system's librsvg, called without anything between.

librsvg draws onto a cairo image at the final size, several times faster than CairoSVG and
with filters, masks and blending. It is loaded as a shared library (Debian's librsvg2-2,
Homebrew's librsvg), so pixels may differ between versions: :func:`versions` names them, and
records keep them.

Text is set by Pango, which would take the fonts of the system. It gets a font map of ours
instead, over a fontconfig configuration of ours: the process's own configuration is neither
read nor changed, and nothing is cached on disk. The font map is the calling thread's
default for Pango while a picture is drawn; afterwards Pango makes its usual one on demand.

librsvg has no way to anything outside: documents come from memory and have no base address.

Not drawn by this backend: text on a path; conic gradients; raster images.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import cairocffi
import cffi

from mmzero_env.errors import EngineError
from mmzero_env.protocol import Image
from mmzero_env.rendering.font import FONTS_CONFIG, open_library
from mmzero_env.rendering.frame import PAGE, UndrawableError, fit, ink_box, rgb_of
from mmzero_env.rendering.guard import Vetted
from mmzero_env.rendering.librsvg_dialect import needs_old_words, set_initial_values, use_old_words
from mmzero_env.rendering.primer import prime, vetted

_FT = 1  # CAIRO_FONT_TYPE_FT of cairo.h

_ffi = cffi.FFI()
_ffi.include(cairocffi.ffi)
_ffi.cdef(
    """
    typedef struct { uint32_t domain; int code; char *message; } GError;
    typedef struct { double x, y, width, height; } RsvgRectangle;
    typedef struct _RsvgHandle RsvgHandle;
    typedef struct _FcConfig FcConfig;
    typedef struct _PangoFontMap PangoFontMap;

    extern unsigned rsvg_major_version;
    extern unsigned rsvg_minor_version;
    extern unsigned rsvg_micro_version;
    RsvgHandle *rsvg_handle_new_from_data(const uint8_t *data, size_t length, GError **error);
    void rsvg_handle_set_dpi(RsvgHandle *handle, double dpi);
    int rsvg_handle_render_document(
        RsvgHandle *handle, cairo_t *cr, const RsvgRectangle *viewport, GError **error);
    int rsvg_handle_get_geometry_for_layer(
        RsvgHandle *handle, const char *id, const RsvgRectangle *viewport,
        RsvgRectangle *ink, RsvgRectangle *logical, GError **error);
    void g_object_unref(void *object);
    void g_error_free(GError *error);

    FcConfig *FcConfigCreate(void);
    int FcConfigParseAndLoad(FcConfig *config, const char *file, int complain);
    int FcConfigBuildFonts(FcConfig *config);

    const char *pango_version_string(void);
    PangoFontMap *pango_cairo_font_map_new_for_font_type(int type);
    void pango_cairo_font_map_set_default(PangoFontMap *map);
    void pango_fc_font_map_set_config(PangoFontMap *map, FcConfig *config);
    """
)
# Declared by cairocffi, but for its own copy of cairo.
_ffi.cdef("cairo_t *cairo_reference(cairo_t *cr);", override=True)

_HANGING = (
    '<svg viewBox="0 0 8 8"><text y="8" font-size="8" dominant-baseline="hanging">-</text></svg>'
)


class LibrsvgDirect:
    """Draws with the system's librsvg; see :class:`mmzero_env.rendering.backends.Backend`."""

    def __init__(self) -> None:
        """Load the libraries and draw once, so that nothing is left to be loaded.

        Raises:
            EngineError: librsvg is missing, or does not use the bundled fonts.
        """
        complaint = missing()
        if complaint:
            raise EngineError(complaint)
        self._font_map = _font_map()
        self._old = False
        prime(self.draw)
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
        set_initial_values(root)
        data = document.to_bytes()
        if self._old and needs_old_words(data):
            use_old_words(root)
            data = document.to_bytes()
        with self._pinned_fonts():
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
                viewport = _ffi.new("RsvgRectangle *", (0, 0, width, height))
                target = _ffi.cast("cairo_t *", context._pointer)
                _call("rsvg_handle_render_document", handle, target, viewport)
        square.flush()
        return rgb_of(square.get_data(), square.get_stride(), size)

    @contextmanager
    def _pinned_fonts(self) -> Generator[None]:
        library = _library()
        # A font map serves one thread at a time.
        with _lock:
            library.pango_cairo_font_map_set_default(self._font_map)
            try:
                yield
            finally:
                library.pango_cairo_font_map_set_default(_ffi.NULL)


_lock = threading.Lock()


def missing() -> str:
    """Why this backend cannot draw here; empty when it can."""
    try:
        library = _library()
    except OSError as error:
        return f"librsvg cannot be loaded ({error})"
    ours = cairocffi.ffi.addressof(cairocffi.cairo, "cairo_reference")
    theirs = _ffi.addressof(library, "cairo_reference")
    if int(_ffi.cast("uintptr_t", theirs)) != int(cairocffi.ffi.cast("uintptr_t", ours)):
        return "librsvg and cairocffi use different copies of cairo"
    return ""


def versions() -> dict[str, str]:
    """Versions of what decides on the pixels, by name."""
    library = _library()
    parts = (getattr(library, f"rsvg_{part}_version") for part in ("major", "minor", "micro"))
    pango = _ffi.string(library.pango_version_string())
    assert isinstance(pango, bytes)
    return {
        "librsvg": ".".join(str(part) for part in parts),
        "pango": pango.decode(),
        "cairo": cairocffi.cairo_version_string(),
    }


@functools.cache
def _library() -> Any:
    # Symbols are looked up in a library and in all that it is linked to, so these are the
    # copies of Pango, fontconfig and cairo that librsvg itself uses.
    return open_library(_ffi, "librsvg-2.so.2", "librsvg-2.2.dylib")


def _font_map() -> Any:
    library = _library()
    config = library.FcConfigCreate()
    if not library.FcConfigParseAndLoad(config, str(FONTS_CONFIG).encode(), 1):
        raise EngineError(f"fontconfig cannot read {FONTS_CONFIG}; reinstall the package.")
    library.FcConfigBuildFonts(config)
    font_map = library.pango_cairo_font_map_new_for_font_type(_FT)
    if font_map == _ffi.NULL:
        raise EngineError("Pango was built without FreeType; use the backend librsvg-vips.")
    library.pango_fc_font_map_set_config(font_map, config)
    return font_map


@contextmanager
def _handle(data: bytes) -> Generator[Any]:
    """The parsed document."""
    library = _library()
    error = _ffi.new("GError **")
    handle = library.rsvg_handle_new_from_data(data, len(data), error)
    if handle == _ffi.NULL:
        raise _error(error)
    try:
        library.rsvg_handle_set_dpi(handle, 96)
        yield handle
    finally:
        library.g_object_unref(handle)


def _call(function: str, *arguments: Any) -> None:
    error = _ffi.new("GError **")
    if not getattr(_library(), function)(*arguments, error):
        raise _error(error)


def _error(error: Any) -> Exception:
    """A GError as an exception; frees it."""
    text = _ffi.string(error[0].message)
    _library().g_error_free(error[0])
    assert isinstance(text, bytes)
    message = text.decode("utf-8", "replace")
    if "memory" in message.lower():
        return MemoryError(message)
    return UndrawableError(message)


def _ink_box(document: Vetted) -> tuple[float, float, float, float]:
    document.root.set("overflow", "visible")
    ink = _ffi.new("RsvgRectangle *")
    logical = _ffi.new("RsvgRectangle *")
    with _handle(document.to_bytes()) as handle:
        page = _ffi.new("RsvgRectangle *", (0, 0, *PAGE))
        _call("rsvg_handle_get_geometry_for_layer", handle, _ffi.NULL, page, ink, logical)
    return ink_box(ink.x, ink.y, ink.x + ink.width, ink.y + ink.height)
