"""The bundled fonts as files; needs no library."""

from __future__ import annotations

from pathlib import Path

FONTS = Path(__file__).parent / "fonts"
FONT_FILE = FONTS / "DejaVuSans.ttf"
CJK_FILE = FONTS / "DroidSansFallback-subset.ttf"
FONTS_CONFIG = FONTS / "fonts.conf"
"""A configuration of fontconfig with the bundled fonts and no others."""

PROBE = "\uf8fe"
"""A private-use character that the bundled CJK font shows as a full square, and no
system font does: drawn, it tells which fonts are in use."""
