"""The system's librsvg with the Pango, fontconfig and cairo that it draws with."""

from __future__ import annotations

import functools
from typing import Any

import cairocffi
import cffi

from mmzero_env.rendering.font import open_library

ffi = cffi.FFI()
ffi.include(cairocffi.ffi)
ffi.cdef(
    """
    typedef struct { uint32_t domain; int code; char *message; } GError;
    typedef struct { double x, y, width, height; } RsvgRectangle;
    typedef struct _RsvgHandle RsvgHandle;
    typedef struct _FcConfig FcConfig;
    typedef struct _PangoFontMap PangoFontMap;
    typedef struct _PangoContext PangoContext;
    typedef struct _PangoFont PangoFont;
    typedef struct _PangoFontset PangoFontset;
    typedef struct _PangoFontDescription PangoFontDescription;
    typedef struct _PangoLanguage PangoLanguage;

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
    PangoLanguage *pango_language_from_string(const char *language);
    PangoFontMap *pango_cairo_font_map_new_for_font_type(int type);
    void pango_cairo_font_map_set_default(PangoFontMap *map);
    void pango_fc_font_map_set_config(PangoFontMap *map, FcConfig *config);
    PangoContext *pango_font_map_create_context(PangoFontMap *map);
    PangoFontDescription *pango_font_description_from_string(const char *text);
    void pango_font_description_free(PangoFontDescription *description);
    PangoFontset *pango_font_map_load_fontset(
        PangoFontMap *map, PangoContext *context, const PangoFontDescription *description,
        PangoLanguage *language);
    PangoFont *pango_fontset_get_font(PangoFontset *fontset, unsigned int character);
    cairo_scaled_font_t *pango_cairo_font_get_scaled_font(PangoFont *font);
    """
)
# Declared by cairocffi, but for the copy of cairo that it loads.
ffi.cdef(
    "cairo_font_face_t *cairo_scaled_font_get_font_face(cairo_scaled_font_t *font);", override=True
)


@functools.cache
def library() -> Any:
    """The library; its functions are those declared above.

    Symbols are looked up in librsvg and in all that it is linked to, so these are the
    copies of Pango, fontconfig and cairo that it uses itself.

    Raises:
        OSError: It is not installed.
    """
    return open_library(ffi, "librsvg-2.so.2", "librsvg-2.2.dylib")


def missing() -> str:
    """Why nothing can be drawn with it here; empty when something can."""
    try:
        loaded = library()
    except OSError as error:
        return f"librsvg cannot be loaded ({error})"
    name = "cairo_scaled_font_get_font_face"
    theirs = ffi.addressof(loaded, name)
    ours = cairocffi.ffi.addressof(cairocffi.cairo, name)
    if int(ffi.cast("uintptr_t", theirs)) != int(cairocffi.ffi.cast("uintptr_t", ours)):
        return "librsvg and cairocffi use different copies of cairo"
    return ""


def versions() -> dict[str, str]:
    """Versions of what decides on the pixels, by name."""
    loaded = library()
    parts = (getattr(loaded, f"rsvg_{part}_version") for part in ("major", "minor", "micro"))
    pango = ffi.string(loaded.pango_version_string())
    assert isinstance(pango, bytes)
    return {
        "librsvg": ".".join(str(part) for part in parts),
        "pango": pango.decode(),
        "cairo": cairocffi.cairo_version_string(),
    }
