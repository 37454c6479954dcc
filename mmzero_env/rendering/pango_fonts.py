"""The bundled fonts for Pango, and for nobody else in the process.

Pango would ask the process's fontconfig for fonts. librsvg takes Pango's default font map
of the calling thread; while a picture is drawn, that is one of ours, over a fontconfig
configuration of ours. Neither the user's configuration nor a cache on disk is read or
written. Afterwards Pango makes its usual font map when somebody asks for one.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import cairocffi

from mmzero_env.errors import EngineError
from mmzero_env.rendering.font_files import FONTS_CONFIG
from mmzero_env.rendering.librsvg_library import ffi, library

_FT = 1  # CAIRO_FONT_TYPE_FT of cairo.h
# A letter of each font.
_LETTERS = ("a", "\u4e2d")

# A font map serves one thread at a time.
_lock = threading.Lock()


class PangoFonts:
    """A font map with the bundled fonts."""

    def __init__(self) -> None:
        """Read the bundled configuration.

        Raises:
            EngineError: fontconfig cannot read it, or Pango has no use for it.
        """
        loaded = library()
        self._config = loaded.FcConfigCreate()
        if not loaded.FcConfigParseAndLoad(self._config, str(FONTS_CONFIG).encode(), 1):
            raise EngineError(f"fontconfig cannot read {FONTS_CONFIG}; reinstall the package.")
        loaded.FcConfigBuildFonts(self._config)
        self._map: Any = None
        self._faces: list[cairocffi.FontFace] = []
        self._renew()

    @contextmanager
    def in_use(self) -> Generator[None]:
        """Make them the default of this thread in this block; one block at a time."""
        with _lock:
            library().pango_cairo_font_map_set_default(self._map)
            try:
                yield
            finally:
                library().pango_cairo_font_map_set_default(ffi.NULL)
                if any(cairocffi.cairo.cairo_font_face_status(f._pointer) for f in self._faces):
                    self._renew()

    def _renew(self) -> None:
        """Make the font map anew.

        Once FreeType has refused a font in some size (letters as large as a house), cairo
        refuses it in all sizes for good, and a font map keeps handing it out.
        """
        loaded = library()
        if self._map is not None:
            loaded.g_object_unref(self._map)
        self._map = loaded.pango_cairo_font_map_new_for_font_type(_FT)
        if self._map == ffi.NULL:
            raise EngineError("Pango was built without FreeType; use the backend librsvg-vips.")
        loaded.pango_fc_font_map_set_config(self._map, self._config)
        # Slants and sizes share a face; emboldening makes another one.
        styles = (b"Sans 12", b"Sans Bold 12")
        self._faces = [face for style in styles for face in self._faces_of(style)]

    def _faces_of(self, style: bytes) -> list[cairocffi.FontFace]:
        """The faces of cairo's behind the bundled fonts in a style."""
        loaded = library()
        faces = []
        context = loaded.pango_font_map_create_context(self._map)
        description = loaded.pango_font_description_from_string(style)
        language = loaded.pango_language_from_string(b"en")
        fontset = loaded.pango_font_map_load_fontset(self._map, context, description, language)
        for letter in _LETTERS:
            font = loaded.pango_fontset_get_font(fontset, ord(letter))
            scaled = loaded.pango_cairo_font_get_scaled_font(font)
            pointer = loaded.cairo_scaled_font_get_font_face(scaled)
            pointer = cairocffi.ffi.cast("cairo_font_face_t *", pointer)
            faces.append(cairocffi.FontFace._from_pointer(pointer, incref=True))
            loaded.g_object_unref(font)
        loaded.g_object_unref(fontset)
        loaded.pango_font_description_free(description)
        loaded.g_object_unref(context)
        return faces
