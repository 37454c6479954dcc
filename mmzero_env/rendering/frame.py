"""Where a picture lies in the white square, and how its pixels are read."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from mmzero_env.protocol import Image

PAGE = (300.0, 150.0)
"""Size in user pixels that percentages refer to while a drawing without any size is
measured: the default size of a replaced element in CSS 2.1, section 10.3.2."""


class UndrawableError(ValueError):
    """The document shows nothing that could be scaled to a picture."""


@dataclass(frozen=True)
class Frame:
    """The part of the square that the picture takes, in whole pixels.

    Whole pixels keep the edges of the picture sharp.

    Attributes:
        left: Columns left of the picture.
        top: Rows above it.
        across: Its width.
        down: Its height.
    """

    left: int
    top: int
    across: int
    down: int


def fit(width: float, height: float, size: int) -> Frame:
    """The largest frame of a picture's proportions, in the middle of the square.

    Args:
        width: Width of the picture in any unit.
        height: Its height in the same unit.
        size: Side of the square in pixels.
    """
    scale = size / max(width, height)
    across = min(size, max(1, round(width * scale)))
    down = min(size, max(1, round(height * scale)))
    return Frame((size - across) // 2, (size - down) // 2, across, down)


def ink_box(
    left: float, top: float, right: float, bottom: float
) -> tuple[float, float, float, float]:
    """What a drawing without any size shows: from the origin to its last ink.

    Args:
        left: Left edge of the ink; what lies left of the origin is shown as well.
        top: Upper edge of the ink; the same.
        right: Right edge of the ink.
        bottom: Lower edge of the ink.

    Returns:
        Left, top, width and height.

    Raises:
        UndrawableError: There is no ink right of and below that corner.
    """
    left, top = min(0.0, left), min(0.0, top)
    if right <= left or bottom <= top:
        raise UndrawableError("no size is given and nothing is drawn to take it from")
    return left, top, right - left, bottom - top


def rgb_of(words: memoryview, stride: int, size: int) -> Image:
    """The colours of a cairo image of 32-bit pixels, as uint8 (size, size, 3).

    Args:
        words: Its memory.
        stride: Bytes of one of its rows.
        size: Its side in pixels.
    """
    pixels = np.frombuffer(words, dtype=np.uint8).reshape(size, stride // 4, 4)[:, :size]
    # A pixel is a native 32-bit word: bytes B, G, R, A on little-endian machines.
    channels = (2, 1, 0) if sys.byteorder == "little" else (1, 2, 3)
    image = np.empty((size, size, 3), dtype=np.uint8)
    # Channel by channel is three times as fast as one indexing with all of them.
    for position, channel in enumerate(channels):
        image[..., position] = pixels[..., channel]
    return image
