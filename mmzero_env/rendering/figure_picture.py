"""Inside the sandbox: the picture that a plotting code left, fitted into a square.

Bound into the sandbox beside :mod:`.figure_program`, so it imports the standard library
and the plotting libraries only.
"""

from __future__ import annotations

import os

import matplotlib.figure
import matplotlib.pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

MAX_PIXELS = 40_000_000
"""Largest image file or image of the code: 160 MB as RGBA, which the memory allows."""

MAX_DRAWN_PIXELS = 9_000_000
"""A figure is not drawn larger than this, unless the picture is."""

MAX_INCHES = 300
"""Longest side of a figure; text of common sizes could not be drawn on larger ones."""

_LEAST_DPI = 36.0
_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")


class Unusable(Exception):
    """The code gave no picture."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def find_picture(namespace: dict, size: int, max_aspect: float, flags: list[str]) -> Image.Image:
    """The picture that a code left, RGB, size x size, on white.

    An open figure, else the newest image file, else the last global image.

    Args:
        namespace: Global variables of the code.
        size: Side of the picture in pixels.
        max_aspect: Longer side over shorter side, at most.
        flags: Receives names of what was settled for the code.

    Raises:
        Unusable: There is no picture, for a reason the code can mend.
    """
    numbers = plt.get_fignums()
    if numbers:
        if len(numbers) > 1:
            flags.append("several_figures")
        return draw_figure(plt.gcf(), size, max_aspect)
    newest, others = _saved()
    if newest:
        try:
            with Image.open(newest) as image:
                return fit_image(image, size, max_aspect)
        except (MemoryError, Unusable):
            raise
        except Image.DecompressionBombError:
            detail = f"{os.path.basename(newest)} has more than {MAX_PIXELS} pixels"
            raise Unusable("picture_too_large", detail) from None
        except Exception as error:
            detail = f"the saved file {os.path.basename(newest)} cannot be read: {said(error)}"
            raise Unusable("bad_picture", detail) from None
    images = [value for value in namespace.values() if isinstance(value, Image.Image)]
    if images:
        return fit_image(images[-1], size, max_aspect)
    detail = (
        "at the end no matplotlib figure is open, no image file is saved and no global "
        "variable is a PIL image"
    )
    if others:
        detail += f"; {others[0]} is no image file, save as PNG"
    raise Unusable("no_figure", detail)


def draw_figure(figure: matplotlib.figure.Figure, size: int, max_aspect: float) -> Image.Image:
    """Draw a matplotlib figure straight at the size of the picture where that is enough.

    Its own resolution does not matter: sizes inside a figure are in points and inches,
    so they scale along. A large figure is drawn larger and scaled down: letters of a
    pixel or less cannot be drawn.
    """
    width, height = (float(side) for side in figure.get_size_inches())
    _check_aspect(width, height, max_aspect)
    if max(width, height) > MAX_INCHES:
        detail = f"the figure has {width:g} x {height:g} inches, at most {MAX_INCHES} a side"
        raise Unusable("picture_too_large", detail)
    most = min(_LEAST_DPI, MAX_DRAWN_PIXELS**0.5 / max(width, height))
    # The canvas rounds down; the excess keeps rounding errors from costing a pixel.
    figure.set_dpi(max((size + 1e-6) / max(width, height), most))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
    return fit_image(drawn, size, max_aspect)


def fit_image(image: Image.Image, size: int, max_aspect: float) -> Image.Image:
    """Put an image on white, centred, scaled until it touches two sides."""
    width, height = image.size
    if not width or not height:
        raise Unusable("no_figure", "the image has no pixels")
    _check_aspect(width, height, max_aspect)
    if width * height > MAX_PIXELS:
        detail = f"the image has {width} x {height} pixels, at most {MAX_PIXELS} in all"
        raise Unusable("picture_too_large", detail)
    flat = Image.new("RGB", image.size, "white")
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        flat.paste(clear, mask=clear.getchannel("A"))
    else:
        flat.paste(image.convert("RGB"))
    scale = size / max(width, height)
    across, down = max(1, round(width * scale)), max(1, round(height * scale))
    sheet = Image.new("RGB", (size, size), "white")
    if (across, down) != image.size:
        flat = flat.resize((across, down), Image.Resampling.LANCZOS)
    sheet.paste(flat, ((size - across) // 2, (size - down) // 2))
    return sheet


def said(error: BaseException) -> str:
    """Type and message of an exception."""
    return f"{type(error).__name__}: {text_of(error)}"


def text_of(value: object) -> str:
    """What an object of the code says of itself; its methods may fail."""
    try:
        return str(value)[:200]
    except MemoryError:
        raise
    except BaseException:
        return "(its text cannot be made)"


def _saved() -> tuple[str | None, list[str]]:
    """Path of the newest image file in the working directory, and names of other files."""
    found: list[tuple[int, str]] = []
    others: list[str] = []
    for folder, below, names in os.walk("/tmp"):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in names:
            path = os.path.join(folder, name)
            # A link or a named pipe is no file that the code saved.
            if os.path.isfile(path) and not os.path.islink(path):
                if name.lower().endswith(_IMAGES):
                    found.append((os.stat(path).st_mtime_ns, path))
                else:
                    others.append(name)
    return max(found)[1] if found else None, sorted(others)


def _check_aspect(width: float, height: float, max_aspect: float) -> None:
    if max(width / height, height / width) > max_aspect:
        detail = f"{width:g} x {height:g}, sides at most 1:{max_aspect:g}"
        raise Unusable("extreme_aspect", detail)
