"""The bundled fonts, handed to cairo as FreeType faces.

Fonts change pixels. Asking for a family by name would give whatever the machine has
(fontconfig on Linux, Core Text on macOS), so every text is set in the bundled DejaVu
Sans, and in a part of Droid Sans Fallback where DejaVu Sans lacks Chinese, Japanese and
Korean characters: bold and italic are synthesised, hinting is off, and neither
fontconfig nor a system font is ever asked. Backends that must ask fontconfig get
:data:`.font_files.FONTS_CONFIG`, which knows the same two fonts.
"""

from __future__ import annotations

import functools
from typing import Any

import cairocffi
import cffi

from mmzero_env.errors import EngineError
from mmzero_env.rendering.font_files import CJK_FILE, FONT_FILE

# FT_LOAD_NO_HINTING of freetype.h and CAIRO_FT_SYNTHESIZE_* of cairo-ft.h.
_LOAD_NO_HINTING = 1 << 1
_SYNTHESIZE_BOLD = 1
_SYNTHESIZE_OBLIQUE = 2

_ffi = cffi.FFI()
_ffi.include(cairocffi.ffi)
_ffi.cdef(
    """
    typedef void *FT_Library;
    typedef void *FT_Face;
    int FT_Init_FreeType(FT_Library *library);
    int FT_New_Face(FT_Library library, const char *path, long index, FT_Face *face);
    cairo_font_face_t *cairo_ft_font_face_create_for_ft_face(FT_Face face, int load_flags);
    unsigned int FT_Get_Char_Index(FT_Face face, unsigned long charcode);
    void cairo_ft_font_face_set_synthesize(cairo_font_face_t *face, unsigned int flags);
    """
)


def open_library(ffi: cffi.FFI, linux: str, macos: str) -> Any:
    """Load a shared library of the system.

    Args:
        ffi: Declarations of what it holds.
        linux: File name on Linux.
        macos: File name on macOS; looked for in Homebrew's folders as well.

    Raises:
        OSError: It is not there.
    """
    folders = ("", "/opt/homebrew/lib/", "/usr/local/lib/")
    return cairocffi.dlopen(ffi, (), (linux, *(folder + macos for folder in folders)))


_faces: dict[tuple[bool, bool, bool], cairocffi.FontFace] = {}


def font_face(bold: bool, oblique: bool, cjk: bool = False) -> cairocffi.FontFace:
    """A bundled font in one of its four styles.

    FreeType objects live as long as the process: cairo caches glyphs behind them. A face
    of cairo's, once something went wrong with it (a letter as large as a house), fails for
    ever, so it is made anew then.

    Args:
        bold: Embolden the outlines.
        oblique: Slant the outlines.
        cjk: The font for Chinese, Japanese and Korean characters.

    Raises:
        EngineError: FreeType is missing, or the font file cannot be read.
    """
    style = (bold, oblique, cjk)
    face = _faces.get(style)
    if face is None or cairocffi.cairo.cairo_font_face_status(face._pointer):
        face = _faces[style] = _make_face(*style)
    return face


def _make_face(bold: bool, oblique: bool, cjk: bool) -> cairocffi.FontFace:
    _, cairo, _ = _libraries()
    # Every style has a FreeType face of its own: cairo keeps what it synthesises with it.
    source = _open_face(cjk, (bold, oblique))
    pointer = cairo.cairo_ft_font_face_create_for_ft_face(source, _LOAD_NO_HINTING)
    flags = (_SYNTHESIZE_BOLD if bold else 0) | (_SYNTHESIZE_OBLIQUE if oblique else 0)
    if flags:
        cairo.cairo_ft_font_face_set_synthesize(pointer, flags)
    return cairocffi.FontFace._from_pointer(
        cairocffi.ffi.cast("cairo_font_face_t *", pointer), incref=False
    )


def runs(text: str) -> list[tuple[str, bool]]:
    """Cut a text where the font changes.

    Args:
        text: Any text.

    Returns:
        Pieces in order, each with whether it needs the CJK font: characters that this
        font has and DejaVu Sans lacks.
    """
    pieces: list[tuple[str, bool]] = []
    for letter in text:
        cjk = _needs_cjk(letter)
        if pieces and pieces[-1][1] == cjk:
            pieces[-1] = (pieces[-1][0] + letter, cjk)
        else:
            pieces.append((letter, cjk))
    return pieces


@functools.lru_cache(maxsize=65536)
def _needs_cjk(letter: str) -> bool:
    # U+2E80 is where the East Asian blocks start; nothing below is in the CJK font.
    if letter < "\u2e80":
        return False
    freetype, _, _ = _libraries()
    return bool(
        not freetype.FT_Get_Char_Index(_open_face(False), ord(letter))
        and freetype.FT_Get_Char_Index(_open_face(True), ord(letter))
    )


@functools.cache
def _open_face(cjk: bool, use: Any = None) -> Any:
    """The FreeType face of a font; one for each use."""
    freetype, _, library = _libraries()
    file = CJK_FILE if cjk else FONT_FILE
    face = _ffi.new("FT_Face *")
    status = freetype.FT_New_Face(library, str(file).encode(), 0, face)
    if status:
        raise EngineError(
            f"the bundled font {file} cannot be read (FreeType error {status}); "
            "reinstall the package."
        )
    return face[0]


@functools.cache
def _libraries() -> tuple:
    try:
        freetype = open_library(_ffi, "libfreetype.so.6", "libfreetype.6.dylib")
        cairo = open_library(_ffi, "libcairo.so.2", "libcairo.2.dylib")
    except OSError as error:
        raise EngineError(f"FreeType or cairo cannot be loaded: {error}") from None
    library = _ffi.new("FT_Library *")
    if freetype.FT_Init_FreeType(library):
        raise EngineError("FreeType does not start.")
    return freetype, cairo, library[0]
