"""The one bundled font, handed to cairo as a FreeType face.

Fonts change pixels. Asking for a family by name would give whatever the machine has
(fontconfig on Linux, Core Text on macOS), so every text is set in the bundled DejaVu
Sans: bold and italic are synthesised, hinting is off, and neither fontconfig nor a
system font is ever asked.
"""

from __future__ import annotations

import functools
from pathlib import Path

import cairocffi
import cffi

from mmzero_env.errors import EngineError

FONT_FILE = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"

# FT_LOAD_NO_HINTING of freetype.h and CAIRO_FT_SYNTHESIZE_* of cairo-ft.h.
_LOAD_NO_HINTING = 1 << 1
_SYNTHESIZE_BOLD = 1
_SYNTHESIZE_OBLIQUE = 2

_FREETYPE_FILES = (
    "libfreetype.so.6",
    "libfreetype.6.dylib",
    "/opt/homebrew/lib/libfreetype.6.dylib",
    "/usr/local/lib/libfreetype.6.dylib",
)
_CAIRO_FILES = (
    "libcairo.so.2",
    "libcairo.2.dylib",
    "/opt/homebrew/lib/libcairo.2.dylib",
    "/usr/local/lib/libcairo.2.dylib",
)

_ffi = cffi.FFI()
_ffi.include(cairocffi.ffi)
_ffi.cdef(
    """
    typedef void *FT_Library;
    typedef void *FT_Face;
    int FT_Init_FreeType(FT_Library *library);
    int FT_New_Face(FT_Library library, const char *path, long index, FT_Face *face);
    cairo_font_face_t *cairo_ft_font_face_create_for_ft_face(FT_Face face, int load_flags);
    void cairo_ft_font_face_set_synthesize(cairo_font_face_t *face, unsigned int flags);
    """
)


@functools.cache
def font_face(bold: bool, oblique: bool) -> cairocffi.FontFace:
    """The bundled font in one of its four styles.

    FreeType objects live as long as the process: cairo caches glyphs behind them.

    Args:
        bold: Embolden the outlines.
        oblique: Slant the outlines.

    Raises:
        EngineError: FreeType is missing, or the font file cannot be read.
    """
    freetype, cairo, library = _libraries()
    face = _ffi.new("FT_Face *")
    status = freetype.FT_New_Face(library, str(FONT_FILE).encode(), 0, face)
    if status:
        raise EngineError(
            f"the bundled font {FONT_FILE} cannot be read (FreeType error {status}); "
            "reinstall the package."
        )
    pointer = cairo.cairo_ft_font_face_create_for_ft_face(face[0], _LOAD_NO_HINTING)
    style = (_SYNTHESIZE_BOLD if bold else 0) | (_SYNTHESIZE_OBLIQUE if oblique else 0)
    if style:
        cairo.cairo_ft_font_face_set_synthesize(pointer, style)
    return cairocffi.FontFace._from_pointer(
        cairocffi.ffi.cast("cairo_font_face_t *", pointer), incref=False
    )


@functools.cache
def _libraries() -> tuple:
    try:
        freetype = cairocffi.dlopen(_ffi, (), _FREETYPE_FILES)
        cairo = cairocffi.dlopen(_ffi, (), _CAIRO_FILES)
    except OSError as error:
        raise EngineError(f"FreeType or cairo cannot be loaded: {error}") from None
    library = _ffi.new("FT_Library *")
    if freetype.FT_Init_FreeType(library):
        raise EngineError("FreeType does not start.")
    return freetype, cairo, library[0]
