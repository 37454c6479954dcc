"""The backend ``librsvg-vips``: the librsvg inside pyvips, which pip installs whole.

The packages pyvips and pyvips-binary bring librsvg, Pango and fontconfig in one shared
library; nothing of the system is needed. Drawing goes through an image with transparency,
so it takes longer than ``librsvg-direct``, and edges may differ by a shade.

Text is pinned to the bundled fonts by ``FONTCONFIG_FILE``, which is set while the first
text is drawn and then put back: libraries that come later read the user's configuration.
pyvips itself keeps the bundled fonts for the life of the process. If it has drawn text
before, they cannot be had any more; that is found out and said.

Not drawn by this backend: text on a path; conic gradients; raster images.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

import numpy as np
from lxml import etree

from mmzero_env.errors import EngineError
from mmzero_env.protocol import Image
from mmzero_env.rendering.font_check import check_fonts
from mmzero_env.rendering.font_files import FONTS, FONTS_CONFIG
from mmzero_env.rendering.frame import UndrawableError, fit, ink_box
from mmzero_env.rendering.guard import Vetted
from mmzero_env.rendering.librsvg_dialect import in_dialect
from mmzero_env.rendering.references import SVG

# libvips multiplies sizes by dpi / 72; this makes an inch 96 pixels and a pixel a pixel.
_DPI = 96
_SCALE = 72 / _DPI
# For drawings without a size. The first look reaches beyond all coordinates that the guard
# lets through, but not beyond the 2^23 that cairo can hold. libvips allows images up to
# 10^8 pixels wide, and scales up to 10^5.
_REACH = 4e6
_WIDEST = 5e7
_CLOSEST = 1e4


class LibrsvgVips:
    """Draws with pyvips; see :class:`mmzero_env.rendering.backends.Backend`."""

    reads = (str(FONTS),)

    def __init__(self) -> None:
        """Load the library and draw once, so that nothing is left to be loaded.

        Raises:
            EngineError: pyvips is missing, or does not use the bundled fonts.
        """
        complaint = missing()
        if complaint:
            raise EngineError(complaint)
        with _environment():
            check_fonts(self.draw)

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
        in_dialect(document)
        if width is None or height is None:
            box = _ink_box(document)
            root.set("viewBox", " ".join(f"{value:.6g}" for value in box))
            width, height = box[2], box[3]
        frame = fit(width, height, size)
        _set_size(root, width, height, frame.across, frame.down)
        pixels = _paint(document.to_bytes())
        if pixels.shape != (frame.down, frame.across, 4):
            raise EngineError(f"libvips drew {pixels.shape}, expected {frame}")
        image = np.full((size, size, 3), 255, dtype=np.uint8)
        inner = image[frame.top : frame.top + frame.down, frame.left : frame.left + frame.across]
        opacity = pixels[..., 3].astype(np.uint16)
        # Onto white, to the nearest shade; 16 bits are just enough.
        white = 255 * (255 - opacity) + 127
        for channel in range(3):
            inner[..., channel] = (pixels[..., channel] * opacity + white) // 255
        return image


def missing() -> str:
    """Why this backend cannot draw here; empty when it can."""
    try:
        _pyvips()
    # pyvips raises whatever it meets, a bare Exception included, when libvips is unfit.
    except Exception as error:
        return f"pyvips cannot be loaded ({error})"
    return ""


def versions() -> dict[str, str]:
    """Versions of what decides on the pixels, by name."""
    library = _pyvips()
    found = {"libvips": ".".join(str(library.version(part)) for part in range(3))}
    try:
        # It pins the librsvg and the Pango inside.
        found["pyvips-binary"] = metadata.version("pyvips-binary")
    except metadata.PackageNotFoundError:
        pass
    return found


@functools.cache
def _pyvips() -> Any:
    import pyvips

    if not pyvips.type_find("VipsOperation", "svgload_buffer"):
        raise ImportError("this libvips was built without librsvg; pip install pyvips-binary")
    return pyvips


@contextmanager
def _environment() -> Generator[None]:
    """Variables that fontconfig and Pango read when the first text is drawn."""
    before = os.environ.get("FONTCONFIG_FILE")
    os.environ["FONTCONFIG_FILE"] = str(FONTS_CONFIG)
    if sys.platform == "darwin":
        # Core Text would take the fonts of the system. Pango asks again in every thread,
        # so this one stays.
        os.environ["PANGOCAIRO_BACKEND"] = "fontconfig"
    try:
        yield
    finally:
        if before is None:
            del os.environ["FONTCONFIG_FILE"]
        else:
            os.environ["FONTCONFIG_FILE"] = before


@contextmanager
def _errors() -> Generator[None]:
    """What libvips complains about, in exceptions of ours."""
    try:
        yield
    except _pyvips().Error as error:
        message = str(error.detail).strip() or error.message
        if "memory" in message.lower():
            raise MemoryError(message) from None
        raise UndrawableError(message) from None


def _load(data: bytes, scale: float) -> Any:
    """The picture, of which only the size is known so far."""
    with _errors():
        return _pyvips().Image.svgload_buffer(data, dpi=_DPI, scale=scale)


def _paint(data: bytes) -> np.ndarray:
    """The picture as uint8 (height, width, 4): red, green, blue, opacity."""
    drawn = _load(data, _SCALE)
    with _errors():
        # In this very thread, for which Pango has its fonts ready.
        region = _pyvips().Region.new(drawn).fetch(0, 0, drawn.width, drawn.height)
    return np.frombuffer(region, dtype=np.uint8).reshape(drawn.height, drawn.width, drawn.bands)


def _set_size(root: etree._Element, width: float, height: float, across: int, down: int) -> None:
    """Make the document as large as its frame, in place."""
    box = root.get("viewBox")
    if box is None:
        root.set("viewBox", f"0 0 {width:.10g} {height:.10g}")
        root.set("preserveAspectRatio", "none")
    else:
        inner = [float(part) for part in box.replace(",", " ").split()]
        # The frame has whole pixels; content of its proportions shall reach its edges.
        if abs(inner[2] * height - inner[3] * width) < 1e-6 * inner[2] * height:
            root.set("preserveAspectRatio", "none")
    root.set("width", str(across))
    root.set("height", str(down))
    # A style sheet may have set other sizes.
    sizes = f"width:{across}px!important;height:{down}px!important"
    style = root.get("style")
    root.set("style", f"{style};{sizes}" if style else sizes)


def _ink_box(document: Vetted) -> tuple[float, float, float, float]:
    """The measure of a drawing without any size.

    libvips tells how wide and high the ink is, not where. So a speck is put far out on
    one side, then on the other: each time the ink reaches from there to the other end of
    the drawing. Two such looks: one to find it, one to measure it closely.
    """
    root = document.root
    root.set("overflow", "visible")
    speck = etree.SubElement(root, f"{SVG}path")
    speck.set("style", "fill:#000;stroke:none;opacity:1;display:inline;visibility:visible")
    reach = _REACH
    for _ in range(2):
        right, bottom = (far - reach for far in _extent(document, speck, -reach))
        left, top = (reach - far for far in _extent(document, speck, reach))
        largest = max(abs(value) for value in (left, top, right, bottom))
        # A power of two, which cairo's fixed-point numbers hold exactly.
        reach = 2.0 ** math.ceil(math.log2(2 * max(largest, 1.0)))
    root.remove(speck)
    return ink_box(left, top, right, bottom)


def _extent(document: Vetted, speck: etree._Element, place: float) -> tuple[float, float]:
    """Width and height of the ink with the speck at (place, place)."""
    # It lies to the inner side, so that its far edge is exactly at the place. cairo loses
    # what is smaller than 1/256.
    inner = 0.125 if place < 0 else -0.125
    speck.set("d", f"M{place} {place}h{inner}v{inner}z")
    magnify = min(_CLOSEST, _WIDEST / (2 * abs(place)))
    drawn = _load(document.to_bytes(), _SCALE * magnify)
    return drawn.width / magnify, drawn.height / magnify
